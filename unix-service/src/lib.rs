//! What each service of this workspace needs of the system.
//!
//! * [`StopFlag`]: a request to stop, for threads that look at it and for threads that sleep
//! * [`Listener`]: a listening Unix socket with the right mode from its first moment on, which replaces the
//!   file of a process that died and removes only its own; [`connect`] is its other end
//! * [`Polling`]: when a thread that polls goes to sleep, decided without a clock of its own; [`SleepSet`] is
//!   what it sleeps on
//!
//! # Left out
//!
//! * Protocols and threads: each service has its own.
//! * Signals. A service turns those that it handles into [`StopFlag::set`].

mod listener;
mod polling;
mod sleep_set;
mod stop_flag;

pub use listener::{BindError, Listener, connect};
pub use polling::{Next, Polling, Rest};
pub use sleep_set::SleepSet;
pub use stop_flag::StopFlag;
