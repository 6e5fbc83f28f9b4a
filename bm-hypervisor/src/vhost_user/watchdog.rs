//! Bounds the wait for an answer.
//!
//! Crate `vhost` waits for as long as it takes, and takes up the wait again when a socket time-out ends it.
//! So the bound is kept from outside: a thread that shuts the connection down when an answer is overdue,
//! which ends any wait on it.

use std::{
    io,
    net::Shutdown,
    os::unix::net::UnixStream,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Bounds the exchanges of one connection.
#[derive(Debug)]
pub(super) struct Watchdog {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    limit: Duration,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// When the answer is overdue; none while none is waited for.
    deadline: Option<Instant>,
    /// The connection was shut down.
    expired: bool,
    quit: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps until a deadline passes, shuts `connection` down, and is done.
    fn watch(&self, connection: &UnixStream) {
        let mut state = self.lock();
        while !state.quit {
            let Some(deadline) = state.deadline else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                state.expired = true;
                // Fails only on a connection that is down already.
                let _ = connection.shutdown(Shutdown::Both);
                return;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Watchdog {
    /// Watches `connection`, on which an exchange may take `limit`.
    pub(super) fn new(connection: UnixStream, limit: Duration) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let thread = thread::Builder::new().name("bm-watchdog".into()).stack_size(64 << 10).spawn({
            let shared = Arc::clone(&shared);
            move || shared.watch(&connection)
        })?;
        Ok(Self { shared, thread: Some(thread), limit })
    }

    /// How long an exchange may take.
    pub(super) fn limit(&self) -> Duration {
        self.limit
    }

    /// Makes `exchange` end within the limit: its connection is shut down then, for good.
    pub(super) fn bound<T>(&mut self, exchange: impl FnOnce() -> T) -> T {
        self.set_deadline(Some(Instant::now() + self.limit));
        let result = exchange();
        self.set_deadline(None);
        result
    }

    /// Whether an answer was overdue.
    pub(super) fn expired(&self) -> bool {
        self.shared.lock().expired
    }

    fn set_deadline(&self, deadline: Option<Instant>) {
        self.shared.lock().deadline = deadline;
        if deadline.is_some() {
            self.shared.changed.notify_one();
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.shared.lock().quit = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // The thread runs nothing that panics.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_wait_without_an_end_ends_at_the_limit() {
        let (mut here, _there) = UnixStream::pair().unwrap();
        let mut watchdog = Watchdog::new(here.try_clone().unwrap(), Duration::from_millis(20)).unwrap();
        let start = Instant::now();
        assert_eq!(watchdog.bound(|| here.read(&mut [0]).unwrap()), 0);
        assert!(watchdog.expired() && start.elapsed() >= Duration::from_millis(20));
    }

    #[test]
    fn exchanges_in_time_leave_the_connection_alone() {
        let (here, _there) = UnixStream::pair().unwrap();
        let mut watchdog = Watchdog::new(here, Duration::from_secs(60)).unwrap();
        assert_eq!((0..1000).map(|n| watchdog.bound(|| n)).sum::<u32>(), 499_500);
        assert!(!watchdog.expired());
    }
}
