//! The threads that wait for kicks and call the device.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use tracing::warn;

use super::Backend;
use crate::ring::Vring;

/// The kick descriptors of the rings that one thread works, shared with the thread that handles messages.
pub(super) struct Kicks {
    /// Which of the device's rings, by index, these are.
    mask: u64,
    running: Mutex<Vec<Running>>,
    wake: OwnedFd,
    quit: AtomicBool,
}

/// A ring that is started and enabled.
struct Running {
    /// Its index among the device's.
    index: usize,
    /// Kept by the thread while it waits, so that its number cannot become another file's meanwhile.
    kick: Arc<File>,
    /// It runs since the last look: what became available before is not kicked for again.
    fresh: bool,
}

impl Kicks {
    /// Whether ring `index` is one of these.
    fn holds(&self, index: usize) -> bool {
        self.mask.checked_shr(index as u32).is_some_and(|mask| mask & 1 != 0)
    }

    fn running(&self) -> MutexGuard<'_, Vec<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ring `index` runs from now on, and is kicked by `kick`; or it does not any more. It is looked at once
    /// in any case when it begins to.
    pub(super) fn set(&self, index: usize, kick: Option<&Arc<File>>) {
        if !self.holds(index) {
            return;
        }
        let mut running = self.running();
        let before = running.iter().position(|ring| ring.index == index);
        let before = before.map(|at| running.swap_remove(at));
        if let Some(kick) = kick {
            let again = before.is_some_and(|ring| !ring.fresh && Arc::ptr_eq(&ring.kick, kick));
            running.push(Running { index, kick: Arc::clone(kick), fresh: !again });
        }
        drop(running);
        self.wake();
    }

    /// Makes the thread look at the list again.
    fn wake(&self) {
        // A counter that is full has been readable for long.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    /// Sleeps until rings were kicked or begin to run; their indices, or nothing when it is time to end.
    fn wait(&self) -> Option<Vec<usize>> {
        let kicks: Vec<(usize, Arc<File>)> =
            self.running().iter().map(|ring| (ring.index, Arc::clone(&ring.kick))).collect();
        let mut fds = vec![PollFd::new(&self.wake, PollFlags::IN)];
        fds.extend(kicks.iter().map(|(_, kick)| PollFd::from_borrowed_fd(kick.as_fd(), PollFlags::IN)));
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                warn!("a thread of rings ends, since it cannot wait: {error}");
                return None;
            }
        }
        let mut due: Vec<usize> = fds
            .iter()
            .skip(1)
            .zip(&kicks)
            .filter(|(fd, _)| !fd.revents().is_empty())
            .map(|(_, (index, kick))| {
                // Cleared before the ring is looked at: a kick that comes later makes it due once more, and
                // none is lost. The descriptor does not wait, and nothing to read is not an error.
                let _ = rustix::io::read(&**kick, &mut [0; 8]);
                *index
            })
            .collect();
        if fds.first().is_some_and(|wake| !wake.revents().is_empty()) {
            let _ = rustix::io::read(&self.wake, &mut [0; 8]);
        }
        let mut running = self.running();
        // One that stopped in between is not called for.
        due.retain(|index| running.iter().any(|ring| ring.index == *index && !ring.fresh));
        due.extend(running.iter_mut().filter(|ring| ring.fresh).map(|ring| {
            ring.fresh = false;
            ring.index
        }));
        (!self.quit.load(Ordering::Acquire)).then_some(due)
    }
}

/// A thread that works rings. Dropping it waits for its end, which the device has been asked for before.
pub(super) struct Worker {
    kicks: Arc<Kicks>,
    thread: Option<JoinHandle<()>>,
}

/// Starts the threads that `backend` wants for `vrings`.
pub(super) fn start<B: Backend>(backend: &Arc<B>, vrings: &[Vring]) -> io::Result<Vec<Worker>> {
    let masks = backend.queues_per_thread().into_iter();
    masks.map(|mask| Worker::start(Arc::clone(backend), mask, vrings)).collect()
}

impl Worker {
    fn start<B: Backend>(backend: Arc<B>, mask: u64, vrings: &[Vring]) -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        let kicks = Arc::new(Kicks { mask, running: Mutex::default(), wake, quit: AtomicBool::new(false) });
        let thread = thread::Builder::new().name("vring_worker".into()).spawn({
            let (kicks, vrings) = (Arc::clone(&kicks), vrings.to_vec());
            move || {
                while let Some(due) = kicks.wait() {
                    due.into_iter().for_each(|index| backend.work(index, &vrings));
                }
            }
        })?;
        Ok(Self { kicks, thread: Some(thread) })
    }

    /// The descriptors that it waits on.
    pub(super) fn kicks(&self) -> Arc<Kicks> {
        Arc::clone(&self.kicks)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.kicks.quit.store(true, Ordering::Release);
        self.kicks.wake();
        if let Some(thread) = self.thread.take() {
            // A panic of it was reported when it happened.
            let _ = thread.join();
        }
    }
}
