//! What a run found: one schema for every world, so that any two results can be laid side by side.
//!
//! `schema/result-1.json` describes it to other programs, and a test keeps the two in step.

mod curve;
mod file;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use curve::{Axis, Curve, Series, Table};
pub use file::{FILE_NAME, ResultError, replace};

use crate::World;

/// Name and major version of the schema. It grows by optional keys; another meaning of a key is another
/// number.
pub const SCHEMA: &str = "iobond-result/1";

/// What one run found. Times are in nanoseconds where no unit is named.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunResult {
    /// Name and major version of the schema, [`SCHEMA`].
    pub schema: String,
    /// What was run, for people.
    pub title: String,
    /// What carried the scenario.
    pub world: World,
    /// The scenario, if one was run; a bench has none.
    pub scenario: Option<ScenarioRecord>,
    /// The machine that it ran on.
    pub machine: Machine,
    /// When it started, in seconds since 1970-01-01 00:00 UTC.
    pub started_unix_seconds: u64,
    /// The boards, with their functions as `lspci` shows them.
    pub boards: Vec<BoardRecord>,
    /// Throughputs and sizes beside their baselines.
    pub figures: Vec<Figure>,
    /// Distributions of latencies, one per kind of request.
    pub latencies: Vec<Latency>,
    /// Where the time of a request went.
    pub stages: Vec<Stages>,
    /// What had to agree.
    pub checks: Vec<Check>,
    /// Counters of the devices, per `board/queue`.
    pub counters: BTreeMap<String, BTreeMap<String, u64>>,
    /// Remarks for people, one sentence or more each.
    pub notes: Vec<String>,
    /// How one quantity depends on another. Left out of the file where there is none, as every key that came
    /// later.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub curves: Vec<Curve>,
    /// Whatever else has rows and columns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<Table>,
}

/// The scenario that was run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScenarioRecord {
    /// Its name, as the file gives it.
    pub name: String,
    /// The file it came from.
    pub file: String,
    /// Its TOML, as given.
    pub text: String,
    /// The same, read: comments and layout gone.
    pub settings: serde_json::Value,
}

impl ScenarioRecord {
    /// The scenario `name` of `file`, which is `text`.
    #[must_use]
    pub fn new(name: &str, file: &str, text: &str) -> Self {
        // The text has been parsed before; settings that JSON cannot hold (a date) are left out, the text has
        // them.
        let settings = toml::from_str(text).unwrap_or_default();
        Self { name: name.to_owned(), file: file.to_owned(), text: text.to_owned(), settings }
    }
}

/// What a reader needs to know of a machine before comparing its figures with another's. What cannot be read
/// is empty or 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Processor model as the kernel names it.
    pub cpu: String,
    /// Processors that the process may run on.
    pub cores: u64,
    /// Kernel name, release and architecture.
    pub kernel: String,
    /// Bytes of memory, without what the kernel keeps for itself.
    pub memory_bytes: u64,
    /// Frequency governor of the first processor, where there is one.
    pub governor: Option<String>,
}

impl Machine {
    /// One line for people.
    #[must_use]
    pub fn summary(&self) -> String {
        let cpu = if self.cpu.is_empty() { "unknown processor" } else { &self.cpu };
        let memory = self.memory_bytes as f64 / f64::from(1 << 30);
        let governor =
            self.governor.as_ref().map_or(String::new(), |governor| format!(", {governor} governor"));
        format!("{cpu}, {} cores, {memory:.1} GiB, {}{governor}", self.cores, self.kernel)
    }
}

/// A board that was there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoardRecord {
    /// Its name in the scenario.
    pub name: String,
    /// One text per function, in the form of `lspci -v`.
    pub functions: Vec<String>,
}

/// One number, beside what the same work costs without IO-Bond in the same run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figure {
    /// Dotted name, as `blk.randread.4k.qd1`.
    pub name: String,
    /// The number, in `unit`.
    pub value: f64,
    /// Its unit. `.../s` is better when higher, anything else when lower.
    pub unit: String,
    /// Share of a processor that the measured worker had; none where no worker is measured.
    pub cpu_share: Option<f64>,
    /// What the baseline is.
    pub baseline: Option<String>,
    /// The baseline's number, in the same unit.
    pub baseline_value: Option<f64>,
    /// `value / baseline_value`, where that is finite.
    pub ratio: Option<f64>,
}

impl Figure {
    /// A figure without a baseline.
    #[must_use]
    pub fn new(name: &str, value: f64, unit: &str, cpu_share: Option<f64>) -> Self {
        let (name, unit) = (name.to_owned(), unit.to_owned());
        Self { name, value, unit, cpu_share, baseline: None, baseline_value: None, ratio: None }
    }

    /// The figure beside a baseline. There is no ratio to a baseline of 0.
    #[must_use]
    pub fn beside(mut self, baseline: &str, baseline_value: f64) -> Self {
        self.baseline = Some(baseline.to_owned());
        self.baseline_value = Some(baseline_value);
        self.ratio = Some(self.value / baseline_value).filter(|ratio| ratio.is_finite());
        self
    }

    /// Whether a higher value is the better one.
    #[must_use]
    pub fn higher_is_better(&self) -> bool {
        higher_is_better(&self.unit)
    }
}

/// Whether a higher value in this unit is the better one: rates are, everything else is a time, a size or a
/// cost.
#[must_use]
pub fn higher_is_better(unit: &str) -> bool {
    unit.ends_with("/s")
}

/// The latencies of one kind of request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "mean, quantiles and maximum say what they are")]
pub struct Latency {
    /// Dotted name of the request, and where it was measured.
    pub name: String,
    /// Unit of all times here, which is `ns`.
    pub unit: String,
    /// Requests that were measured.
    pub count: u64,
    pub mean: f64,
    /// Half of the requests took at most this long.
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p999: u64,
    pub max: u64,
    /// `(upper bound, requests)` of each bucket that is not empty, rising.
    pub buckets: Vec<(u64, u64)>,
}

/// Where the time of one kind of request went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stages {
    /// Dotted name of the request.
    pub name: String,
    /// Its stages, in order.
    pub stages: Vec<StageShare>,
}

/// One stage of a request, in nanoseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "mean and quantiles say what they are")]
pub struct StageShare {
    /// Which part of the path, and what it did.
    pub name: String,
    /// Requests of which every moment was seen.
    pub count: u64,
    pub mean: f64,
    pub p50: u64,
    pub p99: u64,
}

/// Something that had to agree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// What was compared, for people.
    pub name: String,
    /// The value that it had to be.
    pub expected: String,
    /// The value that it was.
    pub actual: String,
    /// Whether the two agree.
    pub passed: bool,
}

impl Check {
    /// A check of two values, which passes when they are equal.
    #[must_use]
    pub fn equal<T: PartialEq + std::fmt::Display>(name: &str, expected: &T, actual: &T) -> Self {
        Self {
            name: name.to_owned(),
            expected: expected.to_string(),
            actual: actual.to_string(),
            passed: expected == actual,
        }
    }
}

impl RunResult {
    /// A result that nothing has been added to, started now.
    #[must_use]
    pub fn new(title: &str, scenario: Option<ScenarioRecord>, machine: Machine) -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self {
            schema: SCHEMA.to_owned(),
            title: title.to_owned(),
            world: World::Live,
            scenario,
            machine,
            started_unix_seconds: now.map_or(0, |since| since.as_secs()),
            boards: Vec::new(),
            figures: Vec::new(),
            latencies: Vec::new(),
            stages: Vec::new(),
            checks: Vec::new(),
            counters: BTreeMap::new(),
            notes: Vec::new(),
            curves: Vec::new(),
            tables: Vec::new(),
        }
    }

    /// Whether every check passed.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.passed)
    }
}
