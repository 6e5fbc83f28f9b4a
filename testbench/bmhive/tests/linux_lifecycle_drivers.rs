//! Drivers of a Linux board come and go, and its functions serve each next one.
//!
//! ```text
//!   board0 -- virtio_blk -- unbind, FLR, remove, rmmod, freeze -- IO-Bond -- bmhive backend blk
//!          \- virtio_net -----------------------------------------/      \-- switch -- board1: sha256sum
//! ```
#![allow(clippy::unwrap_used, reason = "a test's own functions fail as its tests do")]

use std::{io::Write, os::unix::net::UnixStream, time::Duration};

use rig::{
    linux::{Shell, Up},
    toml::linux_pair,
};
use rustix::process::Signal;

/// How often each driver is taken away and brought back.
const ROUNDS: u32 = 5;
/// Slots 10h and up of the board's bus are the functions, in the scenario's order.
const CONSOLE: &str = "0000:00:10.0";
const BLK: &str = "0000:00:11.0";
const NET: &str = "0000:00:12.0";

/// What the tests say to board0's shell. A disk that is taken away is reached by the descriptor of its node,
/// so that no command makes a file in its place.
const WORDS: &str = r#"
    dmesg -n 1
    pci=/sys/bus/pci/drivers/virtio-pci
    virtio() { basename /sys/bus/pci/devices/$1/virtio*; }
    off_bus() { echo $1 >$pci/unbind; }
    on_bus() { echo $1 >$pci/bind; }
    off_driver() { device=$(virtio $1); echo $device >/sys/bus/virtio/devices/$device/driver/unbind; }
    on_driver() { echo $(virtio $1) >/sys/bus/virtio/drivers/$2/bind; }

    # 8 MiB in front of the disk stay as they are; the writers write behind 32 MiB.
    pattern() { dd if=/dev/vda bs=1M count=8 iflag=direct status=none | sha256sum -c /tmp/pattern.sha; }
    writer() { while dd if=/dev/zero of=/dev/fd/3 bs=64k seek=512 count=256 oflag=direct; do :; done; }
    reader() { while dd if=/dev/fd/3 of=/dev/null bs=4k count=2048 iflag=direct; do :; done; }
    disk_traffic() { writer 2>/dev/null 3<>/dev/vda & reader 2>/dev/null 3</dev/vda & sleep .2; }

    sent() { head -c 2m /tmp/pattern | nc 10.11.0.2 9000; }
    network_up() { ip link set eth0 up; ip address add 10.11.0.1/24 dev eth0; }
    sent_in_whole() { [ "$(sent)" = "$(cat /tmp/sent.sha)" ]; }
    net_traffic() { nc 10.11.0.2 9001 </dev/zero & flood=$!; sleep .2; }

    head -c 8m /dev/urandom >/tmp/pattern
    sha256sum </tmp/pattern >/tmp/pattern.sha
    head -c 2m /tmp/pattern | sha256sum >/tmp/sent.sha
    dd if=/tmp/pattern of=/dev/vda bs=1M oflag=direct status=none
    pattern
"#;

/// Board 1 answers with the checksum of what it is sent on one port, and swallows what comes on another.
const PEER: &str = "nc -ll -p 9000 -e sha256sum & nc -ll -p 9001 -e dd of=/dev/null &";

struct Boards {
    up: Up,
    shell: Shell,
}

impl Boards {
    fn start() -> Self {
        // Two processors and two disk queues, and a board to talk to.
        let up = Up::start(&linux_pair(2, [&["size_mib = 64\nqueues = 2"], &[]]));
        up.shell("board1").check(PEER);
        let mut shell = up.shell("board0");
        shell.check(WORDS);
        shell.check("sent_in_whole");
        Self { up, shell }
    }

    /// Runs commands on board0, all of which have to succeed.
    fn check(&mut self, commands: &str) {
        println!("{commands}");
        let commands = format!("( set -e\n{commands}\n)");
        let (status, said) = self.shell.run(&commands);
        assert_eq!(status, 0, "{commands}: {said}\n{}", self.shell.check("dmesg | tail -40"));
    }

    /// Board0's functions have these drivers, and none of its queues had to be stopped.
    fn assert_drivers(&self, expected: [&str; 3]) {
        let board = self.up.board("board0");
        let drivers: Vec<_> = board.functions.iter().map(|function| function.driver()).collect();
        assert_eq!(drivers, expected, "{board:#?}");
        for function in &board.functions {
            assert_eq!(function.queue_error, None, "{board:#?}");
            assert!(function.driver() == "ready" || function.queues == 0, "{board:#?}");
        }
    }

    fn end(mut self) {
        self.up.signal(Signal::INT);
        let ended = self.up.finish();
        assert_eq!((ended.code, ended.signal), (Some(0), None), "{ended:#?}");
        self.up.assert_nothing_left();
    }
}

/// ```text
///    5 x:  I/O -- unbind (from the bus, from the driver) -- I/O ends -- bind -- the disk is what it was
///   and:   I/O -- FLR under a bound driver; FLR, remove + rescan, rmmod + modprobe without one
/// ```
#[test]
fn functions_serve_one_driver_after_another() {
    let mut boards = Boards::start();
    take_the_disk_away_and_back(&mut boards);
    take_the_network_away_and_back(&mut boards);
    boards.end();
}

/// The same with the console, under the shell that drives the test.
#[test]
fn consoles_serve_one_driver_after_another() {
    let mut boards = Boards::start();
    take_the_console_away_and_back(&mut boards);
    boards.end();
}

fn take_the_disk_away_and_back(boards: &mut Boards) {
    boards.check(&format!("off_bus {BLK}; [ ! -e /dev/vda ]"));
    // Linux acknowledges that the device is there as soon as its driver is gone.
    boards.assert_drivers(["ready", "negotiating", "ready"]);
    boards.check(&format!("on_bus {BLK}; pattern"));
    for round in 0..ROUNDS {
        let (off, on) = if round % 2 == 0 { ("off_bus", "on_bus") } else { ("off_driver", "on_driver") };
        boards.check(&format!("disk_traffic; {off} {BLK}; wait; {on} {BLK} virtio_blk; pattern"));
    }
    let device = format!("/sys/bus/pci/devices/{BLK}");
    boards.check(&format!("off_bus {BLK}; echo 1 >{device}/reset; on_bus {BLK}; pattern"));
    boards
        .check(&format!("disk_traffic; echo 1 >{device}/remove; wait; echo 1 >/sys/bus/pci/rescan; pattern"));
    boards.check("rmmod virtio_blk; modprobe virtio_blk; pattern");
    // virtio_blk waits for its requests before the reset and makes its queues anew after it.
    boards.check(&format!(
        "disk_traffic; for round in 1 2 3; do echo 1 >{device}/reset; pattern; done; off_bus {BLK}; wait; on_bus {BLK}"
    ));
    boards.assert_drivers(["ready"; 3]);
}

fn take_the_network_away_and_back(boards: &mut Boards) {
    for round in 0..ROUNDS {
        let (off, on) = if round % 2 == 0 { ("off_bus", "on_bus") } else { ("off_driver", "on_driver") };
        boards.check(&format!(
            "net_traffic; {off} {NET}; kill $flood; {on} {NET} virtio_net; network_up; sent_in_whole"
        ));
    }
    let device = format!("/sys/bus/pci/devices/{NET}");
    for way in [
        format!("off_bus {NET}; echo 1 >{device}/reset; on_bus {NET}"),
        format!("echo 1 >{device}/remove; echo 1 >/sys/bus/pci/rescan"),
        "rmmod virtio_net; modprobe virtio_net".into(),
    ] {
        boards.check(&format!("net_traffic; {way}; kill $flood; network_up; sent_in_whole"));
    }
    boards.assert_drivers(["ready"; 3]);
}

/// The shell loses its terminal with the driver, so a script does it that has none; init starts a new shell.
fn take_the_console_away_and_back(boards: &mut Boards) {
    let device = format!("/sys/bus/pci/devices/{CONSOLE}");
    let script = |ways: &str| format!("{}\n sleep .2\n {ways}", words_of_bus());
    for ways in [
        format!("off_bus {CONSOLE}; on_bus {CONSOLE}"),
        format!("off_bus {CONSOLE}; on_bus {CONSOLE}"),
        format!("off_driver {CONSOLE}; on_driver {CONSOLE} virtio_console"),
        format!("off_bus {CONSOLE}; echo 1 >{device}/reset; on_bus {CONSOLE}"),
        format!("echo 1 >{device}/remove; echo 1 >/sys/bus/pci/rescan"),
    ] {
        println!("{ways}");
        let script = script(&ways);
        boards.shell.send(&format!(
            "cat >/tmp/script <<'END'\n{script}\nEND\n setsid sh /tmp/script </dev/null >/tmp/said 2>&1 &"
        ));
        boards.shell.await_ready();
        assert_eq!(boards.shell.check("cat /tmp/said"), "", "{ways}");
        let lines: String = (1..=2000).map(|number| format!("{number}\n")).collect();
        assert_eq!(boards.shell.check("seq 2000"), lines);
    }
    boards.assert_drivers(["ready"; 3]);
}

/// The part of [`WORDS`] that a script needs.
fn words_of_bus() -> &'static str {
    let end = WORDS.find("# 8 MiB").unwrap();
    &WORDS[..end]
}

/// ```text
///   I/O ---- processor 1 goes and comes, three times ---- the disk is what it was
///   disk, network, console -- suspend to idle: all rings are given up -- a key: all are made anew, and work
/// ```
#[test]
fn processors_and_sleep_come_and_go() {
    let mut boards = Boards::start();
    let processor = "/sys/devices/system/cpu/cpu1/online";
    boards.check(&format!(
        "disk_traffic; for round in 1 2 3; do echo 0 >{processor}; pattern; echo 1 >{processor}; pattern; done; \
         off_bus {BLK}; wait; on_bus {BLK}; pattern"
    ));
    for _ in 0..3 {
        sleep_and_wake(&mut boards);
        boards.check("pattern; sent_in_whole");
        boards.assert_drivers(["ready"; 3]);
    }
    boards.end();
}

/// The serial port wakes the board: its interrupt stays armed while a process has it open.
fn sleep_and_wake(boards: &mut Boards) {
    let (status, states) = boards.shell.run("grep freeze /sys/power/state");
    if status != 0 {
        println!("not tested: this kernel does not suspend to idle, /sys/power/state says {states:?}");
        return;
    }
    boards.check(
        "echo enabled >/sys/class/tty/ttyS0/power/wakeup; echo s2idle >/sys/power/mem_sleep
         [ -e /tmp/awake ] || sleep 1000 </dev/ttyS0 & touch /tmp/awake
         disk_traffic",
    );
    boards.shell.send("echo freeze >/sys/power/state; echo slept");
    let asleep = |board: &bmhive_server::instance::BoardStatus| {
        board.functions.iter().all(|function| function.driver() == "none" && function.queues == 0)
    };
    let board = boards.up.await_board("board0", "asleep", asleep);
    // The devices are put to sleep before the processors are.
    std::thread::sleep(Duration::from_millis(500));
    UnixStream::connect(board.serial.unwrap()).unwrap().write_all(b"\r").unwrap();
    boards.up.await_board("board0", "awake", |board| {
        board.functions.iter().all(|function| function.driver() == "ready")
    });
    boards.check(&format!("off_bus {BLK}; wait; on_bus {BLK}"));
}
