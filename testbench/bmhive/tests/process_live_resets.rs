//! Resets with requests in flight, of every kind: a driver's, a function's, a bus scan. Afterwards nothing of
//! what was in flight reaches the board, and the function works.
#![allow(clippy::unwrap_used, reason = "a test's own functions fail as its tests do")]

use std::time::{Duration, Instant};

use iobond_spec::{offsets::mailbox, register_access::RegisterIo};
use rig::{
    frames::next_frame,
    live_world::{DEADLINE, Disk, Software, Transport, World, boards, boards_on, prove},
    test_folder::random_bytes,
    toml::{blk, board, net},
};
use scenario::BackEnd;
use software_board::{
    blk::{BlkError, SECTOR},
    bus::Bus,
    net::Net,
    pci,
    queue::RingOptions,
    transport::{BoardTransport, TransportError, message_data},
};
use vm_memory::{Bytes, GuestAddress};

/// How long late writes are waited for.
const AFTERMATH: Duration = Duration::from_millis(20);

fn one_disk() -> World {
    boards(&[board("board", &[blk("size_mib = 4")])])
}

/// Leaves 48 reads in flight.
fn start_reads(disk: &mut Disk) {
    for number in 0..48 {
        disk.submit_read(number * 128, vec![0; 32 << 10]).unwrap();
    }
    disk.kick();
}

/// Whether the board's memory changes.
fn memory_changes(software: &Software) -> bool {
    let snapshot = || {
        let mut bytes = vec![0; 32 << 20];
        software.bus.memory().read_slice(&mut bytes, GuestAddress(0)).unwrap();
        bytes
    };
    let before = snapshot();
    let start = Instant::now();
    while start.elapsed() < AFTERMATH {
        software.bus.relax();
    }
    snapshot() != before
}

fn memory_is_left_alone(software: &Software) {
    assert!(!memory_changes(software), "something was written to the board's memory after a reset");
}

/// Fills the disk, so that a late read would be seen.
fn filled(world: &World) -> Software {
    let software = world.software(0);
    let mut disk = software.disk(0, RingOptions::default());
    for sector in (0..8192).step_by(2048) {
        disk.write(sector, &random_bytes(1 << 20, sector)).unwrap();
    }
    software
}

#[test]
fn a_driver_that_resets_its_disk_in_flight_hears_no_more_of_it() {
    for execution in ["inline", "threads"] {
        let disk = board("board", &[blk("size_mib = 4")]);
        let world = boards_on(execution, &[disk]);
        let software = filled(&world);
        if execution == "inline" {
            let mut untouched = software.disk(0, RingOptions::default());
            start_reads(&mut untouched);
            assert!(memory_changes(&software), "reads that nothing stops arrive");
        }
        for turn in 0..6 {
            let mut disk = software.disk(0, RingOptions::default());
            start_reads(&mut disk);
            (0..turn * 40).for_each(|_| software.bus.relax());
            drop(disk);
            memory_is_left_alone(&software);
        }
        software.disk_works(0, 1);
        assert!(world.live.failure().is_none());
    }
}

#[test]
fn a_function_level_reset_in_flight_ends_everything() {
    let world = one_disk();
    let software = filled(&world);
    let mut function = software.functions[0].clone();
    for turn in 0..3 {
        let mut disk = software.disk(0, RingOptions::default());
        start_reads(&mut disk);
        (0..turn * 40).for_each(|_| software.bus.relax());
        let messages = || software.bus.messages(message_data(software.functions[0].id, 1));
        let before = messages();
        function.reset(&*software.bus).unwrap();
        assert_eq!(messages(), before, "an interrupt during the reset");
        memory_is_left_alone(&software);
        // What the driver had set up is gone: MSI-X is off, the status is 0, no queue is enabled.
        assert_eq!(function.msix().unwrap().1.control & pci::Msix::ENABLE, 0);
        assert!(virtio_drivers::transport::Transport::get_status(disk.transport()).is_empty());
        drop(disk);
        software.disk_works(0, turn);
    }
    assert_eq!(world.live.boards()[0].statistics().mailbox.resets, 3);
    assert!(world.live.failure().is_none());
}

#[test]
fn a_bus_that_is_scanned_again_looks_the_same_and_its_drivers_go_on() {
    let world = boards(&[board("board", &[blk("size_mib = 4"), net(0)])]);
    let software = world.software(0);
    let mut disk = software.disk(0, RingOptions::default());
    prove(&mut disk, 1);
    // The second time MSI-X is on already, wherever a driver has been.
    let again = pci::enumerate(&*software.bus).unwrap();
    let places = |functions: &[pci::Function]| -> Vec<_> {
        functions.iter().map(|function| (function.id, function.device, function.bars.clone())).collect()
    };
    assert_eq!(places(&again), places(&software.functions));
    assert_eq!(again[0].capabilities.len(), software.functions[0].capabilities.len());
    assert_eq!(pci::enumerate(&*software.bus).unwrap(), again);
    prove(&mut disk, 2);
}

/// Bus mastering off in flight: requests do not reach memory; a driver that comes after it finds a function
/// that works.
#[test]
fn a_function_that_may_not_master_the_bus_touches_no_memory() {
    const COMMAND: u16 = 4;
    const BUS_MASTER: u32 = 1 << 2;
    let world = one_disk();
    let software = filled(&world);
    let mut disk = software.disk(0, RingOptions::default());
    let id = software.functions[0].id;
    let command = software.bus.config_read(id, COMMAND, 2);
    software.bus.config_write(id, COMMAND, 2, command & !BUS_MASTER);
    start_reads(&mut disk);
    memory_is_left_alone(&software);
    world.await_statistics(0, 0, |function| function.last_queue_error == Some((0, "BoardFault".into())));
    software.bus.config_write(id, COMMAND, 2, command);
    drop(disk);
    software.disk_works(0, 3);
}

/// Frame `number` from one card to the other, which sees it next.
fn passes(from: &mut Net<Transport>, to: &mut Net<Transport>, number: u8) {
    let frame = [&to.mac()[..], &from.mac()[..], &[0x88, 0xB5], &[number; 50]].concat();
    assert!(from.send(&frame).unwrap());
    let start = Instant::now();
    loop {
        let seen = next_frame(to);
        let found = seen.bytes() == frame;
        to.recycle(seen).unwrap();
        to.kick();
        if found {
            return;
        }
        assert!(start.elapsed() < DEADLINE);
    }
}

#[test]
fn a_card_that_is_reset_with_frames_under_way_receives_what_comes_afterwards() {
    let world = boards(&[board("left", &[net(0)]), board("right", &[net(1)])]);
    let (left, right) = (world.software(0), world.software(1));
    let mut sender = left.net(0, RingOptions::default());
    for turn in 0..6 {
        let mut receiver = right.net(0, RingOptions::default());
        // Both learn of one another; a switch that was told twice of an address believes the second.
        passes(&mut receiver, &mut sender, turn);
        passes(&mut sender, &mut receiver, turn);
        let mut late = [&receiver.mac()[..], &sender.mac()[..], &[0x88, 0xB5]].concat();
        late.resize(1000, 0xDD);
        for _ in 0..32 {
            assert!(sender.send(&late).unwrap());
        }
        drop(receiver);
        memory_is_left_alone(&right);
    }
    assert!(world.live.failure().is_none());
}

#[test]
fn no_access_ever_expired() {
    let world = one_disk();
    let software = world.software(0);
    (0..20).for_each(|turn| software.disk_works(0, turn));
    let read = |register| world.bond(0).read32(mailbox::BASE + register);
    assert_eq!([mailbox::EXPIRED_READS, mailbox::EXPIRED_WRITES, mailbox::LATE_ANSWERS].map(read), [0; 3]);
    assert!(world.live.boards()[0].statistics().mailbox.reads > 100);
}

#[test]
fn a_back_end_that_dies_takes_its_function_and_nothing_else() {
    let disks = |number: usize| vec![blk("size_mib = 1"); number];
    let mut world = boards(&[board("left", &disks(2)), board("right", &disks(1))]);
    let (left, right) = (world.software(0), world.software(1));
    let (mut dead, mut sibling) =
        (left.disk(0, RingOptions::default()), left.disk(1, RingOptions::default()));
    let mut neighbour = right.disk(0, RingOptions::default());
    prove(&mut dead, 1);
    let told = left.bus.messages(message_data(left.functions[0].id, 0));

    dead.submit_read(0, vec![0; SECTOR]).unwrap();
    world.live.kill(BackEnd::Disk { board: 0, function: 0 });
    dead.kick();

    world.await_statistics(0, 0, |function| function.needs_reset == 1 && function.running_queues == 0);
    let failure = world.live.failure().unwrap().to_string();
    assert!(
        failure.contains("board left") && failure.contains("0.0.sock") && failure.contains("died"),
        "{failure}"
    );
    assert!(matches!(dead.transport().check(), Err(TransportError::NeedsReset { .. })));
    assert_eq!(left.bus.messages(message_data(left.functions[0].id, 0)), told + 1);
    prove(&mut sibling, 2);
    prove(&mut neighbour, 3);
    drop(dead);
    // It does not come back by itself, and sends its next driver away.
    let again: Result<Disk, _> = Disk::new(left.transport(0), &left.memory, RingOptions::default());
    assert!(
        matches!(again, Err(BlkError::Transport(TransportError::FeaturesRefused { .. }))),
        "{:?}",
        again.err()
    );
    prove(&mut sibling, 4);
}
