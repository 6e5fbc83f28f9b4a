//! Random guest rings, well formed and mutated, through the queue engine, against the ring code of crate
//! `virtio-queue`.
//!
//! ```text
//!   guest --- offer ---> board memory --- forward ---> base memory --- take ---> back end
//!     |                       |                                                      |
//!     |                    snapshot ---> oracle: the same chains, the same bytes     |
//!     |                       |                                                      |
//!   guest <-- collect -- board memory <--- retire ---- base memory <- complete ------+
//! ```
//! After every step both memories are compared as a whole with what the oracle expects: whatever is not
//! expected to change has not changed.

#![allow(clippy::unwrap_used)] // of memory that the rig has mapped

mod rig;

use std::collections::{HashMap, VecDeque};

use iobond_model::shadow::{Queue, QueueFeatures};
use iobond_spec::{
    registers::components::queue_error_e::QueueErrorE as Code,
    ring::split::{AVAIL_NO_INTERRUPT, DESC_INDIRECT, DESC_NEXT, DESC_WRITE, avail_event_offset},
};
use proptest::{
    prelude::*,
    sample::Index,
    test_runner::{RngAlgorithm, TestRng},
};
use rig::{
    BOARD, Image, LANE, LANES, Rig, SLOTS_BYTES, Shape,
    back_end::{BackEnd, Held},
    base_ring, board_ring,
    guest::{Buffer, Guest, Plan, out, writable},
    in_flight,
    oracle::{Oracle, Verdict, fits},
    slots,
};
use virtio_queue::QueueT;
use vm_memory::{Bytes, GuestAddress};

/// What happens next.
#[derive(Clone, Debug)]
enum Step {
    /// The guest makes a chain available, where it has descriptors for it.
    Offer(Plan),
    /// The guest spoils what it has made available.
    Spoil(Index, Spoiling),
    /// IO-Bond forwards; the doorbell says so many chains less than there are.
    Forward { behind: Option<u16> },
    /// The back end completes one chain that it holds, with a part of its writable bytes, in 255ths.
    Complete { which: Index, part: u8, seed: u8 },
    /// The base writes TAIL.
    Retire,
    /// The guest says how many chains it wants to wait for before the next interrupt, if it wants any at all.
    Wish { distance: u16, none: bool },
}

/// One field of a ring, overwritten.
#[derive(Clone, Copy, Debug)]
enum Spoiling {
    Address(u64),
    Length(u32),
    Flags(u16),
    Next(u16),
    Entry(u16),
    AvailIndex(u16),
}

/// A chain that is in flight, and what the back end has done with it.
struct Used {
    chain: Held,
    payload: Vec<u8>,
    len: u32,
}

/// Everything on both sides of one queue.
struct World<'a> {
    rig: &'a Rig,
    queue: Queue,
    guest: Guest<'a>,
    back_end: BackEnd<'a>,
    oracle: Oracle,
    /// Chains up, by shadow head, as the oracle saw them.
    in_flight: HashMap<u16, Held>,
    /// Chains that the back end has completed and IO-Bond has not returned, in order.
    used: VecDeque<Used>,
    forwarded: u32,
    retired: u32,
    bytes_up: u32,
    bytes_down: u32,
    interrupts: u32,
    spoiled: bool,
    failed: bool,
}

impl<'a> World<'a> {
    fn new(rig: &'a Rig, queue: Queue) -> Self {
        let context = *queue.context();
        Self {
            rig,
            guest: Guest::new(&rig.board, &context),
            back_end: BackEnd::new(&rig.base, &context),
            oracle: Oracle::new(&context),
            queue,
            in_flight: HashMap::new(),
            used: VecDeque::new(),
            forwarded: 0,
            retired: 0,
            bytes_up: 0,
            bytes_down: 0,
            interrupts: 0,
            spoiled: false,
            failed: false,
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Offer(plan) => self.offer(plan),
            Step::Spoil(which, spoiling) => self.spoil(*which, *spoiling),
            Step::Forward { behind } => self.forward(*behind),
            Step::Complete { which, part, seed } if !self.back_end.held.is_empty() => {
                self.complete(which.index(self.back_end.held.len()), *part, *seed);
            }
            Step::Complete { .. } => {}
            Step::Retire => self.retire(),
            Step::Wish { distance, none } => {
                self.guest.set_used_event(self.guest.used.wrapping_add(*distance));
                self.guest.set_flags(if *none { AVAIL_NO_INTERRUPT } else { 0 });
            }
        }
    }

    /// A well-behaved guest knows what its device can take: it sends no chain that can never fit.
    fn offer(&mut self, plan: &Plan) {
        let context = self.queue.context();
        let mut plan = plan.clone();
        if !context.features.indirect {
            plan.in_table = 0;
        }
        if fits(context, plan.buffers.iter().map(|buffer| buffer.len)) || self.spoiled {
            self.guest.offer(&plan);
        }
    }

    fn spoil(&mut self, which: Index, spoiling: Spoiling) {
        self.spoiled = true;
        let index = which.index(usize::from(self.guest.ring.size)) as u16;
        let mut descriptor = self.guest.descriptor(index);
        match spoiling {
            Spoiling::Address(addr) => descriptor.addr = addr.into(),
            Spoiling::Length(len) => descriptor.len = len.into(),
            Spoiling::Flags(flags) => descriptor.flags = flags.into(),
            Spoiling::Next(next) => descriptor.next = next.into(),
            Spoiling::Entry(head) => return self.guest.set_available(index, head),
            Spoiling::AvailIndex(ahead) => {
                return self.guest.set_avail_index(self.guest.avail.wrapping_add(ahead));
            }
        }
        self.guest.set_descriptor(index, descriptor);
    }

    fn forward(&mut self, behind: Option<u16>) {
        let context = *self.queue.context();
        self.oracle.look(self.rig);
        let verdicts = self.oracle.verdicts(self.forwarded as u16);
        let (board, base) = (Image::of_board(self.rig), Image::of_base(self.rig));
        let behind = behind.filter(|_| context.features.notification_data && !self.spoiled);
        let doorbell = behind.map(|behind| self.guest.avail.wrapping_sub(behind.min(context.guest.size)));

        let result = self.rig.forward(&mut self.queue, doorbell);

        let at = context.guest.used.0 + avail_event_offset(context.guest.size);
        let event = at..at + 2;
        let [desc, avail, _] = base_ring(&context);
        board.assert_same_but(
            &Image::of_board(self.rig),
            std::slice::from_ref(&event),
            "forward wrote board memory",
        );
        base.assert_same_but(
            &Image::of_base(self.rig),
            &[desc, avail, slots(&context)],
            "forward wrote base memory",
        );

        let Some(verdicts) = verdicts else {
            // Both refuse an index that is further ahead than the ring is long.
            if !self.failed {
                assert_eq!(result.map_err(|error| error.code()), Err(Code::AvailJump));
            }
            self.failed = true;
            return;
        };
        let news = self.take_up(&verdicts);
        if self.failed {
            assert_eq!((result.unwrap().chains, news), (0, 0), "a queue that has failed does nothing");
            return;
        }
        let next = verdicts.get(news);
        match result {
            Ok(progress) => {
                assert_eq!(usize::from(progress.chains), news);
                // A doorbell that came late promises nothing about what came after it: the driver notifies
                // again for that.
                let told_less = doorbell.is_some_and(|at| at != self.guest.avail);
                if !self.queue.is_stalled() && !progress.more && !told_less {
                    assert!(next.is_none(), "not forwarded: {next:?}");
                    self.assert_armed(event.start);
                }
            }
            Err(error) => {
                assert!(self.spoiled, "a well-formed ring was refused: {error}");
                // A burst is walked before its first byte moves: what is wrong with a later chain may be
                // found before an address of an earlier one.
                let reasons: Vec<Code> = verdicts.iter().flat_map(Verdict::reasons).copied().collect();
                assert!(reasons.contains(&error.code()), "{error}, but the oracle says {reasons:?}");
                self.failed = true;
            }
        }
    }

    /// The back end takes what is new; it must be what the oracle saw, in order. How many chains it was.
    fn take_up(&mut self, verdicts: &[Verdict]) -> usize {
        let slot_size = self.queue.context().slot_size;
        let news = self.back_end.take();
        let held = &self.back_end.held[self.back_end.held.len() - news..];
        for (shadow, verdict) in held.iter().zip(verdicts) {
            let Verdict::Forward(guest) = verdict else { panic!("forwarded in spite of {verdict:?}") };
            assert_eq!(shadow.readable, guest.readable);
            let lengths: Vec<u32> = shadow.writable.iter().map(|&(_, len)| len).collect();
            let cut: Vec<u32> = guest.writable.iter().flat_map(|&(_, len)| cut(len, slot_size)).collect();
            assert_eq!(lengths, cut);
            self.bytes_up = self.bytes_up.wrapping_add(guest.readable.len() as u32);
            let twice = self.in_flight.insert(shadow.head, guest.clone());
            assert!(twice.is_none(), "shadow head {} is in flight twice", shadow.head);
        }
        assert!(news <= verdicts.len(), "{news} chains up, of {}", verdicts.len());
        self.forwarded = self.forwarded.wrapping_add(news as u32);
        assert_eq!(self.queue.head(), self.forwarded as u16);
        news
    }

    /// With everything fetched, a guest with EVENT_IDX is asked to ring at the next chain (virtio 1.3,
    /// 2.7.10).
    fn assert_armed(&self, event: u64) {
        if self.queue.context().features.event_idx {
            let armed: u16 = self.rig.board.read_obj(GuestAddress(event)).unwrap();
            assert_eq!(armed, self.forwarded as u16, "avail_event");
        }
    }

    fn complete(&mut self, nth: usize, part: u8, seed: u8) {
        let writable = self.back_end.held[nth].writable();
        let len = (writable * u64::from(part) / 255) as u32;
        let (shadow, mut payload) = self.back_end.complete(nth, len, seed);
        if !self.queue.context().features.copy_all {
            payload.truncate(len as usize);
        }
        let chain = self.in_flight.remove(&shadow.head).unwrap();
        self.used.push_back(Used { chain, payload, len });
    }

    fn retire(&mut self) {
        let context = *self.queue.context();
        let before = self.guest.used_index();
        self.oracle.look(self.rig);
        let base = Image::of_base(self.rig);

        let result = self.rig.retire(&mut self.queue, self.back_end.used);

        base.assert_same_but(&Image::of_base(self.rig), &[], "retire wrote base memory");
        if self.failed {
            assert_eq!(result.unwrap().chains, 0, "a queue that has failed does nothing");
            let snapshot = Image::of(&self.oracle.snapshot, BOARD);
            snapshot.assert_same_but(&Image::of_board(self.rig), &[], "a failed queue wrote board memory");
            return;
        }
        let count = result.map_or(self.used.len(), |progress| usize::from(progress.chains));
        let mut good = true;
        for used in self.used.drain(..count) {
            let told = used.len;
            good = good && self.oracle.give_back(&used.chain, &used.payload, told);
            self.bytes_down = self.bytes_down.wrapping_add(used.payload.len() as u32);
        }
        let expected = Image::of(&self.oracle.snapshot, BOARD);
        if let Err(error) = result {
            assert!(self.spoiled && !good, "returning well-formed chains failed: {error}");
            assert_eq!(error.code(), Code::BoardFault);
            let [_, _, used_ring] = board_ring(&context);
            expected.assert_same_but(
                &Image::of_board(self.rig),
                &[used_ring],
                "a retire that failed wrote board memory",
            );
            self.failed = true;
            return;
        }
        assert!(good, "a writable buffer outside of board memory was written");
        expected.assert_same_but(&Image::of_board(self.rig), &[], "retire wrote board memory");
        self.retired = self.retired.wrapping_add(count as u32);
        assert_eq!(self.guest.used_index(), before.wrapping_add(count as u16));
        self.assert_interrupt(count);
    }

    /// Interrupts exactly as virtio 1.3, 2.7.7.2 wants them. `virtio-queue` knows the index and not the flag.
    fn assert_interrupt(&mut self, count: usize) {
        let context = self.queue.context();
        let flags: u16 = self.rig.board.read_obj(GuestAddress(context.guest.avail.0)).unwrap();
        let wanted = match (count > 0, context.features.event_idx) {
            (false, _) => false,
            (true, true) => self.oracle.queue.needs_notification(&self.oracle.snapshot).unwrap(),
            (true, false) => flags & AVAIL_NO_INTERRUPT == 0,
        };
        let expected = if wanted { vec![(context.function, context.vector)] } else { Vec::new() };
        assert_eq!(self.rig.take_interrupts(), expected);
        self.interrupts += u32::from(wanted);
    }

    /// Brings everything that was offered home.
    fn drain(&mut self) {
        while !self.failed && self.guest.used_index() != self.guest.avail {
            let before = self.guest.used_index();
            self.forward(None);
            while !self.back_end.held.is_empty() {
                self.complete(0, 255, 9);
            }
            self.retire();
            assert!(self.failed || self.guest.used_index() != before, "the queue is stuck");
        }
    }

    /// Nothing is in flight, every count is right, and the pool is whole.
    fn assert_home(&mut self) {
        assert_eq!(in_flight(&self.queue), 0);
        let counters = self.queue.counters();
        let ours = (self.forwarded, self.retired, self.bytes_up, self.bytes_down, self.interrupts);
        let theirs = (
            counters.forwarded,
            counters.retired,
            counters.bytes_up,
            counters.bytes_down,
            counters.interrupts,
        );
        assert_eq!(theirs, ours, "forwarded, retired, bytes up, bytes down, interrupts");
    }

    /// A guest that posts the same chain of one slot over and over, without waiting, gets exactly as many in
    /// flight as there are slots and shadow descriptors: none has leaked.
    fn assert_pool_whole(&mut self) {
        self.guest.collect();
        let head = self.guest.offer(&Plan { buffers: vec![out(1)], in_table: 0, seed: 1 }).unwrap();
        self.forward(None);
        while !self.queue.is_stalled() {
            self.guest.publish(head);
            self.forward(None);
        }
        let context = self.queue.context();
        assert_eq!(in_flight(&self.queue), u32::from(context.slot_count.min(context.shadow.size)));
        self.drain();
        self.assert_home();
    }
}

/// The pieces of a buffer of `len` bytes.
fn cut(len: u32, slot_size: u32) -> impl Iterator<Item = u32> {
    (0..len).step_by(slot_size as usize).map(move |at| (len - at).min(slot_size))
}

fn shapes() -> impl Strategy<Value = Shape> {
    let features =
        any::<[bool; 5]>().prop_map(|[indirect, event_idx, notification_data, shadow_indirect, all]| {
            QueueFeatures {
                indirect,
                event_idx,
                notification_data,
                shadow_indirect,
                copy_all: all,
                count_on_return: false,
            }
        });
    let count = prop_oneof![1 => 1u16..4, 2 => 4u16..65];
    let any_shape = (0u32..6, 0u32..3, 6u32..13, count, features.clone());
    // Few shadow descriptors and many slots: what is long goes up as a table.
    let tight =
        (0u32..3, Just(0), 7u32..11, 6u16..40, features).prop_map(|(guest, more, slot, count, features)| {
            (guest, more, slot, count, QueueFeatures { indirect: true, shadow_indirect: true, ..features })
        });
    prop_oneof![2 => any_shape, 1 => tight].prop_map(|(guest, more, slot, slot_count, features)| {
        let (guest, slot_size) = (1 << guest, 1 << slot);
        assert!(u64::from(slot_size) * u64::from(slot_count) <= SLOTS_BYTES);
        Shape { guest, shadow: guest << more, slot_size, slot_count, features }
    })
}

fn plans() -> impl Strategy<Value = Plan> {
    let lengths = || prop::collection::vec(prop_oneof![3 => 1u32..70, 1 => 1u32..800], 0..5);
    // Nothing in a table, all in a table, or some descriptors followed by a table (virtio 1.3, 2.7.5.3.2).
    let tables = prop_oneof![Just(None), Just(Some(0)), (1usize..8).prop_map(Some)];
    (lengths(), lengths(), tables, any::<u8>())
        .prop_filter("a chain has a buffer", |(readable, writable, ..)| {
            !readable.is_empty() || !writable.is_empty()
        })
        .prop_map(|(reads, writes, direct, seed)| {
            let reads = reads.into_iter().map(out);
            let buffers: Vec<Buffer> = reads.chain(writes.into_iter().map(writable)).collect();
            let in_table = direct.map_or(0, |direct| buffers.len().saturating_sub(direct));
            Plan { buffers, in_table, seed }
        })
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => plans().prop_map(Step::Offer),
        3 => prop::option::of(0u16..4).prop_map(|behind| Step::Forward { behind }),
        5 => any::<(Index, u8, u8)>().prop_map(|(which, part, seed)| Step::Complete { which, part, seed }),
        2 => Just(Step::Retire),
        1 => (0u16..6, any::<bool>()).prop_map(|(distance, none)| Step::Wish { distance: distance.wrapping_sub(2), none }),
    ]
}

fn spoilings() -> impl Strategy<Value = Spoiling> {
    let end = BOARD + LANES * LANE;
    let flags = DESC_NEXT | DESC_WRITE | DESC_INDIRECT;
    prop_oneof![
        // Nowhere, across the end of memory, and where address and length wrap around.
        prop::sample::select(vec![0, 0xDEAD_0000, end, end - 8, BOARD - 8, u64::MAX - 7, 1 << 63])
            .prop_map(Spoiling::Address),
        prop_oneof![Just(0), 1u32..64, Just(16), Just(40), 0x100u32..0x8000, Just(u32::MAX)]
            .prop_map(Spoiling::Length),
        (0..=flags).prop_map(Spoiling::Flags),
        prop_oneof![0u16..40, any::<u16>()].prop_map(Spoiling::Next),
        prop_oneof![0u16..40, any::<u16>()].prop_map(Spoiling::Entry),
        prop_oneof![0u16..40, any::<u16>()].prop_map(Spoiling::AvailIndex),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_well_formed_ring_arrives_and_returns_as_it_is(
        shape in shapes(), steps in prop::collection::vec(steps(), 1..120)
    ) {
        let (rig, queue) = Rig::with(shape);
        let mut world = World::new(&rig, queue);
        for step in &steps {
            world.step(step);
            world.guest.collect();
        }
        world.drain();
        world.assert_home();
        world.assert_pool_whole();
    }

    #[test]
    fn a_spoiled_ring_stops_where_the_oracle_objects_and_harms_nothing(
        shape in shapes(),
        good in prop::collection::vec(steps(), 0..40),
        bad in prop::collection::vec(
            prop_oneof![2 => steps(), 1 => (any::<Index>(), spoilings()).prop_map(|(at, s)| Step::Spoil(at, s))], 1..60
        ),
    ) {
        let (rig, queue) = Rig::with(shape);
        let mut world = World::new(&rig, queue);
        for step in good.iter().chain(&bad) {
            world.step(step);
        }
        world.forward(None);
        world.retire();
    }
}

/// A chain that the shadow table is too short for goes up as an indirect table, in a slot of its own, and
/// comes down as any other; both again and again, so that neither slot nor descriptor can leak.
#[test]
fn a_chain_too_long_for_the_shadow_table_travels_in_an_indirect_one() {
    let features = QueueFeatures { indirect: true, shadow_indirect: true, ..QueueFeatures::default() };
    let (rig, queue) = Rig::with(Shape { guest: 4, shadow: 4, slot_size: 128, slot_count: 9, features });
    let mut world = World::new(&rig, queue);
    let chain = Plan { buffers: vec![out(129), out(128), writable(300), writable(20)], in_table: 4, seed: 3 };
    for round in 0..20 {
        world.offer(&chain);
        world.forward(None);
        assert_eq!((world.back_end.held.len(), in_flight(&world.queue)), (1, 1), "round {round}");
        // 2 + 1 + 3 + 1 pieces and the table take eight of nine slots: a second one does not fit.
        world.offer(&chain);
        world.forward(None);
        assert!(world.queue.is_stalled());
        world.drain();
        world.guest.collect();
    }
    world.assert_home();
    // The longest chain that can be: every slot but one, for the table.
    world.offer(&Plan { buffers: vec![out(8 * 128)], in_table: 0, seed: 4 });
    world.forward(None);
    assert_eq!(in_flight(&world.queue), 1);
    world.drain();
    world.assert_pool_whole();
}

/// 210 000 chains through small rings: every index wraps around 65536, twice with EVENT_IDX, batches wrap
/// every ring, and each chain still comes home with its own bytes.
#[test]
fn indices_wrap_around() {
    for (event_idx, chains) in [(false, 70_000), (true, 140_000)] {
        let features =
            QueueFeatures { indirect: true, event_idx, shadow_indirect: true, ..QueueFeatures::default() };
        let (rig, mut queue) =
            Rig::with(Shape { guest: 32, shadow: 64, slot_size: 64, slot_count: 40, features });
        let context = *queue.context();
        let mut guest = Guest::new(&rig.board, &context);
        let mut back_end = BackEnd::new(&rig.base, &context);
        let mut random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        while queue.counters().retired < chains {
            let mut offered = HashMap::new();
            for _ in 0..random.random_range(1..=32) {
                let (len, seed) = (random.random_range(1..100), random.random());
                let buffers = vec![out(len), writable(4)];
                let plan = Plan { buffers, in_table: random.random_range(0..3), seed };
                offered.extend(guest.offer(&plan).map(|head| (head, (len, seed))));
            }
            guest.set_used_event(guest.avail.wrapping_sub(1));
            let mut returns = 0;
            while guest.used_index() != guest.avail {
                returns += 1;
                rig.forward(&mut queue, None).unwrap();
                back_end.take();
                while !back_end.held.is_empty() {
                    let nth = random.random_range(0..back_end.held.len());
                    let told = back_end.held[nth].readable.len() as u32;
                    let first = back_end.held[nth].readable[0];
                    let (_, wrote) = back_end.complete(nth, told.min(4), first);
                    assert_eq!(wrote[0], first);
                }
                rig.retire(&mut queue, back_end.used).unwrap();
            }
            for (head, len) in guest.collect() {
                let (sent, seed): (u32, u8) = offered.remove(&head).unwrap();
                assert_eq!(len, sent.min(4));
                let writable = guest.arena(head) + rig::TABLE_BYTES + u64::from(sent);
                assert_eq!(rig.board.read_obj::<u8>(GuestAddress(writable)).unwrap(), seed);
            }
            assert!(offered.is_empty(), "not returned: {offered:?}");
            // With EVENT_IDX the guest asked for one at its last chain; without, every return is worth one.
            assert_eq!(rig.take_interrupts().len(), if event_idx { 1 } else { returns });
        }
        assert_eq!((in_flight(&queue), queue.head()), (0, guest.avail));
    }
}
