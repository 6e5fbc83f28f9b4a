//! The engines of an IO-Bond in virtual time: a task for each queue context, and tasks that watch its ring
//! and moderate its interrupts.

use std::{cell::Cell, future::poll_fn, task::Poll};

use iobond_spec::address::FunctionId;

use super::{Reason, Span, Time, Tlp, bond::Bond, environment::Event, fabric::Timed, packets::head_at};
use crate::{
    fabric::{Fabric, Gated},
    qos::Cost,
    shadow::{Counters, Progress, Queue, QueueError, Seen},
    timing,
    windows::Windows,
};

impl<M: Fabric> Bond<'_, M> {
    /// The engine of one queue context: does what it is notified of, for ever.
    ///
    /// Everything that it is told stands in a cell that is taken before the work begins. What comes while the
    /// work waits for a link stands there anew and raises the signal again, so that nothing is lost, however
    /// many notifications become one.
    pub(super) async fn run(&self, number: usize) {
        let notified = &self.notifications[number];
        let mut queue = None;
        // When work that exceeded its function's limits may be tried again.
        let (mut forward_at, mut retire_at) = (Time::ZERO, Time::ZERO);
        loop {
            let delayed = [(notified.doorbell.get(), forward_at), (notified.tail.get().is_some(), retire_at)];
            match delayed.into_iter().filter_map(|(is, at)| is.then_some(at)).min() {
                Some(at) => {
                    notified.work.wait_until(self.clock, at).await;
                }
                None => notified.work.wait(self.clock).await,
            }
            // Before anything else: what was pending for the predecessor was cleared when the change was
            // noted, and what is pending now is the new queue's. A queue is replaced only here, between two
            // pieces of work, since a register write cannot stop packets that are on the wire. Work that is
            // under way then may fail, which `within` does not hold against the new queue.
            if let Some(context) = notified.change.take() {
                let prefetch = self.engine.prefetch;
                queue = context.map(|context| Queue::new(context).prefetching(prefetch));
                notified.head.set(0);
                notified.counters.set(Counters::default());
                notified.watch.cursor.set(None);
                self.write_head(number);
                (forward_at, retire_at) = (Time::ZERO, Time::ZERO);
            }
            let Some(queue) = &mut queue else {
                notified.doorbell.set(false);
                notified.tail.set(None);
                continue;
            };
            // Returning first: it frees the slots and shadow descriptors that forwarding takes. Each works up
            // to its own bound and leaves the rest in its cell, so that neither direction keeps the other
            // waiting.
            if self.clock.now() >= retire_at
                && let Some(tail) = notified.tail.take()
            {
                retire_at = self.retire(number, queue, tail).await;
            }
            if self.clock.now() >= forward_at && notified.doorbell.replace(false) {
                forward_at = self.forward(number, queue).await;
            }
        }
    }

    /// Forwards what there is, within limits; when there may be more of it.
    async fn forward(&self, number: usize, queue: &mut Queue) -> Time {
        let (notified, from, context) = (&self.notifications[number], self.clock.now(), *queue.context());
        let cost = Cost::of_forwarding(context.features.count_on_return);
        let most = match self.admit(context.function, cost) {
            Ok(most) => most,
            Err(at) => {
                notified.doorbell.set(true);
                return at;
            }
        };
        let page = self.device.borrow().status_page();
        let head_at = page.map(|page| head_at(page, number));
        let data = notified.doorbell_data.take();
        let seen = notified.watch.ahead.take();
        let timing::Engine { entries_ahead, descriptors_ahead, .. } = self.engine;
        let reads_ahead = self.engine.reads_ahead();
        let result = self.within(number, queue, async |queue, fabric| match seen {
            Some(ahead) => queue.forward(fabric, Seen::Ahead(&ahead), head_at, most).await,
            None if reads_ahead => {
                let ahead = queue.cursor().read_ahead(fabric, data, entries_ahead, descriptors_ahead).await?;
                queue.forward(fabric, Seen::Ahead(&ahead), head_at, most).await
            }
            None => queue.forward(fabric, data.map_or(Seen::Nothing, Seen::Index), head_at, most).await,
        });
        let progress = result.await;
        self.pay(context.function, cost, progress);
        if progress.more {
            notified.doorbell.set(true);
        }
        notified.head.set(queue.head());
        notified.watch.cursor.set((!queue.has_failed()).then(|| (queue.cursor(), context.function)));
        if progress.chains > 0 {
            notified.watch.until.set(self.clock.now() + timing::WATCH_FOR);
            let (chains, head) = (progress.chains, queue.head());
            self.environment.observe(Event::Forwarded { queue: number, from, chains, head });
        }
        self.clock.now()
    }

    /// Returns what there is up to `tail`, within limits; when there may be more of it.
    async fn retire(&self, number: usize, queue: &mut Queue, tail: u16) -> Time {
        let (notified, from, context) = (&self.notifications[number], self.clock.now(), *queue.context());
        let cost = Cost::of_returning(context.features.count_on_return, queue.has_writable_in_flight());
        let most = match self.admit(context.function, cost) {
            Ok(most) => most,
            Err(at) => {
                notified.tail.set(Some(tail));
                return at;
            }
        };
        let result = self.within(number, queue, async |queue, fabric| queue.retire(fabric, tail, most).await);
        let progress = result.await;
        self.pay(context.function, cost, progress);
        if progress.more && notified.tail.get().is_none() && !notified.is_changed() {
            notified.tail.set(Some(tail));
        }
        if queue.is_stalled() && !notified.is_changed() {
            notified.doorbell.set(true);
        }
        if progress.chains > 0 {
            self.environment.observe(Event::Returned { queue: number, from, chains: progress.chains });
        }
        self.clock.now()
    }

    /// How many chains a function may work at now.
    ///
    /// # Errors
    /// None now: the time at which to ask again. The delay is counted.
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
        self.notifications[number].counters.set(queue.counters());
        if let Some((function, vector)) = timed.interrupt.take() {
            self.interrupt(number, function, vector);
        }
        match result {
            Ok(progress) => progress,
            // The base replaced the queue meanwhile; its successor has done nothing wrong.
            Err(_) if self.notifications[number].is_changed() => Progress::default(),
            Err(error) => {
                self.with_device(|device, _, effects| device.fail_queue(number, &error, effects));
                self.environment.observe(Event::Failed { queue: number, error });
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
        let moderation = &self.notifications[number].moderation;
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
        let moderation = &self.notifications[number].moderation;
        loop {
            moderation.work.wait(self.clock).await;
            self.clock.until(moderation.next.get()).await;
            if let Some((function, vector)) = moderation.held.take() {
                moderation.next.set(self.clock.now() + self.engine.moderation);
                self.raise(function, vector);
            }
        }
    }

    /// Watchers that a queue needs, so that a read begins at every interval while earlier ones are still
    /// under way.
    pub(super) fn watchers(&self) -> u64 {
        let interval = self.engine.watch;
        if interval == Span::ZERO {
            return 0;
        }
        let wire = |tlp| {
            let pcie = self.board.out.pcie();
            pcie.serialization(pcie.wire_bytes(tlp).into())
        };
        // Request, memory, completions of everything ahead; twice the wire's share, since other packets are
        // on it.
        let data =
            2 + 2 * u32::from(self.engine.entries_ahead) + 16 * u32::from(self.engine.descriptors_ahead);
        let read = self.board.out.flight() * 2
            + self.board.memory
            + (wire(Tlp::MemoryRead) * 3 + wire(Tlp::Completion { data })) * 2;
        read.ps().div_ceil(interval.ps())
    }

    /// One of the watchers that read ahead in a guest's ring in turn, without being notified.
    pub(super) async fn watch(&self, number: usize) {
        let (notified, clock) = (&self.notifications[number], self.clock);
        let (watch, engine) = (&notified.watch, self.engine);
        watch.awake.set(watch.awake.get() + 1);
        loop {
            let Some((_, function)) = watch.cursor.get().filter(|_| clock.now() < watch.until.get()) else {
                self.wait_for_doorbell(number).await;
                continue;
            };
            // Taken before it is waited for, so that no two watchers begin at the same time.
            let begin = watch.next.get().max(clock.now());
            watch.next.set(begin + engine.watch);
            clock.until(begin).await;
            // Read again: the engine may have moved on while the watcher waited.
            let Some((cursor, _)) = watch.cursor.get() else { continue };
            let (windows, bus_master) = self.gates(function);
            let timed = self.timed(number);
            let fabric = Gated { fabric: &timed, windows: &windows, bus_master };
            // A fault is found by the engine, which a notification sends there.
            let (entries, descriptors) = (engine.entries_ahead.max(1), engine.descriptors_ahead);
            let Ok(ahead) = cursor.read_ahead(&fabric, None, entries, descriptors).await else { continue };
            // While it was under way, another watcher's read may have sent the engine further, or the queue
            // may have been replaced. Then this one began at a place where the engine is no longer, and is
            // dropped: entries may have been taken back and offered anew since. Only an index that the engine
            // does not know is news; the ring says nothing of why it changed, so the engine checks it as it
            // checks any (virtio 1.3, 2.7.6).
            let now_at = watch.cursor.get().map(|(cursor, _)| cursor.next());
            if now_at == Some(cursor.next()) && ahead.avail() != cursor.next() {
                watch.ahead.replace(Some(Box::new(ahead)));
                notified.doorbell.set(true);
                notified.work.raise(clock);
            }
        }
    }

    fn wait_for_doorbell(&self, number: usize) -> impl Future<Output = ()> {
        let watch = &self.notifications[number].watch;
        let mut asked = false;
        poll_fn(move |_| {
            if asked {
                watch.awake.set(watch.awake.get() + 1);
                // A watcher that is woken reads on for a while, with or without success.
                watch.until.set(watch.until.get().max(self.clock.now() + timing::WATCH_FOR));
                return Poll::Ready(());
            }
            asked = true;
            watch.awake.set(watch.awake.get() - 1);
            watch.asleep.borrow_mut().push(self.clock.task());
            self.clock.waits_for(Reason::Work);
            Poll::Pending
        })
    }
}
