//! What a thread does while its rings are idle: poll for a while, then sleep.

use std::hint;
use std::thread;
use std::time::{Duration, Instant};

/// Looks at the rings between two offers of the core to others. A look takes some 50 ns, giving way a
/// microsecond or so: where cores are free an answer is not held up by it, and where they are few the driver
/// that we wait for gets to run.
const LOOKS_PER_YIELD: u32 = 32;

/// How long the rings have been idle.
#[derive(Debug)]
pub(crate) struct Idle {
    limit: Duration,
    since: Option<Instant>,
    looks: u32,
}

impl Idle {
    /// Polling for `limit` before sleeping; zero does not poll.
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, since: None, looks: 0 }
    }

    /// There was something to do.
    pub(crate) fn interrupted(&mut self) {
        self.since = None;
    }

    /// There was nothing to do. Returns whether to look again; if not it is time to sleep.
    pub(crate) fn look_again(&mut self) -> bool {
        if self.since.get_or_insert_with(Instant::now).elapsed() >= self.limit {
            return false;
        }
        self.looks = self.looks.wrapping_add(1);
        if self.looks.is_multiple_of(LOOKS_PER_YIELD) {
            thread::yield_now();
        } else {
            hint::spin_loop();
        }
        true
    }
}
