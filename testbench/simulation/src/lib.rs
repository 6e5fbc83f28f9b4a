//! Requests through IO-Bonds with nothing around them but what a [`Plan`] has: drivers, bm-hypervisor's poll pass, back ends.
//!
//! * [`mod@cycle`] runs a plan in virtual time, [`live`] on the wall clock; both come to an [`Outcome`];
//! * [`mod@trace`] is what happened when, as a file for trace viewers.
//!
//! Left out: whole servers, whose back ends are processes (crate `bmhive-server`), and what a sweep of plans says (`bmhive`).

mod board;
pub mod cycle;
pub mod live;
mod moments;
mod plan;
mod random;
mod recorder;
mod rings;
pub mod trace;

pub use board::BoardError;
pub use moments::Stamps;
pub use plan::{Load, NET_HEADER, Pace, Payload, Plan, PlanError, Service, Shape, Way, Window};
pub use recorder::{Outcome, Recorder, Share, Usage};
pub use scenario::{Design, Notice};
