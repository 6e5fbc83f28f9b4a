//! One test per lie: what a hostile guest can put into a ring, and what comes of it.

#![allow(clippy::unwrap_used)] // of memory that the rig has mapped

mod rig;

use iobond_model::{
    fabric::Fault,
    shadow::{Progress, QueueError, QueueFeatures},
};
use iobond_spec::{
    address::BoardAddr,
    ring::split::{DESC_INDIRECT, DESC_NEXT, DESC_WRITE, Descriptor},
};
use rig::{
    BOARD, LANE, LANES, SLOTS, Shape,
    guest::{Guest, Plan, descriptor, direct, indirect, out, writable},
    scene::Scene,
};
use vm_memory::{Bytes, GuestAddress};
use zerocopy::IntoBytes;

const SIZE: u16 = 8;
/// Where board memory ends.
const END: u64 = BOARD + LANES * LANE;

/// What a queue of `shape` says to a ring that `spoil` has written.
#[track_caller]
fn refused_by(shape: Shape, spoil: impl FnOnce(&mut Guest<'_>)) -> QueueError {
    let mut scene = Scene::new(shape);
    spoil(&mut Guest::new(&scene.rig.board, &scene.context()));
    scene.refuse(None)
}

#[track_caller]
fn refused(spoil: impl FnOnce(&mut Guest<'_>)) -> QueueError {
    refused_by(Shape::default(), spoil)
}

fn offer(guest: &mut Guest<'_>, plan: &Plan) {
    guest.offer(plan).unwrap();
}

/// Makes a chain available whose table in an arena the test writes itself.
fn offer_table(guest: &mut Guest<'_>, entries: &[Descriptor], len: u32, flags: u16) {
    let arena = guest.arena(0);
    guest.memory.write_slice(entries.as_bytes(), GuestAddress(arena)).unwrap();
    guest.set_descriptor(0, descriptor(arena, len, flags, 1));
    guest.publish(0);
}

// The available ring (virtio 1.3, 2.7.6).

#[test]
fn an_available_index_that_jumps() {
    for avail in [SIZE + 1, 0x8000, u16::MAX] {
        let error = refused(|guest| guest.set_avail_index(avail));
        assert_eq!(error, QueueError::AvailJump { avail, next: 0, size: SIZE });
    }
}

#[test]
fn a_head_outside_of_the_table() {
    for head in [SIZE, SIZE + 1, u16::MAX] {
        assert_eq!(refused(|guest| guest.publish(head)), QueueError::BadHead { head, size: SIZE });
    }
}

// Doorbells that carry the index (virtio 1.3, 2.9).

fn notified() -> Shape {
    Shape {
        features: QueueFeatures { notification_data: true, ..QueueFeatures::default() },
        ..Shape::default()
    }
}

#[test]
fn a_doorbell_that_names_nonsense() {
    for avail in [SIZE + 1, 1000, u16::MAX - SIZE] {
        let mut scene = Scene::new(notified());
        assert_eq!(scene.refuse(Some(avail)), QueueError::BadDoorbell { avail, next: 0, size: SIZE });
    }
}

#[test]
fn a_doorbell_that_comes_late_is_not_an_error() {
    let mut scene = Scene::new(notified());
    let context = scene.context();
    let mut guest = Guest::new(&scene.rig.board, &context);
    for _ in 0..SIZE {
        guest.offer(&direct(&[out(1)])).unwrap();
    }
    // Everything was found by reading the index; now the doorbells of each chain trickle in.
    assert_eq!(scene.rig.forward(&mut scene.victim, None).map(|p| p.chains), Ok(SIZE));
    for late in 0..=SIZE {
        assert_eq!(scene.rig.forward(&mut scene.victim, Some(late)), Ok(Progress::default()));
    }
}

// Descriptors (virtio 1.3, 2.7.5).

#[test]
fn a_next_outside_of_the_table() {
    for next in [SIZE, u16::MAX] {
        let error = refused(|guest| {
            guest.set_descriptor(0, descriptor(guest.arena(0), 10, DESC_NEXT, next));
            guest.publish(0);
        });
        assert_eq!(error, QueueError::BadNext { next, size: u32::from(SIZE) });
    }
}

#[test]
fn a_loop_of_descriptors() {
    for length in [1, 2, SIZE] {
        let error = refused(|guest| {
            for n in 0..length {
                guest.set_descriptor(n, descriptor(guest.arena(n), 10, DESC_NEXT, (n + 1) % length));
            }
            guest.publish(0);
        });
        assert_eq!(error, QueueError::ChainTooLong { head: 0, limit: u32::from(SIZE) });
    }
}

#[test]
fn a_buffer_of_no_bytes() {
    for flags in [0, DESC_WRITE, DESC_NEXT] {
        let error = refused(|guest| {
            guest.set_descriptor(2, descriptor(guest.arena(2), 0, flags, 1));
            guest.publish(2);
        });
        assert_eq!(error, QueueError::ZeroLength { head: 2 });
    }
}

#[test]
fn a_readable_buffer_after_a_writable_one() {
    let plan = direct(&[out(10), writable(10), out(10)]);
    assert_eq!(refused(|guest| offer(guest, &plan)), QueueError::BadOrder { head: 0 });
    let plan = indirect(&[writable(10), out(10)]);
    assert_eq!(refused(|guest| offer(guest, &plan)), QueueError::BadOrder { head: 0 });
}

// Addresses and lengths.

#[test]
fn a_readable_buffer_outside_of_board_memory() {
    for at in [0, BOARD - 1, END - 9, END, u64::MAX - 9, u64::MAX, 1 << 63, rig::BASE + SLOTS] {
        let error = refused(|guest| {
            guest.set_descriptor(0, descriptor(at, 10, 0, 0));
            guest.publish(0);
        });
        assert_eq!(error, QueueError::Fault(Fault::Board { at: BoardAddr(at), len: 10 }));
    }
}

#[test]
fn a_buffer_whose_end_wraps_around_the_address_space() {
    // The second slot's worth would lie at address 192 - 256 < 0, modulo 2^64; the first is outside of board
    // memory already.
    let at = u64::MAX - 63;
    let error = refused(|guest| {
        guest.set_descriptor(0, descriptor(at, 512, 0, 0));
        guest.publish(0);
    });
    assert_eq!(error, QueueError::Fault(Fault::Board { at: BoardAddr(at), len: 256 }));
}

#[test]
fn a_buffer_of_four_gibibytes() {
    let limit = u32::from(Shape::default().shadow);
    for flags in [0, DESC_WRITE] {
        let error = refused(|guest| {
            guest.set_descriptor(0, descriptor(guest.arena(0), u32::MAX, flags, 0));
            guest.publish(0);
        });
        assert_eq!(error, QueueError::ChainTooLong { head: 0, limit });
    }
}

#[test]
fn a_writable_buffer_outside_of_board_memory() {
    for at in [0, BOARD - 1, END - 9, u64::MAX - 9] {
        let mut scene = Scene::new(Shape::default());
        let context = scene.context();
        let mut guest = Guest::new(&scene.rig.board, &context);
        guest.set_descriptor(0, descriptor(at, 10, DESC_WRITE, 0));
        guest.publish(0);
        // Nothing is copied on the way up, so nothing is wrong yet.
        scene.rig.forward(&mut scene.victim, None).unwrap();
        let tail = scene.answer(10);
        let error = scene.refuse_used(tail, &[]);
        assert_eq!(error, QueueError::Fault(Fault::Board { at: BoardAddr(at), len: 10 }));
    }
}

// Indirect tables (virtio 1.3, 2.7.5.3).

#[test]
fn an_indirect_table_that_was_not_negotiated() {
    let shape = Shape { features: QueueFeatures::default(), ..Shape::default() };
    let error = refused_by(shape, |guest| offer(guest, &indirect(&[out(10)])));
    assert_eq!(error, QueueError::BadIndirect { head: 0, len: 16, flags: DESC_INDIRECT });
}

#[test]
fn an_indirect_table_of_a_length_that_cannot_be() {
    for len in [1, 8, 15, 17, 40, 1025 * 16, u32::MAX, 0xFFFF_FFF0] {
        let error = refused(|guest| offer_table(guest, &[], len, DESC_INDIRECT));
        assert_eq!(error, QueueError::BadIndirect { head: 0, len, flags: DESC_INDIRECT });
    }
    assert_eq!(
        refused(|guest| offer_table(guest, &[], 0, DESC_INDIRECT)),
        QueueError::ZeroLength { head: 0 }
    );
}

#[test]
fn an_indirect_table_with_a_successor() {
    let flags = DESC_INDIRECT | DESC_NEXT;
    let error = refused(|guest| offer_table(guest, &[descriptor(guest.arena(1), 10, 0, 0)], 16, flags));
    assert_eq!(error, QueueError::BadIndirect { head: 0, len: 16, flags });
}

#[test]
fn an_indirect_table_in_an_indirect_table() {
    let error = refused(|guest| {
        let inner = descriptor(guest.arena(1), 16, DESC_INDIRECT, 0);
        offer_table(guest, &[inner], 16, DESC_INDIRECT);
    });
    assert_eq!(error, QueueError::BadIndirect { head: 0, len: 16, flags: DESC_INDIRECT });
}

#[test]
fn a_loop_in_an_indirect_table() {
    let error = refused(|guest| {
        let at = guest.arena(1);
        let entries = [descriptor(at, 1, DESC_NEXT, 1), descriptor(at, 1, DESC_NEXT, 0)];
        offer_table(guest, &entries, 32, DESC_INDIRECT);
    });
    assert_eq!(error, QueueError::ChainTooLong { head: 0, limit: 2 });
}

#[test]
fn a_next_outside_of_an_indirect_table() {
    let error = refused(|guest| {
        offer_table(guest, &[descriptor(guest.arena(1), 1, DESC_NEXT, 1)], 16, DESC_INDIRECT);
    });
    assert_eq!(error, QueueError::BadNext { next: 1, size: 1 });
}

#[test]
fn an_indirect_table_outside_of_board_memory() {
    for at in [0, END - 8, u64::MAX - 7] {
        let error = refused(|guest| {
            guest.set_descriptor(0, descriptor(at, 16, DESC_INDIRECT, 0));
            guest.publish(0);
        });
        assert_eq!(error, QueueError::Fault(Fault::Board { at: BoardAddr(at), len: 16 }));
    }
}

// More than slots and shadow vring can ever hold.

#[test]
fn a_chain_that_can_never_fit() {
    // Too many slots, too many shadow descriptors, and a table too long for its slot.
    let few_slots = Shape { slot_count: 3, ..Shape::default() };
    let error = refused_by(few_slots, |guest| offer(guest, &direct(&[out(1); 4])));
    assert_eq!(error, QueueError::ChainTooLong { head: 0, limit: 3 });

    let error = refused(|guest| offer(guest, &indirect(&[out(1); 17])));
    assert_eq!(error, QueueError::ChainTooLong { head: 0, limit: 16 });

    let features = QueueFeatures { indirect: true, shadow_indirect: true, ..QueueFeatures::default() };
    let with_tables = Shape { slot_size: 64, shadow: 8, features, ..Shape::default() };
    let error = refused_by(with_tables, |guest| offer(guest, &indirect(&[out(1); 9])));
    assert_eq!(error, QueueError::ChainTooLong { head: 0, limit: 8 });

    // A table would need a slot more than there are.
    let too_few = Shape { shadow: 8, slot_count: 9, features, ..Shape::default() };
    let error = refused_by(too_few, |guest| offer(guest, &indirect(&[out(1); 9])));
    assert_eq!(error, QueueError::ChainTooLong { head: 0, limit: 8 });
}
