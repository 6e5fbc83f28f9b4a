//! What test programs share that start processes or boot Linux.
//!
//! * [`test_folder`], [`bmhive`], [`kept`], [`linux`]: a folder that every process of a test can be told by,
//!   and programs of this workspace that run in it;
//! * [`live_world`], [`hosted`], [`by_hand`], [`frames`]: boards whose software is the test;
//! * [`linux_board`], [`base_machine`], [`initramfs`], [`fake_qemu`]: machines in a QEMU, and a script in its
//!   place;
//! * [`stand_in`]: a PCI function in place of an IO-Bond's; [`mod@toml`]: pieces of scenario files;
//!   [`wait`]: for what comes by itself.
//!
//! Left out: what the tests claim, and the rigs of tests that need one crate alone, which are in that crate's
//! `tests/rig`.

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
pub mod wait;
