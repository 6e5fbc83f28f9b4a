//! What wakes a base core that sleeps.

use std::{
    io,
    os::fd::{AsRawFd, RawFd},
    sync::atomic::{AtomicBool, Ordering, fence},
    time::Duration,
};

use unix_service::SleepSet;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// The longest sleep: how late an access that nobody answered may end.
const LONGEST_SLEEP: Duration = Duration::from_millis(100);

/// What a base core sleeps on: IO-Bonds ring here themselves, and the bells of pollers ring along.
#[derive(Debug)]
pub struct WakeUp {
    asleep: AtomicBool,
    event: EventFd,
    sources: SleepSet,
}

impl WakeUp {
    /// Nothing yet to wake it but the IO-Bonds of the core.
    ///
    /// # Errors
    /// The system has no eventfd or epoll to give.
    pub fn new() -> io::Result<Self> {
        let event = EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?;
        let wake_up = Self { asleep: AtomicBool::new(false), event, sources: SleepSet::new()? };
        wake_up.hear(wake_up.event.as_raw_fd())?;
        Ok(wake_up)
    }

    /// Wakes also when `source` becomes readable.
    ///
    /// # Errors
    /// `source` cannot be waited for.
    pub fn hear(&self, source: RawFd) -> io::Result<()> {
        self.sources.add(&source)
    }

    /// Sleeps until something happens that was announced, for `longest` at most, in whole milliseconds, and no longer than
    /// [`LONGEST_SLEEP`].
    pub fn wait(&self, longest: Option<Duration>) {
        self.sources.sleep(longest.map_or(LONGEST_SLEEP, |longest| longest.min(LONGEST_SLEEP)));
    }

    /// From now on whatever happens writes to the event.
    pub fn going_to_sleep(&self) {
        self.asleep.store(true, Ordering::Relaxed);
        // Whoever has work for us notes it and then looks whether we sleep; we do the same the other way round.
        fence(Ordering::SeqCst);
    }

    /// From now on nobody need write.
    pub fn awake(&self) {
        self.asleep.store(false, Ordering::Relaxed);
        // Fails when nobody wrote.
        let _ = self.event.read();
    }

    /// Wakes the core for good reasons of our own.
    pub fn shake(&self) {
        // Fails only when 2^64 - 2 were never read, and then it is readable anyway.
        let _ = self.event.write(1);
    }
}

impl WakeUp {
    /// There is work: wakes the core if it sleeps. Called often, also while it is awake.
    pub(super) fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed) {
            self.shake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread, time::Instant};

    use super::*;

    /// A sleeper that is rung right before, while and after it goes to sleep is woken every time, well before it would wake itself.
    #[test]
    fn no_ring_is_lost() {
        const ROUNDS: u64 = 2000;
        let (wake_up, work) =
            (Arc::new(WakeUp::new().unwrap()), Arc::new(std::sync::atomic::AtomicU64::new(0)));
        let ringer = thread::spawn({
            let (wake_up, work) = (Arc::clone(&wake_up), Arc::clone(&work));
            move || {
                for round in 1..=ROUNDS {
                    work.store(round, Ordering::Relaxed);
                    wake_up.wake();
                    while work.load(Ordering::Relaxed) == round {
                        std::hint::spin_loop();
                    }
                }
            }
        });
        let started = Instant::now();
        let mut done = 0;
        while done < ROUNDS {
            wake_up.going_to_sleep();
            if work.load(Ordering::Relaxed) == 0 {
                wake_up.wait(None);
            }
            wake_up.awake();
            done += u64::from(work.swap(0, Ordering::Relaxed) != 0);
        }
        ringer.join().unwrap();
        // Had one ring in twenty been lost, it would have taken longer.
        assert!(started.elapsed() < LONGEST_SLEEP * ROUNDS as u32 / 20);
    }
}
