//! Network cards of two Linux boards: frames, streams and offloads, queue pairs, rings and interrupts.
//!
//! ```text
//!   board0: ping, nc, ethtool - virtio_net - eth0 - IO-Bond -\
//!                                                            bmhive backend net -- port0.pcap, port1.pcap
//!   board1:                   - virtio_net - eth0 - IO-Bond -/
//!   vda of each: the seeded bytes that it sends
//! ```
#![allow(clippy::unwrap_used, reason = "a test's own functions fail as its tests do")]

mod capture;

use std::{net::Ipv4Addr, thread};

use capture::{Segment, segments, stream};
use rig::{
    linux::{Shell, Up},
    test_folder::{TestFolder, sha256},
    toml::{SERVER, blk, linux, net},
};
use rustix::process::Signal;

const MIB: usize = 1 << 20;
/// Bytes of the boards' disks, and of a stream.
const DISK: usize = 32 * MIB;
/// Where the functions of [`scenario`]'s boards are.
const NET: usize = 1;
/// An Ethernet header and the default MTU of 1500 (virtio 1.3, 5.1.4.1).
const FULL_FRAME: usize = 1514;
/// Pings of which interrupts are counted.
const PINGS: u32 = 100;

/// Two boards with a console, a network card and a disk each.
fn scenario(capture: bool, cpus: u8, queue_pairs: u8) -> String {
    let board = |board: u8| {
        let card = format!("{}queue_pairs = {queue_pairs}\n", net(board));
        let disk = blk(&format!("image = \"disk{board}.img\"\nread_only = true"));
        linux(&format!("board{board}"), cpus, 512, &[card, disk])
    };
    format!("{SERVER}[switch]\ncapture = {capture}\n{}{}", board(0), board(1))
}

/// What [`Up`] tells a board's init.
fn address(board: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 11, 0, u8::try_from(board + 1).unwrap())
}

/// The two boards, and what is on their disks.
struct Pair {
    up: Up,
    shells: [Shell; 2],
    disks: [Vec<u8>; 2],
}

impl Pair {
    fn start(scenario: &str) -> Self {
        let folder = TestFolder::new();
        let disks = [0, 1].map(|board| folder.random_file(&format!("disk{board}.img"), DISK, 0x2e7 + board));
        let up = Up::start_in(folder, scenario, &["--accel", "tcg"]);
        let shells = ["board0", "board1"].map(|board| up.shell(board));
        Self { up, shells, disks }
    }

    /// Runs a command on each board at the same time.
    fn both(&mut self, command: impl Fn(usize) -> String) -> [String; 2] {
        let [first, second] = &mut self.shells;
        let commands = [command(0), command(1)];
        thread::scope(|scope| {
            let other = scope.spawn(|| second.check(&commands[1]));
            [first.check(&commands[0]), other.join().unwrap()]
        })
    }

    /// Every one of `count` pings from board 0 to board 1 is answered.
    fn ping(&mut self, prefix: &str, options: &str, count: u32) {
        let ping = format!("{prefix} ping -q -c {count} {options} {}", address(1));
        let said = self.shells[0].check(&ping);
        let all = format!("{count} packets transmitted, {count} packets received, 0% packet loss");
        assert!(said.contains(&all), "{ping}: {said}");
    }

    /// Each board answers on `port` with the SHA-256 of what came.
    fn listen(&mut self, port: u16) {
        self.both(|_| format!("(nc -ll -p {port} -e sha256sum >/dev/null 2>&1 &)"));
    }

    /// Both boards send the first `bytes` of their disks to each other at once, and each hears what arrived.
    fn stream(&mut self, port: u16, bytes: usize) {
        let heard = self.both(|board| format!("head -c {bytes} /dev/vda | nc {} {port}", address(1 - board)));
        self.assert_heard(heard, bytes);
    }

    /// The same while commands are run on board 0 over and over, each round all of them.
    fn stream_while(&mut self, port: u16, bytes: usize, commands: &[&str]) {
        let round = commands.join(" && ");
        let heard = self.both(|board| {
            let send = format!("head -c {bytes} /dev/vda | nc {} {port}", address(1 - board));
            match board {
                1 => send,
                _ => format!(
                    "rm -f /tmp/over; ({send} >/tmp/heard; touch /tmp/over) &\n\
                     rounds=0; while [ ! -e /tmp/over ]; do {round} || break; rounds=$((rounds + 1)); done\n\
                     while [ ! -e /tmp/over ]; do usleep 10000; done\n\
                     [ $rounds -gt 1 ] && cat /tmp/heard"
                ),
            }
        });
        self.assert_heard(heard, bytes);
    }

    fn assert_heard(&self, heard: [String; 2], bytes: usize) {
        for (heard, disk) in heard.iter().zip(&self.disks) {
            // A shell may say of a command in the background that it is done.
            let digest = format!("{}  -", sha256(&disk[..bytes]));
            assert!(heard.lines().any(|line| line == digest), "{digest}, and not {heard}");
        }
    }

    /// Interrupts that board 0 took from its card, for each vector.
    fn interrupts(&mut self) -> Vec<u64> {
        let device = "$(basename $(readlink /sys/class/net/eth0/device))";
        let lines = self.shells[0].check(&format!("grep {device}- /proc/interrupts"));
        let cpus =
            |line: &str| line.split_whitespace().skip(1).map_while(|count| count.parse::<u64>().ok()).sum();
        lines.lines().map(cpus).collect()
    }

    /// Interrupts of its card that board 0 took, and those that IO-Bond has sent, at a moment when none is
    /// under way.
    fn interrupts_at_both_ends(&mut self) -> (u64, u64) {
        loop {
            let before = self.interrupts();
            let sent = self.up.board("board0").functions[NET].interrupts;
            if self.interrupts() == before {
                return (before.iter().sum(), sent);
            }
        }
    }

    /// The drivers of both cards are content, and IO-Bond is with them.
    fn assert_sound(&mut self) {
        for board in self.up.status().boards {
            let card = &board.functions[NET];
            assert_eq!((card.driver(), card.queue_error.as_deref()), ("ready", None), "{card:#?}");
        }
        let trouble = "! dmesg | grep -E 'WARNING|BUG|virtio_net.*(fail|error)|eth0.*(fail|error|timed out)'";
        self.both(|_| trouble.into());
    }

    fn end(mut self) {
        self.up.signal(Signal::INT);
        let ended = self.up.finish();
        assert_eq!((ended.code, ended.signal), (Some(0), None), "{ended:#?}");
        self.up.assert_nothing_left();
    }
}

/// ```text
///   board0                       switch                      board1
///   ping 56, 1400, 8000 -------- port0, port1 -------------- every one answered
///   /proc/interrupts: as many as IO-Bond sent, one ping at a time
///   32 MiB ====================> the same bytes in captures> SHA-256     one port for each of: all offloads,
///   SHA-256 <=================== frames and checksums as <== 32 MiB      no TSO, no checksums
///                                the sender's card makes them
/// ```
#[test]
fn frames_and_streams_arrive_whole_with_and_without_offloads() {
    let mut pair = Pair::start(&scenario(true, 1, 1));
    let said = pair.both(|_| "cd /sys/class/net/eth0; cat address carrier operstate mtu".into());
    assert_eq!(said, [0, 1].map(|board: usize| format!("52:54:00:10:0b:{board:02x}\n1\nup\n1500\n")));
    pair.ping("", "-A -s 56", 50);
    pair.ping("", "-A -s 1400", 50);
    pair.ping("", "-A -s 8000", 50);

    // The next is sent when the last was answered: no two interrupts become one on their way.
    let (taken, sent) = pair.interrupts_at_both_ends();
    pair.ping("", "-A", PINGS);
    let after = pair.interrupts_at_both_ends();
    let (taken, sent) = (after.0 - taken, after.1 - sent);
    assert_eq!(taken, sent, "interrupts");
    assert!(taken > u64::from(PINGS), "{taken} interrupts for {PINGS} answers and what was sent");

    let phases = [
        (5000, DISK, "on", "on", "true"),
        (5001, 4 * MIB, "on", "off", "ethtool -K eth0 tso off"),
        (5002, 4 * MIB, "off", "off", "ethtool -K eth0 tx off"),
    ];
    for (port, bytes, checksums, segmentation, change) in phases {
        pair.listen(port);
        let said = pair.both(|_| format!("{{ {change}; }} >/dev/null; ethtool -k eth0"));
        for expected in [
            format!("tx-checksumming: {checksums}\n"),
            format!("tcp-segmentation-offload: {segmentation}"),
            "rx-checksumming: on".into(),
        ] {
            assert!(said.iter().all(|said| said.contains(&expected)), "{expected}: {said:?}");
        }
        pair.stream(port, bytes);
    }
    pair.assert_sound();

    let captures =
        ["port0.pcap", "port1.pcap"].map(|name| segments(&pair.up.run_directory().join("base.d").join(name)));
    for capture in &captures {
        for (port, bytes, checksums, segmentation, _) in phases {
            for (board, disk) in pair.disks.iter().enumerate() {
                let sent = |segment: &&Segment| segment.from == address(board) && segment.to_port == port;
                let sent: Vec<_> = capture.iter().filter(sent).collect();
                assert!(stream(sent.iter().copied()) == disk[..bytes], "board{board}, port {port}");
                let longest = sent.iter().map(|segment| segment.frame).max();
                assert_eq!(longest > Some(FULL_FRAME), segmentation == "on", "{port}: {longest:?} bytes");
                let wrong = sent.iter().filter(|segment| match checksums {
                    "on" => !segment.is_partial,
                    _ => !segment.is_whole,
                });
                assert_eq!(wrong.count(), 0, "of {} segments to port {port}", sent.len());
            }
        }
    }
    pair.end();
}

/// ```text
///   board0, 2 CPUs                      IO-Bond                          board1, 2 CPUs
///   CPU 0: ping -- output.0, input.0 -- 2 queue pairs ------------------ answers on the pair it was asked on
///   CPU 1: ping -- output.1, input.1 -/
///   16 MiB <=========================== 1 pair, 2 pairs, 1 ... ========> 16 MiB
///   16 MiB <=========================== rings of 128, of 256 ... ======> 16 MiB    queues are reset singly
/// ```
#[test]
fn two_queue_pairs_share_the_work_and_may_be_changed_under_traffic() {
    let mut pair = Pair::start(&scenario(false, 2, 2));
    pair.listen(5000);
    let channels = pair.shells[0].check("ethtool -l eth0 | grep Combined");
    assert_eq!(channels, "Combined:\t2\n".repeat(2), "at most, and now");
    pair.ping("", "-A", 20);

    for (cpu, used, unused) in [("1", [1, 2], [3, 4]), ("2", [3, 4], [1, 2])] {
        let before = pair.interrupts();
        pair.ping(&format!("taskset {cpu}"), "-i 0.01", PINGS);
        let after = pair.interrupts();
        let grown: Vec<_> = after.iter().zip(&before).map(|(after, before)| after - before).collect();
        assert!(grown[used[0]] >= u64::from(PINGS) / 2 && grown[used[1]] > 0, "{grown:?}");
        assert!(unused.iter().all(|vector| grown[*vector] <= 5), "{grown:?}");
    }
    let pause = "usleep 100000";
    pair.stream_while(
        5000,
        DISK / 2,
        &["ethtool -L eth0 combined 1", pause, "ethtool -L eth0 combined 2", pause],
    );
    pair.ping("taskset 1", "-A", PINGS);
    pair.ping("taskset 2", "-A", PINGS);
    pair.stream_while(
        5000,
        DISK / 2,
        &["ethtool -G eth0 rx 128 tx 128", pause, "ethtool -G eth0 rx 256 tx 256", pause],
    );
    pair.ping("taskset 1", "-A", PINGS);
    pair.ping("taskset 2", "-A", PINGS);
    pair.stream(5000, 4 * MIB);
    pair.assert_sound();
    pair.end();
}
