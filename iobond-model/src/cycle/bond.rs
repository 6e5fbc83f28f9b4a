//! One IO-Bond in virtual time: a [`Device`], its queues' engines, and the links to board and base.
//!
//! ```text
//!   board  -- from_board -->  |device, doors|  -- to_base -->    base
//!          <-- to_board ----  |engines, DMA |  <-- from_base --
//! ```
//! Each arrow is a task that lets arrive what was sent, in order; each queue context has a task of its own for its engine, and each
//! tag of the DMA engine one for its reads. Everything else is done at once, when something arrives.

use std::{
    cell::{Cell, RefCell},
    fmt,
};

use iobond_spec::{
    MAX_FUNCTIONS, MAX_QUEUES,
    address::{Address, BaseAddr, BoardAddr, FunctionId},
    status_page::{self, MailboxRequest},
};
use zerocopy::IntoBytes;

use super::{
    Clock, Executor, Flight, Signal, Span, Time, Tlp, Wire,
    access::{Access, Requests, Waiting},
    dma::{Dma, Side},
    engines::Door,
};
use crate::{
    device::{Device, Effect, Outcome, QueueReport, tail_of},
    fabric::Fabric,
    front_end::Message,
    live::ready,
    qos::Meter,
    shadow::{Context, Counters, QueueError},
    timing::{self, Timing},
};

/// What arrives at the base.
#[derive(Debug)]
pub(super) enum ToBase {
    /// An index.
    Store { at: BaseAddr, value: u16 },
    /// A mailbox request in the status page.
    Mailbox { at: BaseAddr, request: MailboxRequest },
    /// The queues in error, in the status page.
    Errors { at: BaseAddr, bits: u64 },
    /// The answer to a register read.
    Completion { request: usize, value: u32 },
}

/// What arrives at the board.
#[derive(Debug)]
pub(super) enum ToBoard {
    /// An index.
    Store { at: BoardAddr, value: u16 },
    /// An MSI-X message.
    Message(Message),
    /// INTx of a function.
    Intx(FunctionId),
    /// The answer to a read.
    Completion { request: usize, value: u32 },
}

/// What arrives from the base.
#[derive(Debug)]
enum FromBase {
    Write { offset: u32, value: u32 },
    Read { offset: u32, request: usize },
}

/// Those around an IO-Bond who hear of it. Everything is told at the moment at which it arrives there; what is done about it takes
/// place in tasks that this wakes.
pub trait Neighbours {
    /// An index of a shadow vring, a HEAD, or the mailbox changed in base memory.
    fn base_written(&self, at: BaseAddr);
    /// An index of a guest ring changed in board memory.
    fn board_written(&self, at: BoardAddr) {
        let _ = at;
    }
    /// An MSI-X message arrives at the board.
    fn message(&self, message: Message);
    /// INTx of a function is asserted.
    fn intx(&self, function: FunctionId) {
        let _ = function;
    }
    /// Something happened inside the IO-Bond; for measurements.
    fn observe(&self, event: Event) {
        let _ = event;
    }
}

/// What an IO-Bond does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A doorbell of queue context `queue` arrived.
    Doorbell {
        /// Number of the queue context.
        queue: usize,
    },
    /// TAIL of queue context `queue` arrived.
    Tail {
        /// Number of the queue context.
        queue: usize,
        /// Its value.
        index: u16,
    },
    /// An engine forwarded chains; HEAD is on its way.
    Forwarded {
        /// Number of the queue context.
        queue: usize,
        /// When it began.
        from: Time,
        /// How many chains.
        chains: u16,
        /// HEAD.
        head: u16,
    },
    /// An engine returned chains; the guest's used index is on its way.
    Returned {
        /// Number of the queue context.
        queue: usize,
        /// When it began.
        from: Time,
        /// How many chains.
        chains: u16,
    },
    /// A queue was stopped for an error.
    Failed {
        /// Number of the queue context.
        queue: usize,
        /// Which one.
        error: QueueError,
    },
}

/// One IO-Bond, between a board and a base that live on the same clock.
pub struct Bond<'a, M> {
    pub(super) clock: &'a Clock,
    pub(super) memory: &'a M,
    pub(super) neighbours: &'a dyn Neighbours,
    pub(super) device: RefCell<Device>,
    pub(super) board: Side,
    pub(super) base: Side,
    pub(super) dma: Dma,
    pub(super) to_board: Flight<ToBoard>,
    from_board: Flight<(Access, Option<usize>)>,
    pub(super) to_base: Flight<ToBase>,
    from_base: Flight<FromBase>,
    pub(super) doors: Vec<Door>,
    /// Reads of the board, and of the base, that have not come back.
    board_reads: Requests,
    base_reads: Requests,
    waiting: Waiting,
    deadline: Signal,
    pub(super) engine: timing::Engine,
    pub(super) meters: [Cell<Option<Meter>>; MAX_FUNCTIONS],
}

impl<'a, M: Fabric> Bond<'a, M> {
    /// An IO-Bond without power, over `memory` that takes no time.
    #[must_use]
    pub fn new(clock: &'a Clock, timing: &Timing, memory: &'a M, neighbours: &'a dyn Neighbours) -> Self {
        let wire = |base: bool| match base {
            true => Wire::new(timing.base, timing.base_flight()),
            false => Wire::new(timing.board, timing.board_flight()),
        };
        Self {
            clock,
            memory,
            neighbours,
            device: RefCell::default(),
            board: Side { out: wire(false), back: wire(false), memory: timing.board_memory },
            base: Side { out: wire(true), back: wire(true), memory: timing.base_memory },
            dma: Dma::new(timing),
            to_board: Flight::default(),
            from_board: Flight::default(),
            to_base: Flight::default(),
            from_base: Flight::default(),
            doors: (0..MAX_QUEUES).map(|_| Door::default()).collect(),
            board_reads: Requests::default(),
            base_reads: Requests::default(),
            waiting: Waiting::default(),
            deadline: Signal::default(),
            engine: timing.engine,
            meters: Default::default(),
        }
    }

    /// Has `executor` work for this IO-Bond and the first `queues` of its queue contexts; `name` is whose it is.
    pub fn serve<'b>(&'b self, executor: &mut Executor<'b>, name: &str, queues: usize)
    where
        'a: 'b,
    {
        executor.serve(format!("{name}: link to the board"), self.reach_board());
        executor.serve(format!("{name}: link from the board"), self.reached_by_board());
        executor.serve(format!("{name}: link to the base"), self.reach_base());
        executor.serve(format!("{name}: link from the base"), self.reached_by_base());
        executor.serve(format!("{name}: mailbox deadlines"), self.keep_deadlines());
        for number in 0..self.dma.workers() {
            let work = self.dma.work(self.clock, self.memory, &self.board, &self.base);
            executor.serve(format!("{name}: DMA read {number}"), work);
        }
        for queue in 0..queues.min(MAX_QUEUES) {
            executor.serve(format!("{name}: queue {queue}"), self.run(queue));
            for watcher in 0..self.watchers() {
                executor.serve(format!("{name}: watch {watcher} of queue {queue}"), self.watch(queue));
            }
            if self.engine.moderation > Span::ZERO {
                executor.serve(format!("{name}: interrupts of queue {queue}"), self.moderate(queue));
            }
        }
    }

    /// The link to the board, and that to the base.
    #[must_use]
    pub fn sides(&self) -> [&Side; 2] {
        [&self.board, &self.base]
    }

    /// The DMA engine.
    #[must_use]
    pub fn dma(&self) -> &Dma {
        &self.dma
    }

    /// HEAD of a queue context, as its register shows it.
    #[must_use]
    pub fn head(&self, queue: usize) -> u16 {
        self.doors.get(queue).map_or(0, |door| door.head.get())
    }

    /// What a queue has done since it was enabled.
    #[must_use]
    pub fn counters(&self, queue: usize) -> Counters {
        self.doors.get(queue).map_or_else(Counters::default, |door| door.counters.get())
    }

    /// What stands in the mailbox, as its registers show it.
    #[must_use]
    pub fn mailbox_request(&self) -> MailboxRequest {
        self.device.borrow().mailbox_request()
    }

    /// The base writes a register: a posted write, on the wire from now on.
    pub fn write_register(&self, offset: u32, value: u32) {
        let there = self.base.back.send(self.clock.now(), Tlp::MemoryWrite { data: 4 });
        self.from_base.launch(self.clock, there, FromBase::Write { offset, value });
    }

    /// The base reads a register, and waits for the answer.
    pub async fn read_register(&self, offset: u32) -> u32 {
        let request = self.base_reads.open();
        let there = self.base.back.send(self.clock.now(), Tlp::MemoryRead);
        self.from_base.launch(self.clock, there, FromBase::Read { offset, request });
        self.base_reads.answer(self.clock, request).await
    }

    /// The board makes an access: a read waits for its answer, a write is on the wire when this returns.
    pub async fn access(&self, access: Access) -> u32 {
        let request = access.is_read().then(|| self.board_reads.open());
        let tlp =
            if access.is_read() { Tlp::MemoryRead } else { Tlp::MemoryWrite { data: access.width().into() } };
        let there = self.board.back.send(self.clock.now(), tlp);
        self.from_board.launch(self.clock, there, (access, request));
        match request {
            Some(request) => self.board_reads.answer(self.clock, request).await,
            None => 0,
        }
    }

    async fn reach_board(&self) {
        loop {
            match self.to_board.land(self.clock).await {
                ToBoard::Store { at, value } => {
                    // It was looked at when it left.
                    let _ = ready(self.memory.store(at.into(), value));
                    self.neighbours.board_written(at);
                }
                ToBoard::Message(message) => self.neighbours.message(message),
                ToBoard::Intx(function) => self.neighbours.intx(function),
                ToBoard::Completion { request, value } => {
                    self.board_reads.complete(self.clock, request, value)
                }
            }
        }
    }

    async fn reach_base(&self) {
        loop {
            let at = match self.to_base.land(self.clock).await {
                ToBase::Store { at, value } => {
                    let _ = ready(self.memory.store(at.into(), value));
                    at
                }
                ToBase::Mailbox { at, request } => {
                    // The word that says that it is new last.
                    let (body, rest) = request
                        .as_bytes()
                        .split_at((status_page::MAILBOX_WORD - status_page::MAILBOX) as usize);
                    let _ = ready(self.memory.write(at.into(), body));
                    let _ = ready(self.memory.write(Address::from(at).wrapping_add(body.len() as u64), rest));
                    at
                }
                ToBase::Errors { at, bits } => {
                    let _ = ready(self.memory.write(at.into(), &bits.to_le_bytes()));
                    at
                }
                ToBase::Completion { request, value } => {
                    self.base_reads.complete(self.clock, request, value);
                    continue;
                }
            };
            self.neighbours.base_written(at);
        }
    }

    async fn reached_by_base(&self) {
        loop {
            match self.from_base.land(self.clock).await {
                FromBase::Write { offset, value } => match tail_of(offset) {
                    Some(queue) => self.returned(queue, value as u16),
                    None => self.with_device(|device, now, effects| {
                        device.register_write(now, offset, value, effects)
                    }),
                },
                FromBase::Read { offset, request } => {
                    let value = match tail_of(offset) {
                        Some(queue) => self.doors[queue].tail_register.get().into(),
                        None => self.with_device(|device, now, _| {
                            device.register_read(now, offset, |n| self.report(n))
                        }),
                    };
                    let there = self.base.out.send(self.clock.now(), Tlp::Completion { data: 4 });
                    self.to_base.launch(self.clock, there, ToBase::Completion { request, value });
                }
            }
        }
    }

    async fn reached_by_board(&self) {
        loop {
            let (access, request) = self.from_board.land(self.clock).await;
            let outcome = loop {
                match self.with_device(|device, now, effects| access.make(device, now, effects)) {
                    // The link stalls until the mailbox has room.
                    Outcome::Full => self.waiting.room.wait(self.clock).await,
                    outcome => break outcome,
                }
            };
            match (outcome, request) {
                (Outcome::Done(value), Some(request)) => self.answer_board(request, value),
                (Outcome::Waiting(ticket), Some(request)) => self.waiting.add(ticket, request),
                (Outcome::Doorbell { queue, data }, _) => self.ring(queue, data),
                _ => {}
            }
        }
    }

    fn answer_board(&self, request: usize, value: u32) {
        let there = self.board.out.send(self.clock.now(), Tlp::Completion { data: 4 });
        self.to_board.launch(self.clock, there, ToBoard::Completion { request, value });
    }

    async fn keep_deadlines(&self) {
        loop {
            let next = self.device.borrow().next_deadline();
            match next {
                None => self.deadline.wait(self.clock).await,
                Some(ns) => {
                    self.clock.until(Time::ZERO + Span::from_ns(ns)).await;
                    self.with_device(|device, now, effects| device.tick(now, effects));
                }
            }
        }
    }

    /// Does something to the device and then what the device wants done.
    pub(super) fn with_device<T>(&self, act: impl FnOnce(&mut Device, u64, &mut Vec<Effect>) -> T) -> T {
        let mut effects = Vec::new();
        let now = self.clock.now().ns();
        let result = act(&mut self.device.borrow_mut(), now, &mut effects);
        effects.into_iter().for_each(|effect| self.perform(effect));
        for (request, value) in self.waiting.collect(|ticket| {
            let mut effects = Vec::new();
            let value = self.device.borrow_mut().collect(now, ticket, &mut effects);
            effects.into_iter().for_each(|effect| self.perform(effect));
            value
        }) {
            self.answer_board(request, value);
        }
        if self.device.borrow().next_deadline().is_some() {
            self.deadline.raise(self.clock);
        }
        result
    }

    fn perform(&self, effect: Effect) {
        match effect {
            Effect::Enable { queue, context } => self.change(queue, Some(context)),
            Effect::Disable { queue } => self.change(queue, None),
            Effect::Tail { queue, index } => self.returned(queue, index),
            Effect::Message(message) => self.to_board(4, ToBoard::Message(message)),
            Effect::Intx(function) => self.to_board(4, ToBoard::Intx(function)),
            Effect::Mailbox => {
                self.waiting.room.raise(self.clock);
                self.write_mailbox();
            }
            Effect::QueueErrors => self.write_errors(),
            Effect::StatusPage => {
                self.write_mailbox();
                self.write_errors();
                (0..MAX_QUEUES).for_each(|queue| self.write_head(queue));
            }
            Effect::Limits { function, limits } => {
                let meter = limits.map(|limits| Meter::new(limits, self.clock.now().ns()));
                self.meters[function.index()].set(meter);
            }
            // The windows are looked at where they are used; the base of a simulation does not sleep.
            Effect::Windows | Effect::Wake => {}
        }
    }

    fn to_board(&self, data: u32, what: ToBoard) {
        let there = self.board.out.send(self.clock.now(), Tlp::MemoryWrite { data });
        self.to_board.launch(self.clock, there, what);
    }

    fn to_status_page(&self, data: u32, what: impl FnOnce(BaseAddr) -> ToBase) {
        let Some(page) = self.device.borrow().status_page() else { return };
        let there = self.base.out.send(self.clock.now(), Tlp::MemoryWrite { data });
        self.to_base.launch(self.clock, there, what(page));
    }

    fn write_mailbox(&self) {
        let request = self.device.borrow().mailbox_request();
        self.to_status_page(size_of::<MailboxRequest>() as u32, |page| ToBase::Mailbox {
            at: page.wrapping_add(status_page::MAILBOX),
            request,
        });
    }

    fn write_errors(&self) {
        let bits = self.device.borrow().queue_errors();
        self.to_status_page(8, |page| ToBase::Errors {
            at: page.wrapping_add(status_page::QUEUE_ERRORS),
            bits,
        });
    }

    pub(super) fn write_head(&self, queue: usize) {
        let value = self.head(queue);
        self.to_status_page(2, |page| ToBase::Store { at: head_at(page, queue), value });
    }

    fn change(&self, queue: usize, context: Option<Context>) {
        let door = &self.doors[queue];
        door.change.set(Some(context));
        // The guest may have made buffers available, and rung, before the base got here.
        door.doorbell.set(context.is_some());
        door.doorbell_data.set(None);
        door.tail.set(None);
        door.tail_register.set(0);
        door.work.raise(self.clock);
    }

    fn ring(&self, queue: usize, data: Option<u16>) {
        self.neighbours.observe(Event::Doorbell { queue });
        let door = &self.doors[queue];
        if door.is_watched(self.clock) {
            // A look that begins later sees what was rung for, and is answered sooner than one that begins with the bell.
            return;
        }
        door.doorbell.set(true);
        door.doorbell_data.set(data);
        door.work.raise(self.clock);
        door.wake_watchers(self.clock);
    }

    fn returned(&self, queue: usize, index: u16) {
        self.neighbours.observe(Event::Tail { queue, index });
        let door = &self.doors[queue];
        door.tail.set(Some(index));
        door.tail_register.set(index);
        door.work.raise(self.clock);
    }

    fn report(&self, queue: usize) -> QueueReport {
        QueueReport { head: self.head(queue), counters: self.counters(queue) }
    }
}

/// Where HEAD of a queue context stands in the status page.
pub(super) fn head_at(page: BaseAddr, queue: usize) -> BaseAddr {
    page.wrapping_add(status_page::HEADS + 4 * queue as u64)
}

impl<M> fmt::Debug for Bond<'_, M> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Bond")
            .field("now", &self.clock.now())
            .field("device", &self.device)
            .finish_non_exhaustive()
    }
}
