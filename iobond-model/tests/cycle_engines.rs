//! What an engine can be built with, in virtual time: looking ahead, watching, moderation; and the limits of
//! a function.

#![allow(clippy::unwrap_used)] // a script that cannot go on is a failed test

mod rig;

use std::cell::{Cell, RefCell};

use iobond_model::{
    cycle::{Bond, Clock, Ending, Event, Span, Time},
    device::Access,
    fabric::Fabric,
    live::Memory,
    timing::{Engine, Timing, WATCH_FOR},
};
use iobond_spec::{
    function::{MSIX_CAP, MSIX_TABLE},
    offsets::{qos, queues},
};
use rig::{
    Raised, Shape, VECTOR,
    back_end::BackEnd,
    cycle::{memories, notify, simulate, tail},
    guest::{Guest, direct, out},
    registers::function,
};

/// The descriptors of a driver that takes them in turn are where they are looked for: two round trips are
/// spared.
#[test]
fn a_look_ahead_spares_what_it_asks_for_together() {
    let shadowed = |engine: Engine| {
        let timing = Timing { engine, ..Timing::default() };
        let took = RefCell::new(vec![]);
        let memories = memories(Shape::default());
        let ending = simulate(&timing, &memories, async |clock, bond, around| {
            let mut guest = Guest::new(&memories.0.board, &memories.1);
            for _ in 0..6 {
                guest.offer(&direct(&[out(64)]));
                let sent = clock.now();
                notify(bond).await;
                clock.sleep(Span::from_us(20)).await;
                took.borrow_mut().push(around.written.get().unwrap().0.since(sent).ps() / 1000);
            }
        });
        assert_eq!(ending, Ending::Finished);
        took.into_inner()
    };
    let plain = shadowed(Engine::default());
    let ahead = shadowed(Engine { entries_ahead: 4, descriptors_ahead: 4, ..Engine::default() });
    let watched = shadowed(Engine {
        watch: Span::from_ns(200),
        entries_ahead: 4,
        descriptors_ahead: 4,
        ..Engine::default()
    });
    assert!(plain.iter().all(|ns| (4_400..4_700).contains(ns)), "{plain:?}");
    // The first chain tells nothing of the second, nor how far apart they are.
    assert!(ahead[2..].iter().all(|ns| (2_600..2_900).contains(ns)), "{ahead:?}");
    assert!(watched[2..].iter().all(|ns| (1_700..2_300).contains(ns)), "{watched:?}");
}

/// A ring is looked at for a while after there was something, and no longer: then its doorbell counts again.
#[test]
fn a_watched_ring_is_left_alone_after_a_while() {
    let engine =
        Engine { watch: Span::from_ns(200), entries_ahead: 4, descriptors_ahead: 4, ..Engine::default() };
    let timing = Timing { engine, ..Timing::default() };
    let memories = memories(Shape::default());
    let looks = RefCell::new(vec![]);
    let ending = simulate(&timing, &memories, async |clock, bond, _| {
        let mut guest = Guest::new(&memories.0.board, &memories.1);
        let packets = || bond.sides()[0].out.traffic().tlps;
        guest.offer(&direct(&[out(64)]));
        notify(bond).await;
        for _ in 0..2 {
            let before = packets();
            clock.sleep(WATCH_FOR + Span::from_us(20)).await;
            looks.borrow_mut().push(packets() - before);
        }
        guest.offer(&direct(&[out(64)]));
        notify(bond).await;
        clock.sleep(Span::from_us(20)).await;
        assert_eq!(bond.head(0), 2);
    });
    assert_eq!(ending, Ending::Finished);
    let looks = looks.into_inner();
    // Three reads every 200 ns for 100 us.
    assert!((1_300..1_700).contains(&looks[0]) && looks[1] == 0, "{looks:?}");
}

/// A chain is answered as soon as it is published, and then the next is offered: `chains` in all. When each
/// came back.
fn chains_in_turn(
    timing: &Timing,
    chains: u16,
    more: impl AsyncFn(&Clock, &Bond<'_, Memory<'_, '_, Raised>>),
) -> (Ending, Vec<Time>, u32) {
    let memories = memories(Shape::default());
    let (returned, messages) = (RefCell::new(vec![]), Cell::new(0));
    let ending = simulate(timing, &memories, async |clock, bond, around| {
        more(clock, bond).await;
        let mut guest = Guest::new(&memories.0.board, &memories.1);
        let mut back_end = BackEnd::new(&memories.0.base, &memories.1);
        for nth in 0..chains {
            guest.offer(&direct(&[out(64)]));
            notify(bond).await;
            while back_end.take() == 0 {
                around.base.wait(clock).await;
            }
            back_end.complete(0, 0, 0);
            tail(bond, nth + 1);
            while guest.collect().is_empty() {
                around.board.wait(clock).await;
            }
            returned.borrow_mut().push(clock.now());
        }
        clock.sleep(Span::from_us(100)).await;
        messages.set(around.messages.get());
    });
    (ending, returned.into_inner(), messages.get())
}

async fn open_msix<M: Fabric>(bond: &Bond<'_, M>) {
    let function = function(0);
    bond.access(Access::ConfigWrite { function, offset: MSIX_CAP + 2, width: 2, value: 0x8000 }).await;
    for (word, value) in (0..).zip([0xFEE0_0000, 0, 7, 0]) {
        let offset = MSIX_TABLE + 16 * u32::from(VECTOR) + 4 * word;
        bond.access(Access::BarWrite { function, offset, width: 4, value }).await;
    }
}

/// Ten chains in some 80 us: an interrupt each, or one for every 30 us and one for the last.
#[test]
fn interrupts_keep_their_distance_and_the_last_one_comes() {
    let messages = |moderation| {
        let engine = Engine { moderation: Span::from_us(moderation), ..Engine::default() };
        let timing = Timing { engine, ..Timing::default() };
        let (ending, returned, messages) = chains_in_turn(&timing, 10, async |clock, bond| {
            open_msix(bond).await;
            clock.sleep(Span::from_us(20)).await;
        });
        assert_eq!((ending, returned.len()), (Ending::Finished, 10));
        (messages, returned[9].since(returned[0]).ps() / 1_000_000)
    };
    assert_eq!(messages(0).0, 10);
    let (held, took) = messages(30);
    assert_eq!(u64::from(held), took / 30 + 2, "in {took} us");
}

/// ```text
///   driver  ring, index 1000        index 0, a chain, ring
///   base          disable, enable
///   engine     |-- reads 1000 --|   |-- forwards --
/// ```
#[test]
fn a_queue_is_not_blamed_for_its_predecessor() {
    let memories = memories(Shape::default());
    let ending = simulate(&Timing::default(), &memories, async |clock, bond, around| {
        let mut guest = Guest::new(&memories.0.board, &memories.1);
        guest.set_avail_index(1000);
        notify(bond).await;
        clock.sleep(Span::from_ns(700)).await;
        let words = memories.1.to_words();
        bond.write_register(queues::BASE + queues::CONTROL, words[0] & !1);
        bond.write_register(queues::BASE + queues::CONTROL, words[0]);
        clock.sleep(Span::from_ns(300)).await;
        guest.set_avail_index(0);
        clock.sleep(Span::from_us(20)).await;
        guest.offer(&direct(&[out(64)]));
        notify(bond).await;
        clock.sleep(Span::from_us(20)).await;
        assert_eq!(bond.head(0), 1);
        let events = around.events.borrow();
        assert!(!events.iter().any(|(_, event)| matches!(event, Event::Failed { .. })), "{events:?}");
    });
    assert_eq!(ending, Ending::Finished);
}

async fn limit<M: Fabric>(clock: &Clock, bond: &Bond<'_, M>, [operations, bytes]: [u32; 2]) {
    for (at, value) in [
        (qos::OPERATIONS_LO, operations),
        (qos::OPERATIONS_HI, 0),
        (qos::OPERATIONS_BURST, 1),
        (qos::BYTES_LO, bytes),
        (qos::BYTES_HI, 0),
        (qos::BYTES_BURST, 1),
        (qos::CONTROL, 1),
    ] {
        bond.write_register(qos::BASE + at, value);
    }
    clock.sleep(Span::from_us(20)).await;
}

/// A byte a second: the 64 of the first chain are owed for a minute, and it comes back all the same, since it
/// brings nothing.
#[test]
fn what_brings_no_bytes_back_does_not_wait_for_any() {
    let (ending, returned, _) =
        chains_in_turn(&Timing::default(), 1, async |clock, bond| limit(clock, bond, [0, 1]).await);
    assert_eq!((ending, returned.len()), (Ending::Finished, 1));
    assert!(returned[0] < Time::ZERO + Span::from_us(150), "{}", returned[0]);
}

/// One chain at once, one on what has flowed in since, and 10 000 a second after that: each of the others
/// waits its 100 us.
#[test]
fn a_function_is_held_to_its_limits() {
    let (ending, returned, _) = chains_in_turn(&Timing::default(), 6, async |clock, bond| {
        limit(clock, bond, [10_000, 0]).await;
    });
    assert_eq!(ending, Ending::Finished);
    let apart: Vec<_> = returned.windows(2).map(|pair| pair[1].since(pair[0]).ps() / 1000).collect();
    assert!(apart[0] < 10_000 && apart[1..].iter().all(|ns| (90_000..=100_001).contains(ns)), "{apart:?}");
}
