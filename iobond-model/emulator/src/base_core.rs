//! A thread that works for IO-Bonds, as one base core polls many boards. A core that has nothing to do may sleep: boards, and
//! whatever else it listens to, wake it.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Instant,
};

use iobond_model::live::Bond;
use unix_service::{Polling, Rest};

use super::wake_up::WakeUp;

/// Passes that find nothing before the core is first given away: a few microseconds, about what giving it away
/// and getting it back takes. From then on it is given away after each, as the threads that it waits for may
/// want it.
const PASSES: u32 = 64;

/// What a base core works for.
pub trait Base: Send + Sync + 'static {
    /// One bounded pass over every board; whether there was anything to do.
    fn pass(&self) -> bool;

    /// Sleeps until there is something to do, unless there is something already.
    fn sleep(&self, wake_up: &WakeUp);
}

/// IO-Bonds whose bases are elsewhere.
pub(super) struct Bonds(pub(super) Vec<Arc<Bond>>);

impl Base for Bonds {
    fn pass(&self) -> bool {
        self.0.iter().fold(false, |busy, bond| busy | bond.pass())
    }

    fn sleep(&self, wake_up: &WakeUp) {
        wake_up.going_to_sleep();
        if !self.pass() {
            wake_up.wait(self.0.iter().filter_map(|bond| bond.until_due()).min());
        }
        wake_up.awake();
    }
}

/// A thread that works for a [`Base`] until it is dropped.
#[derive(Debug)]
pub struct BaseThread {
    stop: Arc<AtomicBool>,
    wake_up: Arc<WakeUp>,
    thread: Option<JoinHandle<()>>,
}

impl BaseThread {
    /// Starts it. `wake_up` is what the boards' IO-Bonds ring, if the thread may sleep.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(base: Arc<impl Base>, rest: Rest, wake_up: Arc<WakeUp>) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, asleep_on) = (Arc::clone(&stop), Arc::clone(&wake_up));
        let work = move || {
            let mut polling = Polling::new(rest, PASSES, 1);
            while !stopped.load(Ordering::Relaxed) {
                if base.pass() {
                    polling.worked();
                } else if !polling.idle(Instant::now).pause() {
                    base.sleep(&asleep_on);
                }
            }
        };
        let thread = std::thread::Builder::new().name("base core".into()).spawn(work)?;
        Ok(Self { stop, wake_up, thread: Some(thread) })
    }
}

impl Drop for BaseThread {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.wake_up.shake();
        if let Some(thread) = self.thread.take() {
            // A panic in it has been reported by the thread itself.
            let _ = thread.join();
        }
    }
}
