//! The driver of one queue, in every world: makes requests when they are due, notifies IO-Bond, and takes
//! answers back.
//!
//! ```text
//!   make: chains, index, doorbell  -->  wait: answer, or next due  -->  take back: used ring, used_event
//! ```
//! It is a future over its [`Platform`], as the queue engine is one over its fabric. In virtual time all that
//! takes time is awaited. On the wall clock time passes by itself, and nothing but the wait is ever pending.

use std::sync::atomic::{Ordering, fence};

use iobond_model::{
    cycle::{Span, Time},
    device::Access,
};
use iobond_spec::{
    function::{NOTIFY, NOTIFY_MULTIPLIER},
    ring::split::need_event,
};

use crate::{
    Design, Pace, Plan,
    board::{Board, FIRST},
    moments::Stamps,
    random::Chance,
    recorder::Sink,
};

/// What the driver of one queue runs on: a processor, a doorbell, and the moments of its requests.
pub(crate) trait Platform {
    /// The time in this world.
    fn now(&self) -> Time;

    /// The processor is busy for `span`. Over at once where time is real.
    async fn spend(&self, span: Span);

    /// Requests that were made so far.
    fn made(&self) -> u64;

    /// Requests whose answers were taken back so far.
    fn done(&self) -> u64;

    /// Whether one more request fits into the ring.
    fn has_free(&self) -> bool;

    /// Makes the next request, which was due at `due`; the place in the ring that it has until it is done,
    /// none while the ring is full.
    fn make(&self, due: Time) -> Option<u16>;

    /// All that were made are about to be published; the last `count` were begun at `from`.
    fn submit(&self, from: Time, count: u64);

    /// Writes the doorbell for available index `index`; over when the processor continues.
    async fn notify(&self, index: u16);

    /// Waits until the driver looks for answers; until `due`, if there is one. Whether there may be an
    /// answer.
    async fn wait(&self, due: Option<Time>) -> bool;

    /// Takes the next answer that is there: its number in the queue, and the moments of its request.
    fn take_back(&self) -> Option<(u64, Stamps)>;

    /// The processor is through with `count` answers that it found at `from`.
    fn taken_back(&self, _from: Time, _count: u64) {}

    /// Asks for an interrupt at the answer after [`Platform::done`] (virtio 1.3, 2.7.10).
    fn want_interrupt(&self);

    /// Whether the run is over because of a failure.
    fn failed(&self) -> bool;
}

/// The access that tells IO-Bond of buffers in `queue` up to available index `index` (virtio 1.3, 4.1.5.2).
pub(crate) fn doorbell(design: Design, queue: usize, index: u16) -> Access {
    let queue = queue as u32;
    let (width, value) = match design.notification_data {
        true => (4, u32::from(index) << 16 | queue),
        false => (2, queue),
    };
    Access::BarWrite { function: FIRST, offset: NOTIFY + NOTIFY_MULTIPLIER * queue, width, value }
}

/// The driver of one queue.
pub(crate) struct Driver<'a, P> {
    plan: &'a Plan,
    board: &'a Board,
    queue: usize,
    platform: P,
    sink: &'a dyn Sink,
    chance: Chance,
    /// When the next request is due, if that does not depend on answers.
    due: Time,
}

impl<'a, P: Platform> Driver<'a, P> {
    /// The driver of `queue` of `board`, which is board `number` of `plan`.
    pub(crate) fn new(
        plan: &'a Plan,
        board: &'a Board,
        (number, queue): (usize, usize),
        platform: P,
        sink: &'a dyn Sink,
    ) -> Self {
        // No two drivers of a run have the same sequence.
        let chance = Chance::new(plan.seed, (number as u64) << 32 | queue as u64);
        Self { plan, board, queue, platform, sink, chance, due: Time::ZERO }
    }

    /// Makes all requests of the plan and waits for their answers.
    pub(crate) async fn run(mut self) {
        let total = self.plan.total();
        self.due = self.platform.now();
        self.schedule();
        while self.platform.done() < total && !self.platform.failed() {
            if self.make(total).await {
                continue;
            }
            // An open load goes by the clock, as long as the ring takes one more; else only an answer changes
            // anything.
            let open = matches!(self.plan.pace, Pace::Open { .. }) && self.may_make(total);
            if self.platform.wait(open.then_some(self.due)).await {
                self.take_back().await;
            }
        }
    }

    fn may_make(&self, total: u64) -> bool {
        self.platform.made() < total && self.platform.has_free()
    }

    /// Makes all requests that are due and fit, and notifies IO-Bond of them; whether there were any.
    async fn make(&mut self, total: u64) -> bool {
        if !self.may_make(total) {
            return false;
        }
        let (before, from) = (self.platform.made(), self.platform.now());
        while self.may_make(total) {
            let due = match self.plan.pace {
                Pace::Closed { .. } => from,
                Pace::Open { .. } if self.due <= from => {
                    let due = self.due;
                    self.schedule();
                    due
                }
                Pace::Open { .. } => break,
            };
            let number = self.platform.made();
            let Some(place) = self.platform.make(due) else { break };
            self.board.offer(self.queue, number as u16, place * self.plan.descriptors());
        }
        let count = self.platform.made() - before;
        if count == 0 {
            return false;
        }
        self.platform.spend(self.plan.timing.guest.submit * count).await;
        // IO-Bond may fetch what is published before the doorbell is written, so the moment is taken before
        // that.
        self.platform.submit(from, count);
        let index = self.platform.made() as u16;
        self.board.publish(self.queue, index);
        // The index is visible before avail_event is read: either IO-Bond sees it, or this sees that it wants
        // a doorbell (virtio 1.3, 2.7.13.4.1).
        fence(Ordering::SeqCst);
        let wanted = || need_event(self.board.avail_event(self.queue), index, before as u16);
        if !self.plan.design.event_idx || wanted() {
            self.platform.notify(index).await;
        }
        true
    }

    async fn take_back(&mut self) {
        loop {
            let (mut taken, from) = (0, self.platform.now());
            while let Some((nth, stamps)) = self.platform.take_back() {
                self.sink.finished(nth, &stamps);
                taken += 1;
            }
            if taken == 0 {
                break;
            }
            // More may come meanwhile, and no interrupt tells of what comes before used_event is moved.
            self.platform.spend(self.plan.timing.guest.complete * taken).await;
            self.platform.taken_back(from, taken);
        }
        if self.plan.design.event_idx {
            self.platform.want_interrupt();
        }
    }

    /// When the next request is due.
    fn schedule(&mut self) {
        if let Pace::Open { rate } = self.plan.pace {
            self.due += self.chance.exponential(Span::at_rate(1, rate));
        }
    }
}
