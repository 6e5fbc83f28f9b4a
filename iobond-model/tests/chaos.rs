//! Chaos: random bytes in every ring, random indices, random doorbells and TAILs, thousands of steps on end.
//! Whatever a queue answers, it answers within a bound, without a panic, and without touching what it has no
//! business with.

#![allow(clippy::unwrap_used)] // of memory that the rig has mapped

mod rig;

use std::cell::Cell;

use iobond_model::{
    fabric::{Copy, Direction, Fabric, Fault, Gated, ready},
    live::Memory,
    shadow::{Context, Progress, Queue, QueueError, QueueFeatures, Seen},
};
use iobond_spec::{
    address::{Address, FunctionId},
    ring::split::{DESC_WRITE, Descriptor},
};
use proptest::{prelude::*, sample::Index, test_runner::TestRunner};
use rig::{
    ARENAS, BOARD, Image, LANE, LANES, Raised, Rig, Shape, base_ring, board_ring,
    guest::{Guest, descriptor, direct, out},
    in_flight, reached, slots,
};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use zerocopy::IntoBytes;

/// Board memory that no ring and no buffer of the guest's names.
const FAR: u64 = 0x40_0000_0000;
const FAR_SIZE: usize = 0x1_0000;
/// Payload that the pool holds: no chain is longer, so no buffer reaches further.
const POOL: u32 = 0x2000;
/// Where the guest's buffers and tables start.
const PLAYGROUND: u64 = BOARD + ARENAS;
/// How far into the playground they start at most.
const PLAYGROUND_SIZE: u64 = LANE - ARENAS - POOL as u64;

/// A memory that counts what is done to it, and a guest that moves its available index whenever it is read.
struct Watched<'a, 'm> {
    memory: Memory<'a, 'm, Raised>,
    board: &'a GuestMemoryMmap,
    accesses: Cell<u64>,
    /// Where the index is, if the guest moves it.
    racing: Option<Address>,
}

impl Watched<'_, '_> {
    fn count(&self) {
        self.accesses.set(self.accesses.get() + 1);
    }
}

impl Fabric for Watched<'_, '_> {
    async fn read(&self, at: Address, into: &mut [u8]) -> Result<(), Fault> {
        self.count();
        self.memory.read(at, into).await
    }
    async fn write(&self, at: Address, from: &[u8]) -> Result<(), Fault> {
        self.count();
        self.memory.write(at, from).await
    }
    async fn copy_all(&self, direction: Direction, copies: &[Copy]) -> Result<(), Fault> {
        self.accesses.set(self.accesses.get() + copies.len() as u64);
        self.memory.copy_all(direction, copies).await
    }
    async fn load(&self, at: Address) -> Result<u16, Fault> {
        self.count();
        let value = self.memory.load(at).await?;
        if let (Address::Board(index), true) = (at, self.racing == Some(at)) {
            self.board.write_obj(value.wrapping_add(1), GuestAddress(index.0)).unwrap();
        }
        Ok(value)
    }
    async fn store(&self, at: Address, value: u16) -> Result<(), Fault> {
        self.count();
        self.memory.store(at, value).await
    }
    fn fence(&self) {
        self.memory.fence();
    }
    fn interrupt(&self, function: FunctionId, vector: u16) {
        self.memory.interrupt(function, vector);
    }
}

/// Something that happens to a queue.
#[derive(Clone, Debug)]
enum Step {
    /// The guest writes a descriptor that looks like one, into its ring or into the playground.
    Descriptor {
        table: Option<u64>,
        index: Index,
        addr: u64,
        len: u32,
        flags: u16,
        next: u16,
    },
    /// The guest writes anything into its available or used ring.
    Guest {
        used: bool,
        at: Index,
        bytes: Vec<u8>,
    },
    /// The guest makes some entries available.
    Available {
        heads: Vec<u16>,
    },
    /// The back end writes anything into the shadow used ring.
    Base {
        at: Index,
        bytes: Vec<u8>,
    },
    /// The back end writes a used element that looks like one, where the next is due.
    Used {
        id: u32,
        len: u32,
    },
    Forward {
        doorbell: Option<u16>,
    },
    Retire {
        ahead: u16,
    },
}

fn steps() -> impl Strategy<Value = Step> {
    let addr = prop_oneof![
        8 => (0..PLAYGROUND_SIZE).prop_map(|at| PLAYGROUND + at),
        1 => any::<u64>().prop_map(|at| at | 1 << 63),
        1 => Just(BOARD + LANES * LANE - 7),
    ];
    let len =
        prop_oneof![8 => 1u32..300, 1 => 300..POOL, 1 => any::<u32>(), 3 => (1u32..8).prop_map(|n| 16 * n)];
    let flags = prop_oneof![6 => 0u16..4, 2 => Just(4u16), 1 => any::<u16>()];
    let next = prop_oneof![8 => 0u16..9, 1 => any::<u16>()];
    let table = prop::option::of((0..PLAYGROUND_SIZE).prop_map(|at| PLAYGROUND + at));
    let bytes = || prop::collection::vec(any::<u8>(), 1..12);
    prop_oneof![
        3 => (table, any::<Index>(), addr, len, flags, next).prop_map(|(table, index, addr, len, flags, next)| {
            Step::Descriptor { table, index, addr, len, flags, next }
        }),
        1 => (any::<bool>(), any::<Index>(), bytes()).prop_map(|(used, at, bytes)| Step::Guest { used, at, bytes }),
        6 => prop::collection::vec(prop_oneof![20 => 0u16..8, 1 => any::<u16>()], 1..6)
            .prop_map(|heads| Step::Available { heads }),
        1 => (any::<Index>(), bytes()).prop_map(|(at, bytes)| Step::Base { at, bytes }),
        6 => (prop_oneof![20 => 0u32..16, 1 => any::<u32>()], prop_oneof![8 => Just(0u32), 2 => 0u32..400])
            .prop_map(|(id, len)| Step::Used { id, len }),
        6 => prop::option::weighted(0.1, any::<u16>()).prop_map(|doorbell| Step::Forward { doorbell }),
        4 => prop_oneof![10 => 0u16..3, 1 => any::<u16>()].prop_map(|ahead| Step::Retire { ahead }),
    ]
}

struct Chaos {
    rig: Rig,
    queue: Queue,
    avail: u16,
    used: u16,
    /// Calls that came to something, and errors.
    worked: u32,
    failed: u32,
}

impl Chaos {
    fn new(features: QueueFeatures) -> Self {
        let mut rig = Rig::default();
        let all = [(GuestAddress(BOARD), (LANES * LANE) as usize), (GuestAddress(FAR), FAR_SIZE)];
        rig.board = GuestMemoryMmap::from_ranges(&all).unwrap();
        rig.board.write_slice(&[0xC5; FAR_SIZE], GuestAddress(FAR)).unwrap();
        let queue = rig.start(
            Shape { slot_size: 256, slot_count: (POOL / 256) as u16, features, ..Shape::default() }
                .context(0),
        );
        let mut chaos = Self { rig, queue, avail: 0, used: 0, worked: 0, failed: 0 };
        chaos.restart();
        chaos
    }

    fn context(&self) -> Context {
        *self.queue.context()
    }

    fn step(&mut self, step: Step) {
        let context = self.context();
        let [_, avail, used] = board_ring(&context);
        match step {
            Step::Descriptor { table, index, addr, len, flags, next } => {
                let written: Descriptor = descriptor(addr, len, flags, next);
                let entry = 16 * index.index(usize::from(context.guest.size)) as u64;
                let at = table.unwrap_or(context.guest.desc.0) + entry;
                self.rig.board.write_slice(written.as_bytes(), GuestAddress(at)).unwrap();
            }
            Step::Guest { used: to_used, at, bytes } => {
                let area = if to_used { used } else { avail };
                scribble(&self.rig.board, area, at, &bytes);
            }
            Step::Available { heads } => {
                let mut guest = Guest::new(&self.rig.board, &context);
                guest.avail = self.avail;
                heads.into_iter().for_each(|head| guest.publish(head));
                self.avail = guest.avail;
            }
            Step::Base { at, bytes } => {
                let [.., used] = base_ring(&context);
                scribble(&self.rig.base, used, at, &bytes);
            }
            Step::Used { id, len } => {
                let at = context.shadow.used.0 + 4 + 8 * u64::from(self.used % context.shadow.size);
                self.rig.base.write_obj(u64::from(len) << 32 | u64::from(id), GuestAddress(at)).unwrap();
            }
            Step::Forward { doorbell } => self.call(|queue, fabric| {
                ready(queue.forward(fabric, doorbell.map_or(Seen::Nothing, Seen::Index), None, u16::MAX))
            }),
            Step::Retire { ahead } => {
                let tail = self.used.wrapping_add(ahead);
                self.call(|queue, fabric| ready(queue.retire(fabric, tail, u16::MAX)));
                self.used = self.queue.counters().retired as u16;
            }
        }
    }

    /// One call into the engine; afterwards everything that it must leave alone is as it was, and the call
    /// was short.
    fn call(
        &mut self,
        act: impl FnOnce(&mut Queue, &Gated<'_, Watched<'_, '_>>) -> Result<Progress, QueueError>,
    ) {
        let context = self.context();
        let before = Image::of_base(&self.rig);
        let (board, base) = (reached(&self.rig.board), reached(&self.rig.base));
        let (board, base) = (board.lease(), base.lease());
        let memory = Memory::new(&board, &base, &self.rig.raised);
        let watched = Watched { memory, board: &self.rig.board, accesses: Cell::new(0), racing: None };
        let fabric = Gated { fabric: &watched, windows: &self.rig.windows, bus_master: true };

        let result = act(&mut self.queue, &fabric);

        // Every chain of the ring once, every entry of the longest table one by one, every slot up, down and
        // described.
        let (size, slot_count) = (u64::from(context.guest.size), u64::from(context.slot_count));
        let bound = 2 * size * (size + 1024 + 3 * slot_count) + 64;
        assert!(watched.accesses.get() <= bound, "{} accesses in one call", watched.accesses.get());
        let [desc, avail, _] = base_ring(&context);
        let own = [desc, avail, slots(&context)];
        before.assert_same_but(&Image::of_base(&self.rig), &own, "base memory");
        assert!(in_flight(&self.queue) <= u32::from(context.shadow.size));

        self.worked += u32::from(result.is_ok_and(|progress| progress.chains > 0));
        if result.is_err() {
            self.failed += 1;
            self.restart();
        }
    }

    /// The base disables the queue and enables it again, over rings as they are, but for fresh indices and a
    /// table of good descriptors: the next chaos is to get somewhere.
    fn restart(&mut self) {
        let context = self.context();
        self.queue = Queue::new(context);
        (self.avail, self.used) = (0, 0);
        let guest = Guest::new(&self.rig.board, &context);
        guest.set_avail_index(0);
        for n in 0..context.guest.size {
            guest.set_descriptor(n, descriptor(guest.arena(n), 100, n % 2 * DESC_WRITE, 0));
        }
    }

    fn assert_far_untouched(&self) {
        let mut far = vec![0; FAR_SIZE];
        self.rig.board.read_slice(&mut far, GuestAddress(FAR)).unwrap();
        assert!(far.iter().all(|&byte| byte == 0xC5), "board memory that no buffer named was written");
    }
}

fn scribble(memory: &GuestMemoryMmap, area: std::ops::Range<u64>, at: Index, bytes: &[u8]) {
    let free = (area.end - area.start) as usize - bytes.len();
    memory.write_slice(bytes, GuestAddress(area.start + at.index(free) as u64)).unwrap();
}

#[test]
fn nothing_but_errors_comes_of_chaos() {
    let config = ProptestConfig { source_file: Some(file!()), ..ProptestConfig::with_cases(24) };
    let (worked, failed) = (Cell::new(0), Cell::new(0));
    let chaos = (any::<[bool; 4]>(), prop::collection::vec(steps(), 500..1500));
    let result = TestRunner::new(config).run(&chaos, |(features, steps)| {
        let [indirect, event_idx, shadow_indirect, copy_all] = features;
        let features = QueueFeatures {
            indirect,
            event_idx,
            shadow_indirect,
            copy_all,
            notification_data: true,
            ..QueueFeatures::default()
        };
        let mut chaos = Chaos::new(features);
        steps.into_iter().for_each(|step| chaos.step(step));
        chaos.assert_far_untouched();
        worked.set(worked.get() + chaos.worked);
        failed.set(failed.get() + chaos.failed);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    // Or the chaos was so wild that nothing behind the first check was ever reached, or so tame that there
    // was none.
    let (worked, failed) = (worked.get(), failed.get());
    assert!(worked > 240 && failed > 240, "{worked} calls worked, {failed} failed");
}

/// A guest that makes another chain available each time its index is read cannot hold the engine.
#[test]
fn a_guest_that_never_stops_does_not_hold_the_engine() {
    for event_idx in [false, true] {
        let features = QueueFeatures { event_idx, ..QueueFeatures::default() };
        let (rig, mut queue) =
            Rig::with(Shape { guest: 8, shadow: 512, slot_count: 512, features, ..Shape::default() });
        let context = *queue.context();
        // All heads are descriptor 0, which is a good chain.
        Guest::new(&rig.board, &context).offer(&direct(&[out(1)])).unwrap();
        let (board, base) = (reached(&rig.board), reached(&rig.base));
        let (board, base) = (board.lease(), base.lease());
        let memory = Memory::new(&board, &base, &rig.raised);
        let racing = Some(context.guest.avail_idx());
        let watched = Watched { memory, board: &rig.board, accesses: Cell::new(0), racing };
        let fabric = Gated { fabric: &watched, windows: &rig.windows, bus_master: true };
        let progress = ready(queue.forward(&fabric, Seen::Nothing, None, u16::MAX)).unwrap();
        assert!(progress.chains <= 320, "{progress:?}");
        assert_eq!(progress.more, event_idx, "only with EVENT_IDX is the index read again");
    }
}
