//! A base server with guests that stays up until it is told to end: what `bmhive up` is, and what the other
//! commands ask it.
//!
//! ```text
//!   bmhive up -- Instance --+-- Served            back ends, IO-Bonds, hypervisors    (one thread starts and
//!                           +-- PoweredBoard      one QEMU each, on and off           ends all of them)
//!   bmhive status  --\      |
//!   bmhive console ---+-- control.sock -- Listener      a line of JSON each way
//!   bmhive board   --/
//! ```
//!
//! Everything of an instance lies in its [`RunDirectory`]. Left out: what QEMU is told ([`crate::guest`]),
//! what the base does ([`crate`]), and the words of the command line.

mod board;
mod control;
mod health;
mod listener;
mod run_directory;
mod server;
mod status;
mod survey;
mod tables;

pub use board::{Event, PowerError};
pub use control::{Action, ControlError, Reply, Request, ask};
pub use run_directory::{RunDirectory, RunDirectoryError, locate};
pub use server::{Instance, InstanceError, Options};
pub use status::{BackEndStatus, BoardStatus, FunctionStatus, Power, Status};
pub use tables::render as render_status;
