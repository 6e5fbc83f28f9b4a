//! The driver of one queue: as that of virtual time, on the wall clock.

use std::sync::{
    Arc,
    atomic::{Ordering, fence},
};

use iobond_model::{
    cycle::{Span, Time},
    device::Access,
    live::Bond,
};
use iobond_spec::{
    function::{NOTIFY, NOTIFY_MULTIPLIER},
    ring::split::need_event,
};
use results::measure::Stage;

use super::{
    Place, WallClockError,
    watch::{Lines, Watch},
};
use crate::{
    Pace, Plan,
    board::{Board, FIRST},
    random::Chance,
    recorder::Sink,
};

pub(super) struct Driver<'a> {
    plan: &'a Plan,
    board: Arc<Board>,
    bond: Arc<Bond>,
    lines: Arc<Lines>,
    watch: Arc<Watch>,
    queue: usize,
    chance: Chance,
    made: u64,
    done: u64,
    total: u64,
    /// When the next request is due, if that does not depend on answers; none before the first step.
    due: Option<Time>,
    /// There may be answers that no interrupt tells of.
    again: bool,
}

impl<'a> Driver<'a> {
    /// The driver of `queue`; `name` tells its chance from that of others.
    pub(super) fn new(plan: &'a Plan, place: &Place, queue: usize, name: u64) -> Self {
        Self {
            plan,
            board: Arc::clone(&place.board),
            bond: Arc::clone(&place.bond),
            lines: Arc::clone(&place.lines),
            watch: Arc::clone(&place.watch),
            queue,
            chance: Chance::new(plan.seed, name),
            made: 0,
            done: 0,
            total: plan.warm_up + plan.requests,
            due: None,
            again: false,
        }
    }

    /// Whether all answers are there.
    pub(super) fn is_done(&self) -> bool {
        self.done >= self.total
    }

    /// Takes answers back if there may be any, and makes the requests that are due; whether there was anything to do.
    ///
    /// # Errors
    /// IO-Bond returned something else than was to be returned next.
    pub(super) fn step(&mut self, sink: &dyn Sink) -> Result<bool, WallClockError> {
        let told = !self.plan.design.interrupts || self.lines.take(self.queue);
        let taken = (told || std::mem::take(&mut self.again)) && self.take_back(sink)?;
        Ok(self.make() | taken)
    }

    fn take_back(&mut self, sink: &dyn Sink) -> Result<bool, WallClockError> {
        let before = self.done;
        while self.done < self.watch.landed(self.queue) {
            let (queue, nth) = (self.queue, self.done);
            let (head, id) = (self.head_of(nth), self.board.guest_used_id(queue, nth as u16));
            if id != head {
                let what = format!("answer {nth} of queue {queue} is to request {id}, not {head}");
                return Err(WallClockError::Engine(what));
            }
            let mut stamps = self.watch.stamps(queue, nth);
            stamps[Stage::Done as usize] = self.watch.now();
            sink.finished(nth, &stamps);
            self.done += 1;
        }
        if self.plan.design.event_idx {
            self.board.want_interrupt(self.queue, self.done as u16);
            // Who used something meanwhile has seen the old index (virtio 1.3, 2.7.14).
            fence(Ordering::SeqCst);
            self.again = self.board.guest_used(self.queue) != self.done as u16;
        }
        Ok(self.done > before)
    }

    fn make(&mut self) -> bool {
        let (before, now) = (self.made, self.watch.now());
        while self.made < self.total && self.made - self.done < self.board.room.into() {
            let due = match self.plan.pace {
                Pace::Closed { .. } => now,
                Pace::Open { rate } => {
                    let due = self.due.unwrap_or(now);
                    if due > now {
                        break;
                    }
                    self.due = Some(due + self.chance.exponential(Span::at_rate(1, rate)));
                    due
                }
            };
            self.watch.stamp(self.queue, self.made, Stage::Begin, due);
            self.board.offer(self.queue, self.made as u16, self.head_of(self.made));
            self.made += 1;
        }
        if self.made == before {
            return false;
        }
        // Somebody may pass on what is published before it is rung for.
        let now = self.watch.now();
        (before..self.made).for_each(|nth| self.watch.stamp(self.queue, nth, Stage::Doorbell, now));
        let index = self.made as u16;
        self.board.publish(self.queue, index);
        fence(Ordering::SeqCst);
        if !self.plan.design.event_idx || need_event(self.board.avail_event(self.queue), index, before as u16)
        {
            self.ring(index);
        }
        true
    }

    fn ring(&self, index: u16) {
        let queue = self.queue as u32;
        let (width, value) = match self.plan.design.notification_data {
            true => (4, u32::from(index) << 16 | queue),
            false => (2, queue),
        };
        let offset = NOTIFY + NOTIFY_MULTIPLIER * queue;
        self.bond.access(Access::BarWrite { function: FIRST, offset, width, value }, &mut || {});
    }

    /// The descriptor at which request `nth` begins.
    fn head_of(&self, nth: u64) -> u16 {
        (nth % u64::from(self.board.room)) as u16 * self.plan.descriptors()
    }
}
