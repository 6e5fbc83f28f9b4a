//! Stock Linux on two compute boards, as a user starts them.
//!
//! ```text
//!   bmhive up -- board0, board1: QEMU + stock kernel -- hvc0 -- shell
//!             \- bmhive status: running, drivers ready, requests counted
//!   SIGINT: everything is gone
//! ```
#![allow(clippy::unwrap_used, reason = "a test's own functions fail as its tests do")]

mod rig;

use rig::linux::Up;
use rustix::process::Signal;
use testbench::instance::Power;

const LINUX: &str = include_str!("../scenarios/linux.toml");

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
    up.signal(Signal::INT);
    let ended = up.finish();
    assert_eq!((ended.code, ended.signal), (Some(0), None), "{ended:#?}");
    up.assert_nothing_left();
}
