//! What each choice of the design is worth: one simulation for every row, with one thing changed, and a table
//! of all of them.
//!
//! Left out: what choices cost in an FPGA's area, which this does not know.

mod rows;
#[cfg(test)]
mod tests;

pub use rows::{Row, rows};

use results::{Check, Figure, RunResult, Table, World, measure::this_machine, report};
use simulation::{BenchError, Outcome, Pace, Plan, cycle};

/// Requests of each queue that are measured, one after the other and with full rings.
const IDLE: u64 = 200;
const FULL: u64 = 2000;
/// Requests before those: a ring has been full and empty by then.
const WARM_UP: u64 = 300;
/// Queues of a board that has all of its rings full.
const QUEUES: u8 = 4;

/// A row, and what came out.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// The simulation, and what was changed in it.
    pub row: Row,
    /// One request after the other, in one queue.
    pub idle: Outcome,
    /// All rings full, in four queues.
    pub full: Outcome,
}

impl Measured {
    fn of(row: Row) -> Result<Self, BenchError> {
        let idle = Plan { requests: IDLE, warm_up: WARM_UP, ..row.plan.clone() };
        let depth = row.plan.rings.guest / row.plan.descriptors();
        let full = Plan { queues: QUEUES, pace: Pace::Closed { depth }, requests: FULL, ..idle.clone() };
        Ok(Self { idle: cycle::run(&idle)?, full: cycle::run(&full)?, row })
    }

    /// Half of the requests took at most so many nanoseconds from the doorbell to the shadow vring.
    #[must_use]
    pub fn doorbell_to_shadow(&self) -> u64 {
        p50(&self.idle, "doorbell_to_shadow")
    }

    /// The same of the whole way, there and back.
    #[must_use]
    pub fn round_trip(&self) -> u64 {
        p50(&self.idle, "round_trip")
    }

    /// The larger share of its time that a direction of the board's link is busy while one request follows
    /// the other.
    #[must_use]
    pub fn idle_link(&self) -> f64 {
        let links = self.idle.usage.iter().filter(|usage| usage.name.ends_with("the board"));
        links.map(|usage| usage.share).fold(0.0, f64::max)
    }

    /// Interrupts for each request, all rings full.
    #[must_use]
    pub fn interrupts(&self) -> f64 {
        let requests = self.full.requests + WARM_UP * u64::from(QUEUES);
        self.full.interrupts as f64 / requests as f64
    }

    /// The same of doorbells.
    #[must_use]
    pub fn doorbells(&self) -> f64 {
        let requests = self.full.requests + WARM_UP * u64::from(QUEUES);
        self.full.doorbells as f64 / requests as f64
    }
}

fn p50(outcome: &Outcome, name: &str) -> u64 {
    outcome.latency(name).map_or(0, |latency| latency.p50)
}

/// Simulates every row.
///
/// # Errors
/// [`BenchError`]; `progress` is told each row before it is simulated.
pub fn run(progress: impl Fn(&Row)) -> Result<Vec<Measured>, BenchError> {
    let measure = |row: Row| {
        progress(&row);
        Measured::of(row)
    };
    rows().into_iter().map(measure).collect()
}

/// The names of the two rows that the claim is about.
pub const PAPER: &str = "the paper's design";
/// The name of the row with all that is proposed.
pub const PROPOSED: &str = "proposed";

/// Half of the paper's doorbell-to-shadow median, at most.
fn claim(measured: &[Measured]) -> Option<Check> {
    let of = |name: &str| measured.iter().find(|row| row.row.name == name).map(Measured::doorbell_to_shadow);
    let (paper, proposed) = (of(PAPER)?, of(PROPOSED)?);
    Some(Check {
        name: "doorbell to shadow, median: proposed against the paper's design".to_owned(),
        expected: format!("at most half of {paper} ns"),
        actual: format!("{proposed} ns"),
        passed: 2 * proposed <= paper,
    })
}

/// What was measured as a result.
#[must_use]
pub fn result(measured: &[Measured]) -> RunResult {
    let mut result = RunResult::new("bmhive ablation", None, this_machine());
    result.world = World::Cycle;
    result.tables = vec![table(measured)];
    result.checks.extend(claim(measured));
    for row in measured {
        let name = format!("ablation.{}", row.row.key);
        let figures = [
            ("doorbell_to_shadow", row.doorbell_to_shadow() as f64, "ns"),
            ("round_trip", row.round_trip() as f64, "ns"),
            ("full", row.full.rate(), "requests/s"),
        ];
        result.figures.extend(
            figures.map(|(what, value, unit)| Figure::new(&format!("{name}.{what}"), value, unit, None)),
        );
    }
    result
}

fn table(measured: &[Measured]) -> Table {
    let columns = [
        "what is changed",
        "of",
        "doorbell to shadow, p50",
        "round trip, p50",
        "board's link busy",
        "requests/s, rings full",
        "doorbells each",
        "interrupts each",
    ];
    let rows = measured.iter().map(|row| {
        vec![
            row.row.name.clone(),
            row.row.of.to_owned(),
            format!("{} ns", row.doorbell_to_shadow()),
            format!("{} ns", row.round_trip()),
            format!("{:.1} %", 100.0 * row.idle_link()),
            format!("{:.2} M", row.full.rate() / 1e6),
            format!("{:.3}", row.doorbells()),
            format!("{:.3}", row.interrupts()),
        ]
    });
    Table {
        name: "ablation".to_owned(),
        title: "What each choice is worth".to_owned(),
        columns: columns.map(str::to_owned).into(),
        rows: rows.collect(),
    }
}

/// The table as Markdown, as it stands in docs/ablations.md.
#[must_use]
pub fn markdown(measured: &[Measured]) -> String {
    report::markdown_table(&table(measured))
}
