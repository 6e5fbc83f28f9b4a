//! A token bucket that may go into debt.

/// Nanoseconds in a second, and the parts that a unit is counted in: what flows in during one nanosecond is
/// then a whole number, and nothing is ever rounded.
const PARTS: i128 = 1_000_000_000;

/// Lets through `rate` units a second over time, and up to `burst` at once.
///
/// Work is admitted while the level is above 0, and charged in full when its cost is known; the level may
/// then be below 0. So over any time `t` no more than `burst + rate * t` units pass, and the rest of the work
/// that was admitted last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Units a second; 0: no limit.
    rate: u64,
    /// Where the level ends, in parts.
    burst: i128,
    /// The level at `since`, in parts.
    level: i128,
    since: u64,
}

impl Bucket {
    /// A full bucket. `rate` is in units a second, 0 for no limit; `burst` in units, of which it holds at
    /// least one.
    #[must_use]
    pub fn new(rate: u64, burst: u64, now: u64) -> Self {
        let burst = i128::from(burst.max(1)) * PARTS;
        Self { rate, burst, level: burst, since: now }
    }

    /// When the level is next above 0: `now` if it is.
    #[must_use]
    pub fn ready_at(&self, now: u64) -> u64 {
        let level = self.level_at(now);
        if self.rate == 0 || level > 0 {
            return now;
        }
        let wait = -level / i128::from(self.rate) + 1;
        now.max(self.since).saturating_add(u64::try_from(wait).unwrap_or(u64::MAX))
    }

    /// Units that may be admitted now, a part of one counted as one; `u64::MAX` without a limit.
    #[must_use]
    pub fn available(&self, now: u64) -> u64 {
        if self.rate == 0 {
            return u64::MAX;
        }
        let whole = (self.level_at(now).max(0) + PARTS - 1) / PARTS;
        u64::try_from(whole).unwrap_or(u64::MAX)
    }

    /// Charges what was done.
    pub fn charge(&mut self, now: u64, units: u64) {
        if self.rate != 0 {
            self.level = self.level_at(now).saturating_sub(i128::from(units) * PARTS);
            self.since = self.since.max(now);
        }
    }

    /// A clock that stepped back adds nothing.
    fn level_at(&self, now: u64) -> i128 {
        let passed = i128::from(now.saturating_sub(self.since));
        let gained = i128::from(self.rate).saturating_mul(passed);
        self.level.saturating_add(gained).min(self.burst)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_starts_full_goes_into_debt_and_tells_when_it_is_over() {
        let mut bucket = Bucket::new(1000, 10, 0);
        assert_eq!((bucket.ready_at(0), bucket.available(0)), (0, 10));
        bucket.charge(0, 12);
        assert_eq!(bucket.available(0), 0);
        assert_eq!(bucket.ready_at(0), 2_000_001, "two units at one per millisecond, and above 0");
        assert_eq!((bucket.available(2_000_000), bucket.available(2_000_001)), (0, 1));
        assert_eq!(bucket.available(u64::MAX), 10, "no more than the burst");
        assert_eq!(bucket.ready_at(1), 2_000_001, "asking earlier changes nothing");
    }

    #[test]
    fn no_rate_is_no_limit_and_no_burst_is_one_unit() {
        let mut free = Bucket::new(0, 0, 5);
        free.charge(5, u64::MAX);
        assert_eq!((free.ready_at(5), free.available(5)), (5, u64::MAX));
        let mut one = Bucket::new(1, 0, 0);
        assert_eq!(one.available(0), 1);
        one.charge(0, 1);
        assert_eq!(one.ready_at(0), 1);
    }

    #[test]
    fn the_largest_numbers_saturate() {
        let mut bucket = Bucket::new(u64::MAX, u64::MAX, 0);
        for _ in 0..3 {
            bucket.charge(0, u64::MAX);
        }
        assert_eq!(bucket.ready_at(0), 2_000_000_001);
        assert_eq!(bucket.available(u64::MAX), u64::MAX);
        let mut slow = Bucket::new(1, 1, 0);
        slow.charge(0, u64::MAX);
        assert_eq!(slow.ready_at(0), u64::MAX);
        slow.charge(9, 0);
        assert_eq!(slow.ready_at(3), u64::MAX, "time that steps back");
    }

    /// A rate that divides nothing: after any number of odd steps the bucket is where one long step would
    /// have taken it.
    #[test]
    fn odd_steps_do_not_drift() {
        let mut bucket = Bucket::new(999_983, 1_000_000, 0);
        bucket.charge(0, 3_000_000);
        let mut steps = bucket;
        for now in (0..1_000_000_000).step_by(997) {
            steps.charge(now, 0);
        }
        assert_eq!(steps.ready_at(1_000_000_000), bucket.ready_at(1_000_000_000));
    }

    proptest! {
        #[test]
        fn over_any_interval_it_admits_the_burst_the_rate_and_one_debt(
            rate in 1..=1_000_000_000_000_u64,
            burst in 1..1_000_000_u64,
            steps in prop::collection::vec((0..10_000_000_u64, 0..100_000_u64), 1..60),
        ) {
            let mut bucket = Bucket::new(rate, burst, 0);
            let (mut now, mut admitted) = (0, Vec::new());
            for (gap, units) in steps {
                now += gap;
                if bucket.available(now) > 0 {
                    prop_assert_eq!(bucket.ready_at(now), now);
                    bucket.charge(now, units);
                    admitted.push((now, units));
                }
            }
            for from in 0..admitted.len() {
                let mut sum = 0;
                for &(to, units) in &admitted[from..] {
                    // Before the last was admitted, what had passed was within the limit.
                    let allowed = i128::from(burst) * PARTS + i128::from(rate) * i128::from(to - admitted[from].0);
                    prop_assert!(i128::from(sum) * PARTS < allowed);
                    sum += units;
                }
            }
        }

        #[test]
        fn work_that_always_asks_gets_the_rate(
            rate in 1..=1_000_000_000_000_u64,
            burst in 1..1_000_000_u64,
            costs in prop::collection::vec(1..100_000_u64, 1..100),
        ) {
            // A burst that flows in within a nanosecond would be lost before it could be asked for.
            let mut bucket = Bucket::new(rate, burst + rate / 1_000_000_000, 0);
            let (mut now, mut done) = (0, 0_u64);
            for units in costs {
                now = bucket.ready_at(now);
                prop_assert!(i128::from(done) * PARTS >= i128::from(rate) * i128::from(now.saturating_sub(1)));
                prop_assert!(bucket.available(now) > 0);
                bucket.charge(now, units);
                done += units;
            }
        }
    }
}
