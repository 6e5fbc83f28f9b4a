//! Live IO-Bonds behind vfio-user sockets: what docs/emulate.md is about.
//!
//! * [`Emulated`] is IO-Bonds alone, as hardware would be there: bases and boards are other processes, or
//!   machines;
//! * [`serve_functions`] has the functions of any live IO-Bond on sockets, [`InterruptLines`] their
//!   interrupts;
//! * [`BaseCore`] is one core's work for many of them; [`BaseThread`] is the thread that does it, and sleeps
//!   on a [`WakeUp`] when there is nothing to do.
//!
//! Left out: IO-Bond itself (crate `iobond-model`), the protocol (`iobond-vfio-user`), bases and boards, and
//! what a scenario says.

mod accesses;
mod base_core;
mod base_function;
mod board_function;
mod emulated;
mod granted_memory;
mod wake_up;

pub use base_core::{BaseCore, BaseThread, Post};
pub use board_function::{InterruptLines, serve_functions};
pub use emulated::{BoardSockets, Emulated, EmulatedBond, EmulatorError};
pub use unix_service::Rest;
pub use wake_up::WakeUp;
