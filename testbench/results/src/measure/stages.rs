//! Where the time of one request went, stage by stage, at queue depth 1.
//!
//! ```text
//! Begin      Doorbell      Shadow       Kicked        Used          Tail         Guest         Done
//!   |-- submit --|-- forward --|--- kick ---|- back end --|--- tail ----|-- retire --|- complete --|
//!      driver       IO-Bond     bm-hypervisor             bm-hypervisor    IO-Bond       driver
//! ```
//!
//! Each party stamps the moment at which it hands the request on; the driver's thread folds the stamps when
//! it is done.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use super::LatencyRecorder;
use crate::Stages;

/// The moments of a request, in the order in which they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Stage {
    /// The driver begins to build the request. Stamped by [`StageRecorder::begin`].
    Begin,
    /// The driver writes the doorbell.
    Doorbell,
    /// IO-Bond publishes the chain in the shadow vring.
    Shadow,
    /// bm-hypervisor has seen the new HEAD and kicks the back end, or sees that it need not.
    Kicked,
    /// bm-hypervisor first sees the chain in the shadow used ring.
    Used,
    /// bm-hypervisor writes TAIL, by which IO-Bond learns of used entries.
    Tail,
    /// IO-Bond publishes the chain in the guest's used ring.
    Guest,
    /// The driver has the answer. Stamped by [`StageRecorder::finish`].
    Done,
}

/// How many moments there are.
pub const MOMENTS: usize = Stage::Done as usize + 1;
const STAGES: usize = MOMENTS - 1;

/// What lies between two moments, in order.
pub const STAGE_NAMES: [&str; STAGES] = [
    "driver: submit",
    "IO-Bond: doorbell to shadow",
    "hypervisor: shadow to back end",
    "back end",
    "hypervisor: used to tail",
    "IO-Bond: tail to guest",
    "driver: complete",
];

/// The stamps of the request in flight, shared by all threads that it passes.
#[derive(Debug)]
pub struct StageClock {
    epoch: Instant,
    /// Nanoseconds since `epoch`, 0 for a moment that has not come. Each has its writer; they share one cache
    /// line, which moves with the request.
    stamps: [AtomicU64; MOMENTS],
}

impl StageClock {
    /// A clock without stamps.
    #[must_use]
    pub fn new() -> Self {
        Self { epoch: Instant::now(), stamps: [const { AtomicU64::new(0) }; MOMENTS] }
    }

    /// Stamps a moment with the present time: a clock read and a store, no allocation. Call it *before* the
    /// act that lets the next party go on, or the next request's stamps mix with this one's. A moment that
    /// comes twice keeps the later time.
    pub fn stamp(&self, stage: Stage) {
        let nanoseconds = u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX);
        if let Some(stamp) = self.stamps.get(stage as usize) {
            // Nothing is read through a stamp; the ring's own ordering carries the request.
            stamp.store(nanoseconds.max(1), Ordering::Relaxed);
        }
    }

    fn clear(&self) {
        for stamp in &self.stamps {
            stamp.store(0, Ordering::Relaxed);
        }
    }
}

impl Default for StageClock {
    fn default() -> Self {
        Self::new()
    }
}

/// Requests folded into one histogram per stage.
#[derive(Debug)]
pub struct StageTotals {
    stages: [LatencyRecorder; STAGES],
    incomplete: u64,
}

impl Default for StageTotals {
    fn default() -> Self {
        Self { stages: std::array::from_fn(|_| LatencyRecorder::new()), incomplete: 0 }
    }
}

impl StageTotals {
    /// Takes a request by its stamps in nanoseconds. When none is before its predecessor it is recorded,
    /// otherwise counted as incomplete.
    pub fn record(&mut self, stamps: &[u64; MOMENTS]) {
        if !stamps.is_sorted() {
            self.incomplete += 1;
            return;
        }
        for (stage, moments) in self.stages.iter_mut().zip(stamps.windows(2)) {
            if let [from, to] = moments {
                stage.record_ns(to - from);
            }
        }
    }

    /// Requests that were not recorded because a stamp was out of order.
    #[must_use]
    pub const fn incomplete(&self) -> u64 {
        self.incomplete
    }

    /// The rows of a result.
    #[must_use]
    pub fn stages(&self, name: &str) -> Stages {
        let rows = STAGE_NAMES.iter().zip(&self.stages);
        Stages { name: name.to_owned(), stages: rows.map(|(name, stage)| stage.stage(name)).collect() }
    }
}

/// Folds the requests of a clock; belongs to the driver's thread.
#[derive(Debug)]
pub struct StageRecorder {
    clock: Arc<StageClock>,
    totals: StageTotals,
    incomplete: u64,
}

impl StageRecorder {
    /// A recorder over `clock`.
    #[must_use]
    pub fn new(clock: Arc<StageClock>) -> Self {
        Self { clock, totals: StageTotals::default(), incomplete: 0 }
    }

    /// A request begins; whatever was stamped before is forgotten.
    pub fn begin(&mut self) {
        self.clock.clear();
        self.clock.stamp(Stage::Begin);
    }

    /// The request is done. When each moment was stamped and none before its predecessor it is recorded,
    /// otherwise counted as incomplete.
    pub fn finish(&mut self) {
        self.clock.stamp(Stage::Done);
        let stamps: [u64; MOMENTS] =
            std::array::from_fn(|moment| self.clock.stamps[moment].load(Ordering::Relaxed));
        if stamps[0] == 0 {
            self.incomplete += 1;
            return;
        }
        self.totals.record(&stamps);
    }

    /// Requests that were not recorded because a stamp was missing or out of order.
    #[must_use]
    pub const fn incomplete(&self) -> u64 {
        self.incomplete + self.totals.incomplete()
    }

    /// The rows of a result.
    #[must_use]
    pub fn stages(&self, name: &str) -> Stages {
        self.totals.stages(name)
    }
}

#[cfg(test)]
mod tests {
    use std::{thread::sleep, time::Duration};

    use super::*;

    const BETWEEN: [Stage; 6] =
        [Stage::Doorbell, Stage::Shadow, Stage::Kicked, Stage::Used, Stage::Tail, Stage::Guest];

    fn recorder() -> (Arc<StageClock>, StageRecorder) {
        let clock = Arc::new(StageClock::new());
        (Arc::clone(&clock), StageRecorder::new(clock))
    }

    #[test]
    fn time_is_booked_on_the_stage_in_which_it_passed() {
        let (clock, mut recorder) = recorder();
        recorder.begin();
        for stage in BETWEEN {
            if stage == Stage::Used {
                sleep(Duration::from_millis(5));
            }
            clock.stamp(stage);
        }
        recorder.finish();
        let rows = recorder.stages("read").stages;
        assert!(rows.iter().all(|row| row.count == 1), "{rows:?}");
        assert_eq!(rows[3].name, "back end");
        assert!(rows[3].p50 >= 5_000_000, "{rows:?}");
    }

    #[test]
    fn a_missing_or_late_stamp_spoils_only_its_request() {
        let (clock, mut recorder) = recorder();
        for spoiled in BETWEEN {
            recorder.begin();
            BETWEEN.iter().filter(|stage| **stage != spoiled).for_each(|stage| clock.stamp(*stage));
            recorder.finish();
        }
        recorder.begin();
        BETWEEN.iter().for_each(|stage| clock.stamp(*stage));
        sleep(Duration::from_micros(10));
        clock.stamp(Stage::Doorbell);
        recorder.finish();
        assert_eq!(recorder.incomplete(), BETWEEN.len() as u64 + 1);
        assert!(recorder.stages("read").stages.iter().all(|row| row.count == 0));
    }
}
