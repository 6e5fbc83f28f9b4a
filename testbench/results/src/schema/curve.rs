//! What does not fit into one number: curves and tables.

use serde::{Deserialize, Serialize};

/// How one quantity, or several of the same unit, depend on another: latency on load, throughput on the
/// number of boards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Curve {
    /// Dotted name, by which two results are compared.
    pub name: String,
    /// What it shows, for people.
    pub title: String,
    /// The quantity that was set.
    pub x: Axis,
    /// The quantity that was measured.
    pub y: Axis,
    /// Whether x is better seen on a logarithmic axis, which has no place for 0 and less.
    pub log_x: bool,
    /// The same for y.
    pub log_y: bool,
    /// The lines, in the order of the legend.
    pub series: Vec<Series>,
}

impl Curve {
    /// A curve without lines on linear axes; `x` and `y` are label and unit.
    #[must_use]
    pub fn new(name: &str, title: &str, x: (&str, &str), y: (&str, &str)) -> Self {
        let axis = |(label, unit): (&str, &str)| Axis { label: label.to_owned(), unit: unit.to_owned() };
        let (name, title) = (name.to_owned(), title.to_owned());
        Self { name, title, x: axis(x), y: axis(y), log_x: false, log_y: false, series: Vec::new() }
    }

    /// Adds a line. Points that are no numbers are left out: JSON cannot hold them.
    #[must_use]
    pub fn with(mut self, name: &str, points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        let points = points.into_iter().filter(|(x, y)| x.is_finite() && y.is_finite()).collect();
        self.series.push(Series { name: name.to_owned(), points });
        self
    }
}

/// What is along an axis.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Axis {
    /// What it is: `load`.
    pub label: String,
    /// Its unit, as that of a figure; empty for a bare number.
    pub unit: String,
}

/// One line of a curve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Series {
    /// What distinguishes it: `p99`.
    pub name: String,
    /// `(x, y)`, in the order in which they are joined.
    pub points: Vec<(f64, f64)>,
}

/// Text in rows and columns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// Dotted name, by which two results are compared.
    pub name: String,
    /// What it shows, for people.
    pub title: String,
    /// Headings, one per column.
    pub columns: Vec<String>,
    /// Rows, each with a cell for every column.
    pub rows: Vec<Vec<String>>,
}
