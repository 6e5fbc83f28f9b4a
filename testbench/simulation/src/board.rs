//! One board of a simulation: both memories with the rings in them, and how its IO-Bond is set up.

use std::{os::fd::AsFd, sync::Arc};

use bm_hypervisor::{
    BareEvents, BareQueue, Poller,
    config::{PollMode, Rates, RingSizes},
    device::{Device, Kind},
    pool::{IOVA, Place, Pool},
    port::Port,
    register_writes::{self, Write},
    virtio_pci::config_image::ConfigImage,
};
use iobond_model::{
    device::Access,
    live::{BaseMemory, BoardMemory, DmaMapError, MapError},
    qos::Limits,
    shadow::{Context, QueueFeatures, Ring},
};
use iobond_spec::{
    address::{BoardAddr, FunctionId},
    function::{MSIX_CAP, MSIX_ENTRY_SIZE, MSIX_TABLE, NO_VECTOR},
    ring::split::{
        AVAIL_NO_INTERRUPT, DESC_NEXT, DESC_WRITE, Descriptor, avail_bytes, desc_bytes, used_bytes,
    },
};
use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemoryError, GuestMemoryMmap, mmap::FromRangesError};
use zerocopy::IntoBytes;

use super::{Design, Notice, Pace, Plan, Service, Shape, Way};

/// Where board memory begins; what lies below is a hole, so that an address of zero goes nowhere.
const BOARD: u64 = 1 << 20;
const PAGE: u64 = 4096;
/// Command register (PCIe 5.0, 7.5.1.1.3): Memory Space and Bus Master Enable.
pub(crate) const COMMAND: u16 = 0x04;
const COMMAND_BITS: u32 = 0x0006;
/// MSI-X Enable in Message Control (PCIe 5.0, 7.7.2.2).
const MSIX_ENABLE: u32 = 0x8000;
/// Where an x86 board takes MSI-X messages.
const MSIX_ADDRESS: u32 = 0xFEE0_0000;

/// A board cannot be set up.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what each is")]
pub enum BoardError {
    #[error("no memory for the simulated base")]
    Memory(#[source] std::io::Error),
    #[error("no memory for the simulated boards")]
    Map(#[from] FromRangesError),
    #[error("cannot write the descriptors of a simulated board")]
    Descriptors(#[from] GuestMemoryError),
    #[error("an IO-Bond cannot reach the memory of its board or base")]
    Dma(#[from] DmaMapError),
    #[error("an IO-Bond cannot map the memory of its base")]
    Window(#[from] MapError),
    #[error("cannot set bm-hypervisor's poll pass up")]
    Poller(#[source] std::io::Error),
}

/// Board and base memory of one board, and its queues.
pub(crate) struct Board {
    pub(crate) memory: GuestMemoryMmap,
    pub(crate) pool: Pool,
    pub(crate) contexts: Vec<Context>,
    pub(crate) places: Vec<Place>,
    /// Where the buffers of each queue begin in board memory.
    buffers: Vec<u64>,
    /// Requests that fit into a queue.
    pub(crate) capacity: u16,
    /// What its function is held to.
    limits: Option<Rates>,
    image: ConfigImage,
}

impl Board {
    pub(crate) fn new(plan: &Plan) -> Result<Self, BoardError> {
        let queues = usize::from(plan.queues);
        let capacity = match plan.pace {
            Pace::Closed { depth } => depth,
            Pace::Open { .. } => plan.rings.guest / plan.descriptors(),
        };
        let pool = Pool::new(&vec![plan.rings; queues], false).map_err(BoardError::Memory)?;
        let mut end = BOARD;
        let mut area = |bytes: u64| {
            let at = end;
            end = (end + bytes).next_multiple_of(PAGE);
            at
        };
        let mut contexts = Vec::with_capacity(queues);
        let mut buffers = Vec::with_capacity(queues);
        let places: Vec<Place> = (0..queues).filter_map(|queue| pool.take(queue)).collect();
        for (index, place) in (0..).zip(&places) {
            let RingSizes { guest: size, .. } = plan.rings;
            let guest = Ring {
                size,
                desc: BoardAddr(area(desc_bytes(size))),
                avail: BoardAddr(area(avail_bytes(size))),
                used: BoardAddr(area(used_bytes(size))),
            };
            contexts.push(context(plan, index, guest, place, &pool));
            buffers.push(area(u64::from(capacity) * u64::from(plan.shape.out + plan.shape.back)));
        }
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(BOARD), (end - BOARD) as usize)])?;
        let (limits, image) = (plan.limits.as_ref().map(rates), image(plan));
        let board = Self { memory, pool, contexts, places, buffers, capacity, limits, image };
        (0..queues).try_for_each(|queue| board.write_descriptors(plan, queue))?;
        Ok(board)
    }

    /// Where a request has what goes out; what comes back follows.
    pub(super) fn buffer(&self, shape: Shape, queue: usize, request: u16) -> u64 {
        self.buffers[queue] + u64::from(request) * u64::from(shape.out + shape.back)
    }

    /// Writes the descriptors of every request that fits into a queue; they never change.
    fn write_descriptors(&self, plan: &Plan, queue: usize) -> Result<(), BoardError> {
        let (ring, shape) = (&self.contexts[queue].guest, plan.shape);
        let stride = plan.descriptors();
        let put = |index: u16, addr: u64, len: u32, flags: u16| {
            let (next, at) =
                (if flags & DESC_NEXT == 0 { 0 } else { index + 1 }, ring.desc.0 + desc_bytes(index));
            let descriptor =
                Descriptor { addr: addr.into(), len: len.into(), flags: flags.into(), next: next.into() };
            self.memory.write_slice(descriptor.as_bytes(), GuestAddress(at))
        };
        for request in 0..self.capacity {
            let at = self.buffer(shape, queue, request);
            let head = request * stride;
            if shape.out > 0 {
                put(head, at, shape.out, if shape.back > 0 { DESC_NEXT } else { 0 })?;
            }
            if shape.back > 0 {
                put(head + stride - 1, at + u64::from(shape.out), shape.back, DESC_WRITE)?;
            }
        }
        if !plan.design.interrupts {
            self.memory.write_obj(AVAIL_NO_INTERRUPT, GuestAddress(ring.avail.0))?;
        }
        Ok(())
    }

    /// Both memories, as the IO-Bond reaches them.
    pub(super) fn reached(&self) -> Result<(BoardMemory, BaseMemory), BoardError> {
        let (board, base) = (BoardMemory::default(), BaseMemory::default());
        let file = self.pool.file().as_fd().try_clone_to_owned().map_err(BoardError::Memory)?;
        let range =
            (GuestAddress(IOVA.0), self.pool.length() as usize, Some(FileOffset::new(file.into(), 0)));
        let pool = GuestMemoryMmap::from_ranges_with_files([range])?;
        board.map_all(&self.memory)?;
        base.map_all(&pool)?;
        Ok((board, base))
    }

    /// bm-hypervisor's poll pass over its queues, by `port`.
    pub(crate) fn poller<P: Port>(
        &self,
        design: &Design,
        port: &Arc<P>,
    ) -> Result<(Poller<P>, BareEvents), BoardError> {
        let mode = match design.notice {
            Notice::Registers => PollMode::Registers,
            Notice::StatusPage | Notice::Ring => PollMode::StatusPage,
        };
        let queues = (0..).zip(&self.places).map(|(context, place)| BareQueue { context, place: *place });
        Poller::bare(Arc::clone(port), &self.pool, mode, queues).map_err(BoardError::Poller)
    }

    /// Sets an IO-Bond up as bm-hypervisor and the board's driver do between them, with the writes of
    /// bm-hypervisor: the window, the status page if it is used, limits, one function, power; MSI-X; and
    /// every queue.
    pub(crate) fn steps(&self, page: bool) -> [Step; 3] {
        let power = Step { accesses: Vec::new(), writes: self.power(page) };
        let queues = Step { accesses: self.message_signalled(), writes: Vec::new() };
        let contexts = (0..).zip(&self.contexts);
        let running = contexts.flat_map(|(number, context)| register_writes::start_queue(number, context));
        [power, queues, Step { accesses: Vec::new(), writes: running.collect() }]
    }

    /// What bm-hypervisor writes before the board has power, and that it has.
    fn power(&self, page: bool) -> Vec<Write> {
        let status_page = page.then(|| register_writes::status_page(IOVA));
        let limits = self.limits.iter().flat_map(|rates| register_writes::limit(FIRST, Some(rates)));
        let grant = register_writes::grant(IOVA, self.pool.length()).into_iter();
        grant
            .chain(status_page.into_iter().flatten())
            .chain(limits)
            .chain(register_writes::present(FIRST, &self.image))
            .chain(register_writes::power(true))
            .collect()
    }

    /// The board's part: bus mastering, and a message for each queue.
    fn message_signalled(&self) -> Vec<Access> {
        let function = FIRST;
        let config = |offset, value| Access::ConfigWrite { function, offset, width: 2, value };
        let mut accesses = vec![config(COMMAND, COMMAND_BITS), config(MSIX_CAP + 2, MSIX_ENABLE)];
        for vector in 0..self.contexts.len() as u32 {
            for (word, value) in (0..).zip([MSIX_ADDRESS, 0, vector, 0]) {
                let offset = MSIX_TABLE + MSIX_ENTRY_SIZE * vector + 4 * word;
                accesses.push(Access::BarWrite { function, offset, width: 4, value });
            }
        }
        accesses
    }
}

/// A part of bringing an IO-Bond up: accesses of the board, then writes of the base to its registers.
pub(crate) struct Step {
    pub(crate) accesses: Vec<Access>,
    pub(crate) writes: Vec<Write>,
}

/// Limits as bm-hypervisor has them. What does not fit into a burst's register is as good as no bound.
fn rates(limits: &Limits) -> Rates {
    let Limits { operations, bytes } = limits;
    let burst = |burst: u64| u32::try_from(burst).unwrap_or(u32::MAX);
    Rates {
        operations_per_second: Some(operations.rate),
        operations_burst: burst(operations.burst),
        bytes_per_second: Some(bytes.rate),
        bytes_burst: burst(bytes.burst),
    }
}

/// The configuration space of the one function.
fn image(plan: &Plan) -> ConfigImage {
    let kind = match plan.service {
        Service::Network { .. } => Kind::Net,
        _ => Kind::Blk,
    };
    let (features, config) = (0, Vec::new());
    let device = Device { kind, features, config, back_end_queues: plan.queues.into(), sizes: plan.rings };
    ConfigImage::new(&device, FIRST, 1)
}

/// The one function of a simulated board.
pub(crate) const FIRST: FunctionId = match FunctionId::new(0) {
    Some(first) => first,
    None => unreachable!(),
};

fn context(plan: &Plan, index: u16, guest: Ring<BoardAddr>, place: &Place, pool: &Pool) -> Context {
    let RingSizes { shadow, slot_size, slots, .. } = plan.rings;
    Context {
        function: FIRST,
        index,
        vector: if plan.design.interrupts { index } else { NO_VECTOR },
        guest,
        shadow: Ring {
            size: shadow,
            desc: pool.iova(place.desc),
            avail: pool.iova(place.avail),
            used: pool.iova(place.used),
        },
        slots: pool.iova(place.slots),
        slot_size,
        slot_count: slots,
        features: QueueFeatures {
            event_idx: plan.design.event_idx,
            notification_data: plan.design.notification_data,
            // A frame that is received is a packet when it is returned, and not where a buffer for it is
            // offered.
            count_on_return: matches!(plan.service, Service::Network { way: Way::Receive { .. } }),
            ..QueueFeatures::default()
        },
    }
}
