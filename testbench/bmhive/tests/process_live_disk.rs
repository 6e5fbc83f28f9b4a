//! Disks through IO-Bond, by the software board's driver; what is behind them is compared on the host.
//!
//! ```text
//!   Disk -- IO-Bond -- bm-hypervisor == bmhive backend blk -- image
//!     \__ model: what every sector must hold ____________________/
//! ```
#![allow(clippy::unwrap_used, reason = "a test's own functions fail as its tests do")]

use std::{collections::HashMap, fs, path::PathBuf, time::Instant};

use iobond_spec::offsets::queues;
use rig::{
    live_world::{DEADLINE, Disk, Software, World, boards, boards_on, prove},
    test_folder::{TestFolder, random_bytes},
    toml::{blk, board},
};
use scenario::Scenario;
use software_board::{
    blk::{BlkError, SECTOR},
    bus::Bus,
    queue::{Chain, Queue, RingOptions},
    transport::{BoardTransport, message_data},
};

/// Bytes of the disks.
const DISK: usize = 4 << 20;
const MIB: usize = 1 << 20;

/// A board with one disk of 4 MiB.
fn one_disk(keys: &str) -> World {
    boards(&[board("board", &[blk(&format!("size_mib = 4\n{keys}"))])])
}

/// MSI-X messages of the first queue of function 0.
fn messages(software: &Software) -> u64 {
    software.bus.messages(message_data(software.functions[0].id, 1))
}

/// What the disk must hold.
struct Model(Vec<u8>);

impl Model {
    fn at(&mut self, sector: u64, bytes: usize) -> &mut [u8] {
        &mut self.0[sector as usize * SECTOR..][..bytes]
    }

    fn write(&mut self, disk: &mut Disk, sector: u64, data: &[u8]) {
        disk.write(sector, data).unwrap();
        self.at(sector, data.len()).copy_from_slice(data);
    }

    fn compare(&mut self, disk: &mut Disk, sector: u64, bytes: usize) {
        let mut read = vec![0xEE; bytes];
        disk.read(sector, &mut read).unwrap();
        assert!(read == self.at(sector, bytes), "{bytes} bytes at sector {sector}");
    }
}

#[test]
fn every_kind_of_request_does_what_it_says() {
    let world = one_disk("serial = \"live-0\"");
    let mut disk = world.software(0).disk(0, RingOptions::default());
    let mut model = Model(vec![0; DISK]);
    assert_eq!((disk.capacity(), disk.read_only()), ((DISK / SECTOR) as u64, false));
    assert_eq!(disk.serial().unwrap(), "live-0");
    for turn in 0..100 {
        let data = random_bytes(4096, turn);
        model.write(&mut disk, turn * 61 % 8184, &data);
        model.compare(&mut disk, turn * 17 % 8184, 4096);
    }
    for (sector, unmap) in [(1000, false), (2000, true)] {
        model.write(&mut disk, sector, &[0xAA; 64 * SECTOR]);
        disk.write_zeroes(sector + 1, 62, unmap).unwrap();
        model.at(sector + 1, 62 * SECTOR).fill(0);
        model.compare(&mut disk, sector, 64 * SECTOR);
    }
    // What is discarded may read as anything; its neighbours stay, and it can be written again.
    model.write(&mut disk, 3000, &[0xBB; 64 * SECTOR]);
    disk.discard(3001, 62).unwrap();
    model.compare(&mut disk, 3000, SECTOR);
    model.compare(&mut disk, 3063, SECTOR);
    model.write(&mut disk, 3001, &[0xCC; 62 * SECTOR]);
    model.compare(&mut disk, 3000, 64 * SECTOR);
    disk.flush().unwrap();
    assert!(fs::read(world.image(0, 0)).unwrap() == model.0, "the image differs");
}

#[test]
fn a_request_beyond_the_end_fails_and_the_next_one_does_not() {
    let world = one_disk("");
    let mut disk = world.software(0).disk(0, RingOptions::default());
    for sector in [8192, 8191, u64::MAX / SECTOR as u64, u64::MAX] {
        let error = disk.write(sector, &[1; 2 * SECTOR]).unwrap_err();
        assert!(matches!(error, BlkError::Status { what: "write", status: 1, .. }), "{error}");
        prove(&mut disk, 7);
    }
    assert_eq!(fs::metadata(world.image(0, 0)).unwrap().len(), DISK as u64);
}

#[test]
fn a_read_only_disk_says_so_and_is_not_written() {
    let folder = TestFolder::new();
    let contents = folder.random_file("image", MIB, 1);
    let keys = format!("image = {:?}\nread_only = true", folder.path("image"));
    let world = boards(&[board("board", &[blk(&keys)])]);
    let mut disk = world.software(0).disk(0, RingOptions::default());
    assert!(disk.read_only());
    let mut read = vec![0; 4096];
    disk.read(8, &mut read).unwrap();
    assert!(read == contents[4096..8192]);
    let error = disk.write(8, &[0; SECTOR]).unwrap_err();
    assert!(matches!(error, BlkError::Status { what: "write", status: 1, .. }), "{error}");
    drop((disk, world));
    assert!(fs::read(folder.path("image")).unwrap() == contents);
}

/// Writes every block of `bytes` once and reads it once, `depth` at a time and in an order of its own.
fn fill_and_compare(disk: &mut Disk, depth: usize, bytes: usize, span: usize, seed: u64) {
    let contents = random_bytes(span, seed);
    let blocks = span / bytes;
    for write in [true, false] {
        let mut in_flight = HashMap::new();
        let (mut started, mut finished) = (0, 0);
        let start = Instant::now();
        while finished < blocks {
            while started < blocks && in_flight.len() < depth && disk.can_submit() {
                let block = (started * 331 + 5) % blocks;
                let sector = (block * bytes / SECTOR) as u64;
                let token = match write {
                    true => disk.submit_write(sector, contents[block * bytes..][..bytes].to_vec()),
                    false => disk.submit_read(sector, vec![0xEE; bytes]),
                };
                assert_eq!(in_flight.insert(token.unwrap(), block), None, "a token twice");
                started += 1;
            }
            disk.kick();
            finished += disk
                .poll_completions(|completion| {
                    completion.outcome.unwrap();
                    let block = in_flight.remove(&completion.token).unwrap();
                    assert!(completion.buffer == contents[block * bytes..][..bytes], "block {block}");
                })
                .unwrap();
            assert!(start.elapsed() < DEADLINE, "{finished} of {blocks} after {DEADLINE:?}");
            disk.relax();
        }
    }
}

#[test]
fn sixty_four_requests_in_flight_with_every_choice_of_ring_features() {
    let world = one_disk("");
    let software = world.software(0);
    for choice in 0..16 {
        let bit = |n: u32| choice & 1 << n != 0;
        let options = RingOptions {
            indirect: bit(0),
            event_idx: bit(1),
            notification_data: bit(2),
            interrupts: bit(3),
        };
        let mut disk = software.disk(0, options);
        // INDIRECT_DESC, EVENT_IDX, NOTIFICATION_DATA (virtio 1.3, 6): what was asked for was there to be
        // had, and no more.
        for (feature, wanted) in
            [(28, options.indirect), (29, options.event_idx), (38, options.notification_data)]
        {
            assert_eq!(disk.features() >> feature & 1 == 1, wanted, "feature {feature} under {options:?}");
        }
        fill_and_compare(&mut disk, 64, 4096, MIB, choice);
        let register = |register| world.queue_register(0, 0, register);
        assert_eq!((register(queues::FORWARDED), register(queues::RETIRED)), (512, 512), "{options:?}");
        // Interrupts are suppressed where they are not wanted; EVENT_IDX overrides the flag.
        let told = messages(&software);
        assert_eq!(
            register(queues::INTERRUPTS) > 0,
            options.interrupts || options.event_idx,
            "{options:?}, {told}"
        );
    }
    assert!(world.live.failure().is_none());
}

#[test]
fn a_base_on_a_thread_of_its_own_carries_the_same() {
    let disk = board("board", &[blk("size_mib = 4")]);
    let world = boards_on("threads", &[disk]);
    let software = world.software(0);
    for options in [RingOptions::default(), RingOptions::POLLED] {
        fill_and_compare(&mut software.disk(0, options), 64, 4096, MIB, 1);
    }
}

#[test]
fn every_message_that_io_bond_counts_arrives() {
    let world = one_disk("");
    let software = world.software(0);
    for options in [RingOptions::default(), RingOptions { event_idx: false, ..RingOptions::default() }] {
        let mut disk = software.disk(0, options);
        let before = (messages(&software), world.interrupts(0, 0));
        fill_and_compare(&mut disk, 16, 4096, MIB / 4, 2);
        let arrived = messages(&software) - before.0;
        assert_eq!(arrived, u64::from(world.queue_register(0, 0, queues::INTERRUPTS)));
        assert_eq!(arrived, u64::from(world.interrupts(0, 0) - before.1));
        assert!(arrived > 0, "{options:?}");
    }
}

/// A request of 1 MiB takes 256 slots for its payload and two more: three of them do not fit in the pool.
#[test]
fn requests_of_a_mebibyte_stall_for_slots_and_go_on() {
    let world = one_disk("slot_size = 4096\nslots = 600");
    let mut disk = world.software(0).disk(0, RingOptions::default());
    fill_and_compare(&mut disk, 4, MIB, DISK, 3);
    let register = |register| world.queue_register(0, 0, register);
    assert!(register(queues::STALLS) > 0, "the pool was never empty");
    assert_eq!((register(queues::FORWARDED), register(queues::RETIRED)), (8, 8));
    // Every payload byte crossed once in each direction; the rest are headers and status bytes.
    assert!(register(queues::BYTES_UP) as usize - DISK < 1024);
    assert!(register(queues::BYTES_DOWN) as usize - DISK < 1024);
}

/// A request that can never fit stops its queue, and the driver learns of it.
#[test]
fn a_request_of_more_slots_than_there_are_is_refused() {
    let world = one_disk("slot_size = 4096\nslots = 200");
    let software = world.software(0);
    let mut disk = software.disk(0, RingOptions::default());
    disk.submit_write(0, vec![0; MIB]).unwrap();
    disk.kick();
    world.await_statistics(0, 0, |function| function.last_queue_error == Some((0, "ChainTooLong".into())));
    assert!(disk.transport().check().is_err(), "the driver sees DEVICE_NEEDS_RESET");
    drop(disk);
    software.disk_works(0, 4);
}

#[test]
fn requests_of_odd_lengths() {
    let world = one_disk("");
    let mut disk = world.software(0).disk(0, RingOptions::default());
    let mut model = Model(vec![0; DISK]);
    let mut sector = 1;
    for (seed, sectors) in [1, 2, 3, 7, 8, 9, 15, 17, 63, 129, 255, 1023].into_iter().enumerate() {
        model.write(&mut disk, sector, &random_bytes(sectors * SECTOR, seed as u64));
        model.compare(&mut disk, sector - 1, (sectors + 2) * SECTOR);
        sector += sectors as u64 + 1;
    }
    disk.flush().unwrap();
    assert!(fs::read(world.image(0, 0)).unwrap() == model.0, "the image differs");
}

/// Reads a sector by a queue of one's own: `struct virtio_blk_req` (virtio 1.3, 5.2.6).
fn read_sector(queue: &mut Queue<16>, transport: &mut impl BoardTransport, sector: u64) -> Vec<u8> {
    let header = [[0; 8], sector.to_le_bytes()].concat();
    let writable = [vec![0xEE; SECTOR], vec![0xFF]];
    queue.submit(Chain { readable: [header, Vec::new()], writable }).unwrap();
    queue.kick(transport);
    let start = Instant::now();
    loop {
        if let Some(used) = queue.pop().unwrap() {
            let [data, status] = used.chain.writable;
            assert_eq!((used.written as usize, status[0]), (SECTOR + 1, 0));
            return data;
        }
        assert!(start.elapsed() < DEADLINE, "sector {sector} did not come");
        transport.relax();
    }
}

#[test]
fn the_second_queue_of_a_disk_works_and_can_be_reset_alone() {
    /// VIRTIO_BLK_F_MQ (virtio 1.3, 5.2.3).
    const MQ: u64 = 1 << 12;
    let folder = TestFolder::new();
    let contents = folder.random_file("image", MIB, 5);
    let keys = format!("image = {:?}\nqueues = 2", folder.path("image"));
    let world = boards(&[board("board", &[blk(&keys)])]);
    let software = world.software(0);
    let mut transport = software.transport(0);
    let options = RingOptions::default();
    let features = transport.negotiate(options.features() | MQ).unwrap();
    assert_ne!(features & MQ, 0);
    let [mut first, mut second] = [0, 1]
        .map(|index| Queue::<16>::new(&mut transport, &software.memory, index, features, options).unwrap());
    transport.activate().unwrap();
    let sector_is = |at: u64, data: Vec<u8>| assert!(data == contents[at as usize * SECTOR..][..SECTOR]);
    for at in 0..50 {
        sector_is(2 * at, read_sector(&mut first, &mut transport, 2 * at));
        sector_is(2 * at + 1, read_sector(&mut second, &mut transport, 2 * at + 1));
    }
    for context in [0, 1] {
        assert_eq!(world.queue_register(0, context, queues::RETIRED), 50, "context {context}");
    }

    // One queue is reset with a request in it, and set up anew; the other goes on, as if nothing had been
    // (virtio 1.3, 2.6.1).
    for turn in 0..5 {
        let header = vec![0; 16];
        let writable = [vec![0; SECTOR], vec![0]];
        second.submit(Chain { readable: [header, Vec::new()], writable }).unwrap();
        second.kick(&mut transport);
        virtio_drivers::transport::Transport::queue_unset(&mut transport, 1);
        transport.check().unwrap();
        sector_is(turn, read_sector(&mut first, &mut transport, turn));
        drop(second);
        second = Queue::new(&mut transport, &software.memory, 1, features, options).unwrap();
        sector_is(turn + 9, read_sector(&mut second, &mut transport, turn + 9));
    }
    transport.check().unwrap();
    virtio_drivers::transport::Transport::set_status(
        &mut transport,
        virtio_drivers::transport::DeviceStatus::empty(),
    );
}

#[test]
fn a_board_takes_little_beyond_its_memory_and_slots() {
    let world = World::start_scenario(Scenario { capture: false, ..Scenario::demonstration().unwrap() });
    let software = [0, 1].map(|board| world.software(board));
    let drivers: Vec<_> = software
        .iter()
        .map(|software| (software.disk(0, RingOptions::default()), software.net(1, RingOptions::default())))
        .collect();
    let footprint = world.live.footprint();
    println!("bytes per board: {footprint:?}");
    assert_eq!(footprint.len(), 2);
    // Three shadow vrings of 1024 alone take 24 KiB each.
    assert!(footprint.iter().all(|bytes| (72 << 10..=16 << 20).contains(bytes)), "{footprint:?}");
    drop(drivers);
    // Queues that are off give their share back.
    assert!(world.live.footprint().iter().zip(&footprint).all(|(after, before)| after < before));
}

#[test]
fn a_world_that_ends_leaves_nothing() {
    let world = one_disk("");
    let mut disk = world.software(0).disk(0, RingOptions::default());
    prove(&mut disk, 6);
    let directory: PathBuf = world.live.boards()[0].back_end_sockets()[0].parent().unwrap().into();
    let pids: Vec<u32> = world.live.back_ends().map(|(_, process)| process.pid()).collect();
    assert!(directory.is_dir() && pids.len() == 1);
    drop((disk, world));
    assert!(!directory.exists());
    for pid in pids {
        assert!(!PathBuf::from(format!("/proc/{pid}")).exists(), "back end {pid} is still there");
    }
}
