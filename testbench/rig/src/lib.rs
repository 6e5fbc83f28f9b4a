//! The rig of the process tests: a home directory that every process of a test can be told by, `bmhive` as a child process,
//! and the seat of a software board in a live world.

#![allow(missing_docs, reason = "what a test does with it says what it is")]
#![allow(clippy::unwrap_used)] // a rig that cannot be set up is a failed test

pub mod base_machine;
pub mod bmhive;
pub mod by_hand;
pub mod fake_qemu;
pub mod home;
pub mod hosted;
pub mod initramfs;
pub mod kept;
pub mod linux;
pub mod linux_board;
pub mod seat;
pub mod stand_in;
pub mod toml;
