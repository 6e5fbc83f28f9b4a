//! `bmhive bench latency`: how long a request takes from its driver through IO-Bond to a back end and back,
//! and where; against load, size, queues and boards. The same requests in every world, under the same names.
//!
//! ```text
//!   latency.SIZE.qd1          one request at a time
//!   latency.SIZE.load50       half of the capacity, at random times that no answer changes
//!   latency.SIZE.saturation   the ring is always full
//!   latency.SIZE.capacity     how many come through of as many at random times
//! ```
//!
//! A ring that is always full moves in large batches, which requests at random times do not. So loads are
//! shares of what comes through of these, and each of them can be carried for ever.

mod findings;
mod load;

pub use findings::Findings;
pub use load::{Load, LoadError};

use simulation::{Bench, BenchError, Pace, Plan, PlanError, Shape};

/// The points that are measured, and with what.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// Rings, timing, design and seed of every point, and how many requests of each queue are measured.
    pub plan: Plan,
    /// Numbers of boards; all else is measured with the first of them.
    pub boards: Vec<u8>,
    /// Numbers of queues of each board; all else is measured with the first of them.
    pub queues: Vec<u8>,
    /// Bytes that a request carries in each direction; loads, boards and queues are measured with the first
    /// of them.
    pub sizes: Vec<u32>,
    /// Loads that are measured, with the first size and the first numbers of boards and queues.
    pub loads: Vec<Load>,
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are those of the message")]
pub enum LatencyError {
    /// A point is impossible.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Nothing is to be measured.
    #[error("no {0} are named: name one at least")]
    Nothing(&'static str),
    /// A point came to no end.
    #[error("{point}: {source}")]
    Point { point: String, source: BenchError },
}

/// One plan of a sweep.
#[derive(Clone, Debug)]
struct Point {
    load: Load,
    plan: Plan,
}

impl std::fmt::Display for Point {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Plan { boards, queues, shape, .. } = self.plan;
        write!(out, "{} bytes, {}, boards: {boards}, queues: {queues}", shape.out, self.load)
    }
}

/// Requests that are made before any is measured, beyond two full rings: a share of those that are.
const WARM_UP: u64 = 10;

impl Sweep {
    /// Whether every point of it can be.
    ///
    /// # Errors
    /// The first thing that is impossible.
    pub fn check(&self) -> Result<(), LatencyError> {
        for (what, empty) in [
            ("boards", self.boards.is_empty()),
            ("queues", self.queues.is_empty()),
            ("sizes", self.sizes.is_empty()),
            ("loads", self.loads.is_empty()),
        ] {
            if empty {
                return Err(LatencyError::Nothing(what));
            }
        }
        let sizes = self.sizes.iter().map(|size| self.point(Load::Saturation, *size));
        let boards = self.boards.iter().map(|boards| self.with_boards(*boards));
        let queues = self.queues.iter().map(|queues| self.with_queues(*queues));
        sizes.chain(boards).chain(queues).try_for_each(|point| point.plan.check())?;
        Ok(())
    }

    /// Measures all of it with `bench`; `tell` hears of each point before it is begun.
    ///
    /// # Errors
    /// [`LatencyError`].
    pub fn run(&self, bench: &dyn Bench, tell: &mut dyn FnMut(&str)) -> Result<Findings, LatencyError> {
        self.check()?;
        let mut measure = |point: Point| {
            tell(&point.to_string());
            let outcome = bench.run(&point.plan);
            outcome.map_err(|source| LatencyError::Point { point: point.to_string(), source })
        };
        let mut findings = Findings::default();
        let wanted = |load| self.loads.contains(&load);
        let percents: Vec<_> = self.loads.iter().filter(|load| matches!(load, Load::Percent(_))).collect();
        for size in self.sizes.iter().filter(|_| wanted(Load::Idle)) {
            findings.idle(*size, &measure(self.point(Load::Idle, *size))?);
        }
        if wanted(Load::Saturation) || !percents.is_empty() {
            let first = self.first_size();
            let full = measure(self.point(Load::Saturation, first))?;
            if !percents.is_empty() {
                // As many as with a full ring: the links carry them, and more than that would be refused.
                let (most, _) = self.share_of(Load::Percent(99), full.rate());
                let capacity = measure(most)?;
                findings.capacity(first, &capacity);
                for load in percents {
                    let (point, rate) = self.share_of(*load, capacity.rate());
                    findings.offered(*load, first, rate, &measure(point)?);
                }
            }
            findings.loaded(Load::Saturation, first, &full);
            findings.busy(&full);
        }
        for size in self.sizes.iter().skip(1).filter(|_| wanted(Load::Saturation)) {
            findings.throughput(Load::Saturation, *size, &measure(self.point(Load::Saturation, *size))?);
        }
        for queues in several(&self.queues) {
            findings.queues(*queues, &measure(self.with_queues(*queues))?);
        }
        for boards in several(&self.boards) {
            findings.boards(*boards, &measure(self.with_boards(*boards))?);
        }
        Ok(findings)
    }

    /// Requests at random times, so many that they are a share of the rate `full`; and how many a second that
    /// is.
    fn share_of(&self, load: Load, full: f64) -> (Point, f64) {
        let mut point = self.point(load, self.first_size());
        let queues = u64::from(point.plan.boards) * u64::from(point.plan.queues);
        let rate = load.share_of(full, queues);
        point.plan.pace = Pace::Open { rate };
        (point, (rate * queues) as f64)
    }

    /// How many points there are.
    #[must_use]
    pub fn points(&self) -> u64 {
        let wanted = |load| self.loads.contains(&load);
        let percents = self.loads.iter().filter(|load| matches!(load, Load::Percent(_))).count();
        let idle = if wanted(Load::Idle) { self.sizes.len() } else { 0 };
        let full = match (wanted(Load::Saturation), percents) {
            (true, _) => self.sizes.len(),
            (false, 0) => 0,
            _ => 1,
        };
        let capacity = percents.min(1);
        (idle + percents + capacity + full + several(&self.queues).len() + several(&self.boards).len()) as u64
    }

    fn first_size(&self) -> u32 {
        self.sizes.first().copied().unwrap_or_default()
    }

    /// Requests of `size` bytes there and back at `load`, which is not a share of a rate yet.
    fn point(&self, load: Load, size: u32) -> Point {
        let shape = Shape { out: size, back: size };
        let (boards, queues) = (self.boards.first(), self.queues.first());
        let (boards, queues) = (boards.copied().unwrap_or(1), queues.copied().unwrap_or(1));
        let mut plan = Plan { shape, boards, queues, ..self.plan.clone() };
        let full = plan.rings.guest / plan.descriptors().max(1);
        plan.pace = Pace::Closed { depth: if load == Load::Idle { 1 } else { full } };
        plan.warm_up = plan.requests.div_ceil(WARM_UP) + 2 * u64::from(full);
        Point { load, plan }
    }

    fn with_boards(&self, boards: u8) -> Point {
        let mut point = self.point(Load::Saturation, self.first_size());
        point.plan.boards = boards;
        point
    }

    fn with_queues(&self, queues: u8) -> Point {
        let mut point = self.point(Load::Idle, self.first_size());
        point.plan.queues = queues;
        point
    }
}

/// All of them, if there is a curve to be made of them.
fn several<T>(values: &[T]) -> &[T] {
    if values.len() > 1 { values } else { &[] }
}

/// What the parts of a name say, for people.
pub const NAMES: &str = "latency.SIZE.LOAD: a request carries SIZE bytes there and as many back; qd1 is one request at a time in each \
                         queue, load50 half of the capacity, which is what comes through of requests at random times, and saturation a ring \
                         that is always full.";

/// A sentence on what stood still in all of it, for people.
#[must_use]
pub fn describe(plan: &Plan) -> String {
    let Plan { rings, design, requests, seed, .. } = plan;
    let yes = |what: bool| if what { "yes" } else { "no" };
    let notice = match design.notice {
        simulation::Notice::Registers => "polled registers",
        simulation::Notice::StatusPage => "the status page",
        simulation::Notice::Ring => "the shadow vring itself",
    };
    format!(
        "Rings of {}, shadow vrings of {}, {} slots of {} bytes; back ends learn of buffers by {notice}; notification data {}, \
         event index {}, interrupts {}. {requests} requests of each queue a point, seed {seed}.",
        rings.guest,
        rings.shadow,
        rings.slots,
        rings.slot_size,
        yes(design.notification_data),
        yes(design.event_idx),
        yes(design.interrupts),
    )
}
