//! What wakes a base core that sleeps.

use std::{
    io,
    os::fd::{AsRawFd, RawFd},
    sync::atomic::{AtomicBool, Ordering, fence},
    time::Duration,
};

use unix_service::SleepSet;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// The longest sleep: how late an access may end that is never answered.
const LONGEST_SLEEP: Duration = Duration::from_millis(100);

/// What a base core sleeps on: IO-Bonds wake it themselves, and so do the events of pollers.
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
        wake_up.watch(wake_up.event.as_raw_fd())?;
        Ok(wake_up)
    }

    /// Wakes also when `source` becomes readable.
    ///
    /// # Errors
    /// `source` cannot be waited for.
    pub fn watch(&self, source: RawFd) -> io::Result<()> {
        self.sources.add(&source)
    }

    /// Sleeps until something happens that was announced, for `longest` at most, in whole milliseconds, and
    /// no longer than `LONGEST_SLEEP`.
    pub fn wait(&self, longest: Option<Duration>) {
        self.sources.sleep(longest.map_or(LONGEST_SLEEP, |longest| longest.min(LONGEST_SLEEP)));
    }

    /// From now on whatever happens writes to the event.
    pub fn going_to_sleep(&self) {
        self.asleep.store(true, Ordering::Relaxed);
        // The other side notes its work and then looks whether we sleep; we do the same the other way round.
        // With a fence on both sides at least one of the two sees what the other stored.
        fence(Ordering::SeqCst);
    }

    /// From now on no write to the event is needed.
    pub fn awake(&self) {
        self.asleep.store(false, Ordering::Relaxed);
        // Fails when there was no write.
        let _ = self.event.read();
    }

    /// Wakes the core whether or not it is marked asleep.
    pub fn wake_now(&self) {
        // Fails only when 2^64 - 2 were never read, and then it is readable anyway.
        let _ = self.event.write(1);
    }

    /// There is work: wakes the core if it sleeps. Called often, also while it is awake.
    pub(super) fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed) {
            self.wake_now();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::atomic::AtomicU64, thread};

    use super::*;

    const ROUNDS: u64 = 2000;

    /// A sleeper is woken right before, while and after it goes to sleep, and misses none of it.
    #[test]
    fn no_wake_up_is_lost() {
        let wake_up = WakeUp::new().unwrap();
        let (work, told) = (AtomicU64::new(0), AtomicU64::new(0));
        thread::scope(|scope| {
            scope.spawn(|| {
                for round in 1..=ROUNDS {
                    work.store(round, Ordering::Relaxed);
                    wake_up.wake();
                    told.store(round, Ordering::Release);
                    while work.load(Ordering::Relaxed) == round {
                        std::hint::spin_loop();
                    }
                }
            });
            let (mut done, mut lost) = (0, 0);
            while done < ROUNDS {
                wake_up.going_to_sleep();
                if work.load(Ordering::Relaxed) == 0 {
                    wake_up.wait(None);
                    // In this order: when a wake-up is over, its event has been written.
                    let told = told.load(Ordering::Acquire) > done;
                    lost += u64::from(told && wake_up.event.read().is_err());
                }
                wake_up.awake();
                done += u64::from(work.swap(0, Ordering::Relaxed) != 0);
            }
            assert_eq!(lost, 0, "sleeps that only the time ended");
        });
    }
}
