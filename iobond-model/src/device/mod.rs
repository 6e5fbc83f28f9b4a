//! One IO-Bond, put together: what the board reaches on one side, what the base reaches on the other.
//!
//! Everything here is synchronous and knows time only as an argument, `now` in nanoseconds. What must happen
//! outside, such as starting a queue's engine or sending an interrupt, is handed to the world as an
//! [`Effect`], in the order in which it has to happen.

mod access;
mod base_config;
mod board_side;
mod qos_file;
mod queue_file;
mod register_file;

pub use access::{Access, Outcome};
pub use base_config::base_config;
pub use register_file::{QueueReport, tail_of};

use iobond_spec::{
    MAX_FUNCTIONS, MAX_QUEUES, MAX_WINDOWS,
    address::{BaseAddr, FunctionId},
    offsets,
    register_access::place,
    registers::components::mailbox_t::request::Request as RequestRegister,
    status_page,
};

use crate::{
    front_end::{Function, Message, Raised},
    mailbox::{Mailbox, Request},
    qos::Limits,
    shadow::{Context, QueueError},
    windows::Windows,
};
use qos_file::QosFile;
use queue_file::QueueFile;

/// The reset value of `mailbox.deadline`, in microseconds: the top of the default Completion Timeout range
/// (PCIe 5.0, 2.8).
const DEFAULT_DEADLINE_US: u32 = 50_000;
/// The same in nanoseconds.
const DEFAULT_TIMEOUT: u64 = DEFAULT_DEADLINE_US as u64 * 1000;

/// What the world around a device has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Start a queue: queue context number `queue` was enabled with `context`, which was checked.
    #[allow(missing_docs, reason = "the fields are named above")]
    Enable { queue: usize, context: Context },
    /// Stop a queue, if it runs, and forget all of it. Nothing of it may touch memory afterwards.
    #[allow(missing_docs, reason = "the field is the number of the queue context")]
    Disable { queue: usize },
    /// Another request is at the front of the mailbox, or none: mirror [`Device::mailbox_request`] in the
    /// status page.
    Mailbox,
    /// Queues entered or left the error state: mirror [`Device::queue_errors`] in the status page.
    QueueErrors,
    /// The status page was switched on or off: write it whole where [`Device::status_page`] says, if
    /// anywhere.
    StatusPage,
    /// DMA windows changed: let engines use [`Device::windows`] from now on.
    Windows,
    /// Hold a function to other limits from now on, with full buckets, or to none.
    #[allow(missing_docs, reason = "the fields are named above")]
    Limits { function: FunctionId, limits: Option<Limits> },
    /// Send an MSI-X message to the board.
    Message(Message),
    /// INTx of a function became asserted.
    Intx(FunctionId),
    /// Interrupt the base once, when something that it polls next changes.
    Wake,
}

/// What the base wrote of a function before it became present.
#[derive(Clone, Debug)]
struct FunctionFile {
    config: [u32; offsets::functions::CONFIG_COUNT as usize],
    mask: [u32; offsets::functions::MASK_COUNT as usize],
    function: Option<Function>,
}

impl Default for FunctionFile {
    fn default() -> Self {
        let empty = [0; offsets::functions::CONFIG_COUNT as usize];
        Self { config: empty, mask: empty, function: None }
    }
}

/// An address register pair, a length register pair and a control word: a DMA window, or the status page.
#[derive(Clone, Copy, Debug, Default)]
struct RangeFile {
    address: u64,
    length: u64,
    on: bool,
}

/// Accesses that failed, by whose they were: the board's, the base's, an engine's. Every count wraps, as the
/// registers do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct ErrorCounters {
    unsupported_requests: u32,
    refused_accesses: u32,
    dma_faults: u32,
}

/// One IO-Bond: the registers of both sides, and what they decide.
#[derive(Debug)]
pub struct Device {
    powered: bool,
    functions: [FunctionFile; MAX_FUNCTIONS],
    mailbox: Mailbox,
    deadline_us: u32,
    answer_data: u32,
    status_page: RangeFile,
    window_files: [RangeFile; MAX_WINDOWS],
    windows: Windows,
    qos: [QosFile; MAX_FUNCTIONS],
    queues: [QueueFile; MAX_QUEUES],
    /// Queue context of a function's virtqueue index.
    doorbells: [[Option<u8>; MAX_QUEUES]; MAX_FUNCTIONS],
    error_counters: ErrorCounters,
    time_hi: u32,
    scratch: u32,
}

impl Default for Device {
    fn default() -> Self {
        Self {
            powered: false,
            functions: Default::default(),
            mailbox: Mailbox::new(DEFAULT_TIMEOUT),
            deadline_us: DEFAULT_DEADLINE_US,
            answer_data: 0,
            status_page: RangeFile::default(),
            window_files: Default::default(),
            windows: Windows::default(),
            qos: Default::default(),
            queues: std::array::from_fn(|_| QueueFile::default()),
            doorbells: [[None; MAX_QUEUES]; MAX_FUNCTIONS],
            error_counters: ErrorCounters::default(),
            time_hi: 0,
            scratch: 0,
        }
    }
}

impl Device {
    /// The DMA windows that are granted.
    pub fn windows(&self) -> &Windows {
        &self.windows
    }

    /// Where the status page is, while it is on, aligned and granted.
    pub fn status_page(&self) -> Option<BaseAddr> {
        let at = BaseAddr(self.status_page.address);
        let usable = at.is_aligned(status_page::SIZE) && self.windows.grants(at, status_page::SIZE);
        (self.status_page.on && usable).then_some(at)
    }

    /// Whether `function` may master the bus.
    pub fn bus_master(&self, function: FunctionId) -> bool {
        self.function(function).is_some_and(|function| function.config.bus_master())
    }

    /// The request at the front of the mailbox, as the registers and the status page show it; zero when there
    /// is none.
    pub fn mailbox_request(&self) -> status_page::MailboxRequest {
        let Some(&Request { kind, sequence, access, data }) = self.mailbox.front() else {
            return status_page::MailboxRequest::default();
        };
        let register = place(RequestRegister::KIND_OFFSET, u32::from(kind.bits()))
            | place(RequestRegister::WIDTH_OFFSET, u32::from(access.width))
            | place(RequestRegister::FUNCTION_ID_OFFSET, access.function.index() as u32)
            | place(RequestRegister::SEQUENCE_OFFSET, u32::from(sequence));
        status_page::MailboxRequest {
            offset: access.offset.into(),
            data: data.into(),
            request: register.into(),
            reserved: 0.into(),
        }
    }

    /// One bit for every queue in the error state.
    pub fn queue_errors(&self) -> u64 {
        let failed = self.queues.iter().enumerate().filter(|(_, queue)| queue.has_failed());
        failed.fold(0, |bits, (number, _)| bits | 1 << number)
    }

    /// The engine stopped `queue`.
    pub fn fail_queue(&mut self, queue: usize, error: &QueueError, effects: &mut Vec<Effect>) {
        if self.queues.get_mut(queue).is_some_and(|file| file.fail(error.code())) {
            self.error_counters.dma_faults =
                self.error_counters.dma_faults.wrapping_add(u32::from(error.is_fault()));
            effects.push(Effect::QueueErrors);
        }
    }

    /// A queue of `function` had to wait for the function's limits.
    pub fn delay(&mut self, function: FunctionId) {
        self.qos[function.index()].delay();
    }

    /// Raises an interrupt of `function`; what to send for it.
    pub fn raise(&mut self, function: FunctionId, vector: u16, configuration: bool) -> Option<Effect> {
        match self.function_mut(function)?.raise(vector, configuration) {
            Raised::Nothing => None,
            Raised::Message(message) => Some(Effect::Message(message)),
            Raised::Intx => Some(Effect::Intx(function)),
        }
    }

    /// Whether INTx of `function` is asserted.
    pub fn intx(&self, function: FunctionId) -> bool {
        self.function(function).is_some_and(Function::intx)
    }

    /// Lets time pass: accesses whose deadline is over end here.
    pub fn tick(&mut self, now: u64, effects: &mut Vec<Effect>) {
        self.with_mailbox(effects, |mailbox| mailbox.expire(now));
    }

    /// When [`Device::tick`] will next have something to do.
    pub fn next_deadline(&self) -> Option<u64> {
        self.mailbox.next_deadline()
    }

    /// Takes everything back to what it was at power-on, as a function-level reset of the base function does.
    /// The board finds no device any more, and reads that it waits for end with all ones.
    pub fn reset(&mut self, effects: &mut Vec<Effect>) {
        // Tickets and sequence numbers continue: the board still collects by the old ones.
        let mut mailbox = std::mem::replace(&mut self.mailbox, Mailbox::new(DEFAULT_TIMEOUT));
        mailbox.abandon();
        mailbox.set_timeout(DEFAULT_TIMEOUT);
        let limited = FunctionId::all().filter(|function| self.qos[function.index()].limits().is_some());
        effects.extend(limited.map(|function| Effect::Limits { function, limits: None }));
        *self = Self { mailbox, ..Self::default() };
        effects.extend([Effect::StatusPage, Effect::Windows]);
        // Every queue: the world keeps a TAIL also for one that does not run.
        effects.extend((0..MAX_QUEUES).map(|queue| Effect::Disable { queue }));
    }

    /// Resets `function` as an FLR or a conventional reset does, and tells the base.
    pub fn reset_function(&mut self, now: u64, function: FunctionId, effects: &mut Vec<Effect>) {
        let Some(present) = self.functions[function.index()].function.as_mut() else { return };
        present.reset();
        self.disable_queues_of(function, effects);
        self.with_mailbox(effects, |mailbox| mailbox.reset(now, function));
    }

    /// Does something to the mailbox, and notes when another request is at its front afterwards.
    fn with_mailbox<T>(&mut self, effects: &mut Vec<Effect>, act: impl FnOnce(&mut Mailbox) -> T) -> T {
        let front = |mailbox: &Mailbox| mailbox.front().map(|request| request.sequence);
        let before = front(&self.mailbox);
        let result = act(&mut self.mailbox);
        if front(&self.mailbox) != before {
            effects.push(Effect::Mailbox);
        }
        result
    }

    fn function(&self, function: FunctionId) -> Option<&Function> {
        self.functions[function.index()].function.as_ref().filter(|_| self.powered)
    }

    fn function_mut(&mut self, function: FunctionId) -> Option<&mut Function> {
        self.functions[function.index()].function.as_mut().filter(|_| self.powered)
    }
}
