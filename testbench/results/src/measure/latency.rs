//! Latencies of many requests, kept as a histogram with three significant digits.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::{Latency, StageShare};

/// Longest latency that is told apart, 100 s; longer ones count as this long.
const LONGEST_NS: u64 = 100_000_000_000;

/// Collects latencies. Recording takes a few nanoseconds and does not allocate.
#[derive(Clone, Debug)]
pub struct LatencyRecorder {
    histogram: Histogram<u64>,
}

impl LatencyRecorder {
    /// An empty recorder for 1 ns to 100 s; it takes its memory, about 250 KiB, here.
    #[must_use]
    pub fn new() -> Self {
        // The bounds are constants for which the crate documents success.
        #[allow(clippy::expect_used)]
        let histogram =
            Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("1 <= low, 2 * low <= high, 3 digits");
        Self { histogram }
    }

    /// Adds one latency, in nanoseconds.
    pub fn record(&mut self, latency: Duration) {
        self.record_ns(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Takes one latency in nanoseconds.
    pub fn record_ns(&mut self, nanoseconds: u64) {
        self.histogram.saturating_record(nanoseconds);
    }

    /// How many were taken.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// The latency in nanoseconds that the share `quantile` (0 to 1) of requests did not exceed; 0 when there
    /// were none.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> u64 {
        self.histogram.value_at_quantile(quantile)
    }

    /// The row of a result.
    #[must_use]
    pub fn latency(&self, name: &str) -> Latency {
        Latency {
            name: name.to_owned(),
            unit: "ns".to_owned(),
            count: self.count(),
            mean: self.histogram.mean(),
            p50: self.quantile(0.5),
            p90: self.quantile(0.9),
            p99: self.quantile(0.99),
            p999: self.quantile(0.999),
            max: self.histogram.max(),
            buckets: self.buckets(),
        }
    }

    /// The row of one stage of a result.
    pub(super) fn stage(&self, name: &str) -> StageShare {
        StageShare {
            name: name.to_owned(),
            count: self.count(),
            mean: self.histogram.mean(),
            p50: self.quantile(0.5),
            p99: self.quantile(0.99),
        }
    }

    /// Buckets with an upper bound in nanoseconds, each 5 % wider than the last, empty ones left out: enough
    /// for a curve, a few hundred rows at most. The exact quantiles stand beside them.
    fn buckets(&self) -> Vec<(u64, u64)> {
        self.histogram
            .iter_log(1, 1.05)
            .filter(|step| step.count_since_last_iteration() > 0)
            .map(|step| {
                // A step may end inside the range of values that the histogram does not tell apart.
                let upper = self.histogram.highest_equivalent(step.value_iterated_to());
                (upper.min(self.histogram.max()), step.count_since_last_iteration())
            })
            .collect()
    }
}

impl Default for LatencyRecorder {
    fn default() -> Self {
        Self::new()
    }
}

/// A rate: `amount` (requests, bytes, ...) in `elapsed`, per second. 0 when no time passed.
#[must_use]
pub fn per_second(amount: u64, elapsed: Duration) -> f64 {
    if elapsed.is_zero() { 0.0 } else { amount as f64 / elapsed.as_secs_f64() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn recorded(latencies: &[u64]) -> LatencyRecorder {
        let mut recorder = LatencyRecorder::new();
        for nanoseconds in latencies {
            recorder.record_ns(*nanoseconds);
        }
        recorder
    }

    #[test]
    fn nothing_recorded_is_all_zero() {
        let row = LatencyRecorder::new().latency("none");
        assert_eq!((row.count, row.p50, row.p999, row.max, row.buckets), (0, 0, 0, 0, vec![]));
    }

    #[test]
    fn what_is_too_long_counts_as_the_longest() {
        let row = recorded(&[u64::MAX]).latency("long");
        assert_eq!(row.count, 1);
        assert!(row.max >= LONGEST_NS, "{}", row.max);
    }

    #[test]
    fn rates() {
        assert_eq!(per_second(500, Duration::from_millis(250)), 2000.0);
        assert_eq!(per_second(500, Duration::ZERO), 0.0);
    }

    proptest! {
        /// Each quantile is that of the sorted list, to the three digits that the histogram keeps.
        #[test]
        fn quantiles_are_those_of_the_sorted_list(mut latencies in prop::collection::vec(1u64..10_000_000_000, 1..400)) {
            let row = recorded(&latencies).latency("x");
            latencies.sort_unstable();
            for (quantile, found) in [(0.5, row.p50), (0.9, row.p90), (0.99, row.p99), (0.999, row.p999), (1.0, row.max)] {
                let rank = ((quantile * latencies.len() as f64).ceil() as usize).max(1);
                let exact = latencies[rank - 1];
                prop_assert!(found >= exact && found - exact <= exact / 1000, "{quantile}: {found} for {exact}");
            }
            let sum: u64 = latencies.iter().sum();
            let mean = sum as f64 / latencies.len() as f64;
            prop_assert!((row.mean - mean).abs() <= mean / 1000.0 + 1.0, "mean {} for {mean}", row.mean);
        }

        /// The curve loses no request, rises, and ends at the maximum.
        #[test]
        fn buckets_hold_every_request(latencies in prop::collection::vec(1u64..10_000_000_000, 1..400)) {
            let row = recorded(&latencies).latency("x");
            prop_assert_eq!(row.buckets.iter().map(|(_, count)| count).sum::<u64>(), latencies.len() as u64);
            prop_assert!(row.buckets.is_sorted_by(|(a, _), (b, _)| a < b), "{:?}", row.buckets);
            prop_assert_eq!(row.buckets.last().map(|(upper, _)| *upper), Some(row.max));
        }
    }
}
