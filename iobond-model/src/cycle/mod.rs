//! The world of virtual time: the same device and queue engine as in [`crate::live`], on a clock that stands
//! still while they work and moves on when they wait. A run is a pure function of what it was given.
//!
//! * [`Wheel`] says what happens next, [`Executor`] has tasks do it, [`Clock`] is what they share;
//! * [`Signal`], [`Permits`] and [`Line`] are what tasks wait for;
//! * [`Pcie`] and [`Ethernet`] reckon with links, [`Wire`] and [`Flight`] are one direction of one, [`Dma`]
//!   moves payload;
//! * [`Bond`] is an IO-Bond between the two, in an [`Environment`].
//!
//! What a transfer does to memory is done at once, over any [`crate::fabric::Fabric`] whose futures are
//! always ready; what it takes is time. Left out: errors on links, and what a driver or a base does, which
//! are tasks of the embedder's.

mod access;
mod arrivals;
mod bond;
mod dma;
mod engines;
mod environment;
mod executor;
mod fabric;
mod link;
mod notifications;
mod packets;
mod resources;
mod watch;
mod wheel;

pub use bond::Bond;
pub use dma::{Dma, Side};
pub use environment::{Environment, Event};
pub use executor::{Clock, Ending, Executor, Reason, Stuck, TaskId};
pub use link::{Flight, Sent, Traffic, Wire};
pub use resources::{Line, Permits, Signal};
pub use watch::{Activity, Way};
pub use wheel::Wheel;

pub use crate::{
    links::{Credits, Ethernet, Generation, Link, Pcie, PcieError, Tlp},
    time::{Span, Time},
};
