//! Limits on what functions do: which work is admitted, which waits, and in what order it is admitted later.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
};

use iobond_spec::{MAX_FUNCTIONS, address::FunctionId};

use crate::{
    qos::{Cost, Limits, Meter},
    shadow::{Progress, Queue},
};

/// The time of "nothing waits".
const NEVER: u64 = u64::MAX;

/// Something that a queue wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// Forward what the guest made available.
    Forward(usize),
    /// Return what the back end used.
    Retire(usize),
}

impl Work {
    pub(super) fn cost(self, queue: &Queue) -> Cost {
        let on_return = queue.context().features.count_on_return;
        match self {
            Self::Forward(_) => Cost::of_forwarding(on_return),
            Self::Retire(_) => Cost::of_returning(on_return, queue.has_writable_in_flight()),
        }
    }
}

/// One function that is held to limits.
#[derive(Debug)]
struct Limited {
    meter: Meter,
    /// Work that waits, in the order of its turns: each does what it may in its turn and then waits behind
    /// the others.
    waiting: VecDeque<Work>,
    /// When there is something to spend again.
    until: u64,
}

/// What came of asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// So many chains may be done now.
    Admitted(u16),
    /// It waits from now on.
    Delayed,
    /// It waits already, and keeps its place.
    Waiting,
}

/// The limits of all functions. Its locks are taken last, and nothing else is with them.
#[derive(Debug)]
pub(super) struct Throttle {
    functions: [Mutex<Option<Limited>>; MAX_FUNCTIONS],
    /// One bit for every function with limits: those without cost nothing.
    limited: AtomicU8,
    /// When the first work that waits may be tried again.
    resume: AtomicU64,
}

impl Default for Throttle {
    fn default() -> Self {
        Self { functions: Default::default(), limited: AtomicU8::new(0), resume: AtomicU64::new(NEVER) }
    }
}

impl Throttle {
    /// When [`Throttle::take_turn`] has something, if anything waits.
    pub(super) fn resume(&self) -> Option<u64> {
        let resume = self.resume.load(Ordering::Relaxed);
        (resume != NEVER).then_some(resume)
    }

    /// Holds `function` to `limits` from now on. Returns the work that waited: it is to ask again.
    pub(super) fn set(&self, function: FunctionId, limits: Option<Limits>, now: u64) -> VecDeque<Work> {
        let new = limits.map(|limits| Limited {
            meter: Meter::new(limits, now),
            waiting: VecDeque::new(),
            until: now,
        });
        let mut place = self.lock(function);
        let bit = 1 << function.index();
        match new {
            Some(_) => self.limited.fetch_or(bit, Ordering::Relaxed),
            None => self.limited.fetch_and(!bit, Ordering::Relaxed),
        };
        let old = std::mem::replace(&mut *place, new);
        drop(place);
        // Nothing of this function waits any more; what else does is noted anew.
        self.resume.store(NEVER, Ordering::Relaxed);
        FunctionId::all().for_each(|function| self.note_waiting(function));
        old.map_or_else(VecDeque::new, |old| old.waiting)
    }

    /// How many chains `work` may do; `now` is asked only where there are limits. Work whose turn it is keeps
    /// its place in front if it has to wait on.
    #[inline]
    pub(super) fn admit(
        &self,
        function: FunctionId,
        work: Work,
        cost: Cost,
        in_turn: bool,
        now: impl Fn() -> u64,
    ) -> Admission {
        if !self.is_limited(function) {
            return Admission::Admitted(u16::MAX);
        }
        self.ask(function, work, cost, in_turn, now())
    }

    #[cold]
    fn ask(&self, function: FunctionId, work: Work, cost: Cost, in_turn: bool, now: u64) -> Admission {
        let mut place = self.lock(function);
        let Some(limited) = place.as_mut() else { return Admission::Admitted(u16::MAX) };
        let behind = !in_turn && !limited.waiting.is_empty();
        let allowance = match cost {
            Cost::Operations if behind => Err(limited.until),
            cost => limited.meter.admit(cost, now),
        };
        let until = match allowance {
            Ok(most) => return Admission::Admitted(most),
            Err(until) => until,
        };
        if limited.waiting.contains(&work) {
            return Admission::Waiting;
        }
        if in_turn {
            limited.waiting.push_front(work);
        } else {
            limited.waiting.push_back(work);
        }
        if !behind {
            limited.until = until;
            self.resume.fetch_min(until, Ordering::Relaxed);
        }
        if in_turn { Admission::Waiting } else { Admission::Delayed }
    }

    /// Charges what was done.
    #[inline]
    pub(super) fn charge(&self, function: FunctionId, cost: Cost, progress: Progress, now: impl Fn() -> u64) {
        if self.is_limited(function)
            && progress.chains > 0
            && let Some(limited) = self.lock(function).as_mut()
        {
            limited.meter.pay(cost, progress.chains, progress.bytes, now());
        }
    }

    /// Whether any work may have waited long enough. If so, [`Throttle::take_turn`] is to be asked of every
    /// function, and then [`Throttle::note_waiting`].
    pub(super) fn is_due(&self, now: impl Fn() -> u64) -> bool {
        let resume = self.resume.load(Ordering::Relaxed);
        if resume == NEVER || resume > now() {
            return false;
        }
        // What begins to wait from here on is noted anew.
        self.resume.store(NEVER, Ordering::Relaxed);
        true
    }

    /// The work of `function` whose turn it is, if it has waited long enough.
    pub(super) fn take_turn(&self, function: FunctionId, now: u64) -> Option<Work> {
        let mut place = self.lock(function);
        let limited = place.as_mut().filter(|limited| limited.until <= now)?;
        limited.waiting.pop_front()
    }

    /// Work of `function` that waits.
    pub(super) fn waiting(&self, function: FunctionId) -> usize {
        self.lock(function).as_ref().map_or(0, |limited| limited.waiting.len())
    }

    /// Sees to it that work of `function` that still waits is looked at in time.
    pub(super) fn note_waiting(&self, function: FunctionId) {
        if let Some(limited) = self.lock(function).as_ref().filter(|limited| !limited.waiting.is_empty()) {
            self.resume.fetch_min(limited.until, Ordering::Relaxed);
        }
    }

    #[inline]
    fn is_limited(&self, function: FunctionId) -> bool {
        self.limited.load(Ordering::Relaxed) & 1 << function.index() != 0
    }

    fn lock(&self, function: FunctionId) -> MutexGuard<'_, Option<Limited>> {
        self.functions[function.index()].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qos::Limit;

    const SECOND: u64 = 1_000_000_000;

    fn function() -> FunctionId {
        FunctionId::all().next().expect("a first one")
    }

    /// One operation a second.
    fn throttle() -> Throttle {
        let throttle = Throttle::default();
        let limits = Limits { operations: Limit { rate: 1, burst: 1 }, ..Limits::default() };
        assert_eq!(throttle.set(function(), Some(limits), 0), []);
        throttle
    }

    /// Asks, and does one chain if it may.
    fn try_one(throttle: &Throttle, work: Work, in_turn: bool, now: u64) -> Admission {
        let admission = throttle.admit(function(), work, Cost::Operations, in_turn, || now);
        if let Admission::Admitted(_) = admission {
            let progress = Progress { chains: 1, ..Progress::default() };
            throttle.charge(function(), Cost::Operations, progress, || now);
        }
        admission
    }

    #[test]
    fn work_that_waits_takes_turns_and_is_not_overtaken() {
        let throttle = throttle();
        let queues = [Work::Forward(0), Work::Retire(1), Work::Forward(2)];
        assert_eq!(
            queues.map(|work| try_one(&throttle, work, false, 0)),
            [Admission::Admitted(1), Admission::Delayed, Admission::Delayed,]
        );
        assert_eq!(throttle.resume(), Some(1), "in debt no more");
        let mut done = Vec::new();
        for now in (1..=9).map(|second| second * SECOND) {
            assert!(throttle.is_due(|| now));
            while let Some(work) = throttle.take_turn(function(), now) {
                if let Admission::Admitted(_) = try_one(&throttle, work, true, now) {
                    done.push(work);
                    // There is always more, and it asks again as any work does.
                    assert_eq!(try_one(&throttle, work, false, now), Admission::Delayed);
                }
            }
            // Work that comes late in each round.
            try_one(&throttle, queues[0], false, now);
            throttle.note_waiting(function());
        }
        // The first came back when the others had had a turn, or two.
        let (first, then) = done.split_at(3);
        assert_eq!(first, [queues[1], queues[2], queues[1]]);
        assert!(then.chunks(3).all(|round| round == [queues[0], queues[2], queues[1]]), "{done:?}");
    }

    #[test]
    fn what_costs_nothing_does_not_wait_and_what_costs_bytes_waits_for_bytes() {
        let throttle = throttle();
        let ask = |cost| throttle.admit(function(), Work::Forward(0), cost, false, || 0);
        assert_eq!(ask(Cost::Operations), Admission::Admitted(1));
        throttle.charge(function(), Cost::Operations, Progress { chains: 9, ..Progress::default() }, || 0);
        assert_eq!(ask(Cost::Operations), Admission::Delayed);
        assert_eq!(ask(Cost::Operations), Admission::Waiting);
        assert_eq!([ask(Cost::Nothing), ask(Cost::Bytes)], [Admission::Admitted(u16::MAX); 2]);
        assert_eq!(throttle.set(function(), None, 0), [Work::Forward(0)], "what waited asks again");
        assert_eq!(ask(Cost::Operations), Admission::Admitted(u16::MAX));
    }
}
