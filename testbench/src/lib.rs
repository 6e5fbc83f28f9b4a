//! Scenarios, boards, worlds, measurements and the `bmhive` command line.

pub mod board;
