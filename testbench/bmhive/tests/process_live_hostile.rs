//! A hostile board on a live server: garbage in its rings, garbage in its registers. What it breaks is its
//! own, and a reset mends it.
//!
//! ```text
//!   left:  [victim: 2 queues] [sibling]      right: [neighbour]
//!           0: by hand   1: goes on  goes on         goes on
//! ```
#![allow(clippy::unwrap_used, reason = "a test's own functions fail as its tests do")]

use std::{fs, time::Instant};

use iobond_spec::{
    address::{BoardAddr, FunctionId},
    function::BAR_SIZE,
    offsets::{board as board_registers, queues},
    register_access::RegisterIo,
    ring::split::{DESC_INDIRECT, DESC_NEXT, DESC_SIZE, DESC_WRITE},
};
use rig::{
    by_hand::{Areas, ByHand, SIZE, descriptor},
    live_world::{DEADLINE, Software, World, boards_on, prove},
    test_folder::random_bytes,
    toml::{blk, board, net},
};
use software_board::{
    blk::SECTOR,
    bus::Bus,
    pci,
    queue::{Chain, Queue, RingOptions},
    transport::BoardTransport,
};

const INDIRECT: u64 = 1 << 28;
const EVENT_IDX: u64 = 1 << 29;
const NOTIFICATION_DATA: u64 = 1 << 38;
const MQ: u64 = 1 << 12;
/// Above the memory of a board, and not in a BAR's window.
const NOWHERE: u64 = 0x4000_0000;

/// What a hostile driver does to queue 0, and what is found wrong with it.
struct Attack {
    error: &'static str,
    features: u64,
    act: fn(&mut ByHand),
}

const ATTACKS: [Attack; 18] = [
    Attack { error: "AvailJump", features: 0, act: |hand| publish_up_to(hand, SIZE + 1) },
    Attack { error: "AvailJump", features: 0, act: |hand| publish_up_to(hand, 0x8000) },
    Attack { error: "AvailJump", features: EVENT_IDX, act: |hand| publish_up_to(hand, u16::MAX) },
    Attack { error: "BadDoorbell", features: NOTIFICATION_DATA, act: |hand| hand.notify_with(0x7FFF_0000) },
    Attack { error: "BadHead", features: 0, act: |hand| offer(hand, SIZE, &[]) },
    Attack { error: "BadHead", features: INDIRECT, act: |hand| offer(hand, u16::MAX, &[]) },
    Attack { error: "BadNext", features: 0, act: |hand| offer(hand, 0, &[(0, 16, DESC_NEXT, SIZE)]) },
    // A descriptor that names itself, and two that name one another.
    Attack { error: "ChainTooLong", features: 0, act: |hand| offer(hand, 0, &[(0, 16, DESC_NEXT, 0)]) },
    Attack {
        error: "ChainTooLong",
        features: 0,
        act: |hand| offer(hand, 0, &[(0, 16, DESC_NEXT, 1), (64, 16, DESC_NEXT, 0)]),
    },
    Attack { error: "ZeroLength", features: 0, act: |hand| offer(hand, 0, &[(0, 0, 0, 0)]) },
    // 4 GiB in a buffer.
    Attack {
        error: "ChainTooLong",
        features: 0,
        act: |hand| offer(hand, 0, &[(0, u32::MAX, DESC_WRITE, 0)]),
    },
    Attack {
        error: "BadOrder",
        features: 0,
        act: |hand| offer(hand, 0, &[(0, 16, DESC_NEXT | DESC_WRITE, 1), (64, 16, 0, 0)]),
    },
    // Indirect though it was not negotiated, nested, of no whole number of descriptors, and one that goes on.
    Attack { error: "BadIndirect", features: 0, act: |hand| offer(hand, 0, &[(0, 16, DESC_INDIRECT, 0)]) },
    Attack { error: "BadIndirect", features: INDIRECT, act: |hand| offer_table(hand, DESC_INDIRECT, 16, 0) },
    Attack { error: "BadIndirect", features: INDIRECT, act: |hand| offer_table(hand, 0, 17, 0) },
    Attack { error: "BadIndirect", features: INDIRECT, act: |hand| offer_table(hand, 0, 16, DESC_NEXT) },
    // Payload that is nowhere, and payload that wraps around the end of the address space.
    Attack {
        error: "BoardFault",
        features: 0,
        act: |hand| offer(hand, 0, &[(NOWHERE - hand.arena, 4096, 0, 0)]),
    },
    Attack {
        error: "BoardFault",
        features: 0,
        act: |hand| offer(hand, 0, &[(0u64.wrapping_sub(hand.arena + 8), 64, 0, 0)]),
    },
];

fn publish_up_to(hand: &mut ByHand, index: u16) {
    hand.set_available_index(index);
    hand.notify();
}

/// Writes descriptors whose addresses count from the arena, and makes `head` available.
fn place(hand: &mut ByHand, head: u16, descriptors: &[(u64, u32, u16, u16)]) {
    let descriptors: Vec<_> = descriptors
        .iter()
        .map(|&(at, len, flags, next)| descriptor(hand.arena.wrapping_add(at), len, flags, next))
        .collect();
    hand.set_descriptors(hand.areas.desc, &descriptors);
    hand.publish(head);
}

/// The same, and rings.
fn offer(hand: &mut ByHand, head: u16, descriptors: &[(u64, u32, u16, u16)]) {
    place(hand, head, descriptors);
    hand.notify();
}

/// An indirect table of `bytes` bytes whose first descriptor has the flags `inner`.
fn offer_table(hand: &mut ByHand, inner: u16, bytes: u32, outer: u16) {
    hand.set_descriptors(hand.arena, &[descriptor(hand.arena + 512, DESC_SIZE as u32, inner, 0)]);
    offer(hand, 0, &[(0, bytes, DESC_INDIRECT | outer, 1)]);
}

/// A board with a victim of two queues and a sibling, beside a board with a neighbour.
fn victim_and_neighbours(execution: &str) -> World {
    let left = board("left", &[blk("size_mib = 1\nqueues = 2"), blk("size_mib = 1")]);
    boards_on(execution, &[left, board("right", &[blk("size_mib = 1")])])
}

/// Reads a sector by a queue that has just the one request.
fn reads(queue: &mut Queue<16>, transport: &mut impl BoardTransport) {
    queue
        .submit(Chain { readable: [vec![0; 16], Vec::new()], writable: [vec![0; SECTOR], vec![0xFF]] })
        .unwrap();
    queue.kick(transport);
    let start = Instant::now();
    let used = loop {
        if let Some(used) = queue.pop().unwrap() {
            break used;
        }
        assert!(start.elapsed() < DEADLINE, "the other queue stands still");
        transport.relax();
    };
    assert_eq!(used.chain.writable[1], [0]);
}

#[test]
fn a_broken_ring_stops_its_queue_and_nothing_else() {
    ["inline", "threads"].into_iter().for_each(broken_rings);
}

fn broken_rings(execution: &str) {
    let world = victim_and_neighbours(execution);
    let (left, right) = (world.software(0), world.software(1));
    let mut sibling = left.disk(1, RingOptions::default());
    let mut neighbour = right.disk(0, RingOptions::default());
    for (turn, attack) in (1..).zip(ATTACKS) {
        let seed = turn as u64;
        let mut hand = ByHand::new(&left, 0, attack.features | MQ);
        hand.enable_at(hand.areas);
        let options =
            RingOptions { indirect: false, event_idx: false, notification_data: false, interrupts: false };
        let features = attack.features & NOTIFICATION_DATA;
        let mut other = Queue::<16>::new(&mut hand.transport, &left.memory, 1, features, options).unwrap();
        hand.activate();
        reads(&mut other, &mut hand.transport);
        let told = hand.configuration_messages();

        (attack.act)(&mut hand);

        hand.await_needs_reset();
        let seen = format!("{} of attack {turn}", attack.error);
        assert_eq!(hand.configuration_messages(), told + 1, "{seen}");
        let expected = Some((0, attack.error.to_owned()));
        let found = world.await_statistics(0, 0, |function| function.needs_reset == seed);
        assert_eq!((found.last_queue_error, found.queue_errors), (expected, seed), "{seen}");
        assert_eq!((hand.used_index(), world.queue_register(0, 0, queues::FORWARDED)), (0, 0), "{seen}");
        reads(&mut other, &mut hand.transport);
        prove(&mut sibling, seed);
        prove(&mut neighbour, seed);

        // A stopped queue stays stopped, whatever is notified.
        hand.notify();
        hand.notify_with(u32::MAX);
        reads(&mut other, &mut hand.transport);
        drop((hand, other));
        left.disk_works(0, seed);
    }
    assert!(world.live.failure().is_none());
}

#[test]
fn rings_that_lie_nowhere_are_faults_of_their_board_alone() {
    let world = victim_and_neighbours("inline");
    let (left, right) = (world.software(0), world.software(1));
    let mut neighbour = right.disk(0, RingOptions::default());
    let faults = || world.bond(0).read32(board_registers::BASE + board_registers::DMA_FAULTS);
    for (turn, area) in (1..).zip(["desc", "avail", "used"]) {
        let mut hand = ByHand::new(&left, 0, 0);
        let mut areas = hand.areas;
        *match area {
            "desc" => &mut areas.desc,
            "avail" => &mut areas.avail,
            _ => &mut areas.used,
        } = NOWHERE;
        let before = faults();
        hand.enable_at(areas);
        hand.activate();
        // A good request: header, data, status.
        hand.write(hand.arena, &[0; 16]);
        let chain = [(0, 16, DESC_NEXT, 1), (512, 512, DESC_NEXT | DESC_WRITE, 2), (1024, 1, DESC_WRITE, 0)];
        place(&mut hand, 0, &chain);
        hand.notify_with(0);
        hand.await_needs_reset();
        let found = world.await_statistics(0, 0, |function| function.needs_reset == turn);
        assert_eq!(found.last_queue_error, Some((0, "BoardFault".into())), "{area}");
        assert!(faults() > before, "{area}");
        prove(&mut neighbour, turn);
        drop(hand);
        left.disk_works(0, turn);
    }
}

#[test]
fn a_ring_that_cannot_be_is_refused_before_it_runs() {
    let world = victim_and_neighbours("inline");
    let left = world.software(0);
    let wrong: [fn(&mut Areas); 3] = [|at| at.desc += 8, |at| at.avail += 1, |at| at.used += 2];
    for (turn, misalign) in (1..).zip(wrong) {
        let mut hand = ByHand::new(&left, 0, 0);
        let mut areas = hand.areas;
        misalign(&mut areas);
        hand.enable_at(areas);
        assert!(hand.transport.fault().is_some(), "{areas:x?} was enabled");
        hand.await_needs_reset();
        // Not before DRIVER_OK, and no queue ran: there is no driver to tell, and nothing to stop.
        assert_eq!(world.await_statistics(0, 0, |function| function.needs_reset == turn).running_queues, 0);
        drop(hand);
        left.disk_works(0, turn);
    }
}

/// `queue_enable` twice, addresses of an enabled queue, fields that are read only, features after
/// FEATURES_OK.
#[test]
fn writes_that_are_out_of_place_are_refused_and_change_nothing() {
    /// Offset, width and value of writes to the common configuration (virtio 1.3, 4.1.4.3).
    const WRITES: [(u64, u8, u32); 9] = [
        (0x04, 4, u32::MAX),    // device_feature
        (0x0C, 4, 0),           // driver_feature
        (0x12, 2, 77),          // num_queues
        (0x15, 1, 9),           // config_generation
        (0x18, 2, 2),           // queue_size
        (0x1C, 2, 1),           // queue_enable
        (0x1C, 2, 0),           // queue_enable, which only a reset clears
        (0x20, 4, 0),           // queue_desc
        (0x30, 4, 0xFFFF_F000), // queue_device
    ];
    let world = victim_and_neighbours("inline");
    let left = world.software(0);
    let mut disk = left.disk(0, RingOptions::default());
    prove(&mut disk, 1);
    let bar = left.functions[0].bars[0].address.0;
    let refused = || world.live.boards()[0].statistics().functions[0].refused_accesses;
    let registers = || -> Vec<u32> {
        (0..0x40)
            .step_by(4)
            .filter(|at| *at != 0x14)
            .map(|at| left.bus.mmio_read(BoardAddr(bar + at), 4))
            .collect()
    };
    let (before, stood) = (refused(), registers());
    for (at, width, value) in WRITES {
        left.bus.mmio_write(BoardAddr(bar + at), width, value);
    }
    let start = Instant::now();
    while refused() < before + WRITES.len() as u64 {
        assert!(start.elapsed() < DEADLINE, "{} of {} refused", refused() - before, WRITES.len());
        left.bus.relax();
    }
    assert_eq!(registers(), stood);
    prove(&mut disk, 2);
    disk.transport().check().unwrap();
}

/// One access of a board gone mad.
fn garbage(random: &mut fastrand::Rng, software: &Software) {
    const WIDTHS: [u8; 6] = [1, 2, 4, 4, 3, 8];
    let function = FunctionId::all().nth(random.usize(..4)).unwrap();
    let width = *random.choice(&WIDTHS).unwrap();
    let (any, small) = (random.u32(..), random.u32(..256));
    let value = *random.choice(&[0, 1, u32::MAX, any, small]).unwrap();
    let offset = random.u32(..BAR_SIZE + 64);
    // Most of a BAR is empty: rather where something is.
    let offset = *random
        .choice(&[offset, offset % 64, 0x2000 + offset % 64, 0x3000 + offset % 64, 0x4000 + offset % 1024])
        .unwrap();
    let bar = pci::MMIO_WINDOW.start + u64::from(BAR_SIZE) * random.u64(..4);
    let address = BoardAddr(bar + u64::from(offset));
    match random.u8(..8) {
        0 => drop(software.bus.config_read(function, random.u16(..), width)),
        1 => software.bus.config_write(function, random.u16(..256), width, value),
        2..=4 => drop(software.bus.mmio_read(address, width)),
        _ => software.bus.mmio_write(address, width, value),
    }
}

#[test]
fn garbage_in_every_register_harms_no_other_board_and_is_gone_after_a_reset() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0x10_B0ED);
    println!("SEED={seed}");
    garbage_on("inline", seed);
    garbage_on("threads", seed + 1);
}

fn garbage_on(execution: &str, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mad = board("mad", &[blk("size_mib = 1\nqueues = 2"), net(0), blk("size_mib = 1")]);
    let world = boards_on(execution, &[mad, board("calm", &[blk("size_mib = 1"), net(1)])]);
    let mut software = world.software(0);
    let calm = world.software(1);
    let mut disk = calm.disk(0, RingOptions::default());
    for round in 0..5 {
        // Drivers come up first, so that there is something to ruin.
        let ruined = (software.disk(0, RingOptions::default()), software.net(1, RingOptions::default()));
        for _ in 0..1000 {
            garbage(&mut random, &software);
        }
        prove(&mut disk, round);
        assert!(world.live.failure().is_none(), "{:?}", world.live.failure());
        // Firmware and drivers start over.
        drop(ruined);
        for mut function in software.functions.clone() {
            function.reset(&*software.bus).unwrap();
        }
        software.functions = pci::enumerate(&*software.bus).unwrap();
        software.disk_works(0, round);
        software.disk_works(2, round);
    }
    let unsupported =
        |board| world.bond(board).read32(board_registers::BASE + board_registers::UNSUPPORTED_REQUESTS);
    assert!(unsupported(0) > 100 && unsupported(1) == 0, "{} and {}", unsupported(0), unsupported(1));
    assert!(world.await_statistics(0, 0, |_| true).refused_accesses > 10);
    assert_eq!(world.await_statistics(1, 0, |_| true).refused_accesses, 0);
}

/// What a hostile board reaches of the base is what its requests name: the images of others are as they were.
#[test]
fn a_neighbours_image_stays_as_it_was() {
    let world = victim_and_neighbours("inline");
    let (left, right) = (world.software(0), world.software(1));
    let contents = random_bytes(1 << 20, 3);
    let mut neighbour = right.disk(0, RingOptions::default());
    for (sector, chunk) in (0..).step_by(128).zip(contents.chunks(128 * SECTOR)) {
        neighbour.write(sector, chunk).unwrap();
    }
    neighbour.flush().unwrap();
    for attack in ATTACKS {
        let mut hand = ByHand::new(&left, 0, attack.features);
        hand.enable_at(hand.areas);
        hand.activate();
        (attack.act)(&mut hand);
        hand.await_needs_reset();
    }
    assert!(fs::read(world.image(1, 0)).unwrap() == contents);
    assert!(fs::read(world.image(0, 0)).unwrap().iter().all(|byte| *byte == 0));
}
