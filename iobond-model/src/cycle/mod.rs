//! The world of virtual time: the same device and queue engine as in [`crate::live`], on a clock that stands still while they
//! work and moves on when they wait. A run is a pure function of what it was given.

mod time;

pub use time::{Span, Time};
