//! Waiting for what comes by itself, as the end of a process does.
//!
//! Left out: waits in which the test lends its processor to a board or a base, or looks at its own pace.

use std::{
    thread,
    time::{Duration, Instant},
};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// What `look` finds, which looks again until it has found something or `limit` has passed.
pub fn wait_for<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        let found = look();
        if found.is_some() || start.elapsed() >= limit {
            return found;
        }
        thread::sleep(PAUSE);
    }
}

/// Whether `is` is so within `limit`.
pub fn wait_until(limit: Duration, mut is: impl FnMut() -> bool) -> bool {
    wait_for(limit, || is().then_some(())).is_some()
}
