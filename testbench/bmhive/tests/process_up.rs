//! What `bmhive up` owns and gives back: its directory, its processes, its boards' power. QEMU is a script
//! here.
//!
//! ```text
//!   bmhive up --+-- QEMU of left      bmhive status, board, console
//!               +-- QEMU of right        |
//!               +-- back ends         control.sock
//!               \-- bmhive/test/{lock, control.sock, left/, right/, base.d/}
//! ```
#![allow(clippy::unwrap_used, reason = "a test's own functions fail as its tests do")]

use std::{
    fs,
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use bmhive_server::instance::{BoardStatus, Power};
use rig::{
    fake_qemu::{fake_board, fake_qemu},
    linux::{Up, command},
    test_folder::TestFolder,
    toml::SERVER,
    wait::{wait_for, wait_until},
};
use rustix::process::{Pid, Signal, kill_process};

/// How long a guest may take that has heard its power button.
const POWER_BUTTON: Duration = Duration::from_secs(15);

fn two_boards(left: &str, right: &str) -> String {
    [SERVER, &fake_board("left", left), &fake_board("right", right)].concat()
}

fn start_in(folder: TestFolder, scenario: &str, options: &[&str]) -> Up {
    let guest = folder.path("guest");
    if !guest.exists() {
        fake_qemu(&folder);
    }
    Up::start_in(
        folder,
        scenario,
        &[&["--accel", "tcg", "--guest", guest.to_str().unwrap()], options].concat(),
    )
}

fn start(scenario: &str) -> Up {
    start_in(TestFolder::new(), scenario, &[])
}

/// Runs one that ends by itself.
fn run(scenario: &str) -> (Up, rig::bmhive::Ended) {
    let folder = TestFolder::new();
    let [option, guest] = fake_qemu(&folder);
    let mut up = Up::begin(folder, scenario, &["--until-off", "--accel", "tcg", &option, &guest]);
    let ended = up.finish();
    (up, ended)
}

fn pid(board: &BoardStatus) -> Pid {
    Pid::from_raw(board.pid.unwrap().cast_signed()).unwrap()
}

#[test]
fn whichever_signal_ends_it_nothing_is_left() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let mut up = start(&two_boards("stay", "stay"));
        assert_eq!(up.folder.back_ends().len(), 2);
        assert_eq!(up.status().boards.iter().filter(|board| board.pid.is_some()).count(), 2);
        up.signal(signal);
        let ended = up.finish();
        assert_eq!((ended.code, ended.signal), (Some(0), None), "{signal:?}: {ended:#?}");
        up.assert_nothing_left();
    }
}

#[test]
fn interrupted_while_it_comes_up_it_ends_at_once() {
    let folder = TestFolder::new();
    let [option, guest] = fake_qemu(&folder);
    let boards = (0..16).map(|index| fake_board(&format!("board{index}"), "stay"));
    let scenario: String = std::iter::once(SERVER.to_owned()).chain(boards).collect();
    let mut up = Up::begin(folder, &scenario, &["--accel", "tcg", &option, &guest]);
    let start = Instant::now();
    while up.folder.back_ends().is_empty() {
        assert!(start.elapsed() < Duration::from_secs(10), "no back end is started");
    }
    up.signal(Signal::INT);
    let ended = up.finish();
    assert_eq!(ended.code, Some(1), "{ended:#?}");
    assert!(
        ended.stderr.ends_with("error: interrupted before the boards were on; nothing is left running\n")
    );
    up.assert_nothing_left();
}

/// A run directory may be made of memory, and what is killed cannot clean up.
#[test]
fn a_scratch_disk_lies_among_temporary_files_and_has_no_name_there() {
    let disk = "[[board.function]]\nkind = \"blk\"\nsize_mib = 1000000\n";
    let mut up = start(&[SERVER, &fake_board("left", "stay"), disk].concat());
    let image = up.run_directory().join("base.d/0.1.img");
    assert_eq!(fs::metadata(&image).unwrap().len(), 1_000_000 << 20);
    let file = fs::read_link(fs::read_link(&image).unwrap()).unwrap();
    assert!(file.starts_with(up.folder.temporary()), "{}", file.display());
    assert_eq!(up.folder.leftovers(), Vec::<PathBuf>::new(), "it has a name");
    up.signal(Signal::KILL);
    up.finish();
    up.folder.await_quiet();
    assert!(fs::metadata(&image).is_err(), "the link leads to a disk after its end");
}

#[test]
fn what_it_says_need_not_be_read() {
    let folder = TestFolder::new();
    let [option, guest] = fake_qemu(&folder);
    folder.write("scenario.toml", two_boards("stay", "off"));
    let mut command = command(&folder, &["up", "--accel", "tcg", &option, &guest, "scenario.toml"]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take());
    let control = folder.path("bmhive/default/control.sock");
    assert!(wait_until(Duration::from_secs(10), || control.exists()), "it did not come up");
    // Long enough to say that a board is off.
    std::thread::sleep(Duration::from_millis(300));
    kill_process(Pid::from_child(&child), Signal::HUP).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    folder.await_quiet();
}

#[test]
fn killed_it_leaves_files_only_and_the_next_one_removes_them() {
    let mut up = start(&two_boards("stay", "stay"));
    up.signal(Signal::KILL);
    assert_eq!(up.finish().signal, Some(Signal::KILL.as_raw()));
    up.folder.await_quiet();
    let stale = up.run_directory();
    assert!(stale.join("control.sock").exists() && stale.join("left").exists());
    let answer = up.ask(&["status"]);
    assert_eq!(answer.code, Some(1), "{answer:#?}");
    assert!(answer.stderr.contains("no instance \"test\" runs"), "{answer:#?}");

    let only_right = [SERVER, &fake_board("right", "stay")].concat();
    let mut up = start_in(std::mem::replace(&mut up.folder, TestFolder::new()), &only_right, &[]);
    assert!(!stale.join("left").exists() && stale.join("right").exists());
    up.signal(Signal::TERM);
    assert_eq!(up.finish().code, Some(0));
    up.assert_nothing_left();
}

#[test]
fn a_name_has_one_instance() {
    let up = start(&two_boards("stay", "stay"));
    let guest = up.folder.path("guest");
    let arguments = ["up", "--accel", "tcg", "--guest", guest.to_str().unwrap(), "scenario.toml"];
    let answer = up.ask(&arguments);
    assert_eq!(answer.code, Some(1), "{answer:#?}");
    let pid = up.pid().as_raw_nonzero().to_string();
    assert!(answer.stderr.contains(&pid) && answer.stderr.contains("runs already"), "{answer:#?}");
    assert_eq!(up.status().boards.len(), 2);
    let other = command(&up.folder, &["status", "--name", "other"]).output().unwrap();
    let answer = String::from_utf8_lossy(&other.stderr);
    assert!(
        answer.contains("no instance \"other\" runs") && answer.contains("(there is --name test)"),
        "{answer}"
    );
}

#[test]
fn until_off_ends_with_its_last_board() {
    let (up, ended) = run(&two_boards("off", "off"));
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(ended.stderr.contains("left: off\n") && ended.stderr.contains("right: off\n"), "{ended:#?}");
    up.assert_nothing_left();
}

#[test]
fn a_qemu_that_crashes_is_told_with_its_last_words() {
    let (up, ended) = run(&two_boards("crash", "off"));
    assert_eq!(ended.code, Some(1), "{ended:#?}");
    let told = "left: QEMU ended with status 3: first words; no such device\n";
    assert!(ended.stderr.contains(told) && ended.stderr.contains("right: off\n"), "{ended:#?}");
    up.assert_nothing_left();
}

#[test]
fn a_board_that_goes_leaves_its_neighbour_and_the_base() {
    let up = start(&two_boards("stay", "stay"));
    let before = up.status();
    let neighbour = before.boards[1].pid;

    // Killed by a command, and by a signal:
    up.done(&["board", "left", "kill"]);
    assert_eq!(up.board("left").power, Power::Killed);
    up.done(&["board", "left", "start"]);
    assert_eq!(up.board("left").power, Power::Starting);
    kill_process(pid(&up.board("left")), Signal::KILL).unwrap();
    let crashed = up.await_board("left", "crashed", |board| !board.power.is_on());
    assert_eq!(crashed.power, Power::Crashed { reason: "QEMU was ended by signal 9".into() });
    up.done(&["board", "left", "start"]);

    // Without a word from the script's QMP socket it is told to end, then killed.
    let began = Instant::now();
    up.done(&["board", "left", "stop"]);
    assert_eq!(up.board("left").power, Power::Off);
    assert!(began.elapsed() < POWER_BUTTON, "{:?}", began.elapsed());

    let after = up.status();
    assert_eq!((after.boards[1].pid, &after.boards[1].power), (neighbour, &Power::Starting));
    assert_eq!(after.back_ends, before.back_ends);
}

#[test]
fn a_back_end_that_dies_is_told_and_takes_no_neighbour_along() {
    let mut up = start(&two_boards("stay", "stay"));
    let back_ends = up.status().back_ends;
    let back_end = back_ends.iter().find(|back_end| back_end.name == "left.0").unwrap();
    let process = back_end.pid.unwrap();
    kill_process(Pid::from_raw(process.cast_signed()).unwrap(), Signal::KILL).unwrap();

    let how = "its back end ended (signal: 9 (SIGKILL))";
    let is_told = |board: &BoardStatus| board.functions[0].failure.as_deref() == Some(how);
    let left = up.await_board("left", "told how", is_told);
    assert_eq!((left.failure, left.power), (None, Power::Starting), "the board goes on");
    let status = up.status();
    let right = &status.boards[1];
    assert_eq!((&right.failure, &right.functions[0].failure, &right.power), (&None, &None, &Power::Starting));
    let states: Vec<_> =
        status.back_ends.iter().map(|one| (one.name.as_str(), one.pid, &one.ended)).collect();
    let killed = Some("signal: 9 (SIGKILL)".to_owned());
    assert_eq!(states, [("left.0", None, &killed), ("right.0", back_ends[1].pid, &None)]);
    assert!(!Path::new(&format!("/proc/{process}")).exists(), "it was not waited for");

    let table = up.done(&["status"]);
    let told = "left: function 0 has stopped and asks its driver for a reset: its back end ended (signal: 9 (SIGKILL))\n";
    assert!(table.contains(told) && !table.contains(&format!(" {process} ")), "{table}");
    // As long as it may take until a second word of the same would come.
    std::thread::sleep(Duration::from_millis(1200));
    let told = "back end left.0: ended (signal: 9 (SIGKILL)); stopped until `bmhive up` is started again";
    let said = up.stderr();
    assert_eq!((said.matches(told).count(), said.matches("a reset").count()), (1, 1), "{said}");
    up.signal(Signal::TERM);
    assert_eq!(up.finish().code, Some(0));
    up.assert_nothing_left();
}

/// The boards wait for it: no function of theirs stops.
#[test]
fn a_back_end_that_ended_is_started_again_if_the_scenario_says_so() {
    let scenario = two_boards("stay", "stay").replacen("[server]\n", "[server]\nrestart = true\n", 1);
    let mut up = start(&scenario);
    let pid_of = |up: &Up| {
        let back_ends = up.status().back_ends;
        back_ends.iter().find(|back_end| back_end.name == "left.0").and_then(|back_end| back_end.pid)
    };
    let mut known = pid_of(&up);
    for _ in 0..2 {
        kill_process(Pid::from_raw(known.unwrap().cast_signed()).unwrap(), Signal::KILL).unwrap();
        let new = wait_for(Duration::from_secs(10), || pid_of(&up).filter(|pid| Some(*pid) != known));
        assert!(new.is_some(), "it is not started again");
        known = new;
    }
    assert!(
        up.status()
            .boards
            .iter()
            .all(|board| board.functions.iter().all(|function| function.failure.is_none()))
    );
    let said = up.stderr();
    assert_eq!(said.matches("back end left.0: started again").count(), 2, "{said}");
    assert!(!said.contains("a reset") && !said.contains("error"), "{said}");
    up.signal(Signal::TERM);
    assert_eq!(up.finish().code, Some(0));
    up.assert_nothing_left();
}

#[test]
fn what_makes_no_sense_is_refused_with_a_reason() {
    let scenario = two_boards("stay", "stay")
        + "[[board]]\nname = \"bare\"\nmemory_mib = 16\n[[board.function]]\nkind = \"console\"\n";
    let up = start(&scenario);
    assert_eq!(up.board("bare").power, Power::None);
    for (arguments, reason) in [
        (["board", "left", "start"], "board left is on already"),
        (["board", "bare", "start"], "board bare has no guest; give it a [board.guest] in the scenario"),
        (["board", "bare", "stop"], "board bare is off"),
        (["board", "lfet", "kill"], "no board is called \"lfet\"; there are left, right, bare"),
        (["board", "left", "reset"], "QEMU does not answer on its QMP socket"),
        (["console", "bare", "--serial"], "bare is off, and so is its serial port"),
    ] {
        let answer = up.ask(&arguments);
        assert_eq!(answer.code, Some(1), "{arguments:?}: {answer:#?}");
        assert!(answer.stderr.contains(reason), "{arguments:?}: {answer:#?}");
    }
}

#[test]
fn a_board_that_shall_wait_is_off_until_it_is_started() {
    let scenario =
        two_boards("stay", "stay").replacen("[board.guest]", "[board.guest]\nautostart = false", 1);
    let up = start(&scenario);
    assert!(up.await_power("right", &Power::Starting).pid.is_some());
    assert_eq!(up.board("left").power, Power::Off);
    up.done(&["board", "left", "start"]);
    assert_eq!(up.board("left").power, Power::Starting);
}

#[test]
fn whatever_comes_to_the_control_socket_the_boards_stay_up() {
    let up = start(&two_boards("stay", "stay"));
    let path = up.run_directory().join("control.sock");
    let say = |bytes: &[u8]| {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let _ = stream.write_all(bytes);
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    };
    let mut random = fastrand::Rng::with_seed(7);
    let noise: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(1 << 20).collect();
    for bytes in
        [&noise[..], b"{}\n", b"{\"request\":\"board\",\"board\":\"left\",\"action\":\"explode\"}\n", b"\0\n"]
    {
        let answer = say(bytes);
        assert!(answer.is_empty() || answer.contains("\"reply\":\"refused\""), "{answer}");
    }
    // More silent clients than there are places: they are dropped after a second, and the next client is
    // served.
    let silent: Vec<_> = (0..40).map(|_| UnixStream::connect(&path).unwrap()).collect();
    let is_served = || up.ask(&["status"]).code == Some(0);
    assert!(wait_until(Duration::from_secs(20), is_served), "silent clients keep others out");
    drop(silent);
    assert!(up.status().boards.iter().all(|board| board.power == Power::Starting));
}

#[test]
fn what_cannot_be_started_is_one_line() {
    let folder = TestFolder::new();
    let [option, guest] = fake_qemu(&folder);
    let software = "[server]\nname = \"x\"\n[[board]]\nname = \"b\"\nmemory_mib = 16\n[[board.function]]\nkind = \"console\"\n";
    folder.write("software.toml", software);
    folder.write("guest.toml", two_boards("stay", "stay"));
    fs::remove_file(folder.path("guest/vmlinux")).unwrap();
    fs::create_dir(folder.path("torn")).unwrap();
    folder.write("torn/guest.toml", "qemu = \"qemu\"\nqemu_version = [");
    for (arguments, reason) in [
        (&["up", "software.toml", &option, &guest][..], "no board of software.toml has a guest"),
        (
            &["up", "guest.toml", "--guest", "/no/such"],
            "no guest files in /no/such; `cargo xtask guest` makes them",
        ),
        (&["up", "guest.toml", &option, &guest], "vmlinux, which is not there"),
        (&["up", "guest.toml", "--name", "../x", &option, &guest], "vmlinux, which is not there"),
        (&["up", "guest.toml", "--guest", "torn"], "torn/guest.toml: line 2: "),
    ] {
        let output = command(&folder, arguments).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), stderr.lines().count()), (Some(1), 1), "{arguments:?}: {stderr}");
        assert!(stderr.contains(reason), "{arguments:?}: {stderr}");
    }
    assert!(!folder.path("bmhive").exists());
}

#[test]
fn what_is_found_out_on_the_way_is_said_last_and_leaves_nothing() {
    let folder = TestFolder::new();
    let [option, guest] = fake_qemu(&folder);
    let board = fake_board("left", "stay");
    let kernel = board.replace("[board.guest]", "[board.guest]\nkernel = \"kernel.toml\"");
    folder.write("kernel.toml", [SERVER, &kernel].concat());
    let disk = "[[board.function]]\nkind = \"blk\"\nsize_mib = 7\n";
    folder.write("disk.toml", [SERVER, &board, disk].concat());
    for (scenario, temporary, reason) in [
        (
            "kernel.toml",
            "tmp",
            "board left: kernel.toml is not a kernel; `kernel` wants an uncompressed vmlinux",
        ),
        ("disk.toml", "nowhere", "cannot make a scratch disk of 7 MiB in nowhere: No such file or directory"),
    ] {
        let mut command = command(&folder, &["up", "--accel", "tcg", &option, &guest, scenario]);
        let output = command.env("TMPDIR", temporary).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        let last = stderr.lines().last().unwrap_or_default();
        assert!(last.starts_with("error: ") && last.contains(reason), "{scenario}: {stderr}");
        assert_eq!(output.status.code(), Some(1), "{scenario}: {stderr}");
        folder.await_quiet();
        assert!(!folder.path("bmhive/default").exists(), "{scenario}");
    }
}
