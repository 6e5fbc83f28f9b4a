//! Requests through IO-Bonds with nothing around them but what a [`Plan`] has: drivers, bm-hypervisor's poll
//! pass, back ends.
//!
//! * [`Plan`], [`Outcome`], [`Recorder`] and the driver of a queue belong to no world;
//! * [`mod@cycle`] runs a plan in virtual time, [`live`] on the wall clock, each as a [`Bench`];
//! * [`mod@trace`] is what happened when, as a file for trace viewers.
//!
//! A third world is one more module. It implements [`Bench`], and for each queue the platform that
//! `driver.rs` asks for: time, a doorbell, a wait, and the moments of requests. `tests/worlds` then runs its
//! suite on it for one more line in `main.rs`.
//!
//! Left out: whole servers, whose back ends are processes (crate `bmhive-server`), and what a sweep of plans
//! says (`bmhive`).

mod bench;
mod board;
pub mod cycle;
mod driver;
pub mod live;
mod moments;
mod plan;
mod random;
mod recorder;
mod rings;
pub mod trace;

pub use bench::{Bench, BenchError, Fault, FrameFault};
pub use board::BoardError;
pub use cycle::Cycle;
pub use live::Live;
pub use moments::Stamps;
pub use plan::{Load, NET_HEADER, Pace, Payload, Plan, PlanError, Service, Shape, Way, Window};
pub use recorder::{Outcome, Recorder, Share, Usage};
pub use results::World;
pub use scenario::{Design, Notice};
