//! When a thread that polls goes to sleep.

use std::{
    hint, thread,
    time::{Duration, Instant},
};

/// What a thread that polls does when there is nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// It polls on, always.
    Never,
    /// It sleeps when there was nothing to do for so long; at once if that is zero.
    After(Duration),
}

/// What to do after a pass that found nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Start the next pass at once.
    Poll,
    /// Offer the core to other threads, look at whatever else may end the loop, and then the next pass.
    Yield,
    /// Sleep until there may be something to do, and then the next pass.
    Sleep,
}

impl Next {
    /// Spins or yields, as a thread does between two passes. Returns false for [`Next::Sleep`], which is the
    /// caller's.
    pub fn pause(self) -> bool {
        match self {
            Self::Poll => hint::spin_loop(),
            Self::Yield => thread::yield_now(),
            Self::Sleep => {}
        }
        self != Self::Sleep
    }
}

/// How long a thread that polls has found nothing to do, and what follows from that.
///
/// Most passes cost a count: the clock is read, and the core offered, once in so many of them. Where cores
/// are free an answer is not held up by that, and where they are few the driver that the thread waits for
/// gets to run.
#[derive(Clone, Debug)]
pub struct Polling {
    rest: Rest,
    /// Passes that find nothing, before the first look at the clock.
    first: u32,
    /// Passes from one look to the next.
    every: u32,
    /// Passes until the next look.
    left: u32,
    /// The first look at the clock since there was something to do.
    since: Option<Instant>,
}

impl Polling {
    /// Looks at the clock after `first` passes in a row that find nothing, and then after each `every`;
    /// always after one if it is to sleep at once. Each is at least 1.
    pub fn new(rest: Rest, first: u32, every: u32) -> Self {
        let (first, every) = if rest == Rest::After(Duration::ZERO) { (1, 1) } else { (first, every) };
        Self { rest, first, every, left: first, since: None }
    }

    /// A pass found something to do, or a sleep is over: work often follows what woke the thread.
    pub fn worked(&mut self) {
        (self.left, self.since) = (self.first, None);
    }

    /// A pass found nothing to do. `now` is the clock.
    pub fn idle(&mut self, now: impl FnOnce() -> Instant) -> Next {
        self.left = self.left.saturating_sub(1);
        if self.left > 0 {
            return Next::Poll;
        }
        self.left = self.every;
        let Rest::After(limit) = self.rest else { return Next::Yield };
        let now = now();
        match now.saturating_duration_since(*self.since.get_or_insert(now)) >= limit {
            true => Next::Sleep,
            false => Next::Yield,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_micros(50);
    const PASSES: u32 = 32;

    /// What follows from `passes` idle passes of 1 us, and how often the clock is read.
    fn idle(polling: &mut Polling, passes: u32) -> (Vec<Next>, u32) {
        let start = Instant::now();
        let mut looks = 0;
        let next = |pass| {
            polling.idle(|| {
                looks += 1;
                start + Duration::from_micros(1) * pass
            })
        };
        ((0..passes).map(next).collect(), looks)
    }

    /// 32 passes of 1 us | the first look | 32 passes | the second | 32 passes: 64 us since the first, more
    /// than 50.
    #[test]
    fn a_thread_polls_for_the_limit_and_then_sleeps() {
        let mut polling = Polling::new(Rest::After(LIMIT), PASSES, PASSES);
        let (next, looks) = idle(&mut polling, 3 * PASSES);
        let mut expected = [Next::Poll; 3 * PASSES as usize];
        (expected[31], expected[63], expected[95]) = (Next::Yield, Next::Yield, Next::Sleep);
        assert_eq!((&next[..], looks), (&expected[..], 3));
    }

    #[test]
    fn work_starts_the_limit_anew() {
        let mut polling = Polling::new(Rest::After(LIMIT), PASSES, PASSES);
        for _ in 0..100 {
            assert!(!idle(&mut polling, 2 * PASSES).0.contains(&Next::Sleep));
            polling.worked();
        }
        assert_eq!(idle(&mut polling, 3 * PASSES).0.last(), Some(&Next::Sleep));
    }

    /// The number of passes after each of many events has a bound, once the clock has moved by the limit.
    #[test]
    fn passes_after_an_event_are_bounded() {
        let mut polling = Polling::new(Rest::After(LIMIT), PASSES, 1);
        let (start, mut passes) = (Instant::now(), 0);
        for _ in 0..100 {
            polling.worked();
            let mut pass = 0;
            while polling.idle(|| start + Duration::from_micros(1) * pass) != Next::Sleep {
                pass += 1;
            }
            passes += pass;
        }
        assert_eq!(passes, 100 * (PASSES - 1 + 50));
    }

    #[test]
    fn a_limit_of_zero_does_not_poll() {
        let mut polling = Polling::new(Rest::After(Duration::ZERO), PASSES, PASSES);
        assert_eq!(idle(&mut polling, 2).0, [Next::Sleep, Next::Sleep]);
    }

    #[test]
    fn without_a_limit_it_never_sleeps_and_never_reads_the_clock() {
        let mut polling = Polling::new(Rest::Never, PASSES, 1);
        let (next, looks) = idle(&mut polling, 2 * PASSES);
        assert_eq!(next.iter().filter(|next| **next == Next::Yield).count(), 33);
        assert!(looks == 0 && next.into_iter().all(Next::pause));
    }
}
