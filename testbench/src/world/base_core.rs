//! The base's share of the work: every board's IO-Bond and bm-hypervisor, one pass after the other, as one base core polls
//! many boards.

use std::{
    cell::Cell,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use bm_hypervisor::Poller;
use iobond_model::live::Bond;

use super::{ModelPort, stamps::Stamps};

/// What a base core does for one board.
struct Post {
    bond: Arc<Bond>,
    poller: Mutex<Poller<ModelPort, Stamps>>,
}

/// A base core's boards.
pub struct Base {
    posts: Vec<Post>,
}

impl Base {
    /// A core for these boards.
    pub(super) fn new(boards: impl IntoIterator<Item = (Arc<Bond>, Poller<ModelPort, Stamps>)>) -> Self {
        let post = |(bond, poller)| Post { bond, poller: Mutex::new(poller) };
        Self { posts: boards.into_iter().map(post).collect() }
    }

    /// One bounded pass over every board: what the guest made available goes up, what back ends used goes down. Returns
    /// whether there was anything to do.
    pub fn pass(&self) -> bool {
        // Someone else is at this board's poller: then the work is being done.
        self.posts.iter().fold(false, |busy, post| {
            let up = post.bond.pass();
            let polled = post.poller.try_lock().is_ok_and(|mut poller| !poller.pass().is_idle());
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

/// A thread that works for a [`Base`] until it is dropped.
#[derive(Debug)]
pub(super) struct BaseThread {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl BaseThread {
    pub(super) fn start(base: Arc<Base>) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let work = move || {
            let idle = Idle::default();
            while !stopped.load(Ordering::Relaxed) {
                idle.after(base.pass());
            }
        };
        let thread = std::thread::Builder::new().name("base core".into()).spawn(work)?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for BaseThread {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic in it has been reported by the thread itself.
            let _ = thread.join();
        }
    }
}
