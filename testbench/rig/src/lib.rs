//! The rig of the process tests: a folder that every process of a test can be told by, `bmhive` as a child
//! process, and the software of a board in this process.

#![allow(missing_docs, reason = "what a test does with it says what it is")]
#![allow(clippy::unwrap_used)] // a rig that cannot be set up is a failed test
#![allow(clippy::new_without_default, reason = "what `new` sets up is no default")]

pub mod base_machine;
pub mod bmhive;
pub mod by_hand;
pub mod fake_qemu;
pub mod frames;
pub mod hosted;
pub mod initramfs;
pub mod kept;
pub mod linux;
pub mod linux_board;
pub mod live_world;
pub mod stand_in;
pub mod test_folder;
pub mod toml;
