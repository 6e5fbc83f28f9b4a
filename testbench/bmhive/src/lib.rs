//! The `bmhive` command line, and what it does with boards and their servers.
//!
//! * [`workload`] is what is done in a world;
//! * [`mod@bench`] measures parts beside a baseline, [`ablation`] what choices of the design are worth,
//!   [`paper`] what is simulated beside what is published;
//! * [`progress`] is how far that is, [`command`] is `bmhive`.
//!
//! Left out: what is run (crate `scenario`), the worlds (`simulation`, `bmhive-server`), software boards
//! (`software-board`) and what becomes of measurements (`results`), which this crate puts together.

pub mod ablation;
pub mod bench;
pub mod command;
pub mod paper;
pub mod progress;
pub mod workload;
