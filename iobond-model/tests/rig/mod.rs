//! The test rig: both memories, painted; a guest that writes rings; a back end that serves shadow vrings.
//!
//! ```text
//!   board memory, one lane per queue         base memory, one lane per queue
//!   | rings | arenas | canary |              | rings | slots | status page | canary |
//! ```
//! Every byte that nothing has a reason to touch is a canary: painted with a pattern, compared with it
//! afterwards.

#![allow(dead_code)] // each test file uses its own part of the rig
#![allow(clippy::unwrap_used)] // a rig that cannot be set up is a failed test

pub mod back_end;
pub mod cycle;
pub mod guest;
pub mod live;
pub mod oracle;
pub mod registers;
pub mod scene;

use std::{cell::RefCell, ops::Range, sync::LazyLock};

use iobond_model::{
    fabric::{Gated, ready},
    live::{DmaAddress, DmaMemory, Interrupts, Memory},
    shadow::{self, Context, Progress, Queue, QueueError, QueueFeatures, Ring, Seen},
    windows::Windows,
};
use iobond_spec::{
    address::{BaseAddr, BoardAddr, FunctionId},
    ring::split,
    status_page,
};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

/// Start of board memory. What lies below is a hole.
pub const BOARD: u64 = 0x10_0000;
/// Start of base memory: far above board memory, so that a mixed-up address goes nowhere.
pub const BASE: u64 = 0x7000_0000_0000;
/// Bytes from one lane to the next, in either memory.
pub const LANE: u64 = 0x6_0000;
/// Lanes in either memory.
pub const LANES: u64 = 2;
/// Offset in a board lane of the first arena: the buffers of the chain whose head is descriptor 0.
pub const ARENAS: u64 = 0x1_0000;
/// Bytes in an arena. The first [`TABLE_BYTES`] of them are for an indirect table.
pub const ARENA: u64 = 0x2000;
/// Bytes for an indirect table in an arena.
pub const TABLE_BYTES: u64 = 0x400;
/// Offset in a base lane of slot 0.
pub const SLOTS: u64 = 0x1_0000;
/// Most bytes that the slots of a lane take.
pub const SLOTS_BYTES: u64 = 0x4_0000;
/// Offset in a base lane of a status page.
pub const STATUS_PAGE: u64 = 0x5_8000;

/// Which function a queue belongs to and what its vector is, in every test of the engine alone.
pub const VECTOR: u16 = 3;

/// What a test varies of a queue.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub guest: u16,
    pub shadow: u16,
    pub slot_size: u32,
    pub slot_count: u16,
    pub features: QueueFeatures,
}

impl Default for Shape {
    fn default() -> Self {
        let features = QueueFeatures { indirect: true, ..QueueFeatures::default() };
        Self { guest: 8, shadow: 16, slot_size: 256, slot_count: 32, features }
    }
}

impl Shape {
    /// The context of a queue of this shape in `lane`.
    pub fn context(&self, lane: u64) -> Context {
        let (board, base) = (BOARD + lane * LANE, BASE + lane * LANE);
        Context {
            function: FunctionId::new(lane as u8).unwrap(),
            index: 0,
            vector: VECTOR,
            guest: Ring {
                size: self.guest,
                desc: BoardAddr(board + 0x1000),
                avail: BoardAddr(board + 0x6000),
                used: BoardAddr(board + 0x8000),
            },
            shadow: Ring {
                size: self.shadow,
                desc: BaseAddr(base + 0x1000),
                avail: BaseAddr(base + 0x6000),
                used: BaseAddr(base + 0x8000),
            },
            slots: BaseAddr(base + SLOTS),
            slot_size: self.slot_size,
            slot_count: self.slot_count,
            features: self.features,
        }
    }
}

/// Interrupts that reached the board.
#[derive(Debug, Default)]
pub struct Raised(pub RefCell<Vec<(FunctionId, u16)>>);

impl Interrupts for Raised {
    fn raise(&self, function: FunctionId, vector: u16) {
        self.0.borrow_mut().push((function, vector));
    }
}

/// Both memories and the gates before them.
#[derive(Debug)]
pub struct Rig {
    pub board: GuestMemoryMmap,
    pub base: GuestMemoryMmap,
    pub windows: Windows,
    pub bus_master: bool,
    pub raised: Raised,
}

impl Default for Rig {
    /// Painted memories with fresh rings in every lane; no window granted yet.
    fn default() -> Self {
        let memory =
            |start| GuestMemoryMmap::from_ranges(&[(GuestAddress(start), (LANES * LANE) as usize)]).unwrap();
        let rig = Self {
            board: memory(BOARD),
            base: memory(BASE),
            windows: Windows::default(),
            bus_master: true,
            raised: Raised::default(),
        };
        paint(&rig.board, BOARD);
        paint(&rig.base, BASE);
        rig
    }
}

impl Rig {
    /// A rig and a queue of `shape` in lane 0.
    pub fn with(shape: Shape) -> (Self, Queue) {
        let mut rig = Self::default();
        let queue = rig.start(shape.context(0));
        (rig, queue)
    }

    /// Clears the rings of `context`, grants exactly what the engine needs of base memory, and starts the
    /// queue.
    pub fn start(&mut self, context: Context) -> Queue {
        shadow::check(&context).unwrap();
        for (ring, memory) in [(board_ring(&context), &self.board), (base_ring(&context), &self.base)] {
            for area in ring {
                memory
                    .write_slice(&vec![0; (area.end - area.start) as usize], GuestAddress(area.start))
                    .unwrap();
            }
        }
        let lane = context.function.index();
        let [desc, avail, used] = base_ring(&context);
        for (n, area) in [desc.start..used.end, slots(&context)].into_iter().enumerate() {
            assert!(avail.start < used.start);
            self.windows.grant(3 * lane + n, BaseAddr(area.start), area.end - area.start);
        }
        Queue::new(context)
    }

    /// Grants the status page of `lane` and returns where it is.
    pub fn grant_status_page(&mut self, lane: u64) -> BaseAddr {
        let page = BaseAddr(BASE + lane * LANE + STATUS_PAGE);
        self.windows.grant(3 * lane as usize + 2, page, status_page::SIZE);
        page
    }

    /// One call of [`Queue::forward`] over these memories.
    pub fn forward(&self, queue: &mut Queue, doorbell: Option<u16>) -> Result<Progress, QueueError> {
        self.forward_at_most(queue, doorbell, None, u16::MAX)
    }

    /// The same with HEAD mirrored at `head_at`.
    pub fn forward_mirrored(
        &self,
        queue: &mut Queue,
        doorbell: Option<u16>,
        head_at: Option<BaseAddr>,
    ) -> Result<Progress, QueueError> {
        self.forward_at_most(queue, doorbell, head_at, u16::MAX)
    }

    /// The same of so many chains at most.
    pub fn forward_at_most(
        &self,
        queue: &mut Queue,
        doorbell: Option<u16>,
        head_at: Option<BaseAddr>,
        most: u16,
    ) -> Result<Progress, QueueError> {
        let (board, base) = (reached(&self.board), reached(&self.base));
        let (board, base) = (board.lease(), base.lease());
        let memory = Memory::new(&board, &base, &self.raised);
        let seen = doorbell.map_or(Seen::Nothing, Seen::Index);
        ready(queue.forward(&self.gated(&memory), seen, head_at, most))
    }

    /// One call of [`Queue::retire`] over these memories.
    pub fn retire(&self, queue: &mut Queue, tail: u16) -> Result<Progress, QueueError> {
        self.retire_at_most(queue, tail, u16::MAX)
    }

    /// The same of so many chains at most.
    pub fn retire_at_most(&self, queue: &mut Queue, tail: u16, most: u16) -> Result<Progress, QueueError> {
        let (board, base) = (reached(&self.board), reached(&self.base));
        let (board, base) = (board.lease(), base.lease());
        let memory = Memory::new(&board, &base, &self.raised);
        ready(queue.retire(&self.gated(&memory), tail, most))
    }

    fn gated<'a, 'm>(&'a self, memory: &'a Memory<'a, 'm, Raised>) -> Gated<'a, Memory<'a, 'm, Raised>> {
        Gated { fabric: memory, windows: &self.windows, bus_master: self.bus_master }
    }

    /// Interrupts since the last call.
    pub fn take_interrupts(&self) -> Vec<(FunctionId, u16)> {
        self.raised.0.take()
    }
}

/// `memory` as what a function reaches.
pub fn reached<A: DmaAddress>(memory: &GuestMemoryMmap) -> DmaMemory<A> {
    let reached = DmaMemory::default();
    reached.map_all(memory).unwrap();
    reached
}

/// Chains that `queue` has published and not yet returned.
pub fn in_flight(queue: &Queue) -> u32 {
    let counters = queue.counters();
    counters.forwarded.wrapping_sub(counters.retired)
}

/// A copy of a whole memory, to compare with later.
#[derive(Clone, PartialEq, Eq)]
pub struct Image {
    start: u64,
    bytes: Vec<u8>,
}

impl Image {
    /// Board memory as it is now.
    pub fn of_board(rig: &Rig) -> Self {
        Self::of(&rig.board, BOARD)
    }

    /// Base memory as it is now.
    pub fn of_base(rig: &Rig) -> Self {
        Self::of(&rig.base, BASE)
    }

    /// The memory that starts at `start`.
    pub fn of(memory: &GuestMemoryMmap, start: u64) -> Self {
        let mut bytes = vec![0; (LANES * LANE) as usize];
        memory.read_slice(&mut bytes, GuestAddress(start)).unwrap();
        Self { start, bytes }
    }

    /// Fails when memory differs from this image anywhere but in `allowed`, with the first address that does.
    #[track_caller]
    pub fn assert_same_but(mut self, now: &Self, allowed: &[Range<u64>], what: &str) {
        for area in allowed {
            let area = (area.start - self.start) as usize..(area.end - self.start) as usize;
            self.bytes[area.clone()].copy_from_slice(&now.bytes[area]);
        }
        if self.bytes != now.bytes {
            let at = self.bytes.iter().zip(&now.bytes).position(|(a, b)| a != b).unwrap();
            let (was, is) = (self.bytes[at], now.bytes[at]);
            panic!("{what}: {:#x} is {is:#04x} and not {was:#04x}", self.start + at as u64);
        }
    }
}

/// Guest ring areas: descriptors, available, used.
pub fn board_ring(context: &Context) -> [Range<u64>; 3] {
    let Ring { size, desc, avail, used } = context.guest;
    areas(size, desc.0, avail.0, used.0)
}

/// Shadow vring areas: descriptors, available, used.
pub fn base_ring(context: &Context) -> [Range<u64>; 3] {
    let Ring { size, desc, avail, used } = context.shadow;
    areas(size, desc.0, avail.0, used.0)
}

/// The slots.
pub fn slots(context: &Context) -> Range<u64> {
    context.slots.0..context.slots.0 + u64::from(context.slot_size) * u64::from(context.slot_count)
}

fn areas(size: u16, desc: u64, avail: u64, used: u64) -> [Range<u64>; 3] {
    [
        desc..desc + split::desc_bytes(size),
        avail..avail + split::avail_bytes(size),
        used..used + split::used_bytes(size),
    ]
}

/// Paints a memory with a pattern that no two neighbours share.
fn paint(memory: &GuestMemoryMmap, start: u64) {
    static PATTERN: LazyLock<Vec<u8>> =
        LazyLock::new(|| (0..LANES * LANE).map(|at| (at ^ at >> 8) as u8 | 1).collect());
    memory.write_slice(&PATTERN, GuestAddress(start)).unwrap();
}
