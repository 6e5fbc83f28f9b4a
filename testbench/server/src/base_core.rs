//! The base's share of the work: every board's IO-Bond and bm-hypervisor, one pass after the other, as one base core polls
//! many boards. A core that has nothing to do may sleep: back ends, boards and control threads wake it.

use std::{
    io,
    os::fd::AsRawFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bm_hypervisor::Poller;
use iobond_emulator::WakeUp;
use iobond_model::live::Bond;
use model_port::ModelPort;

use super::stamps::Stamps;

/// What a base core does for one board.
struct Post {
    bond: Arc<Bond>,
    poller: Mutex<Poller<ModelPort, Stamps>>,
}

impl Post {
    fn poller(&self) -> MutexGuard<'_, Poller<ModelPort, Stamps>> {
        self.poller.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One pass of the poller, unless someone else is at it: then the work is being done.
    fn poll(&self) -> bool {
        self.poller.try_lock().is_ok_and(|mut poller| !poller.pass().is_idle())
    }
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

    /// Has the bells of all pollers ring `wake_up` along.
    pub(super) fn wake(&self, wake_up: &WakeUp) -> io::Result<()> {
        self.posts.iter().try_for_each(|post| wake_up.hear(post.poller().waker().as_raw_fd()))
    }
}

impl iobond_emulator::Base for Base {
    /// What the guest made available goes up, what back ends used goes down.
    fn pass(&self) -> bool {
        self.posts.iter().fold(false, |busy, post| {
            let up = post.bond.pass();
            let polled = post.poll();
            let down = polled && post.bond.pass();
            busy | up | polled | down
        })
    }

    fn sleep(&self, wake_up: &WakeUp) {
        let mut pollers: Vec<_> = self.posts.iter().map(Post::poller).collect();
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
}
