//! Boards hosted by another program over vfio-user: the drivers of the software board on a virtual machine
//! monitor's half that is not ours, in front of everything that a real guest has behind its functions.
#![allow(clippy::unwrap_used, reason = "a test's own functions fail as its tests do")]

use std::{
    fs,
    io::{Read, Write},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use rig::{
    frames::next_frame,
    hosted::{HostedTransport, ServedWorld},
    test_folder::random_bytes,
    toml::{blk, board, net},
};
use software_board::blk::{Blk, SECTOR};

type Disk = Blk<HostedTransport, 256>;

const DISK: &str = "size_mib = 4";

fn prove(disk: &mut Disk, seed: u64) {
    let data = random_bytes(8 * SECTOR, seed);
    let sector = seed * 8 % (disk.capacity() - 8);
    disk.write(sector, &data).unwrap();
    let mut read = vec![0; data.len()];
    disk.read(sector, &mut read).unwrap();
    assert!(read == data, "sector {sector} holds something else");
}

fn two_disks() -> ServedWorld {
    let disks = || [blk(DISK), blk(DISK)];
    ServedWorld::start("", &[board("one", &disks()), board("two", &disks())])
}

#[test]
fn what_a_hosted_board_writes_is_in_the_image() {
    for poll in ["poll = \"adaptive\"", "poll = \"adaptive\"\npoll_us = 0", "poll = \"busy\""] {
        let world = ServedWorld::start(poll, &[board("board", &[blk(DISK)])]);
        let mut disk = world.host(0).disk(0);
        let data = random_bytes(1 << 20, 7);
        for (turn, chunk) in data.chunks(64 << 10).enumerate() {
            disk.write((turn * chunk.len() / SECTOR) as u64, chunk).unwrap();
        }
        let mut read = vec![0; data.len()];
        for (turn, chunk) in read.chunks_mut(64 << 10).enumerate() {
            disk.read((turn * chunk.len() / SECTOR) as u64, chunk).unwrap();
        }
        assert!(read == data, "{poll}");
        assert!(fs::read(world.image(0, 0)).unwrap()[..data.len()] == data, "{poll}");
    }
}

/// A base core that sleeps wakes when a disk may go on: 40 reads take 0.2 s at their rate, and would take 4 s
/// if each waited for the end of the core's longest sleep.
#[test]
fn a_limited_disk_goes_on_although_the_base_sleeps() {
    let keys = format!("{DISK}\nlimits = {{ iops = 200 }}");
    let world = ServedWorld::start("poll = \"adaptive\"\npoll_us = 0", &[board("board", &[blk(&keys)])]);
    let mut disk = world.host(0).disk(0);
    let (start, mut sector) = (Instant::now(), vec![0; SECTOR]);
    for _ in 0..40 {
        disk.read(0, &mut sector).unwrap();
    }
    let took = start.elapsed();
    assert!((Duration::from_millis(170)..Duration::from_secs(3)).contains(&took), "{took:?}");
}

/// ```text
///   host A: plug, write, killed           host C: plug, reads what A wrote
///   host B: ...... reads and writes all the time ......
/// ```
#[test]
fn a_host_that_is_killed_leaves_its_neighbour_alone_and_can_come_back() {
    let world = two_disks();
    let neighbour = world.host(1);
    let mut beside = neighbour.disk(0);
    for run in 0..5 {
        let hosted = world.host(0);
        let (mut disk, mut other) = (hosted.disk(0), hosted.disk(1));
        if run > 0 {
            let mut read = vec![0; 4096];
            disk.read(64, &mut read).unwrap();
            assert!(read == random_bytes(4096, run - 1), "run {run}");
        }
        disk.write(64, &random_bytes(4096, run)).unwrap();
        prove(&mut other, run);
        prove(&mut beside, run);
        hosted.bus.kill();
        prove(&mut beside, run + 100);
    }
    assert!(world.served.boards().iter().all(|board| board.failure().is_none()));
}

#[test]
fn a_reset_by_the_host_stops_one_function_and_its_driver_starts_anew() {
    let world = two_disks();
    let hosted = world.host(0);
    let mut other = hosted.disk(1);
    prove(&mut hosted.disk(0), 1);
    for round in 0..5 {
        hosted.bus.reset(0);
        prove(&mut other, round);
        // Configuration space is as after power-on: the host places and opens the function again, as firmware
        // does.
        prove(&mut hosted.found_again().disk(0), round);
    }
}

#[test]
fn frames_go_between_hosted_boards() {
    let boards = [board("one", &[net(1)]), board("two", &[net(2)])];
    let world = ServedWorld::start("", &boards);
    let (one, two) = (world.host(0), world.host(1));
    let (mut left, mut right) = (one.net(0), two.net(0));
    let (from, to) = (left.mac(), right.mac());
    for turn in 0..50u8 {
        let mut frame = [to.as_slice(), from.as_slice(), &[0x88, 0xb5]].concat();
        frame.extend([turn; 50]);
        left.send(&frame).unwrap();
        let got = next_frame(&mut right);
        assert!(got.bytes() == frame, "frame {turn}");
        right.recycle(got).unwrap();
    }
}

#[test]
fn every_interrupt_that_io_bond_counts_arrives() {
    let world = ServedWorld::start("", &[board("board", &[blk(DISK)])]);
    let hosted = world.host(0);
    let mut disk = hosted.disk(0);
    for seed in 0..50 {
        prove(&mut disk, seed);
    }
    let sent = world.served.boards()[0].interrupts(0);
    let arrived: u64 = hosted.bus.all_messages();
    assert!(sent >= 50, "{sent}");
    assert_eq!(u64::from(sent), arrived);
}

/// A peer that talks nonsense on one socket ends its own connection. The board beside it, the function beside
/// it and the next host of the very same function do not notice.
#[test]
fn nonsense_on_one_socket_does_not_reach_the_others() {
    let world = two_disks();
    let neighbour = world.host(1);
    let mut beside = neighbour.disk(0);
    for seed in 0..20 {
        let mut stream = UnixStream::connect(world.socket(0, 0)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(&random_bytes(16 + 40 * seed as usize, seed)).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        // The connection ends; with what is of no interest, a reset included.
        let _ = stream.read_to_end(&mut answer);
        prove(&mut beside, seed);
    }
    prove(&mut world.host(0).disk(0), 3);
    assert!(world.served.boards().iter().all(|board| board.failure().is_none()));
}
