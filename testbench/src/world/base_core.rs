//! The base's share of the work: every board's IO-Bond and bm-hypervisor, one pass after the other, as one base core polls
//! many boards. A core that has nothing to do may sleep: back ends, boards and control threads wake it.

use std::{
    cell::Cell,
    io,
    os::fd::AsRawFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bm_hypervisor::Poller;
use iobond_model::live::Bond;

use super::{ModelPort, stamps::Stamps, wake_up::WakeUp};

/// What a base core does for one board. Without a poller the base is elsewhere, and it works for the IO-Bond alone.
struct Post {
    bond: Arc<Bond>,
    poller: Option<Mutex<Poller<ModelPort, Stamps>>>,
}

impl Post {
    fn poller(&self) -> Option<MutexGuard<'_, Poller<ModelPort, Stamps>>> {
        self.poller.as_ref().map(|poller| poller.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// One pass of the poller, unless someone else is at it: then the work is being done.
    fn poll(&self) -> bool {
        let poller = self.poller.as_ref().and_then(|poller| poller.try_lock().ok());
        poller.is_some_and(|mut poller| !poller.pass().is_idle())
    }
}

/// A base core's boards.
pub struct Base {
    posts: Vec<Post>,
}

impl Base {
    /// A core for these boards.
    pub(super) fn new(boards: impl IntoIterator<Item = (Arc<Bond>, Poller<ModelPort, Stamps>)>) -> Self {
        let post = |(bond, poller)| Post { bond, poller: Some(Mutex::new(poller)) };
        Self { posts: boards.into_iter().map(post).collect() }
    }

    /// A core for IO-Bonds whose bases are elsewhere.
    pub(super) fn of_bonds(bonds: impl IntoIterator<Item = Arc<Bond>>) -> Self {
        Self { posts: bonds.into_iter().map(|bond| Post { bond, poller: None }).collect() }
    }

    /// Sleeps until a board, a back end or a control thread has something to do, unless one has already.
    fn sleep(&self, wake_up: &WakeUp) {
        let mut pollers: Vec<_> = self.posts.iter().filter_map(Post::poller).collect();
        wake_up.going_to_sleep();
        let up = self.posts.iter().fold(false, |busy, post| busy | post.bond.pass());
        // Each is armed, whatever the others say.
        let waiting = pollers.iter_mut().fold(up, |waiting, poller| waiting | poller.arm());
        if !waiting {
            wake_up.wait(self.posts.iter().filter_map(|post| post.bond.until_due()).min());
        }
        wake_up.awake();
        pollers.iter_mut().for_each(|poller| poller.disarm());
    }

    /// One bounded pass over every board: what the guest made available goes up, what back ends used goes down. Returns
    /// whether there was anything to do.
    pub fn pass(&self) -> bool {
        self.posts.iter().fold(false, |busy, post| {
            let up = post.bond.pass();
            let polled = post.poll();
            let down = polled && post.bond.pass();
            busy | up | polled | down
        })
    }
}

/// What a thread does that finds nothing to do: looks again for a while, then lets others have the processor.
#[derive(Debug, Default)]
pub struct Idle(Cell<u32>);

impl Idle {
    /// Looks before the processor is given away: a few microseconds, about what giving it away and getting it back takes.
    const LOOKS: u32 = 64;

    /// There was something to do, or there was nothing.
    pub fn after(&self, busy: bool) {
        let looks = if busy { 0 } else { self.0.get() + 1 };
        self.0.set(looks);
        if looks > Self::LOOKS {
            std::thread::yield_now();
        } else {
            std::hint::spin_loop();
        }
    }
}

/// When a base core's thread sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// Never: it looks again and again.
    Never,
    /// When there was nothing to do for so long.
    After(Duration),
}

/// A thread that works for a [`Base`] until it is dropped.
#[derive(Debug)]
pub(super) struct BaseThread {
    stop: Arc<AtomicBool>,
    wake_up: Arc<WakeUp>,
    thread: Option<JoinHandle<()>>,
}

impl BaseThread {
    /// Starts it. `wake_up` is what the boards' IO-Bonds ring, if the thread may sleep.
    pub(super) fn start(base: Arc<Base>, rest: Rest, wake_up: Arc<WakeUp>) -> io::Result<Self> {
        let mut pollers = base.posts.iter().filter_map(Post::poller);
        pollers.try_for_each(|poller| wake_up.hear(poller.bell().as_raw_fd()))?;
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, rung) = (Arc::clone(&stop), Arc::clone(&wake_up));
        let work = move || {
            let (idle, mut since) = (Idle::default(), Instant::now());
            while !stopped.load(Ordering::Relaxed) {
                let busy = base.pass();
                idle.after(busy);
                match rest {
                    _ if busy => since = Instant::now(),
                    Rest::After(limit) if since.elapsed() >= limit => base.sleep(&rung),
                    Rest::After(_) | Rest::Never => {}
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
