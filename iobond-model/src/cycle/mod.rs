//! The world of virtual time: the same device and queue engine as in [`crate::live`], on a clock that stands still while they
//! work and moves on when they wait. A run is a pure function of what it was given.
//!
//! * [`Wheel`] says what happens next, [`Executor`] has tasks do it, [`Clock`] is what they share;
//! * [`Signal`], [`Permits`] and [`Line`] are what tasks wait for.

mod executor;
mod resources;
mod ethernet;
mod pcie;
mod time;
mod wheel;

pub use executor::{Clock, Ending, Executor, Reason, Stuck, TaskId};
pub use resources::{Line, Permits, Signal};
pub use ethernet::Ethernet;
pub use pcie::{Credits, Generation, Link, Pcie, PcieError, Tlp};
pub use time::{Span, Time};
pub use wheel::Wheel;
