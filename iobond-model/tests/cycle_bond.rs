//! An IO-Bond in virtual time: what it does is what a live one does, and every nanosecond of it is accounted
//! for.

#![allow(clippy::unwrap_used)] // a script that cannot go on is a failed test

mod rig;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use iobond_model::{
    cycle::{Activity, Bond, Clock, Ending, Executor, Signal, Span, Time, Tlp, Way},
    device::Access,
    fabric::Direction,
    live::Memory,
    timing::{Engine, Timing},
};
use iobond_spec::{
    ALL_ONES,
    function::COMMON,
    offsets::mailbox,
    register_access::decode,
    registers::components::mailbox_t::request::Request,
    ring::split::{DESC_INDIRECT, DESC_WRITE, Descriptor},
    status_page,
};
use proptest::prelude::*;
use rig::{
    BASE, STATUS_PAGE, Shape,
    back_end::BackEnd,
    cycle::{Around, LIMIT, memories, notify, set_up, simulate, simulate_watched, tail},
    guest::{Guest, Plan, direct, indirect, out, writable},
    reached,
    registers::function,
};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use zerocopy::FromBytes;

/// What the wire takes for a packet, and what it takes to come there.
fn across(timing: &Timing, tlp: Tlp) -> Span {
    timing.board.serialization(timing.board.wire_bytes(tlp).into()) + timing.board_flight()
}

fn across_base(timing: &Timing, tlp: Tlp) -> Span {
    timing.base.serialization(timing.base.wire_bytes(tlp).into()) + timing.base_flight()
}

/// ```text
///   doorbell -> |index|ring entry|descriptor| DMA set-up, payload | descriptor, entry, index, HEAD -> base
///                  three reads of board memory     a fourth            four writes to base memory
/// ```
#[test]
fn a_chain_takes_as_long_as_its_packets() {
    let timing = Timing::default();
    let memories = memories(Shape::default());
    let (sent, heard) = (Cell::new(Time::ZERO), Cell::new(Time::ZERO));
    let ending = simulate(&timing, &memories, async |clock, bond, around| {
        let mut guest = Guest::new(&memories.0.board, &memories.1);
        guest.offer(&direct(&[out(64)]));
        sent.set(clock.now());
        notify(bond).await;
        clock.sleep(Span::from_us(20)).await;
        heard.set(around.written.get().unwrap().0);
    });
    assert_eq!(ending, Ending::Finished);
    let read = |data| {
        across(&timing, Tlp::MemoryRead) + timing.board_memory + across(&timing, Tlp::Completion { data })
    };
    let wire = |data| timing.base.serialization(timing.base.wire_bytes(Tlp::MemoryWrite { data }).into());
    let doorbell = across(&timing, Tlp::MemoryWrite { data: 2 });
    let index = read(2);
    // The descriptors of a cache line are read at once.
    let fetched = index + read(2) + read(64);
    let payload = timing.dma.setup() + read(64) + Span::at_rate(64 * 8, timing.dma.rate);
    let published = wire(64) + wire(16) + wire(2) + wire(2) + wire(2) + timing.base_flight();
    let expected = doorbell + fetched + payload + published;
    assert_eq!(heard.get().since(sent.get()), expected);
    // The paper's figures make most of it: four reads and two flights of 0.4 us.
    assert!((4_000..4_800).contains(&(expected.ps() / 1000)), "{expected}");
}

/// Its DMA command, the one read of that, and every packet of the four directions.
#[test]
fn who_watches_sees_what_links_and_dma_engine_do() {
    let timing = Timing::default();
    let memories = memories(Shape::default());
    let seen = Rc::new(RefCell::new(Vec::new()));
    let watch = Rc::clone(&seen);
    let watch: Rc<dyn Fn(Activity)> = Rc::new(move |activity| watch.borrow_mut().push(activity));
    let ending =
        simulate_watched(&timing, (&memories.0, &memories.1), Some(watch), async |clock, bond, _| {
            let mut guest = Guest::new(&memories.0.board, &memories.1);
            guest.offer(&direct(&[out(64)]));
            notify(bond).await;
            clock.sleep(Span::from_us(20)).await;
            for way in Way::ALL {
                let [board, base] = bond.sides();
                let wire = match way {
                    Way::FromBoard => &board.back,
                    Way::ToBoard => &board.out,
                    Way::ToBase => &base.out,
                    Way::FromBase => &base.back,
                };
                let seen = seen.borrow();
                let packets = seen.iter().filter_map(|activity| match activity {
                    Activity::Packet { way: on, sent } if *on == way => Some(sent),
                    _ => None,
                });
                assert_eq!(packets.clone().count() as u64, wire.traffic().tlps, "{way:?}");
                let busy: Span = packets.clone().map(|sent| sent.to.since(sent.from)).sum();
                assert_eq!(busy, wire.traffic().busy, "{way:?}");
                assert!(packets.clone().all(|sent| sent.at <= sent.from));
                assert!(packets.clone().is_sorted_by(|one, next| one.to <= next.from), "{way:?}");
            }
        });
    assert_eq!(ending, Ending::Finished);
    let seen = seen.borrow();
    let dma = seen.iter().filter(|activity| !matches!(activity, Activity::Packet { .. }));
    let dma: Vec<_> = dma.copied().collect();
    let [Activity::Read { from, sent, read, path, to, .. }, command] = dma[..] else { panic!("{dma:?}") };
    let there = across(&timing, Tlp::MemoryRead) + timing.board_memory;
    let back = across(&timing, Tlp::Completion { data: 64 });
    assert_eq!((sent, read, path), (from, sent + there + back, read));
    assert_eq!(to, path + Span::at_rate(64 * 8, timing.dma.rate));
    let (queue, direction, asked) = (0, Direction::Up, from - timing.dma.setup());
    let expected = Activity::Copied { queue, direction, channel: 0, bytes: 64, requests: 1, asked, from, to };
    assert_eq!(command, expected);
}

/// Access, 0.8 us, and another hop of 0.8 us to a base that answers at once.
#[test]
fn a_forwarded_read_takes_two_hops() {
    let timing = Timing::default();
    let took = Cell::new(Span::ZERO);
    let memories = memories(Shape::default());
    let ending = simulate(&timing, &memories, async |clock, bond, around| {
        let from = clock.now();
        let read = bond.access(Access::BarRead { function: function(0), offset: COMMON + 0x14, width: 1 });
        let base = async {
            around.base.wait(clock).await;
            let word = GuestAddress(BASE + STATUS_PAGE + status_page::MAILBOX_WORD);
            let request: Request = decode(memories.0.base.read_obj::<u32>(word).unwrap());
            bond.write_register(mailbox::BASE + mailbox::ANSWER_DATA, 0xF);
            bond.write_register(mailbox::BASE + mailbox::ANSWER, request.sequence().into());
        };
        around.base.wait(clock).await;
        let (value, ()) = both(read, base).await;
        assert_eq!(value, 0xF);
        took.set(clock.now().since(from));
    });
    assert_eq!(ending, Ending::Finished);
    let there = across(&timing, Tlp::MemoryRead) + across_base(&timing, Tlp::MemoryWrite { data: 16 });
    let write = timing.base.serialization(timing.base.wire_bytes(Tlp::MemoryWrite { data: 4 }).into());
    let back = write
        + across_base(&timing, Tlp::MemoryWrite { data: 4 })
        + across(&timing, Tlp::Completion { data: 4 });
    assert_eq!(took.get(), there + back);
    assert!((1_595..1_620).contains(&(took.get().ps() / 1000)), "{}", took.get());
}

/// Both at once.
async fn both<A, B>(one: impl Future<Output = A>, other: impl Future<Output = B>) -> (A, B) {
    let (mut one, mut other) = (std::pin::pin!(one), std::pin::pin!(other));
    let (mut first, mut second) = (None, None);
    std::future::poll_fn(move |context| {
        use std::task::Poll::{Pending, Ready};
        if first.is_none()
            && let Ready(value) = one.as_mut().poll(context)
        {
            first = Some(value);
        }
        if second.is_none()
            && let Ready(value) = other.as_mut().poll(context)
        {
            second = Some(value);
        }
        if first.is_some() && second.is_some() {
            Ready((first.take().unwrap(), second.take().unwrap()))
        } else {
            Pending
        }
    })
    .await
}

#[test]
fn an_unanswered_read_ends_at_its_deadline() {
    let (value, took) = (Cell::new(0), Cell::new(Span::ZERO));
    let ending = simulate(&Timing::default(), &memories(Shape::default()), async |clock, bond, _| {
        let from = clock.now();
        value.set(bond.access(Access::BarRead { function: function(0), offset: COMMON, width: 4 }).await);
        took.set(clock.now().since(from));
    });
    assert_eq!((ending, value.get()), (Ending::Finished, ALL_ONES));
    assert_eq!(
        took.get().ps() / 1_000_000_000,
        50,
        "the 50 ms of the register's reset value: {}",
        took.get()
    );
}

/// A board that offers `plans` whenever descriptors are free, and a back end that answers each chain with as
/// many bytes as are writable; what came back, and when.
fn traffic(timing: &Timing, shape: Shape, plans: &[Plan]) -> (Ending, Vec<(Vec<u8>, u32)>, Time, u64) {
    let memories = memories(shape);
    let (rig, context) = &memories;
    let clock = Clock::new();
    let around = Around::new(&clock);
    let (board, base) = (reached(&rig.board), reached(&rig.base));
    let (board, base) = (board.lease(), base.lease());
    let memory = Memory::new(&board, &base, &rig.raised);
    let bond = Bond::new(&clock, timing, &memory, &around);
    let (ready, seen, done) = (Signal::default(), RefCell::new(vec![]), Cell::new(0));
    let mut executor = Executor::new(&clock);
    bond.serve(&mut executor, "board0", 1);
    executor.spawn("driver", async {
        set_up(&clock, &bond, context, true).await;
        ready.raise(&clock);
        let mut guest = Guest::new(&rig.board, context);
        let mut plans = plans.iter().peekable();
        let mut outstanding = 0;
        while plans.peek().is_some() || outstanding > 0 {
            let before = outstanding;
            while plans.peek().and_then(|plan| guest.offer(plan)).is_some() {
                plans.next();
                outstanding += 1;
            }
            if outstanding > before {
                notify(&bond).await;
            }
            around.board.wait(&clock).await;
            let back = guest.collect();
            outstanding -= back.len();
            for (head, len) in back {
                check_answer(&rig.board, &guest, head, len);
                done.set(done.get() + 1);
            }
        }
    });
    executor.serve("back end", async {
        ready.wait(&clock).await;
        let mut back_end = BackEnd::new(&rig.base, context);
        loop {
            back_end.take();
            while !back_end.held.is_empty() {
                // The last first: completion order does not matter.
                let nth = back_end.held.len() - 1;
                let len = back_end.held[nth].writable() as u32;
                let (held, _) = back_end.complete(nth, len, 7);
                seen.borrow_mut().push((held.readable, len));
                tail(&bond, back_end.used);
            }
            around.base.wait(&clock).await;
        }
    });
    let ending = executor.run(LIMIT);
    let (now, events) = (clock.now(), executor.events());
    drop(executor);
    assert_eq!(done.get(), if ending == Ending::Finished { plans.len() } else { done.get() });
    (ending, seen.into_inner(), now, events)
}

/// The writable bytes of a chain are what the back end wrote.
fn check_answer(memory: &GuestMemoryMmap, guest: &Guest<'_>, head: u16, len: u32) {
    let mut descriptor = guest.descriptor(head);
    if descriptor.flags.get() & DESC_INDIRECT != 0 {
        let mut bytes = [0; 16];
        memory.read_slice(&mut bytes, GuestAddress(descriptor.addr.get())).unwrap();
        descriptor = Descriptor::read_from_bytes(&bytes).unwrap();
    }
    if descriptor.flags.get() & DESC_WRITE == 0 || len == 0 {
        return;
    }
    let mut byte = [0];
    memory.read_slice(&mut byte, GuestAddress(descriptor.addr.get())).unwrap();
    assert_eq!(byte, [7]);
}

fn plan() -> impl Strategy<Value = Plan> {
    let buffers = (prop::collection::vec(1u32..900, 0..3), prop::collection::vec(1u32..900, 0..3));
    (buffers, any::<bool>(), any::<u8>()).prop_filter_map(
        "a chain has a buffer",
        |((reads, writes), table, seed)| {
            let buffers: Vec<_> =
                reads.into_iter().map(out).chain(writes.into_iter().map(writable)).collect();
            let plan = if table { indirect(&buffers) } else { direct(&buffers) };
            (!buffers.is_empty()).then_some(Plan { seed, ..plan })
        },
    )
}

/// Every way to build an engine.
fn engine() -> impl Strategy<Value = Engine> {
    let ahead = prop_oneof![Just((0, 0)), (1u8..=16, 0u8..=16)];
    let (watch, moderation) = (prop_oneof![Just(0), 50u64..2000], prop_oneof![Just(0), 1u64..20_000]);
    (1u8..=16, ahead, watch, moderation).prop_map(
        |(prefetch, (entries_ahead, descriptors_ahead), watch, moderation)| Engine {
            prefetch,
            entries_ahead,
            descriptors_ahead,
            watch: Span::from_ns(watch),
            moderation: Span::from_ns(moderation),
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the engine is made of, every chain arrives, whole and once, and a second run is the same to
    /// the picosecond.
    #[test]
    fn every_chain_arrives_and_a_run_repeats_itself(
        plans in prop::collection::vec(plan(), 1..40),
        (channels, reads, setup_clocks) in (1u16..4, 1u16..20, 0u16..20),
        engine in engine(),
    ) {
        let mut timing = Timing { engine, ..Timing::default() };
        (timing.dma.channels, timing.dma.reads, timing.dma.setup_clocks) = (channels, reads, setup_clocks);
        let run = traffic(&timing, Shape::default(), &plans);
        prop_assert_eq!(&run.0, &Ending::Finished);
        let sent = |plan: &Plan| {
            let reads = plan.buffers.iter().filter(|buffer| !buffer.write);
            reads.flat_map(|buffer| (0..buffer.len).map(|i| plan.seed.wrapping_add((i * 7) as u8))).collect::<Vec<u8>>()
        };
        let writable_bytes = |plan: &Plan| plan.buffers.iter().filter(|buffer| buffer.write).map(|buffer| buffer.len).sum::<u32>();
        let mut expected: Vec<_> = plans.iter().map(|plan| (sent(plan), writable_bytes(plan))).collect();
        let mut arrived = run.1.clone();
        expected.sort();
        arrived.sort();
        prop_assert_eq!(arrived, expected);
        prop_assert_eq!(traffic(&timing, Shape::default(), &plans), run);
    }
}

/// A back end that never answers: the board waits for what does not come, and the run ends and says so.
#[test]
fn a_task_that_waits_for_ever_is_named() {
    let ending = simulate(&Timing::default(), &memories(Shape::default()), async |clock, bond, around| {
        notify(bond).await;
        around.board.wait(clock).await;
    });
    let Ending::Deadlock(stuck) = ending else { panic!("{ending:?}") };
    assert_eq!(stuck.iter().map(ToString::to_string).collect::<Vec<_>>(), ["test waits for work"]);
}
