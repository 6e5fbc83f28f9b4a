//! `bmhive bench ring`: the queue engine alone on one core. Packets go from a guest's ring into its shadow,
//! are used by a back end that does nothing else, and go back.
//!
//! Only [`Queue::forward`] and [`Queue::retire`] are timed; the driver and the back end of the bench are not
//! IO-Bond's work. The baseline is a memcpy of the same bytes from the same buffers, batch by batch.

use std::{
    hint::black_box,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use iobond_model::{
    fabric::{Gated, ready},
    live::{BaseMemory, BoardMemory, Memory},
    shadow::{self, Context, Queue, QueueFeatures, Ring, Seen},
    windows::Windows,
};
use iobond_spec::{
    address::{BaseAddr, BoardAddr, FunctionId},
    function::NO_VECTOR,
    ring::split::{
        AVAIL_NO_INTERRUPT, Descriptor, UsedElement, avail_bytes, avail_entry_offset, desc_bytes,
        used_element_offset,
    },
};
use results::{Figure, measure::per_second};
use scenario::Extent;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};
use zerocopy::{IntoBytes, little_endian::U16};

use super::{Paired, ROUND};
use crate::workload::{WorkloadError, is_over};

/// What the paper's FPGA forwards without limits (BM-Hive, ASPLOS 2020, section 4.3), packets per second.
const PAPER: f64 = 16e6;
/// Guest ring; every descriptor has a buffer of its own, as a driver's have.
const GUEST: u16 = 1024;
/// Shadow vring, in descriptors: as many as the guest ring has.
const SHADOW: u16 = 1024;
/// Packets that the guest makes available at once, and that the back end uses at once; fewer where they would
/// not fit into the shadow vring.
const MOST_BATCH: u16 = 128;
/// Largest slot; larger packets take several.
const SLOT: u32 = 4096;
/// Slots of the pool.
const SLOTS: u16 = 4096;
/// Where base memory begins: high, as bm-hypervisor has it.
const BASE: u64 = 1 << 40;
/// Where the rings lie, in either memory.
const RINGS: u64 = 0x1000;
/// Where buffers and slots begin, in either memory.
const PAYLOAD: u64 = 1 << 20;

/// Runs the bench.
///
/// # Errors
/// [`WorkloadError`].
pub fn run() -> Result<Vec<Figure>, WorkloadError> {
    let mut figures = Vec::new();
    for bytes in [64, 1500, 4096, 65536] {
        let mut rig = Rig::new(bytes)?;
        let mut plain = Rig::new(bytes)?;
        let paired = Paired::measure(|| rig.round(), || plain.round_of_memcpy())?;
        let name = format!("ring.forward.{bytes}");
        figures.push(match bytes {
            // What the FPGA did is the measure here; a memcpy of 64 bytes is a few nanoseconds.
            64 => paired.alone(&name, "packets/s").beside("the paper's FPGA", PAPER),
            _ => paired.scaled(f64::from(bytes)).figure(&name, "bytes/s", "memcpy of the same bytes"),
        });
    }
    Ok(figures)
}

/// A guest ring full of packets, its shadow, and a back end.
struct Rig {
    board: GuestMemoryMmap,
    /// The same, as the engine reaches it.
    reached: BoardMemory,
    base: GuestMemoryMmap,
    /// The same, as the engine reaches it.
    granted: BaseMemory,
    windows: Windows,
    queue: Queue,
    bytes: u32,
    /// Bytes from one buffer to the next.
    stride: u64,
    /// Packets of a batch.
    batch: u16,
    avail: u16,
    used: u16,
}

impl Rig {
    fn new(bytes: u32) -> Result<Self, WorkloadError> {
        let context = context(bytes)?;
        let stride = u64::from(bytes).next_multiple_of(64);
        let board_size = PAYLOAD + stride * u64::from(GUEST);
        let base_size = PAYLOAD + u64::from(context.slot_size) * u64::from(SLOTS);
        let (board, base) = (memory(0, board_size)?, memory(BASE, base_size)?);
        let reached = BoardMemory::default();
        reached.map_all(&board).map_err(memory_error)?;
        let granted = BaseMemory::default();
        granted.map_all(&base).map_err(memory_error)?;
        let mut windows = Windows::default();
        windows.grant(0, BaseAddr(BASE), base_size);
        let slots = bytes.div_ceil(context.slot_size) as u16;
        let batch = (SHADOW / slots).min(MOST_BATCH);
        let queue = Queue::new(context);
        let rig =
            Self { board, reached, base, granted, windows, queue, bytes, stride, batch, avail: 0, used: 0 };
        rig.fill_guest_ring(&context)?;
        Ok(rig)
    }

    fn fill_guest_ring(&self, context: &Context) -> Result<(), WorkloadError> {
        let put =
            |at: u64, value: &[u8]| self.board.write_slice(value, GuestAddress(at)).map_err(memory_error);
        put(context.guest.avail.0, AVAIL_NO_INTERRUPT.to_le_bytes().as_slice())?;
        for index in 0..GUEST {
            let descriptor = Descriptor {
                addr: (PAYLOAD + self.stride * u64::from(index)).into(),
                len: self.bytes.into(),
                flags: 0.into(),
                next: 0.into(),
            };
            put(context.guest.desc.0 + desc_bytes(index), descriptor.as_bytes())?;
            put(context.guest.avail.0 + avail_entry_offset(index, GUEST), U16::new(index).as_bytes())?;
            let buffer = vec![index as u8; self.bytes as usize];
            put(PAYLOAD + self.stride * u64::from(index), &buffer)?;
        }
        Ok(())
    }

    /// One round: packets per second of forwarding and returning.
    fn round(&mut self) -> Result<f64, WorkloadError> {
        let (mut packets, mut worked, start) = (0, Duration::ZERO, Instant::now());
        while !is_over(ROUND, packets, start.elapsed()) {
            self.make_available()?;
            worked += self.timed(Direction::Forward)?;
            self.use_all()?;
            worked += self.timed(Direction::Retire)?;
            packets += u64::from(self.batch);
        }
        Ok(per_second(packets, worked))
    }

    /// Forwards or returns one batch; how long that took.
    fn timed(&mut self, direction: Direction) -> Result<Duration, WorkloadError> {
        let start = Instant::now();
        let (board, base) = (self.reached.lease(), self.granted.lease());
        let memory = Memory::new(&board, &base, &());
        let fabric = Gated { fabric: &memory, windows: &self.windows, bus_master: true };
        let progress = match direction {
            Direction::Forward => ready(self.queue.forward(&fabric, Seen::Nothing, None, u16::MAX)),
            Direction::Retire => ready(self.queue.retire(&fabric, self.used, u16::MAX)),
        };
        let took = start.elapsed();
        let chains = progress.map_err(WorkloadError::bench("the queue engine stopped"))?.chains;
        if chains != self.batch {
            let (found, expected) = (chains.into(), self.batch.into());
            return Err(WorkloadError::Count { what: "chains", found, expected });
        }
        Ok(took)
    }

    /// The guest makes a batch available: its ring is full of packets that wait to be sent again.
    fn make_available(&mut self) -> Result<(), WorkloadError> {
        self.avail = self.avail.wrapping_add(self.batch);
        let at = GuestAddress(self.queue.context().guest.avail.0 + 2);
        self.board.store(self.avail, at, Ordering::Release).map_err(memory_error)
    }

    /// The back end uses whatever is available, in order.
    fn use_all(&mut self) -> Result<(), WorkloadError> {
        let shadow = self.queue.context().shadow;
        for _ in 0..self.batch {
            let entry = GuestAddress(shadow.avail.0 + avail_entry_offset(self.used, SHADOW));
            let mut head = U16::ZERO;
            self.base.read_slice(head.as_mut_bytes(), entry).map_err(memory_error)?;
            let element = UsedElement { id: u32::from(head.get()).into(), len: 0.into() };
            let at = GuestAddress(shadow.used.0 + used_element_offset(self.used, SHADOW));
            self.base.write_slice(element.as_bytes(), at).map_err(memory_error)?;
            self.used = self.used.wrapping_add(1);
        }
        Ok(())
    }

    /// One round of the baseline: packets per second of copying the same buffers into as many slots.
    fn round_of_memcpy(&mut self) -> Result<f64, WorkloadError> {
        let length = self.bytes as usize;
        let slot = u64::from(self.queue.context().slot_size).max(self.stride);
        let (mut packets, mut worked, start) = (0, Duration::ZERO, Instant::now());
        while !is_over(ROUND, packets, start.elapsed()) {
            let begun = Instant::now();
            for index in 0..u64::from(self.batch) {
                let from = PAYLOAD + self.stride * ((packets + index) % u64::from(GUEST));
                // Slots are used last in, first out, so a batch finds those of the batch before.
                let to = BASE + PAYLOAD + slot * (index % (u64::from(SLOTS) * u64::from(SLOT) / slot));
                let from = self.board.get_slice(GuestAddress(from), length).map_err(memory_error)?;
                let to = self.base.get_slice(GuestAddress(to), length).map_err(memory_error)?;
                from.copy_to_volatile_slice(to);
            }
            worked += begun.elapsed();
            packets += u64::from(self.batch);
            black_box(&self.base);
        }
        Ok(per_second(packets, worked))
    }
}

#[derive(Clone, Copy)]
enum Direction {
    Forward,
    Retire,
}

fn context(bytes: u32) -> Result<Context, WorkloadError> {
    let after = |at: u64, size: u64| (at + size).next_multiple_of(4096);
    let avail = |desc: u64, size: u16| after(desc, desc_bytes(size));
    let used = |desc: u64, size: u16| after(avail(desc, size), avail_bytes(size));
    let context = Context {
        function: FunctionId::new(0).ok_or(WorkloadError::Needs("a function"))?,
        index: 0,
        vector: NO_VECTOR,
        guest: Ring {
            size: GUEST,
            desc: BoardAddr(RINGS),
            avail: BoardAddr(avail(RINGS, GUEST)),
            used: BoardAddr(used(RINGS, GUEST)),
        },
        shadow: Ring {
            size: SHADOW,
            desc: BaseAddr(BASE + RINGS),
            avail: BaseAddr(BASE + avail(RINGS, SHADOW)),
            used: BaseAddr(BASE + used(RINGS, SHADOW)),
        },
        slots: BaseAddr(BASE + PAYLOAD),
        slot_size: bytes.next_power_of_two().clamp(2048, SLOT),
        slot_count: SLOTS,
        features: QueueFeatures { shadow_indirect: true, ..QueueFeatures::default() },
    };
    shadow::check(&context).map_err(WorkloadError::bench("the queue context of the bench"))?;
    Ok(context)
}

fn memory(at: u64, size: u64) -> Result<GuestMemoryMmap, WorkloadError> {
    let size =
        usize::try_from(size.next_multiple_of(4096)).map_err(|_| WorkloadError::Needs("a 64-bit machine"))?;
    GuestMemoryMmap::from_ranges(&[(GuestAddress(at), size)]).map_err(memory_error)
}

fn memory_error(error: impl std::error::Error + Send + Sync + 'static) -> WorkloadError {
    WorkloadError::bench("the memory of the bench")(error)
}

const _: () =
    assert!(matches!(ROUND, Extent::Time(_)), "rounds of the engine and of memcpy differ in packets");
