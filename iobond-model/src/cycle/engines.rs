//! The engines of an IO-Bond in virtual time: a task for each queue context, and what watches its ring and moderates its interrupts.

use std::cell::{Cell, RefCell};

use iobond_spec::address::FunctionId;

use super::{Bond, Clock, Event, Signal, Span, TaskId, Time, Tlp, bond::head_at, fabric::Timed};
use crate::{
    fabric::{Fabric, Gated},
    qos::Cost,
    shadow::{Context, Counters, Progress, Queue, QueueError, Sight, Vantage},
    timing,
    windows::Windows,
};

/// What an engine has to do.
#[derive(Debug, Default)]
pub(super) struct Door {
    pub(super) work: Signal,
    /// A queue to begin with, or none from now on.
    pub(super) change: Cell<Option<Option<Context>>>,
    pub(super) doorbell: Cell<bool>,
    pub(super) doorbell_data: Cell<Option<u16>>,
    pub(super) tail: Cell<Option<u16>>,
    pub(super) tail_register: Cell<u16>,
    pub(super) head: Cell<u16>,
    pub(super) counters: Cell<Counters>,
    watch: Watch,
    moderation: Moderation,
}

/// How the guest's ring is watched.
#[derive(Debug, Default)]
struct Watch {
    /// From where, and for which function, while the queue runs.
    vantage: Cell<Option<(Vantage, FunctionId)>>,
    /// When the next look begins.
    next: Cell<Time>,
    /// Until when there are looks.
    until: Cell<Time>,
    /// What was seen last that is new.
    sight: RefCell<Option<Box<Sight>>>,
    /// How many look, and who waits for a doorbell.
    awake: Cell<u32>,
    asleep: RefCell<Vec<TaskId>>,
}

/// How far apart interrupts are kept.
#[derive(Debug, Default)]
struct Moderation {
    /// When the next may be sent.
    next: Cell<Time>,
    /// One that is held back.
    held: Cell<Option<(FunctionId, u16)>>,
    work: Signal,
}

impl Door {
    /// Whether somebody looks at the ring anyway; if so, for a while from now on.
    pub(super) fn is_watched(&self, clock: &Clock) -> bool {
        let Watch { vantage, until, awake, .. } = &self.watch;
        let watched = awake.get() > 0 && vantage.get().is_some() && clock.now() < until.get();
        if watched {
            until.set(clock.now() + timing::WATCH_FOR);
        }
        watched
    }

    /// Whether another queue, or none, is to be there from now on.
    fn is_changed(&self) -> bool {
        self.change.get().is_some()
    }

    /// A doorbell rang, and more may come.
    pub(super) fn wake_watchers(&self, clock: &Clock) {
        self.watch.asleep.borrow_mut().drain(..).for_each(|task| clock.wake(task));
    }
}

impl<M: Fabric> Bond<'_, M> {
    /// The engine of one queue context: does whatever its door says, for ever.
    pub(super) async fn run(&self, number: usize) {
        let door = &self.doors[number];
        let mut queue = None;
        // When work that exceeded its function's limits may go on.
        let (mut forward_at, mut retire_at) = (Time::ZERO, Time::ZERO);
        loop {
            let delayed = [(door.doorbell.get(), forward_at), (door.tail.get().is_some(), retire_at)];
            match delayed.into_iter().filter_map(|(is, at)| is.then_some(at)).min() {
                Some(at) => {
                    door.work.wait_until(self.clock, at).await;
                }
                None => door.work.wait(self.clock).await,
            }
            if let Some(context) = door.change.take() {
                let prefetch = self.engine.prefetch;
                queue = context.map(|context| Queue::new(context).prefetching(prefetch));
                door.head.set(0);
                door.counters.set(Counters::default());
                door.watch.vantage.set(None);
                self.write_head(number);
                (forward_at, retire_at) = (Time::ZERO, Time::ZERO);
            }
            let Some(queue) = &mut queue else {
                door.doorbell.set(false);
                door.tail.set(None);
                continue;
            };
            if self.clock.now() >= retire_at
                && let Some(tail) = door.tail.take()
            {
                retire_at = self.retire(number, queue, tail).await;
            }
            if self.clock.now() >= forward_at && door.doorbell.replace(false) {
                forward_at = self.forward(number, queue).await;
            }
        }
    }

    /// Forwards what there is, within limits; when there may be more of it.
    async fn forward(&self, number: usize, queue: &mut Queue) -> Time {
        let (door, from, context) = (&self.doors[number], self.clock.now(), *queue.context());
        let cost = Cost::of_forwarding(context.features.count_on_return);
        let most = match self.admit(context.function, cost) {
            Ok(most) => most,
            Err(at) => {
                door.doorbell.set(true);
                return at;
            }
        };
        let page = self.device.borrow().status_page();
        let head_at = page.map(|page| head_at(page, number));
        let data = door.doorbell_data.take();
        let seen = door.watch.sight.take();
        let timing::Engine { entries_ahead, descriptors_ahead, .. } = self.engine;
        let looks_ahead = self.engine.looks_ahead();
        let result = self.within(number, queue, async |queue, fabric| match seen {
            Some(sight) => queue.forward_seen(fabric, &sight, head_at, most).await,
            None if looks_ahead => {
                let sight = queue.vantage().look(fabric, data, entries_ahead, descriptors_ahead).await?;
                queue.forward_seen(fabric, &sight, head_at, most).await
            }
            None => queue.forward(fabric, data, head_at, most).await,
        });
        let progress = result.await;
        self.pay(context.function, cost, progress);
        if progress.more {
            door.doorbell.set(true);
        }
        door.head.set(queue.head());
        door.watch.vantage.set((!queue.has_failed()).then(|| (queue.vantage(), context.function)));
        if progress.chains > 0 {
            door.watch.until.set(self.clock.now() + timing::WATCH_FOR);
            let (chains, head) = (progress.chains, queue.head());
            self.neighbours.observe(Event::Forwarded { queue: number, from, chains, head });
        }
        self.clock.now()
    }

    /// Returns what there is up to `tail`, within limits; when there may be more of it.
    async fn retire(&self, number: usize, queue: &mut Queue, tail: u16) -> Time {
        let (door, from, context) = (&self.doors[number], self.clock.now(), *queue.context());
        let cost = Cost::of_returning(context.features.count_on_return, queue.has_room_in_flight());
        let most = match self.admit(context.function, cost) {
            Ok(most) => most,
            Err(at) => {
                door.tail.set(Some(tail));
                return at;
            }
        };
        let result = self.within(number, queue, async |queue, fabric| queue.retire(fabric, tail, most).await);
        let progress = result.await;
        self.pay(context.function, cost, progress);
        if progress.more && door.tail.get().is_none() && !door.is_changed() {
            door.tail.set(Some(tail));
        }
        if queue.is_stalled() && !door.is_changed() {
            door.doorbell.set(true);
        }
        if progress.chains > 0 {
            self.neighbours.observe(Event::Returned { queue: number, from, chains: progress.chains });
        }
        self.clock.now()
    }

    /// How many chains a function may work at now.
    ///
    /// # Errors
    /// None now; when to ask again. It is counted.
    fn admit(&self, function: FunctionId, cost: Cost) -> Result<u16, Time> {
        let Some(meter) = self.meters[function.index()].get() else { return Ok(u16::MAX) };
        meter.admit(cost, self.clock.now().ns()).map_err(|ns| {
            self.device.borrow_mut().delay(function);
            Time::ZERO + Span::from_ns(ns)
        })
    }

    fn pay(&self, function: FunctionId, cost: Cost, progress: Progress) {
        let place = &self.meters[function.index()];
        if let Some(mut meter) = place.get().filter(|_| progress.chains > 0) {
            meter.pay(cost, progress.chains, progress.bytes, self.clock.now().ns());
            place.set(Some(meter));
        }
    }

    /// Lets `work` at a queue, over the fabric that it may use, and sees to what came of it.
    async fn within(
        &self,
        number: usize,
        queue: &mut Queue,
        work: impl AsyncFnOnce(&mut Queue, &Gated<'_, Timed<'_, M>>) -> Result<Progress, QueueError>,
    ) -> Progress {
        let function = queue.context().function;
        let (windows, bus_master) = self.gates(function);
        let timed = self.timed(number);
        let result = work(queue, &Gated { fabric: &timed, windows: &windows, bus_master }).await;
        self.doors[number].counters.set(queue.counters());
        if let Some((function, vector)) = timed.interrupt.take() {
            self.interrupt(number, function, vector);
        }
        match result {
            Ok(progress) => progress,
            // The base replaced the queue since; its successor has done nothing wrong.
            Err(_) if self.doors[number].is_changed() => Progress::default(),
            Err(error) => {
                self.with_device(|device, _, effects| device.fail_queue(number, &error, effects));
                self.neighbours.observe(Event::Failed { queue: number, error });
                Progress::default()
            }
        }
    }

    /// What is granted of base memory, and whether `function` may master the board's bus, as it is now.
    fn gates(&self, function: FunctionId) -> (Windows, bool) {
        let device = self.device.borrow();
        (device.windows().clone(), device.bus_master(function))
    }

    fn timed(&self, queue: usize) -> Timed<'_, M> {
        Timed {
            clock: self.clock,
            memory: self.memory,
            board: &self.board,
            base: &self.base,
            dma: &self.dma,
            to_board: &self.to_board,
            to_base: &self.to_base,
            queue,
            interrupt: Cell::new(None),
        }
    }

    fn raise(&self, function: FunctionId, vector: u16) {
        self.with_device(|device, _, effects| effects.extend(device.raise(function, vector, false)));
    }

    /// Sends an interrupt, or holds it back until enough time has passed since the last one of the queue.
    fn interrupt(&self, number: usize, function: FunctionId, vector: u16) {
        let moderation = &self.doors[number].moderation;
        let now = self.clock.now();
        if now >= moderation.next.get() {
            moderation.next.set(now + self.engine.moderation);
            self.raise(function, vector);
        } else if moderation.held.replace(Some((function, vector))).is_none() {
            moderation.work.raise(self.clock);
        }
    }

    /// Sends interrupts of a queue that were held back, when it is time.
    pub(super) async fn moderate(&self, number: usize) {
        let moderation = &self.doors[number].moderation;
        loop {
            moderation.work.wait(self.clock).await;
            self.clock.until(moderation.next.get()).await;
            if let Some((function, vector)) = moderation.held.take() {
                moderation.next.set(self.clock.now() + self.engine.moderation);
                self.raise(function, vector);
            }
        }
    }

    /// Watchers that a queue needs, so that a look begins at every interval while earlier ones are still under way.
    pub(super) fn watchers(&self) -> u64 {
        let interval = self.engine.watch;
        if interval == Span::ZERO {
            return 0;
        }
        let wire = |tlp| {
            let pcie = self.board.out.pcie();
            pcie.serialization(pcie.wire_bytes(tlp).into())
        };
        // Request, memory, completions of everything ahead; twice the wire's share, since others are on it.
        let data =
            2 + 2 * u32::from(self.engine.entries_ahead) + 16 * u32::from(self.engine.descriptors_ahead);
        let look = self.board.out.flight() * 2
            + self.board.memory
            + (wire(Tlp::MemoryRead) * 3 + wire(Tlp::Completion { data })) * 2;
        look.ps().div_ceil(interval.ps())
    }

    /// One of those who look at the guest's ring in turn, without being asked.
    pub(super) async fn watch(&self, number: usize) {
        let (door, clock) = (&self.doors[number], self.clock);
        let (watch, engine) = (&door.watch, self.engine);
        watch.awake.set(watch.awake.get() + 1);
        loop {
            let Some((_, function)) = watch.vantage.get().filter(|_| clock.now() < watch.until.get()) else {
                self.wait_for_doorbell(number).await;
                continue;
            };
            let begin = watch.next.get().max(clock.now());
            watch.next.set(begin + engine.watch);
            clock.until(begin).await;
            let Some((vantage, _)) = watch.vantage.get() else { continue };
            let (windows, bus_master) = self.gates(function);
            let timed = self.timed(number);
            let fabric = Gated { fabric: &timed, windows: &windows, bus_master };
            // A fault is found by the engine, which is asked to go there by a doorbell.
            let look = vantage.look(&fabric, None, engine.entries_ahead.max(1), engine.descriptors_ahead);
            let Ok(sight) = look.await else { continue };
            let now_at = watch.vantage.get().map(|(vantage, _)| vantage.next());
            // Only what the engine does not know is news, and a sight that is older than the engine is none.
            if now_at == Some(vantage.next()) && sight.avail() != vantage.next() {
                watch.sight.replace(Some(Box::new(sight)));
                door.doorbell.set(true);
                door.work.raise(clock);
            }
        }
    }

    fn wait_for_doorbell(&self, number: usize) -> impl Future<Output = ()> {
        let watch = &self.doors[number].watch;
        let mut asked = false;
        std::future::poll_fn(move |_| {
            if asked {
                watch.awake.set(watch.awake.get() + 1);
                // Whoever is woken keeps looking for a while, with or without success.
                watch.until.set(watch.until.get().max(self.clock.now() + timing::WATCH_FOR));
                return std::task::Poll::Ready(());
            }
            asked = true;
            watch.awake.set(watch.awake.get() - 1);
            watch.asleep.borrow_mut().push(self.clock.task());
            self.clock.waits_for(super::Reason::WORK);
            std::task::Poll::Pending
        })
    }
}
