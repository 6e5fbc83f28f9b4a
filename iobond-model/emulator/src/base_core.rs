//! A thread that works for IO-Bonds, as one base core polls many boards. A core that has nothing to do may
//! sleep: boards, and the other sources of its [`WakeUp`], wake it.

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

/// Passes that find nothing before the core is first given away: a few microseconds, about what giving it
/// away and getting it back takes. From then on it is given away after each, as the threads that it waits for
/// may want it.
const PASSES: u32 = 64;

/// What a base core does for one board: it passes over the IO-Bond and, where that is here too, over its
/// hypervisor.
pub trait Post: Send + Sync + 'static {
    /// The IO-Bond that is passed over.
    fn bond(&self) -> &Bond;

    /// One bounded pass of the board's hypervisor; whether there was anything to do.
    fn poll(&self) -> bool {
        false
    }

    /// From now on the hypervisor's work wakes the core; whether there is some already.
    fn arm(&self) -> bool {
        false
    }

    /// The core is awake: nothing need wake it.
    fn disarm(&self) {}
}

/// An IO-Bond whose base is elsewhere.
impl Post for Arc<Bond> {
    fn bond(&self) -> &Bond {
        self
    }
}

/// One core's work for all its boards.
pub struct BaseCore<P>(Vec<P>);

impl<P: Post> BaseCore<P> {
    /// A core for these boards.
    pub fn new(posts: Vec<P>) -> Self {
        Self(posts)
    }

    /// One bounded pass over every board; whether there was anything to do.
    pub fn pass(&self) -> bool {
        self.0.iter().fold(false, |busy, post| {
            // What the driver made available goes up, what the back end used goes down: in the same pass.
            let up = post.bond().pass();
            let polled = post.poll();
            let down = polled && post.bond().pass();
            busy | up | polled | down
        })
    }

    /// Sleeps until there is something to do, unless there is something already.
    fn sleep(&self, wake_up: &WakeUp) {
        // Before the last look: work that comes after it finds the core asleep and wakes it.
        wake_up.going_to_sleep();
        let up = self.0.iter().fold(false, |busy, post| busy | post.bond().pass());
        // Each is armed, whatever the others say.
        let busy = self.0.iter().fold(up, |busy, post| busy | post.arm());
        if !busy {
            wake_up.wait(self.0.iter().filter_map(|post| post.bond().until_due()).min());
        }
        wake_up.awake();
        self.0.iter().for_each(Post::disarm);
    }
}

/// A thread that is a [`BaseCore`] until it is dropped.
#[derive(Debug)]
pub struct BaseThread {
    stop: Arc<AtomicBool>,
    wake_up: Arc<WakeUp>,
    thread: Option<JoinHandle<()>>,
}

impl BaseThread {
    /// Starts it. `wake_up` is what the boards' IO-Bonds wake, if the thread may sleep.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start<P: Post>(core: BaseCore<P>, rest: Rest, wake_up: Arc<WakeUp>) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, asleep_on) = (Arc::clone(&stop), Arc::clone(&wake_up));
        let work = move || {
            let mut polling = Polling::new(rest, PASSES, 1);
            while !stopped.load(Ordering::Relaxed) {
                if core.pass() {
                    polling.worked();
                } else if !polling.idle(Instant::now).pause() {
                    core.sleep(&asleep_on);
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
        self.wake_up.wake_now();
        if let Some(thread) = self.thread.take() {
            // A panic in it has been reported by the thread itself.
            let _ = thread.join();
        }
    }
}
