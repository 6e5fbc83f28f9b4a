//! Stock Linux on two compute boards, as a user starts them.
//!
//! ```text
//!   bmhive up -- board0, board1: QEMU + stock kernel -- hvc0 -- shell
//!             |- bmhive status: running, drivers ready, requests counted
//!             \- bmhive console < commands > answers
//!   SIGINT: everything is gone
//!   SIGKILL: everything but files is gone
//! ```
#![allow(clippy::unwrap_used, reason = "a test's own functions fail as its tests do")]

use std::{
    fs::File,
    time::{Duration, Instant},
};

use bmhive_server::instance::Power;
use rig::linux::Up;
use rustix::process::Signal;

/// A guest that takes as long has not heard its power button, and is switched off.
const POWER_BUTTON: Duration = Duration::from_secs(15);
const LINUX: &str = include_str!("../../scenarios/linux.toml");

#[test]
fn two_boards_boot_to_a_shell_and_leave_nothing() {
    let mut up = Up::start(LINUX);
    for name in ["board0", "board1"] {
        let mut shell = up.shell(name);
        assert_eq!(shell.check("hostname"), format!("{name}\n"));
        assert_eq!(shell.run("false"), (1, String::new()));
        assert_eq!(shell.check("echo one\necho two; echo three >&2"), "one\ntwo\nthree\n");
        let drivers = "for device in /sys/bus/virtio/devices/*; do basename $(readlink $device/driver); done";
        assert_eq!(shell.check(drivers), "virtio_console\nvirtio_blk\nvirtio_net\n");
    }
    let status = up.status();
    for board in &status.boards {
        assert_eq!(board.power, Power::Running, "{board:#?}");
        assert!(board.drivers_up_after.is_some_and(|seconds| seconds > 0.0), "{board:#?}");
        let devices: Vec<_> =
            board.functions.iter().map(|function| (function.device.as_str(), function.driver())).collect();
        assert_eq!(devices, [("console", "ready"), ("blk", "ready"), ("net", "ready")]);
        for function in &board.functions[..2] {
            assert!(function.interrupts > 0 && function.requests > 0, "{function:#?}");
        }
    }
    assert_eq!(status.back_ends.len(), 5, "{:#?}", status.back_ends);
    let table = up.done(&["status"]);
    for part in ["board0", "running", "board1.2", "ready", "switch"] {
        assert!(table.contains(part), "{part:?} is missing in\n{table}");
    }
    let typed = up.folder.write("typed", "echo $((6 * 7)) from $(hostname)\n");
    let said =
        up.command(&["--quiet", "console", "board1"]).stdin(File::open(typed).unwrap()).output().unwrap();
    let said = String::from_utf8_lossy(&said.stdout);
    assert!(said.contains("42 from board1\r\n"), "{said}");

    up.signal(Signal::INT);
    let ended = up.finish();
    assert_eq!((ended.code, ended.signal), (Some(0), None), "{ended:#?}");
    up.assert_nothing_left();
}

/// One board, which needs half the time.
fn one_board() -> String {
    let second = LINUX.match_indices("[[board]]").nth(1).unwrap().0;
    LINUX[..second].to_owned()
}

#[test]
fn a_board_comes_back_from_reboot_reset_and_power_off() {
    let up = Up::start(&one_board());
    let mut shell = up.shell("board0");
    let process = up.board("board0").pid;
    shell.check("echo before > /tmp/file");
    shell.send("reboot");
    shell.await_ready();
    assert_eq!(shell.run("cat /tmp/file").0, 1, "the machine did not boot anew");
    up.done(&["board", "board0", "reset"]);
    shell.await_ready();
    assert_eq!(up.board("board0").pid, process, "reboots are the machine's, not QEMU's");

    shell.send("poweroff");
    up.await_power("board0", &Power::Off);
    up.done(&["board", "board0", "start"]);
    shell.await_ready();
    up.await_power("board0", &Power::Running);

    let asked = Instant::now();
    up.done(&["board", "board0", "stop"]);
    assert_eq!(up.board("board0").power, Power::Off);
    assert!(asked.elapsed() < POWER_BUTTON, "the guest did not hear its power button");

    up.done(&["board", "board0", "start"]);
    up.signal(Signal::KILL);
    up.folder.await_quiet();
}
