//! One IO-Bond in virtual time: a [`Device`], its queues' engines, and the links to board and base.
//!
//! ```text
//!   board  -- from_board -->  |device       |  -- to_base -->    base
//!          <-- to_board ----  |engines, DMA |  <-- from_base --
//! ```
//! Each arrow is a task that lets arrive what was sent, in order; each queue context has a task of its own
//! for its engine, and each tag of the DMA engine one for its reads. Everything else is done at once, when
//! something arrives.

use std::{
    cell::{Cell, RefCell},
    fmt,
    rc::Rc,
};

use iobond_spec::{
    MAX_FUNCTIONS, MAX_QUEUES,
    address::BaseAddr,
    status_page::{self, MailboxRequest},
};

use super::{
    Clock, Executor, Flight, Signal, Span, Tlp, Wire,
    access::{Requests, Waiting},
    dma::{Dma, Side},
    environment::{Environment, Event},
    notifications::Notifications,
    packets::{FromBase, ToBase, ToBoard, head_at},
    watch::{Activity, Watcher, Way},
};
use crate::{
    device::{Access, Device, Effect, QueueReport},
    fabric::Fabric,
    qos::Meter,
    shadow::Context,
    timing::{self, Timing},
};

/// One IO-Bond, between a board and a base that share its clock.
pub struct Bond<'a, M> {
    pub(super) clock: &'a Clock,
    pub(super) memory: &'a M,
    pub(super) environment: &'a dyn Environment,
    pub(super) device: RefCell<Device>,
    pub(super) board: Side,
    pub(super) base: Side,
    pub(super) dma: Dma,
    pub(super) to_board: Flight<ToBoard>,
    pub(super) from_board: Flight<(Access, Option<usize>)>,
    pub(super) to_base: Flight<ToBase>,
    pub(super) from_base: Flight<FromBase>,
    pub(super) notifications: Vec<Notifications>,
    /// Reads of the board, and of the base, that have not come back.
    pub(super) board_reads: Requests,
    pub(super) base_reads: Requests,
    pub(super) waiting: Waiting,
    pub(super) deadline: Signal,
    pub(super) engine: timing::Engine,
    pub(super) meters: [Cell<Option<Meter>>; MAX_FUNCTIONS],
}

impl<'a, M: Fabric> Bond<'a, M> {
    /// An IO-Bond without power, over `memory` that takes no time.
    #[must_use]
    pub fn new(clock: &'a Clock, timing: &Timing, memory: &'a M, environment: &'a dyn Environment) -> Self {
        let wire = |base: bool| match base {
            true => Wire::new(timing.base, timing.base_flight()),
            false => Wire::new(timing.board, timing.board_flight()),
        };
        Self {
            clock,
            memory,
            environment,
            device: RefCell::default(),
            board: Side { out: wire(false), back: wire(false), memory: timing.board_memory },
            base: Side { out: wire(true), back: wire(true), memory: timing.base_memory },
            dma: Dma::new(timing),
            to_board: Flight::default(),
            from_board: Flight::default(),
            to_base: Flight::default(),
            from_base: Flight::default(),
            notifications: (0..MAX_QUEUES).map(|_| Notifications::default()).collect(),
            board_reads: Requests::default(),
            base_reads: Requests::default(),
            waiting: Waiting::default(),
            deadline: Signal::default(),
            engine: timing.engine,
            meters: Default::default(),
        }
    }

    /// Has `executor` run this IO-Bond and the first `queues` of its queue contexts; `name` is the board's.
    pub fn serve<'b>(&'b self, executor: &mut Executor<'b>, name: &str, queues: usize)
    where
        'a: 'b,
    {
        executor.serve(format!("{name}: link to the board"), self.link_to_board());
        executor.serve(format!("{name}: link from the board"), self.link_from_board());
        executor.serve(format!("{name}: link to the base"), self.link_to_base());
        executor.serve(format!("{name}: link from the base"), self.link_from_base());
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

    /// Shows `watch` what its links and its DMA engine do.
    #[must_use]
    pub fn watched_by(mut self, watch: Rc<dyn Fn(Activity)>) -> Self {
        let packet = |way| {
            let watch = Rc::clone(&watch);
            move |sent| watch(Activity::Packet { way, sent })
        };
        self.board.back = self.board.back.watched_by(packet(Way::FromBoard));
        self.board.out = self.board.out.watched_by(packet(Way::ToBoard));
        self.base.out = self.base.out.watched_by(packet(Way::ToBase));
        self.base.back = self.base.back.watched_by(packet(Way::FromBase));
        self.dma.watch = Some(Watcher(watch));
        self
    }

    /// The link to the board, and that to the base.
    #[must_use]
    pub fn sides(&self) -> [&Side; 2] {
        [&self.board, &self.base]
    }

    /// The DMA engine, for its statistics.
    #[must_use]
    pub fn dma(&self) -> &Dma {
        &self.dma
    }

    /// HEAD of a queue context, as its register shows it.
    #[must_use]
    pub fn head(&self, queue: usize) -> u16 {
        self.notifications.get(queue).map_or(0, |notified| notified.head.get())
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
            Effect::Message(message) => self.to_board(4, ToBoard::Message(message)),
            Effect::Intx(function) => self.to_board(4, ToBoard::Intx(function)),
            Effect::Mailbox => {
                self.waiting.freed.raise(self.clock);
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
        let notified = &self.notifications[queue];
        notified.change.set(Some(context));
        // The guest may have made buffers available, and notified, before the base enabled the queue.
        notified.doorbell.set(context.is_some());
        notified.doorbell_data.set(None);
        notified.tail.set(None);
        notified.tail_register.set(0);
        notified.work.raise(self.clock);
    }

    pub(super) fn notify_queue(&self, queue: usize, data: Option<u16>) {
        self.environment.observe(Event::Doorbell { queue });
        let notified = &self.notifications[queue];
        if notified.is_watched(self.clock) {
            // A read ahead that begins later finds what was announced, and is back sooner than one that
            // begins now.
            return;
        }
        notified.doorbell.set(true);
        notified.doorbell_data.set(data);
        notified.work.raise(self.clock);
        notified.wake_watchers(self.clock);
    }

    pub(super) fn write_tail(&self, queue: usize, index: u16) {
        self.environment.observe(Event::Tail { queue, index });
        let notified = &self.notifications[queue];
        notified.tail.set(Some(index));
        notified.tail_register.set(index);
        notified.work.raise(self.clock);
    }

    pub(super) fn report(&self, queue: usize) -> QueueReport {
        let Notifications { head, tail_register, counters, .. } = &self.notifications[queue];
        QueueReport { head: head.get(), tail: tail_register.get(), counters: counters.get() }
    }
}

impl<M> fmt::Debug for Bond<'_, M> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Bond")
            .field("now", &self.clock.now())
            .field("device", &self.device)
            .finish_non_exhaustive()
    }
}
