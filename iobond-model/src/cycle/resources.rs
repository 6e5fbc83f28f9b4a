//! What tasks wait for: work, permits, and their turn on something that serves one after the other.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    task::Poll,
};

use super::{Clock, Reason, Span, TaskId, Time};

/// Work for one task: raised by any task, waited for by that one. Raised while the task works, it finds it
/// there afterwards.
#[derive(Debug)]
pub struct Signal {
    reason: Reason,
    raised: Cell<bool>,
    waiter: Cell<Option<TaskId>>,
}

impl Default for Signal {
    fn default() -> Self {
        Self::of(Reason::Work)
    }
}

impl Signal {
    /// A signal that says that `reason` is there.
    #[must_use]
    pub const fn of(reason: Reason) -> Self {
        Self { reason, raised: Cell::new(false), waiter: Cell::new(None) }
    }

    /// There is work: wakes the task, unless it works already.
    #[inline]
    pub fn raise(&self, clock: &Clock) {
        if !self.raised.replace(true)
            && let Some(task) = self.waiter.take()
        {
            clock.wake(task);
        }
    }

    /// Waits until there is work, or it is `time`; whether there is work, which is taken then.
    pub fn wait_until(&self, clock: &Clock, time: Time) -> impl Future<Output = bool> {
        let mut alarm = clock.until(time);
        // Both futures may be moved: neither borrows from itself.
        let mut work = self.wait(clock);
        poll_fn(move |context| {
            if Pin::new(&mut work).poll(context).is_ready() {
                return Poll::Ready(true);
            }
            Pin::new(&mut alarm).poll(context).map(|()| false)
        })
    }

    /// Waits until there is work, and takes it upon itself.
    #[inline]
    pub fn wait(&self, clock: &Clock) -> impl Future<Output = ()> + Unpin {
        poll_fn(|_| {
            if self.raised.replace(false) {
                return Poll::Ready(());
            }
            self.waiter.set(Some(clock.task()));
            clock.waits_for(self.reason);
            Poll::Pending
        })
    }
}

/// So many of something: a task that takes one gives it back. First come, first served.
#[derive(Debug)]
pub struct Permits {
    reason: Reason,
    free: Cell<u32>,
    /// Tasks that wait: their ticket, and how many they want.
    queue: RefCell<VecDeque<(u64, TaskId, u32)>>,
    tickets: Cell<u64>,
}

impl Permits {
    /// `count` of what `reason` names.
    #[must_use]
    pub fn new(count: u32, reason: Reason) -> Self {
        Self { reason, free: Cell::new(count), queue: RefCell::default(), tickets: Cell::new(0) }
    }

    /// Takes one; waits behind tasks that asked earlier.
    #[inline]
    pub fn take(&self, clock: &Clock) -> impl Future<Output = ()> {
        self.take_many(clock, 1)
    }

    /// Takes `count`, all of them or none, so that no two wait for what the other has. More than there are
    /// never come.
    #[inline]
    pub async fn take_many(&self, clock: &Clock, count: u32) {
        if self.free.get() >= count && self.queue.borrow().is_empty() {
            self.free.set(self.free.get() - count);
            return;
        }
        let ticket = self.tickets.replace(self.tickets.get() + 1);
        self.queue.borrow_mut().push_back((ticket, clock.task(), count));
        poll_fn(|_| {
            let first = self.queue.borrow().front().map(|(first, ..)| *first);
            if first != Some(ticket) || self.free.get() < count {
                clock.waits_for(self.reason);
                return Poll::Pending;
            }
            self.queue.borrow_mut().pop_front();
            self.free.set(self.free.get() - count);
            self.call_next(clock);
            Poll::Ready(())
        })
        .await;
    }

    /// Gives back what [`Permits::take`] took.
    #[inline]
    pub fn give(&self, clock: &Clock) {
        self.give_many(clock, 1);
    }

    /// Gives back `count` of what [`Permits::take_many`] took.
    #[inline]
    pub fn give_many(&self, clock: &Clock, count: u32) {
        self.free.set(self.free.get() + count);
        self.call_next(clock);
    }

    fn call_next(&self, clock: &Clock) {
        if let Some(&(_, task, count)) = self.queue.borrow().front()
            && self.free.get() >= count
        {
            clock.wake(task);
        }
    }
}

/// Something that serves one after the other, in the order in which it is asked: a link direction, a data
/// path.
#[derive(Debug, Default)]
pub struct Line {
    free_at: Cell<Time>,
    busy: Cell<Span>,
}

impl Line {
    /// Occupies it for `span`, from `from` on or when those before are done; when it is free again.
    #[inline]
    pub fn occupy(&self, from: Time, span: Span) -> Time {
        let end = from.max(self.free_at.get()) + span;
        self.free_at.set(end);
        self.busy.set(self.busy.get() + span);
        end
    }

    /// When it is free again, if nothing more is asked of it.
    #[must_use]
    pub fn free_at(&self) -> Time {
        self.free_at.get()
    }

    /// How long it was occupied since the beginning.
    #[must_use]
    pub fn busy(&self) -> Span {
        self.busy.get()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::cycle::{Ending, Executor, Stuck};

    const TOKEN: Reason = token(3);

    const fn token(number: u32) -> Reason {
        Reason::Missing { what: "a token", number }
    }

    fn ns(ns: u64) -> Span {
        Span::from_ns(ns)
    }

    /// ```text
    ///   a  |-- 10 --|          |-- 10 --|
    ///   b  |-- 10 --|          |-- 10 --|
    ///   c           |-- 10 --|
    /// ```
    #[test]
    fn permits_are_given_in_the_order_in_which_they_were_asked_for() {
        let (clock, permits, log) = (Clock::new(), Permits::new(2, TOKEN), RefCell::new(vec![]));
        let mut executor = Executor::new(&clock);
        for (name, times) in [("a", 2), ("b", 1), ("c", 1)] {
            let (clock, permits, log) = (&clock, &permits, &log);
            executor.spawn(name, async move {
                for _ in 0..times {
                    permits.take(clock).await;
                    log.borrow_mut().push((name, clock.now().ns()));
                    clock.sleep(ns(10)).await;
                    permits.give(clock);
                }
            });
        }
        assert_eq!(executor.run(Time::MAX), Ending::Finished);
        assert_eq!(*log.borrow(), [("a", 0), ("b", 0), ("c", 10), ("a", 10)]);
    }

    #[test]
    fn tasks_that_wait_for_each_other_are_named() {
        let (clock, left, right) = (Clock::new(), Permits::new(1, TOKEN), Permits::new(1, token(4)));
        let mut executor = Executor::new(&clock);
        for (name, first, second) in [("one", &left, &right), ("other", &right, &left)] {
            let clock = &clock;
            executor.spawn(name, async move {
                first.take(clock).await;
                clock.sleep(ns(1)).await;
                second.take(clock).await;
            });
        }
        let stuck = |task: &str, number| Stuck { task: task.into(), reason: Some(token(number)) };
        let ending = executor.run(Time::MAX);
        assert_eq!(ending, Ending::Deadlock(vec![stuck("one", 4), stuck("other", 3)]));
        let Ending::Deadlock(stuck) = ending else { unreachable!() };
        assert_eq!(stuck[0].to_string(), "one waits for a token (4)");
    }

    /// Resumes now, after the tasks that are to be polled now already.
    async fn turn(clock: &Clock) {
        let mut asked = false;
        poll_fn(|_| {
            if std::mem::replace(&mut asked, true) {
                return Poll::Ready(());
            }
            clock.wake(clock.task());
            Poll::Pending
        })
        .await;
    }

    #[test]
    fn time_that_stands_still_is_noticed() {
        let clock = Clock::new();
        let mut executor = Executor::new(&clock);
        executor.spawn("spinner", async {
            clock.sleep(ns(5)).await;
            loop {
                turn(&clock).await;
            }
        });
        let at = Time::ZERO + ns(5);
        assert_eq!(executor.run(Time::MAX), Ending::Livelock { at, tasks: vec!["spinner".into()] });
    }

    /// A run ends with the tasks that have an end, and may be resumed when its time is over.
    #[test]
    fn servants_do_not_keep_a_run_going() {
        let (clock, work, done) = (Clock::new(), Signal::default(), Cell::new(0));
        let mut executor = Executor::new(&clock);
        executor.serve("servant", async {
            loop {
                work.wait(&clock).await;
                done.set(done.get() + 1);
            }
        });
        executor.spawn("master", async {
            for _ in 0..3 {
                clock.sleep(ns(10)).await;
                work.raise(&clock);
                work.raise(&clock);
            }
            clock.sleep(ns(1)).await;
        });
        assert_eq!(executor.run(Time::ZERO + ns(25)), Ending::OutOfTime);
        assert_eq!((done.get(), clock.now().ns()), (2, 20));
        assert_eq!(executor.run(Time::MAX), Ending::Finished);
        assert_eq!((done.get(), clock.now().ns()), (3, 31));
    }

    #[test]
    fn a_line_serves_one_after_the_other_and_counts() {
        let line = Line::default();
        assert_eq!(line.occupy(Time::ZERO + ns(5), ns(10)).ns(), 15);
        assert_eq!(line.occupy(Time::ZERO + ns(6), ns(1)).ns(), 16);
        assert_eq!(line.occupy(Time::ZERO + ns(20), ns(1)).ns(), 21);
        assert_eq!(line.busy(), ns(12));
    }
}
