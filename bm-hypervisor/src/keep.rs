//! What outlives a hypervisor that crashes: descriptors that somebody else keeps, a service manager or `bm-keeper`.
//!
//! With the pool, the journal, the in-flight regions of its back ends, and whatever the port needs to find its device as it was,
//! the next life of the process goes on where this one ended ([`crate::start_kept`]): the board sees a pause.

use std::os::fd::{BorrowedFd, OwnedFd};

/// Name of the pool's file among what is kept.
pub const POOL: &str = "pool";
/// Name of the journal's.
pub const JOURNAL: &str = "journal";

/// Name of the in-flight region of function `index`.
#[must_use]
pub fn in_flight(index: usize) -> String {
    format!("in-flight-{index}")
}

/// Whoever keeps descriptors beyond the end of this process. Calls come seldom; they may make a system call each, but not wait.
pub trait Keeper: Send {
    /// Keeps a duplicate of `fd` as `name`, in place of what had that name.
    fn keep(&self, name: &str, fd: BorrowedFd<'_>);

    /// Keeps what has this name no longer.
    fn release(&self, name: &str);
}

/// What an earlier life of this process left.
#[derive(Debug)]
pub struct SavedFds {
    /// The pool's file.
    pub pool: OwnedFd,
    /// The journal's.
    pub journal: OwnedFd,
    /// In-flight regions, by number of the function.
    pub in_flight: Vec<(usize, OwnedFd)>,
}
