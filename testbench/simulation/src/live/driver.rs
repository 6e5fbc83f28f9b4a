//! What a driver runs on where time is real.

use std::{
    cell::Cell,
    future::poll_fn,
    mem,
    sync::atomic::{Ordering, fence},
    task::Poll,
};

use iobond_model::cycle::{Span, Time};
use results::measure::Stage;

use super::{Place, Turns};
use crate::{
    Fault, Plan,
    driver::{Platform, doorbell},
    moments::Stamps,
};

/// One queue, as its driver has it.
pub(super) struct Queue<'a> {
    plan: &'a Plan,
    place: &'a Place,
    queue: usize,
    turns: &'a Turns,
    made: Cell<u64>,
    done: Cell<u64>,
    /// There may be answers that no interrupt tells of.
    again: Cell<bool>,
}

impl<'a> Queue<'a> {
    pub(super) fn new(plan: &'a Plan, place: &'a Place, queue: usize, turns: &'a Turns) -> Self {
        let (made, done, again) = (Cell::new(0), Cell::new(0), Cell::new(false));
        Self { plan, place, queue, turns, made, done, again }
    }

    /// Whether there may be an answer.
    fn is_told(&self) -> bool {
        let told = match self.plan.design.interrupts {
            true => self.place.lines.take(self.queue),
            false => self.place.watch.landed(self.queue) != self.done.get(),
        };
        told | self.again.take()
    }

    /// Request `nth` has the same place as that many rounds before: the back end uses requests in order.
    fn place_of(&self, nth: u64) -> u16 {
        (nth % u64::from(self.place.board.capacity)) as u16
    }
}

impl Platform for Queue<'_> {
    fn now(&self) -> Time {
        self.place.watch.now()
    }

    async fn spend(&self, _: Span) {}

    fn made(&self) -> u64 {
        self.made.get()
    }

    fn done(&self) -> u64 {
        self.done.get()
    }

    fn has_free(&self) -> bool {
        self.made.get() - self.done.get() < self.place.board.capacity.into()
    }

    fn make(&self, due: Time) -> Option<u16> {
        let nth = self.made.get();
        self.has_free().then(|| {
            self.place.watch.stamp(self.queue, nth, Stage::Begin, due);
            self.made.set(nth + 1);
            self.place_of(nth)
        })
    }

    fn submit(&self, _: Time, count: u64) {
        let (made, now) = (self.made.get(), self.now());
        (made - count..made).for_each(|nth| self.place.watch.stamp(self.queue, nth, Stage::Doorbell, now));
        self.turns.happened();
    }

    async fn notify(&self, index: u16) {
        self.place.bond.access(doorbell(self.plan.design, self.queue, index), &mut || {});
    }

    /// Other drivers, and the base where it is on this thread, have their turn before this one looks.
    async fn wait(&self, due: Option<Time>) -> bool {
        let mut first = true;
        poll_fn(|_| match mem::take(&mut first) {
            true => Poll::Pending,
            false if self.is_told() => Poll::Ready(true),
            false if due.is_some_and(|due| due <= self.now()) => Poll::Ready(false),
            false => Poll::Pending,
        })
        .await
    }

    fn take_back(&self) -> Option<(u64, Stamps)> {
        let (queue, number) = (self.queue, self.done.get());
        let Place { board, watch, .. } = self.place;
        if number == watch.landed(queue) {
            return None;
        }
        let head = board.guest_used_id(queue, number as u16);
        let expected = self.place_of(number) * self.plan.descriptors();
        if head != expected {
            self.turns.fail(self.place.number, self.now(), Fault::Order { queue, number, head, expected });
            return None;
        }
        let mut stamps = watch.stamps(queue, number);
        stamps[Stage::Done as usize] = self.now();
        self.done.set(number + 1);
        self.turns.happened();
        Some((number, stamps))
    }

    fn want_interrupt(&self) {
        let (board, done) = (&self.place.board, self.done.get() as u16);
        board.want_interrupt(self.queue, done);
        // What was used meanwhile may have been held against the old index (virtio 1.3, 2.7.14).
        fence(Ordering::SeqCst);
        self.again.set(board.guest_used(self.queue) != done);
    }

    fn failed(&self) -> bool {
        self.turns.has_failed()
    }
}
