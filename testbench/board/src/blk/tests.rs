//! The block driver on a test function.

use std::{cell::RefCell, collections::BTreeMap};

use proptest::prelude::*;

use super::*;
use crate::{
    bus::Bus,
    pci::enumerate,
    test_bus::{Misdeed, TestBus, TestFunction, World},
    transport::{PciTransport, message_data},
};

const SECTORS: usize = 256;
const FEATURES: u64 = 1 << VIRTIO_BLK_F_FLUSH | 1 << VIRTIO_BLK_F_DISCARD | 1 << VIRTIO_BLK_F_WRITE_ZEROES;
const RING: u64 = 1 << 28 | 1 << 29 | 1 << 38;

type Disk = Blk<PciTransport<Rc<TestBus>>, 32>;

/// A disk of [`SECTORS`] sectors, each filled with its number.
fn disk(misdeed: Misdeed, features: u64, options: RingOptions) -> (Disk, Rc<RefCell<World>>) {
    let mut config = vec![0; 60];
    config[..8].copy_from_slice(&(SECTORS as u64).to_le_bytes());
    let mut function = TestFunction::new(2, 0x0100, features, config);
    function.misdeed = misdeed;
    let contents = (0..SECTORS).flat_map(|sector| [sector as u8; SECTOR]).collect();
    let world = Rc::new(RefCell::new(World { disk: contents, ..World::default() }));
    let bus = Rc::new(TestBus::new(vec![Some(function)], &world));
    let function = enumerate(&*bus).unwrap().remove(0);
    let memory = DmaMemory::new(bus.memory()).unwrap();
    let transport = PciTransport::new(bus, function).unwrap();
    let mut disk = Blk::new(transport, &memory, options).unwrap();
    disk.timeout = Duration::from_millis(50);
    (disk, world)
}

fn options() -> impl Strategy<Value = RingOptions> {
    any::<[bool; 4]>().prop_map(|[indirect, event_idx, notification_data, interrupts]| RingOptions {
        indirect,
        event_idx,
        notification_data,
        interrupts,
    })
}

proptest! {
    /// Batches of reads and writes, as many at once as fit, against an array of sectors.
    #[test]
    fn what_is_written_is_read_back_at_any_depth(
        options in options(),
        batches in proptest::collection::vec(proptest::collection::btree_map(0..SECTORS as u64 / 4, (any::<bool>(), 1usize..5), 1..10), 1..40),
    ) {
        let (mut disk, world) = disk(Misdeed::None, FEATURES | RING, options);
        let mut model = world.borrow().disk.clone();
        for (turn, batch) in batches.iter().enumerate() {
            // Places of four sectors each, so that requests of a batch do not overlap.
            let mut expected = BTreeMap::new();
            for (place, (write, sectors)) in batch {
                let (start, bytes) = (*place as usize * 4 * SECTOR, sectors.min(&4) * SECTOR);
                prop_assert!(disk.can_submit());
                let token = if *write {
                    model[start..start + bytes].fill(turn as u8 ^ 0xA5);
                    disk.submit_write(place * 4, model[start..start + bytes].to_vec())
                } else {
                    disk.submit_read(place * 4, vec![0xEE; bytes])
                };
                expected.insert(token.unwrap(), model[start..start + bytes].to_vec());
            }
            disk.kick();
            for _ in 0..4 {
                disk.relax();
            }
            let done = disk.poll_completions(|completion| {
                assert_eq!(completion.outcome, Ok(()));
                assert_eq!(expected.remove(&completion.token), Some(completion.buffer));
            });
            prop_assert_eq!(done, Ok(batch.len()));
        }
        prop_assert_eq!(&world.borrow().disk, &model);
    }
}

#[test]
fn every_kind_of_request_does_what_it_says() {
    let (mut disk, world) = disk(Misdeed::None, FEATURES | RING, RingOptions::default());
    assert_eq!((disk.capacity(), disk.read_only()), (SECTORS as u64, false));
    assert_eq!(disk.serial().unwrap(), "test disk");
    let mut buffer = [0; 2 * SECTOR];
    disk.read(7, &mut buffer).unwrap();
    assert_eq!((buffer[0], buffer[SECTOR]), (7, 8));
    disk.write(8, &[0xAB; SECTOR]).unwrap();
    disk.write_zeroes(7, 1, true).unwrap();
    disk.discard(9, 2).unwrap();
    disk.flush().unwrap();
    let seen: Vec<u8> = world.borrow().disk.chunks(SECTOR).map(|sector| sector[0]).skip(6).take(6).collect();
    assert_eq!(seen, [6, 0, 0xAB, 0, 0, 11]);
    let (bus, id) = (disk.transport().bus(), disk.transport().function().id);
    assert_eq!(bus.messages(message_data(id, 1)), 6, "one MSI-X message a request");
}

#[test]
fn a_request_that_the_device_fails_is_an_error_with_its_sector() {
    let (mut disk, _) = disk(Misdeed::None, 0, RingOptions::default());
    let beyond = disk.write(SECTORS as u64, &[0; SECTOR]).unwrap_err();
    let device = || "function 0".to_string();
    assert_eq!(
        beyond,
        BlkError::Status { device: device(), what: "write", sector: SECTORS as u64, status: 1 }
    );
    assert_eq!(disk.flush(), Err(BlkError::Unsupported { device: device(), what: "FLUSH" }));
    assert_eq!(disk.write(0, &[0; 100]), Err(BlkError::Length { device: device(), bytes: 100 }));
    disk.read(0, &mut [0; SECTOR]).unwrap();
}

#[test]
fn a_device_that_lies_about_a_ring_is_caught() {
    let read = |misdeed| disk(misdeed, RING, RingOptions::default()).0.read(1, &mut [0xEE; SECTOR]);
    let queue_error = |source| Err(BlkError::Queue { device: "function 0".into(), source });
    assert_eq!(read(Misdeed::InventToken), queue_error(QueueError::UnknownToken { queue: 0, token: 1 }));
    let (written, capacity) = (SECTOR as u32 + 1 + 100_000, SECTOR + 1);
    assert_eq!(
        read(Misdeed::OverstateLength),
        queue_error(QueueError::TooLong { queue: 0, token: 0, written, capacity })
    );
}

#[test]
fn a_device_that_writes_nothing_leaves_the_buffer_as_it_was() {
    let (mut disk, _) = disk(Misdeed::WriteNothing, RING, RingOptions::default());
    for _ in 0..3 {
        disk.submit_read(1, vec![0xEE; SECTOR]).unwrap();
        disk.kick();
        disk.relax();
        let done = disk.poll_completions(|completion| assert_eq!(completion.buffer, [0xEE; SECTOR]));
        assert_eq!(done, Ok(1));
    }
}

#[test]
fn a_device_that_is_silent_costs_no_more_than_the_deadline() {
    let (mut disk, _) = disk(Misdeed::Silent, RING, RingOptions::default());
    let start = Instant::now();
    let error = disk.read(5, &mut [0; SECTOR]).unwrap_err();
    assert!(matches!(error, BlkError::Timeout { what: "read", sector: 5, .. }), "{error}");
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_full_queue_refuses_and_goes_on() {
    let (mut disk, _) = disk(Misdeed::None, 0, RingOptions::default());
    let mut submitted = 0;
    while disk.can_submit() {
        disk.submit_read(submitted, vec![0; SECTOR]).unwrap();
        submitted += 1;
    }
    assert_eq!(submitted, 10, "three descriptors each, of 32");
    assert!(matches!(disk.submit_read(0, vec![0; SECTOR]), Err(BlkError::Queue { .. })));
    disk.kick();
    disk.relax();
    assert_eq!(disk.poll_completions(|_| {}), Ok(10));
    disk.read(0, &mut [0; SECTOR]).unwrap();
}

#[test]
fn a_blocking_call_keeps_what_finishes_meanwhile() {
    let (mut disk, _) = disk(Misdeed::None, RING, RingOptions::default());
    let token = disk.submit_read(3, vec![0; SECTOR]).unwrap();
    disk.read(4, &mut [0; SECTOR]).unwrap();
    let mut finished = Vec::new();
    assert_eq!(disk.poll_completions(|completion| finished.push(completion)), Ok(1));
    assert_eq!(finished, [Completion { token, buffer: vec![3; SECTOR], outcome: Ok(()) }]);
}

#[test]
fn dropping_the_driver_gives_all_memory_back() {
    let bus = TestBus::with(TestFunction::new(2, 0x0100, RING, vec![0; 60]));
    let function = enumerate(&*bus).unwrap().remove(0);
    let memory = DmaMemory::new(bus.memory()).unwrap();
    let free = memory.free_pages();
    let transport = PciTransport::new(Rc::clone(&bus), function).unwrap();
    let disk = Blk::<_, 32>::new(transport, &memory, RingOptions::default()).unwrap();
    assert_ne!(memory.free_pages(), free);
    drop(disk);
    assert_eq!(memory.free_pages(), free);
    assert!(!bus.functions.borrow()[0].as_ref().unwrap().queues[0].enabled, "the device still has the ring");
}
