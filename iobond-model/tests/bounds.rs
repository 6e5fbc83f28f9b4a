//! A call of the engine does no more than it is told to, says whether anything is left, and what it copied.

mod rig;

use iobond_model::shadow::{Progress, QueueFeatures};
use rig::{
    Rig, Shape,
    back_end::BackEnd,
    guest::{Guest, direct, out, writable},
};

#[test]
fn a_call_does_no_more_chains_than_it_is_told_to() {
    let (rig, mut queue) =
        Rig::with(Shape { guest: 64, shadow: 64, slot_size: 64, slot_count: 64, ..Shape::default() });
    let (mut guest, mut back_end) =
        (Guest::new(&rig.board, queue.context()), BackEnd::new(&rig.base, queue.context()));
    for _ in 0..30 {
        assert!(guest.offer(&direct(&[out(30), writable(20)])).is_some());
    }
    let progress = |chains: u16, bytes: u64, more| Ok(Progress { chains, bytes, more });

    assert_eq!(rig.forward_at_most(&mut queue, None, None, 0), progress(0, 0, true));
    assert_eq!(rig.forward_at_most(&mut queue, None, None, 1), progress(1, 30, true));
    assert_eq!(rig.forward_at_most(&mut queue, None, None, 20), progress(20, 20 * 30, true));
    assert_eq!(rig.forward_at_most(&mut queue, None, None, 9), progress(9, 9 * 30, false), "exactly all");
    assert_eq!(rig.forward_at_most(&mut queue, None, None, 0), progress(0, 0, false));

    assert_eq!(back_end.take(), 30);
    for _ in 0..30 {
        back_end.complete(0, 7, 1);
    }
    assert_eq!(rig.retire_at_most(&mut queue, back_end.used, 0), progress(0, 0, true));
    assert!(rig.take_interrupts().is_empty());
    assert_eq!(rig.retire_at_most(&mut queue, back_end.used, 19), progress(19, 19 * 7, true));
    assert_eq!(rig.retire_at_most(&mut queue, back_end.used, u16::MAX), progress(11, 11 * 7, false));
    assert_eq!((rig.take_interrupts().len(), guest.collect().len()), (2, 30));
    assert_eq!((queue.counters().bytes_up, queue.counters().bytes_down), (900, 210));
}

/// ```text
///   chain 0   forwarded, takes the only slot; a doorbell is asked for at 1
///   chain 1   found by reading the index, no slot: the queue waits until chain 0 comes back
///   doorbell  of chain 0, late: it says 1, and chain 1 will not ring
/// ```
#[test]
fn a_late_doorbell_does_not_make_a_queue_forget_that_it_waits() {
    let features = QueueFeatures { event_idx: true, notification_data: true, ..QueueFeatures::default() };
    let (rig, mut queue) = Rig::with(Shape { slot_count: 1, features, ..Shape::default() });
    let (mut guest, mut back_end) =
        (Guest::new(&rig.board, queue.context()), BackEnd::new(&rig.base, queue.context()));
    for forwarded in [1, 0] {
        assert!(guest.offer(&direct(&[out(30)])).is_some());
        assert_eq!(rig.forward(&mut queue, None).unwrap().chains, forwarded);
    }
    assert!(queue.is_stalled());
    assert_eq!(rig.forward(&mut queue, Some(1)).unwrap().chains, 0);
    assert!(queue.is_stalled(), "chain 1 still waits");
    back_end.take();
    back_end.complete(0, 0, 1);
    rig.retire(&mut queue, back_end.used).unwrap();
    assert_eq!(rig.forward(&mut queue, Some(1)).unwrap().chains, 1);
}
