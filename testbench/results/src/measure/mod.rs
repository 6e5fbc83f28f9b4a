//! What is measured while a scenario runs: latencies, shares of a processor, stages of a request, and on
//! which machine.
//!
//! Nothing here decides when to measure; the workload does. All times are of the monotonic clock, in
//! nanoseconds.

mod cpu;
mod latency;
mod machine;
mod stages;

pub use cpu::{CpuMeter, Worker};
pub use latency::{LatencyRecorder, per_second};
pub use machine::this_machine;
pub use stages::{MOMENTS, STAGE_NAMES, Stage, StageClock, StageRecorder, StageTotals};
