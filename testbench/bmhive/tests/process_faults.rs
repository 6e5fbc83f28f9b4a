//! What breaks while `bmhive` runs: a back end, or `bmhive` itself.
//!
//! ```text
//!   bmhive run --+-- bmhive backend blk    <- killed: bmhive ends within seconds, says which socket and why
//!    ^           +-- bmhive backend net    <- killed: the same
//!    +- killed, ended, interrupted: its back ends end with it
//! ```
#![allow(clippy::unwrap_used, reason = "a test's own functions fail as its tests do")]

use std::{fs::File, time::Duration};

use results::RunResult;
use rig::{
    bmhive::Ended,
    test_folder::TestFolder,
    toml::{blk, board, kill, net, server},
};
use rustix::process::Signal;

/// When a back end is killed: the work has begun by then.
const AFTER: Duration = Duration::from_millis(300);
/// How long `bmhive` may take from then until it has told and cleaned up: less than its drivers would wait
/// for an answer (10 s).
const NOTICE: Duration = Duration::from_secs(9);
/// Work that nothing but the fault ends in time.
const LONG_READS: &str = "[workload.blk]\nseconds = 60.0\nqueue_depths = [8]\n";
const LONG_PING_PONG: &str = "[workload.net]\nseconds = 60.0\n";
/// The switch's sockets are those of both cards: whichever is noticed first is named.
const CARDS: [&str; 2] = ["0.1.sock", "1.1.sock"];

fn two_boards(execution: &str, workload: &str) -> String {
    let functions = |number| [blk("size_mib = 1"), net(number)];
    let boards = board("left", &functions(0)) + &board("right", &functions(1));
    server(execution) + &boards + "[workload]\nfile = \"file\"\n" + workload
}

/// A file that takes no space on the host and more than a few seconds to move.
fn endless_file(folder: &TestFolder) {
    File::create(folder.path("file")).unwrap().set_len(4 << 30).unwrap();
}

/// Runs a scenario with a fault in it: one line tells which of `sockets` died, soon after it did, and nothing
/// is left.
fn dies_of(folder: &TestFolder, scenario: &str, back_end: &str, sockets: &[&str]) -> Ended {
    let ended = folder.run(&(scenario.to_owned() + &kill(back_end, AFTER.as_millis() as u32)));
    let line = ended.complaint();
    assert!(sockets.iter().any(|socket| line.contains(socket)), "none of {sockets:?} in {line:?}");
    assert!(line.contains("back end ") && line.contains("closed"), "{line:?}");
    assert!(ended.took > AFTER, "it ended before the fault: {ended:#?}");
    assert!(ended.took < AFTER + NOTICE, "it took {:?} to notice", ended.took);
    folder.await_quiet();
    assert!(folder.leftovers().is_empty() && !folder.out().join("result.json").exists());
    ended
}

#[test]
fn a_disk_that_dies_while_it_is_read() {
    for execution in ["inline", "threads"] {
        let folder = TestFolder::new();
        folder.random_file("file", 1000, 1);
        let ended = dies_of(&folder, &two_boards(execution, LONG_READS), "left.0", &["0.0.sock"]);
        assert!(ended.complaint().contains("board left"), "{ended:#?}");
    }
}

#[test]
fn a_disk_that_dies_while_the_file_is_written() {
    let folder = TestFolder::new();
    endless_file(&folder);
    let disk = board("only", &[blk("size_mib = 8192")]);
    dies_of(&folder, &(server("inline") + &disk + "[workload]\nfile = \"file\"\n"), "only.0", &["0.0.sock"]);
}

#[test]
fn a_switch_that_dies_during_a_ping_pong() {
    for execution in ["inline", "threads"] {
        let folder = TestFolder::new();
        folder.random_file("file", 1000, 2);
        dies_of(&folder, &two_boards(execution, LONG_PING_PONG), "switch", &CARDS);
    }
}

#[test]
fn a_switch_that_dies_while_the_file_is_sent() {
    for execution in ["inline", "threads"] {
        let folder = TestFolder::new();
        endless_file(&folder);
        let boards = board("left", &[net(0)]) + &board("right", &[net(1)]);
        let scenario = format!(
            "[server]\nname = \"no capture\"\nexecution = {execution:?}\n{boards}[workload]\nfile = \"file\"\n"
        );
        dies_of(&folder, &scenario, "switch", &["0.0.sock", "1.0.sock"]);
    }
}

/// A board that waits for it sees a pause, and the file arrives whole.
#[test]
fn a_back_end_that_is_started_again_is_a_pause() {
    for (execution, back_end) in [("inline", "left.0"), ("threads", "left.0"), ("threads", "switch")] {
        let folder = TestFolder::new();
        folder.random_file("file", 100_000, 8);
        let workload = "[workload.blk]\nseconds = 1.5\nqueue_depths = [8]\n[workload.net]\nseconds = 0.5\n";
        let fault = kill(back_end, AFTER.as_millis() as u32) + "restart_after_ms = 100\n";
        let ended = folder.run(&(two_boards(execution, workload) + &fault));
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:#?}");
        let result = RunResult::read(&folder.out()).unwrap();
        assert!(result.checks.iter().all(|check| check.passed), "{result:#?}");
        assert!(result.notes.iter().all(|note| !note.contains("did not happen")), "{result:#?}");
        folder.await_quiet();
        assert!(folder.leftovers().is_empty());
    }
}

/// No board uses it at that time, and the work under way does not need it; the run is broken all the same.
#[test]
fn a_disk_that_dies_idle() {
    let folder = TestFolder::new();
    folder.random_file("file", 1000, 3);
    dies_of(&folder, &two_boards("inline", LONG_READS), "right.0", &["1.0.sock"]);
}

#[test]
fn a_back_end_that_does_not_come_up_is_named_with_its_reason() {
    let folder = TestFolder::new();
    folder.write("odd.img", [0; 100]);
    let ended = folder.run(&(server("inline") + &board("only", &[blk("image = \"odd.img\"")])));
    let line = ended.complaint();
    assert!(line.contains("back end only.0") && line.contains("odd.img"), "{line:?}");
    folder.await_quiet();
    assert!(folder.leftovers().is_empty());
}

/// `bmhive` is sent `signals` while its back ends work; neither it nor they are there any more shortly
/// afterwards.
fn ends_by(signals: &[Signal]) -> (TestFolder, Ended) {
    let folder = TestFolder::new();
    folder.random_file("file", 1000, 4);
    let mut run = folder.start_run(&two_boards("threads", LONG_READS));
    let back_ends = run.await_back_ends(3);
    std::thread::sleep(AFTER);
    assert_eq!(folder.back_ends(), back_ends, "the run ended by itself");
    signals.iter().for_each(|signal| run.signal(*signal));
    let ended = run.finish();
    folder.await_quiet();
    assert!(ended.took < AFTER + NOTICE, "{ended:#?}");
    assert!(!folder.out().join("result.json").exists());
    (folder, ended)
}

#[test]
fn back_ends_die_with_a_bmhive_that_is_killed() {
    let (_, ended) = ends_by(&[Signal::KILL]);
    assert_eq!(ended.signal, Some(9), "{ended:#?}");
}

#[test]
fn an_interrupted_bmhive_takes_everything_with_it() {
    for signal in [Signal::TERM, Signal::INT] {
        let (folder, ended) = ends_by(&[signal]);
        assert_eq!(ended.complaint(), "error: interrupted");
        assert!(folder.leftovers().is_empty(), "{:?}", folder.leftovers());
    }
}

/// The second signal does not wait for the run to end in order; its back ends end all the same.
#[test]
fn a_bmhive_that_is_interrupted_twice_ends_at_once() {
    let (_, ended) = ends_by(&[Signal::INT, Signal::TERM]);
    assert!(matches!(ended.code, Some(1 | 130)), "{ended:#?}");
}

/// While back ends start, too: whatever the moment, nothing is left.
#[test]
fn a_bmhive_that_is_interrupted_while_it_starts_leaves_nothing() {
    for milliseconds in (0..40).step_by(5) {
        let folder = TestFolder::new();
        folder.random_file("file", 1000, 5);
        let run = folder.start_run(&two_boards("inline", LONG_READS));
        std::thread::sleep(Duration::from_millis(milliseconds));
        run.signal(Signal::TERM);
        let ended = run.finish();
        // Before it listens for signals, it has nothing to clean up.
        assert!(ended.code == Some(1) || ended.signal == Some(Signal::TERM.as_raw()), "{ended:#?}");
        folder.await_quiet();
        assert!(folder.leftovers().is_empty(), "after {milliseconds} ms: {:?}", folder.leftovers());
    }
}

#[test]
fn a_fault_that_comes_too_late_is_said() {
    let folder = TestFolder::new();
    folder.random_file("file", 1000, 6);
    let disk = board("only", &[blk("size_mib = 1")]) + "[workload]\nfile = \"file\"\n";
    let ended = folder.run(&(server("inline") + &disk + &kill("only.0", 600_000)));
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:#?}");
    assert!(ended.took < NOTICE, "it waited for the fault");
    let result = RunResult::read(&folder.out()).unwrap();
    assert!(
        result.notes.iter().any(|note| note.contains("600s") && note.contains("did not happen")),
        "{result:#?}"
    );
    folder.await_quiet();
}

/// A request of 64 KiB takes more slots of 64 bytes than a shadow vring has descriptors: it can never go.
#[test]
fn a_queue_that_io_bond_stops_is_named_with_its_reason() {
    let folder = TestFolder::new();
    folder.random_file("file", 100_000, 7);
    let disk = board("only", &[blk("size_mib = 1\nslot_size = 64\nslots = 2000")]);
    let ended = folder.run(&(server("inline") + &disk + "[workload]\nfile = \"file\"\n"));
    for said in ["only", "queue 0", "ChainTooLong"] {
        assert!(ended.complaint().contains(said), "{said:?} is missing in {ended:#?}");
    }
    assert!(ended.took < NOTICE, "it took {:?}", ended.took);
    folder.await_quiet();
    assert!(folder.leftovers().is_empty());
}
