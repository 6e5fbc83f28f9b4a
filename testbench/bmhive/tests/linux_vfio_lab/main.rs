//! All of BM-Hive but for the hardware: boards with stock Linux, IO-Bonds, and a base server that reaches
//! them through VFIO only, each a machine of its own. `cargo xtask vfio-lab` runs it for a person, who sees
//! what is typed and answered.
//!
//! ```text
//!   QEMU: board0                this process        QEMU: base server with an IOMMU
//!   /dev/vda -- virtio_blk --+                    +------------------------------------------------------+
//!   eth0 ------ virtio_net --+-- IO-Bond ---------+-- vfio-pci -- bm-hypervisor ==+== vhost-blk: disk0   |
//!                                                 |                                \                     |
//!                                       vfio-user |                                 == vhost-net         |
//!                                                 |                                /                     |
//!   QEMU: board1, the same ----- IO-Bond ---------+-- vfio-pci -- bm-hypervisor ==+== vhost-blk: disk1   |
//!                                                 +------------------------------------------------------+
//! ```
#![allow(clippy::unwrap_used, reason = "a test's own functions fail as its tests do")]
#![allow(clippy::print_stderr, reason = "what it does is shown to a person who runs it by hand")]

mod lab;
mod service;

use lab::{BOARDS, DISK, Lab};
use rig::base_machine::BaseMachine;
use serde_json::Value;

/// What a board writes: blocks of 64 KiB, in the middle of its disk.
const BLOCKS: usize = 16;
const FIRST_BLOCK: usize = 32;
const PINGS: u32 = 20;
/// Bytes of a stream.
const STREAM: usize = 4 << 20;
/// What a driver without trouble has set (virtio 1.3, 2.1): ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK.
const DRIVEN: u64 = 1 | 2 | 4 | 8;
/// What Linux says of a process whose system calls are filtered (seccomp(2), `SECCOMP_MODE_FILTER`).
const FILTERED: u32 = 2;

/// ```text
///   base server: three back ends; check; two hypervisors, as on a laptop and as in hardware; boards boot
///   board N:     SHA-256 of /dev/vda -- the same -- of diskN in the base server;  what it writes, too
///   board0:      ping, 4 MiB by TCP -------------------------->  board1: every one; the same SHA-256
///   base server: what bmctl counted; interrupts that woke the pollers
///   board1:      poweroff; its hypervisor SIGTERM: 0;  board0 goes on, and then the same
/// ```
#[test]
fn linux_boards_are_served_by_a_base_server_through_vfio() {
    let mut lab = Lab::start();
    for board in BOARDS {
        disk(&mut lab, board);
    }
    network(&mut lab);
    let interrupts = lab.base("grep vfio /proc/interrupts");
    for board in BOARDS {
        counters(&mut lab, board);
        let confined = lab.base(&format!("grep Seccomp: /proc/$(cat /tmp/board{board}.pid)/status"));
        assert_eq!(confined, format!("Seccomp:\t{FILTERED}\n"));
        let taken = interrupts_of(&interrupts, board);
        assert!(taken > 0, "the poller of board{board} was never woken: {interrupts}");
    }
    lab.end_board(1);
    // What happens to the one is nothing to the other.
    let image = lab.base("sha256sum </tmp/disk0");
    assert_eq!(lab.board(0, "dd if=/dev/vda bs=1M iflag=direct status=none | sha256sum"), image);
    lab.end_board(0);
    lab.end();
}

/// A board reads what is on its disk in the base server, and the base server finds there what the board
/// writes.
fn disk(lab: &mut Lab, board: usize) {
    let image = lab.base(&format!("sha256sum </tmp/disk{board}"));
    assert_eq!(lab.board(board, "dd if=/dev/vda bs=1M iflag=direct status=none | sha256sum"), image);
    lab.board(
        board,
        &format!(
            "dd if=/dev/urandom of=/tmp/new bs=64k count={BLOCKS} status=none && \
             dd if=/tmp/new of=/dev/vda bs=64k seek={FIRST_BLOCK} oflag=direct conv=fsync status=none"
        ),
    );
    let new = lab.board(board, "sha256sum </tmp/new");
    let found = lab.base(&format!(
        "dd if=/tmp/disk{board} bs=64k skip={FIRST_BLOCK} count={BLOCKS} status=none | sha256sum"
    ));
    assert_eq!(found, new, "what board{board} wrote");
}

/// Board 0 reaches board 1 through the switch.
fn network(lab: &mut Lab) {
    let said = lab.board(0, &format!("ping -q -c {PINGS} -i 0.1 10.11.0.2"));
    let all = format!("{PINGS} packets transmitted, {PINGS} packets received, 0% packet loss");
    assert!(said.contains(&all), "{said}");
    lab.board(1, "(nc -ll -p 5000 -e sha256sum >/dev/null 2>&1 &)");
    // What board 1 heard, as it says itself, of what the base server has.
    let heard = lab.board(0, &format!("head -c {STREAM} /dev/vda | nc 10.11.0.2 5000"));
    assert_eq!(heard, lab.base(&format!("head -c {STREAM} /tmp/disk0 | sha256sum")));
}

/// What the hypervisor of a board says of it is what the board did.
fn counters(lab: &mut Lab, board: usize) {
    for what in ["statistics", "queues"] {
        lab.base(&format!("bmctl --socket /tmp/board{board}.ctl {what}"));
    }
    let statistics = asked(lab, board, "statistics");
    let count = |value: &Value, key: &str| value[key].as_u64().unwrap();
    assert_eq!(statistics["state"], "running", "{statistics:#}");
    assert_eq!(count(&statistics["mailbox"], "expired"), 0, "{statistics:#}");
    for function in statistics["functions"].as_array().unwrap() {
        let trouble = ["refused_accesses", "needs_reset", "queue_errors"].map(|key| count(function, key));
        assert_eq!((count(function, "status"), trouble), (DRIVEN, [0; 3]), "{statistics:#}");
    }
    // Of the disk, of what is received, and of what is sent.
    let queues = asked(lab, board, "queues");
    let [up, down] = ["bytes_up", "bytes_down"]
        .map(|key| [0, 1, 2].map(|queue: usize| count(&queues[queue]["counted"], key)));
    let written = (BLOCKS as u64) << 16;
    assert!(up[0] >= written && down[0] >= DISK as u64, "{queues:#}");
    let streamed = if board == 0 { up[2] } else { down[1] };
    assert!(streamed >= STREAM as u64, "{queues:#}");
}

/// What `bmctl` answers for a program.
fn asked(lab: &mut Lab, board: usize, what: &str) -> Value {
    let said = lab.base_unseen(&format!("bmctl --json --socket /tmp/board{board}.ctl {what}"));
    serde_json::from_str(&said).unwrap()
}

/// Interrupts of the base server's, in `/proc/interrupts`, from the IO-Bond of `board`.
fn interrupts_of(lines: &str, board: usize) -> u64 {
    let device = format!("({})", BaseMachine::address(board));
    let of_device = lines.lines().filter(|line| line.contains(&device));
    let counts = |line: &str| {
        line.split_whitespace().skip(1).map_while(|count| count.parse::<u64>().ok()).sum::<u64>()
    };
    of_device.map(counts).sum()
}
