//! One test a mistake: a back end that uses what it was not given, a base that writes an impossible context,
//! windows and bus mastering that are not there.

#![allow(clippy::unwrap_used)] // of memory that the rig has mapped

mod rig;

use iobond_model::{
    fabric::Fault,
    shadow::{self, Context, Queue, QueueError},
};
use iobond_spec::address::{BaseAddr, BoardAddr};
use rig::{
    BOARD, Image, LANE, LANES, Shape,
    back_end::BackEnd,
    base_ring,
    guest::{Guest, direct, out},
    scene::Scene,
    slots,
};

/// Where board memory ends.
const END: u64 = BOARD + LANES * LANE;

/// Something to change in a context.
type Change = fn(&mut Context);

#[test]
fn a_used_id_outside_of_the_shadow_table_or_not_in_flight() {
    let size = Shape::default().shadow;
    // 1 is the second descriptor of the chain in flight, and no head.
    for id in [1, 2, u32::from(size) - 1, u32::from(size), 0x1_0000, u32::MAX] {
        let mut scene = Scene::with_one_in_flight();
        let context = scene.context();
        BackEnd::new(&scene.rig.base, &context).push_used(id, 0);
        assert_eq!(scene.refuse_used(1, &[]), QueueError::BadUsed { id, size });
    }
}

#[test]
fn a_chain_that_is_used_twice() {
    let mut scene = Scene::with_one_in_flight();
    let context = scene.context();
    let mut back_end = BackEnd::new(&scene.rig.base, &context);
    back_end.push_used(0, 0);
    scene.rig.retire(&mut scene.victim, 1).unwrap();
    scene.rig.take_interrupts();
    back_end.push_used(0, 0);
    assert_eq!(scene.refuse_used(2, &[]), QueueError::BadUsed { id: 0, size: context.shadow.size });
}

#[test]
fn more_bytes_than_are_writable() {
    for len in [21, 30, u32::MAX] {
        let mut scene = Scene::with_one_in_flight();
        let tail = scene.answer(len);
        assert_eq!(scene.refuse_used(tail, &[]), QueueError::BadUsedLength { id: 0, len, writable: 20 });
    }
}

#[test]
fn a_tail_that_jumps() {
    let size = Shape::default().shadow;
    for tail in [size + 1, 0x8000, u16::MAX] {
        let mut scene = Scene::with_one_in_flight();
        assert_eq!(scene.refuse_used(tail, &[]), QueueError::TailJump { tail, next: 0, size });
    }
}

#[test]
fn a_tail_beyond_what_the_back_end_used_finds_stale_elements() {
    let mut scene = Scene::with_one_in_flight();
    let tail = scene.answer(20);
    // Element 1 was never written: zero, which names the chain that element 0 has just returned. Both stand
    // in one burst, so payload has reached the guest's own buffer, and the used ring says nothing of it.
    let start = Guest::new(&scene.rig.board, &scene.context()).arena(0) + rig::TABLE_BYTES + 10;
    let payload = start..start + 20;
    let error = scene.refuse_used(tail + 1, &[payload]);
    assert_eq!(error, QueueError::BadUsed { id: 0, size: Shape::default().shadow });
}

#[test]
fn shadow_memory_outside_of_the_windows() {
    let areas: [(&str, Change); 4] = [
        ("descriptors", |context| context.shadow.desc = BaseAddr(rig::BASE + 0x5_0000)),
        ("available ring", |context| context.shadow.avail = BaseAddr(rig::BASE + 0x5_0000)),
        ("slots", |context| context.slots = BaseAddr(rig::BASE + 0x5_0000)),
        ("an address of nothing", |context| context.slots = BaseAddr(BOARD)),
    ];
    for (what, mistake) in areas {
        let mut scene = Scene::new(Shape::default());
        let mut context = scene.context();
        Guest::new(&scene.rig.board, &context).offer(&direct(&[out(10)])).unwrap();
        mistake(&mut context);
        scene.victim = Queue::new(context);
        let before = Image::of_base(&scene.rig);
        let error = scene.rig.forward(&mut scene.victim, None).unwrap_err();
        assert!(matches!(error, QueueError::Fault(Fault::Base { .. })), "{what}: {error}");
        let [desc, ..] = base_ring(&Shape::default().context(0));
        let own = [desc, slots(&Shape::default().context(0))];
        before.assert_same_but(&Image::of_base(&scene.rig), &own, "base memory outside of the windows");
        scene.assert_silence();
        scene.assert_neighbour_carries_on();
    }
}

#[test]
fn a_shadow_used_ring_outside_of_the_windows() {
    let mut scene = Scene::new(Shape::default());
    let mut context = scene.context();
    context.shadow.used = BaseAddr(rig::BASE + 0x5_0000);
    scene.victim = Queue::new(context);
    let fault = Fault::Base { at: BaseAddr(rig::BASE + 0x5_0000 + 4), len: 8 };
    assert_eq!(scene.refuse_used(1, &[]), QueueError::Fault(fault));
}

#[test]
fn a_window_that_was_taken_back_while_chains_are_in_flight() {
    let mut scene = Scene::with_one_in_flight();
    let tail = scene.answer(20);
    scene.rig.windows.revoke(1);
    let slot = BaseAddr(slots(&scene.context()).start);
    let error = scene.refuse_used(tail, &[]);
    let QueueError::Fault(Fault::Base { at, len: 20 }) = error else { panic!("{error}") };
    assert!(slot <= at && at.0 < slots(&scene.context()).end);
}

#[test]
fn bus_mastering_off() {
    let mut scene = Scene::new(Shape::default());
    scene.rig.bus_master = false;
    let at = BoardAddr(scene.context().guest.avail.0 + 2);
    assert_eq!(scene.refuse(None), QueueError::Fault(Fault::Board { at, len: 2 }));
}

#[test]
fn guest_rings_outside_of_board_memory() {
    for nowhere in [BoardAddr(0x1000), BoardAddr(END), BoardAddr(rig::BASE)] {
        let areas: [fn(&mut Context, BoardAddr); 2] =
            [|context, at| context.guest.avail = at, |context, at| context.guest.desc = at];
        for area in areas {
            let mut scene = Scene::new(Shape::default());
            let mut context = scene.context();
            Guest::new(&scene.rig.board, &context).offer(&direct(&[out(10)])).unwrap();
            area(&mut context, nowhere);
            scene.victim = Queue::new(context);
            let error = scene.rig.forward(&mut scene.victim, None).unwrap_err();
            let QueueError::Fault(Fault::Board { at, .. }) = error else { panic!("{error}") };
            assert!(at >= nowhere && at.0 < nowhere.0 + 0x1000);
            scene.assert_neighbour_carries_on();
        }
    }
}

// Contexts that cannot be.

#[test]
fn a_context_that_cannot_be() {
    let reasons: [(&str, Change); 16] = [
        ("ring size is not", |c| c.guest.size = 0),
        ("ring size is not", |c| c.guest.size = 3),
        ("ring size is not", |c| c.guest.size = 0xFFFF),
        ("ring size is not", |c| c.shadow.size = 24),
        ("not aligned", |c| c.guest.desc.0 += 8),
        ("not aligned", |c| c.guest.avail.0 += 1),
        ("not aligned", |c| c.guest.used.0 += 2),
        ("not aligned", |c| c.shadow.desc.0 += 1),
        ("ring area wraps", |c| c.guest.desc.0 = u64::MAX - 15),
        ("ring area wraps", |c| c.shadow.used.0 = u64::MAX - 3),
        ("slot size", |c| c.slot_size = 96),
        ("slot size", |c| c.slot_size = 32),
        ("no slots", |c| c.slot_count = 0),
        ("not aligned to 16", |c| c.slots.0 += 8),
        ("slots wrap", |c| c.slots.0 = u64::MAX - 255),
        ("smaller than", |c| c.shadow.size = 4),
    ];
    for (reason, spoil) in reasons {
        let mut context = Shape::default().context(0);
        spoil(&mut context);
        let Err(QueueError::BadContext(said)) = shadow::check(&context) else { panic!("{reason}: accepted") };
        assert!(said.contains(reason), "{reason}: {said}");
    }
}
