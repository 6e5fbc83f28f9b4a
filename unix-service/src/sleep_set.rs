//! What a thread sleeps on.

use std::{io, os::fd::AsRawFd, time::Duration};

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

/// A set of descriptors, any of which wakes a thread that sleeps on the set when it is readable.
#[derive(Debug)]
pub struct SleepSet(Epoll);

impl SleepSet {
    /// An empty set: nothing wakes but the time.
    ///
    /// # Errors
    /// The process has too many descriptors open.
    pub fn new() -> io::Result<Self> {
        Epoll::new().map(Self)
    }

    /// `source` wakes from now on, until it is closed.
    ///
    /// # Errors
    /// It cannot be polled, as a plain file, or it is in the set already.
    pub fn add(&self, source: &impl AsRawFd) -> io::Result<()> {
        self.0.ctl(ControlOperation::Add, source.as_raw_fd(), EpollEvent::new(EventSet::IN, 0))
    }

    /// Sleeps until a descriptor is readable, for `longest` at most, in whole milliseconds. It may return
    /// before: a sleep that a signal interrupts is a short one.
    pub fn sleep(&self, longest: Duration) {
        // Rounded up: a sleep that is too short would be followed by more of them, of no length.
        let longest = longest.as_nanos().div_ceil(1_000_000);
        let _ = self.0.wait(i32::try_from(longest).unwrap_or(i32::MAX), &mut [EpollEvent::default()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StopFlag;

    #[test]
    fn a_readable_descriptor_and_the_time_end_a_sleep() {
        let (set, stop) = (SleepSet::new().unwrap(), StopFlag::new().unwrap());
        set.add(&stop).unwrap();
        set.sleep(Duration::from_micros(1));
        stop.set();
        // Without the flag it would sleep for weeks.
        set.sleep(Duration::MAX);
    }
}
