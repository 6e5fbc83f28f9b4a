//! A Linux board is reset, killed and switched off in the middle of its traffic, and comes back; its
//! neighbour sees nothing of it.
//!
//! ```text
//!   board0 = disk, network => reset, reboot, kill, SIGKILL of QEMU, poweroff => boots, its disk as it was
//!   board1 - writes, reads, compares ------------------------------------------------------------------>
//!   base   - the same processes, threads and descriptors ---------------------------------------------->
//! ```
#![allow(clippy::unwrap_used, reason = "a test's own functions fail as its tests do")]

use std::fs;

use bmhive_server::instance::Power;
use rig::{
    linux::{Shell, Up},
    test_folder::{TestFolder, sha256},
    toml::linux_pair,
};
use rustix::process::{Pid, Signal, kill_process};

const MIB: usize = 1 << 20;
const SEED: u64 = 0xb0a2d;

/// Board 1 counts how often its disk has held what it wrote, and swallows and answers what board 0 sends.
const NEIGHBOUR: &str = r#"
    nc -ll -p 9000 -e sha256sum & nc -ll -p 9001 -e dd of=/dev/null 2>/dev/null &
    head -c 1048576 /dev/urandom >/tmp/tail; echo 0 >/tmp/rounds
    compare() { dd if=/dev/vda bs=1M count=1 iflag=direct status=none | cmp - /tmp/chunk; }
    round=0
    while { echo $round; cat /tmp/tail; } | head -c 1048576 >/tmp/chunk &&
        dd if=/tmp/chunk of=/dev/vda bs=256k oflag=direct status=none && compare
    do
        round=$((round + 1)); echo $round >/tmp/rounds; sleep .2
    done >/tmp/compared 2>&1 &
"#;

/// All that board 0's functions can do, until it ends: writes behind 32 MiB, reads, a stream to its
/// neighbour.
const TRAFFIC: &str = "
    while dd if=/dev/zero of=/dev/vda bs=256k seek=128 count=64 oflag=direct; do :; done >/dev/null 2>&1 &
    while dd if=/dev/vda of=/dev/null bs=4k count=2048 iflag=direct; do :; done >/dev/null 2>&1 &
    while :; do nc 10.11.0.2 9001 </dev/zero; sleep .1; done >/dev/null 2>&1 &
    sleep .5";

struct Boards {
    up: Up,
    shell: Shell,
    neighbour: Shell,
    /// Times that the neighbour had compared its disk when it was last asked.
    rounds: u64,
    /// SHA-256 of the first 8 MiB of board 0's disk, from the host.
    sum: String,
}

impl Boards {
    fn start() -> Self {
        let folder = TestFolder::new();
        let mut image = folder.random_file("disk.img", 8 * MIB, SEED);
        let sum = sha256(&image);
        image.resize(64 * MIB, 0);
        folder.write("disk.img", image);
        let scenario = linux_pair(2, [&["image = \"disk.img\"\nqueues = 2"], &["size_mib = 16"]]);
        let up = Up::start_in(folder, &scenario, &["--accel", "tcg", "--until-off"]);
        let (mut shell, mut neighbour) = (up.shell("board0"), up.shell("board1"));
        neighbour.check(NEIGHBOUR);
        shell.check("dd if=/dev/vda of=/dev/vda bs=1M count=8 seek=16 iflag=direct conv=fsync 2>&1");
        let mut boards = Self { up, shell, neighbour, rounds: 0, sum };
        boards.assert_well("after the first boot");
        boards
    }

    /// Both boards work, and what board 0 had flushed is on its disk.
    fn assert_well(&mut self, when: &str) {
        println!("{when}");
        for at in [0, 16] {
            let read = format!("dd if=/dev/vda bs=1M skip={at} count=8 iflag=direct status=none | sha256sum");
            assert_eq!(self.shell.check(&read), format!("{}  -\n", self.sum), "{when}");
        }
        let send = "head -c 1048576 /dev/zero | nc 10.11.0.2 9000";
        assert_eq!(self.shell.check(send), format!("{}  -\n", sha256(&vec![0; MIB])), "{when}");
        let [board, neighbour] = &self.up.status().boards[..] else { panic!("two boards") };
        for function in board.functions.iter().chain(&neighbour.functions) {
            assert_eq!((function.driver(), &function.queue_error), ("ready", &None), "{when}: {function:#?}");
        }
        assert_eq!((&board.failure, &neighbour.failure), (&None, &None), "{when}");
        self.assert_neighbour(when);
    }

    /// The neighbour compares its disk once more, and has found nothing.
    fn assert_neighbour(&mut self, when: &str) {
        let more = format!(
            "until [ $(cat /tmp/rounds) -gt {} ] || [ -s /tmp/compared ]; do sleep .2; done",
            self.rounds
        );
        self.neighbour.check(&more);
        assert_eq!(self.neighbour.check("cat /tmp/compared"), "", "{when}");
        self.rounds = self.neighbour.check("cat /tmp/rounds").trim().parse().unwrap();
    }

    /// Processes that run on behalf of the test, and what the base has open.
    fn resources(&self) -> Resources {
        let base = self.up.pid().as_raw_nonzero();
        let count = |what| fs::read_dir(format!("/proc/{base}/{what}")).unwrap().count();
        let maps = fs::read_to_string(format!("/proc/{base}/maps")).unwrap();
        Resources {
            processes: self.up.folder.processes().len(),
            threads: count("task"),
            descriptors: count("fd"),
            shared: maps.lines().filter(|line| line.contains("memfd:")).count(),
        }
    }

    fn qemu(&self) -> Pid {
        Pid::from_raw(self.up.board("board0").pid.unwrap().cast_signed()).unwrap()
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Resources {
    processes: usize,
    threads: usize,
    descriptors: usize,
    /// Mappings of memory that is shared with other processes.
    shared: usize,
}

/// How a board loses its power, or the software on it.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Reset,
    Reboot,
    OrderlyReboot,
    Kill,
    KillQemu,
    PowerOff,
}

impl Cut {
    /// Does it, and sees to it that the board boots.
    fn make(self, boards: &mut Boards) {
        let Boards { up, shell, .. } = boards;
        match self {
            Self::Reset => {
                up.done(&["board", "board0", "reset"]);
            }
            Self::Reboot => shell.send("reboot -f"),
            Self::OrderlyReboot => shell.send("reboot"),
            Self::Kill => {
                up.done(&["board", "board0", "kill"]);
                up.await_power("board0", &Power::Killed);
            }
            Self::KillQemu => {
                kill_process(boards.qemu(), Signal::KILL).unwrap();
                boards
                    .up
                    .await_board("board0", "crashed", |board| matches!(board.power, Power::Crashed { .. }));
            }
            Self::PowerOff => {
                shell.send("poweroff");
                up.await_power("board0", &Power::Off);
            }
        }
        if matches!(self, Self::Kill | Self::KillQemu | Self::PowerOff) {
            boards.assert_neighbour("while board 0 is off");
            boards.up.done(&["board", "board0", "start"]);
        }
        boards.shell.await_ready();
    }
}

#[test]
fn a_board_comes_back_with_its_disk_and_its_neighbour_sees_nothing_of_it() {
    let mut boards = Boards::start();
    let before = boards.resources();
    // The reset comes twice, as it leaves IO-Bond least time: QEMU goes on.
    let cuts =
        [Cut::Reset, Cut::Kill, Cut::Reboot, Cut::KillQemu, Cut::OrderlyReboot, Cut::PowerOff, Cut::Reset];
    for (number, cut) in cuts.into_iter().enumerate() {
        boards.shell.check(TRAFFIC);
        cut.make(&mut boards);
        boards.assert_well(&format!("after cut {number}, {cut:?}"));
    }
    assert_eq!(boards.resources(), before);
    let image = fs::read(boards.up.folder.path("disk.img")).unwrap();
    for at in [0, 16 * MIB] {
        assert_eq!(sha256(&image[at..][..8 * MIB]), boards.sum);
    }
    all_off_is_the_end(boards);
}

/// `bmhive up --until-off` ends when the last board is off, and says that all went well.
fn all_off_is_the_end(mut boards: Boards) {
    boards.shell.send("poweroff");
    boards.up.await_power("board0", &Power::Off);
    boards.assert_neighbour("while board 0 is off");
    boards.neighbour.send("poweroff -f");
    let ended = boards.up.finish();
    assert_eq!((ended.code, ended.signal), (Some(0), None), "{ended:#?}");
    boards.up.assert_nothing_left();
}
