//! The paper's table: what BM-Hive (ASPLOS 2020) publishes, beside what the world of virtual time gives for
//! it.
//!
//! A row is *calibrated* if its published figure went into [`iobond_model::timing`] or the model of a virtual
//! machine: then it shows that the figure comes out again where it is measured. All others are *predicted*.
//! Every value comes from a simulation, or from an arithmetic that the row states; none is typed in.
//!
//! * `hops`, `links`, `network`, `limits` and `disk` are what is simulated for which rows;
//! * `render` shows them.
//!
//! Left out: the guests' own kernels. Drivers here spend a fixed time on a request, as poll-mode drivers do.

mod disk;
mod hops;
mod limits;
mod links;
mod network;
mod render;

use serde::{Deserialize, Serialize};
use simulation::{BenchError, Design, Plan};

pub use render::{BEGIN, END, inserted, json, markdown, terminal};

/// Above this a deviation wants a reason.
pub const TOLERANCE: f64 = 0.10;

/// A figure of the paper beside ours.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Row {
    /// What is measured, in words.
    pub figure: String,
    /// Unit of both values; empty for a bare number.
    pub unit: String,
    /// What the paper says; none where it gives no number, and ours stands for itself.
    pub published: Option<f64>,
    /// What comes out here.
    pub ours: f64,
    /// `ours / published - 1`.
    pub error: Option<f64>,
    /// Whether the published figure went into the model.
    pub calibrated: bool,
    /// Where ours comes from.
    pub how: String,
    /// Why they differ, where they do by more than [`TOLERANCE`].
    pub reason: Option<String>,
}

impl Row {
    fn new(figure: &str, unit: &str, published: Option<f64>, ours: f64, how: impl Into<String>) -> Self {
        Self {
            figure: figure.to_owned(),
            unit: unit.to_owned(),
            published,
            ours,
            error: published.map(|published| ours / published - 1.0),
            calibrated: false,
            how: how.into(),
            reason: None,
        }
    }

    fn calibrated(self) -> Self {
        Self { calibrated: true, ..self }
    }

    /// Says why, if there is something to be said.
    fn because(self, reason: impl Into<String>) -> Self {
        if self.is_off() { Self { reason: Some(reason.into()), ..self } } else { self }
    }

    /// Whether it differs by more than [`TOLERANCE`].
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.error.is_some_and(|error| error.abs() > TOLERANCE)
    }
}

/// Simulates all rows, in the order of the paper's figures.
///
/// # Errors
/// [`BenchError`]: a simulation does not come to its end.
pub fn rows() -> Result<Vec<Row>, BenchError> {
    let parts = PARTS.into_iter().map(|part| part()).collect::<Result<Vec<_>, _>>()?;
    Ok(parts.concat())
}

/// Simulates some of the rows.
type Part = fn() -> Result<Vec<Row>, BenchError>;

/// All rows, in the order of the paper's figures.
const PARTS: [Part; 5] = [hops::rows, links::rows, network::rows, limits::rows, disk::rows];

/// A board as the paper builds it.
fn plan() -> Plan {
    Plan { design: Design::PAPER, ..Plan::default() }
}

#[cfg(test)]
mod tests;
