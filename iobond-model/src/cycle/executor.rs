//! Tasks on a virtual clock: straight-line futures, polled one at a time in the order of the wheel.
//!
//! There are no wakers. A future that waits has noted its task where it will be found: in the wheel, or at
//! whatever it waits for. It may be polled for another reason before that, and then waits on.

use std::{
    cell::{Cell, RefCell},
    fmt,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use super::{Span, Time, Wheel};

/// Polls at one moment after which time is said to stand still. A judgement: a busy moment of 16 boards has
/// some thousands.
const MOST_AT_ONCE: u64 = 1_000_000;
/// Polls that each task may have on top of those, as all of them begin at once. A judgement.
const MOST_OF_A_TASK: u64 = 16;

/// A task of an [`Executor`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskId(u32);

/// What a task waits for whose time is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Work: the task serves others and has nothing to do.
    Work,
    /// Something that other tasks hold or owe, as "a tag for a read", of which there may be several with a
    /// number each.
    #[allow(missing_docs, reason = "the fields are explained above")]
    Missing { what: &'static str, number: u32 },
}

impl fmt::Display for Reason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Work => write!(out, "work"),
            Self::Missing { what, number } => write!(out, "{what} ({number})"),
        }
    }
}

/// Virtual time, and the tasks that wait for it. Everything in a simulation shares one.
#[derive(Debug, Default)]
pub struct Clock {
    now: Cell<Time>,
    wheel: RefCell<Wheel<TaskId>>,
    /// The task that is being polled.
    running: Cell<u32>,
    /// What the task that is being polled began to wait for last.
    reason: Cell<Option<Reason>>,
}

impl Clock {
    /// A clock at [`Time::ZERO`].
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The time at which tasks are polled now.
    #[inline]
    #[must_use]
    pub fn now(&self) -> Time {
        self.now.get()
    }

    /// The task that is being polled.
    #[inline]
    #[must_use]
    pub fn task(&self) -> TaskId {
        TaskId(self.running.get())
    }

    /// Has `task` polled now, after those that are to be polled now already.
    #[inline]
    pub fn wake(&self, task: TaskId) {
        self.wheel.borrow_mut().put(self.now.get(), task);
    }

    /// Notes that the task that is being polled waits for `what` from now on.
    #[inline]
    pub fn waits_for(&self, what: Reason) {
        self.reason.set(Some(what));
    }

    /// Waits for a while.
    pub fn sleep(&self, span: Span) -> impl Future<Output = ()> {
        self.until(self.now() + span)
    }

    /// Waits until `time`, or not at all if that is over.
    #[inline]
    pub fn until(&self, time: Time) -> impl Future<Output = ()> + Unpin {
        let mut asked = false;
        poll_fn(move |_| {
            if self.now() >= time {
                return Poll::Ready(());
            }
            if !asked {
                asked = true;
                self.wheel.borrow_mut().put(time, self.task());
                self.reason.set(None);
            }
            Poll::Pending
        })
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Every task that has an end has come to it.
    Finished,
    /// The time that the run was given is over.
    OutOfTime,
    /// Tasks are left, and nothing will ever happen again.
    Deadlock(Vec<Stuck>),
    /// Tasks are polled on and on while time stands still at `at`.
    Livelock {
        /// The time that does not pass.
        at: Time,
        /// Names of the tasks that had the last turns.
        tasks: Vec<String>,
    },
}

/// A task, by its name, that waits for what never comes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are the task's name and what it waits for")]
pub struct Stuck {
    pub task: String,
    pub reason: Option<Reason>,
}

impl fmt::Display for Stuck {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason {
            Some(reason) => write!(out, "{} waits for {reason}", self.task),
            None => write!(out, "{} waits", self.task),
        }
    }
}

struct Task<'a> {
    /// None once it is done.
    future: Option<Pin<Box<dyn Future<Output = ()> + 'a>>>,
    name: String,
    /// It has an end, and the run lasts until that.
    ends: bool,
    reason: Option<Reason>,
}

/// Polls tasks until they are done. The tasks may borrow what outlives it.
pub struct Executor<'a> {
    clock: &'a Clock,
    tasks: Vec<Task<'a>>,
    left: usize,
    polls: u64,
}

impl<'a> Executor<'a> {
    /// An executor without tasks, on `clock`.
    #[must_use]
    pub fn new(clock: &'a Clock) -> Self {
        Self { clock, tasks: Vec::new(), left: 0, polls: 0 }
    }

    /// Adds a task that has an end: the run goes on until then.
    pub fn spawn(&mut self, name: impl Into<String>, future: impl Future<Output = ()> + 'a) -> TaskId {
        self.left += 1;
        self.add(name.into(), true, future)
    }

    /// Adds a task that works for the others as long as there are any.
    pub fn serve(&mut self, name: impl Into<String>, future: impl Future<Output = ()> + 'a) -> TaskId {
        self.add(name.into(), false, future)
    }

    fn add(&mut self, name: String, ends: bool, future: impl Future<Output = ()> + 'a) -> TaskId {
        let id = TaskId(self.tasks.len() as u32);
        self.tasks.push(Task { future: Some(Box::pin(future)), name, ends, reason: None });
        self.clock.wake(id);
        id
    }

    /// Events that there have been: turns that tasks had.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.polls
    }

    /// Runs until every task that has an end is done, at most until `limit`. May be called again after
    /// [`Ending::OutOfTime`].
    pub fn run(&mut self, limit: Time) -> Ending {
        let mut context = Context::from_waker(Waker::noop());
        let mut here = 0;
        let most = MOST_AT_ONCE + MOST_OF_A_TASK * self.tasks.len() as u64;
        while self.left > 0 {
            let Some((time, id)) = self.clock.wheel.borrow_mut().take(limit) else {
                return match self.clock.wheel.borrow().is_empty() {
                    true => Ending::Deadlock(self.stuck()),
                    false => Ending::OutOfTime,
                };
            };
            if time != self.clock.now.get() {
                self.clock.now.set(time);
                here = 0;
            }
            self.poll(id, &mut context);
            here += 1;
            if here > most {
                return Ending::Livelock { at: time, tasks: self.busy() };
            }
        }
        Ending::Finished
    }

    #[inline]
    fn poll(&mut self, id: TaskId, context: &mut Context<'_>) {
        let Some(task) = self.tasks.get_mut(id.0 as usize) else { return };
        let Some(future) = task.future.as_mut() else { return };
        self.polls += 1;
        self.clock.running.set(id.0);
        self.clock.reason.set(task.reason);
        if future.as_mut().poll(context).is_ready() {
            task.future = None;
            self.left -= usize::from(task.ends);
        } else {
            task.reason = self.clock.reason.get();
        }
    }

    /// Tasks that are left, those first that the run waits for.
    fn stuck(&self) -> Vec<Stuck> {
        // A task that serves others and waits for work is not stuck; one that waits for something that others
        // hold is.
        let waiting = |task: &&Task<'_>| {
            task.future.is_some() && (task.ends || matches!(task.reason, Some(Reason::Missing { .. })))
        };
        let mut tasks: Vec<_> = self.tasks.iter().filter(waiting).collect();
        tasks.sort_by_key(|task| !task.ends);
        tasks.into_iter().map(|task| Stuck { task: task.name.clone(), reason: task.reason }).collect()
    }

    /// Names of the next tasks that would have a turn now.
    fn busy(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        let mut wheel = self.clock.wheel.borrow_mut();
        while let Some((_, id)) = wheel.take(self.clock.now()).filter(|_| names.len() < 8) {
            let name = self.tasks.get(id.0 as usize).map_or("", |task| &task.name);
            if !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        }
        names
    }
}

impl fmt::Debug for Executor<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { clock, tasks, left, polls } = self;
        out.debug_struct("Executor")
            .field("now", &clock.now())
            .field("tasks", &tasks.len())
            .field("left", left)
            .field("polls", polls)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_tasks_at_one_moment_do_not_mean_that_time_stands_still() {
        let clock = Clock::new();
        let mut executor = Executor::new(&clock);
        for _ in 0..=MOST_AT_ONCE {
            executor.spawn("task", async {});
        }
        assert_eq!(executor.run(Time::MAX), Ending::Finished);
    }
}
