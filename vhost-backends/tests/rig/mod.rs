//! The servers as processes, each with what drives it, for the tests and for `benches/servers.rs`.

#![allow(dead_code, missing_docs)] // Each program uses a part.
#![allow(clippy::unwrap_used)] // A rig that cannot be set up is a failed test.

pub mod blk;
pub mod console;
pub mod idle_board;
pub mod net;
