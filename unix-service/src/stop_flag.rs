//! A request to stop.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll},
    io::Errno,
};

/// Between two tries to poll, where the system has no memory for it.
const PAUSE: Duration = Duration::from_millis(10);

/// A request to stop: set once, and never cleared. Clones are the same flag.
///
/// As a descriptor it polls readable once it is set. It must not be read from, so that every thread that
/// polls it wakes.
#[derive(Clone, Debug)]
pub struct StopFlag {
    set: Arc<AtomicBool>,
    event: Arc<OwnedFd>,
}

impl StopFlag {
    /// A flag that is not set.
    ///
    /// # Errors
    /// The process has too many descriptors open.
    pub fn new() -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { set: Arc::default(), event: Arc::new(event) })
    }

    /// Sets the flag, and wakes every thread that sleeps on it.
    pub fn set(&self) {
        // Before the event: a thread that the event wakes finds the flag set.
        self.set.store(true, Ordering::Release);
        // Fails only when the counter is full, and then it has been readable for long.
        let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
    }

    /// Whether the flag is set. It costs one load.
    pub fn is_set(&self) -> bool {
        self.set.load(Ordering::Acquire)
    }

    /// Sleeps until the flag is set, `other` polls readable or `timeout` is over. Returns whether the flag is
    /// set.
    ///
    /// A system that has no memory to poll with is asked again after a pause: what is served neither ends by
    /// itself nor spins.
    pub fn wait(&self, other: Option<BorrowedFd<'_>>, timeout: Option<Duration>) -> bool {
        // One that is too long to be expressed has no end.
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let read = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
        let mut fds = [read(self.as_fd()), read(other.unwrap_or(self.as_fd()))];
        loop {
            match poll(&mut fds, timeout.as_ref()) {
                Err(Errno::INTR) => {}
                Err(_) if !self.is_set() => thread::sleep(PAUSE),
                _ => return self.is_set(),
            }
        }
    }
}

impl AsFd for StopFlag {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

impl AsRawFd for StopFlag {
    fn as_raw_fd(&self) -> RawFd {
        self.event.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write, os::unix::net::UnixStream};

    use super::*;

    #[test]
    fn a_flag_wakes_every_thread_and_stays_set() {
        let stop = StopFlag::new().unwrap();
        assert!(!stop.is_set() && !stop.wait(None, Some(Duration::ZERO)));
        thread::scope(|scope| {
            let sleepers: Vec<_> = (0..3).map(|_| scope.spawn(|| stop.wait(None, None))).collect();
            stop.clone().set();
            assert!(sleepers.into_iter().all(|sleeper| sleeper.join().unwrap()));
        });
        assert!(stop.is_set() && stop.wait(None, None));
    }

    #[test]
    fn another_descriptor_wakes_too() {
        let stop = StopFlag::new().unwrap();
        let (reader, mut writer) = UnixStream::pair().unwrap();
        writer.write_all(b"x").unwrap();
        assert!(!stop.wait(Some(reader.as_fd()), None));
    }
}
