//! What outlives a hypervisor that crashes: descriptors that another process keeps, a service manager or
//! `bm-keeper`.
//!
//! With the pool, the journal, the in-flight regions of its back ends, and whatever the port needs to find
//! its device as it was, the next process resumes the board where this one ended ([`crate::start_kept`]): the
//! board sees a pause.

use std::os::fd::{BorrowedFd, OwnedFd};

/// Name of the pool's file among what is kept.
pub const POOL: &str = "pool";
/// Name of the journal's file.
pub const JOURNAL: &str = "journal";

/// Name of the in-flight region of function `index`.
#[must_use]
pub fn in_flight(index: usize) -> String {
    format!("in-flight-{index}")
}

/// Keeps descriptors beyond the end of this process. Calls are rare; they may make a system call each, but
/// not wait.
pub trait Keeper: Send {
    /// Keeps a duplicate of `fd` as `name`, in place of what had that name.
    fn keep(&self, name: &str, fd: BorrowedFd<'_>);

    /// Keeps what has this name no longer.
    fn release(&self, name: &str);
}

/// The descriptors that were kept of a previous process.
#[derive(Debug)]
pub struct SavedFds {
    /// The memfd of the pool.
    pub pool: OwnedFd,
    /// The memfd of the journal.
    pub journal: OwnedFd,
    /// In-flight regions, by number of the function.
    pub in_flight: Vec<(usize, OwnedFd)>,
}
