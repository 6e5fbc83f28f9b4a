//! The workbench around an IO-Bond: what is run, on what, what is measured, and the `bmhive` command line.
//!
//! * [`scenario`] is what to run: boards, functions, workload and faults, as one TOML file;
//! * [`board`] is who sits on a compute board;
//! * [`measure`] takes latencies, processor shares, stages of a request;
//! * [`result`] is what a run found, in one schema for every world;
//! * [`guest`] is Linux on a board, [`instance`] a base with guests that stays up, [`terminal`] a user's way to them;
//! * [`report`] shows a result on the terminal, as a page, and beside another one;
//! * [`mod@trace`] is what happened when, as a file for trace viewers;
//! * [`world`] is what carries a scenario, [`workload`] what is done in it;
//! * [`mod@bench`] measures parts beside a baseline, [`ablation`] what choices of the design are worth, [`paper`] what is simulated
//!   beside what is published;
//! * [`command`] is `bmhive`.
//!
//! Left out: IO-Bond itself (crate `iobond-model`), its base side (`bm-hypervisor`) and the devices' back ends
//! (`vhost-backends`), which this crate puts together.

pub mod ablation;
pub mod bench;
pub mod board;
pub mod command;
pub mod guest;
pub mod instance;
pub mod measure;
pub mod paper;
pub mod progress;
pub mod report;
pub mod result;
pub mod scenario;
pub mod terminal;
pub mod trace;
pub mod workload;
pub mod world;
