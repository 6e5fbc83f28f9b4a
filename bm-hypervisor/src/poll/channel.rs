//! What passes between poll thread and control thread. Channels are bounded and lock-free; nobody waits on one, so that
//! using it makes no system call. The control thread waits on an event that the poll thread kicks when it has told it something; it
//! rings the poll thread's bell in turn, which matters if that sleeps.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError, bounded};
use crossbeam_utils::{Backoff, CachePadded};
use iobond_spec::MAX_QUEUES;
use serde::{Deserialize, Serialize};
use vmm_sys_util::eventfd::EventFd;

use super::{Bell, PolledQueue, Progress};
use crate::event::event_fd;

/// A mailbox request as it stood in status page or registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// `mailbox.request`.
    pub(crate) word: u32,
    /// `mailbox.offset`.
    pub(crate) offset: u32,
    /// `mailbox.data`.
    pub(crate) data: u32,
}

/// What the poll thread tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The board accessed a function.
    Request(Request),
    /// IO-Bond put a queue into the error state, or one left it.
    QueueErrors,
    /// A back end's used index moved further than its ring is long.
    UsedJump { context: u8, ticket: u32, from: u16, to: u16 },
    /// The registers read all ones.
    Gone,
}

/// What the control thread orders.
#[derive(Debug)]
pub(crate) enum Order {
    /// Poll this queue.
    Add(PolledQueue),
    /// Stop polling the queue with this ticket, and give it back.
    Remove { ticket: u32 },
}

/// What passes did since the start. The poll thread is the only one that writes.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    requests: AtomicU64,
    published: AtomicU64,
    kicked: AtomicU64,
    returned: AtomicU64,
}

impl Counters {
    #[inline]
    fn add(&self, progress: Progress) {
        let add = |counter: &AtomicU64, more: u32| {
            counter.store(counter.load(Ordering::Relaxed) + u64::from(more), Ordering::Relaxed);
        };
        add(&self.requests, progress.requests);
        add(&self.published, progress.published);
        add(&self.kicked, progress.kicked);
        add(&self.returned, progress.returned);
    }

    /// What stands now.
    pub(crate) fn read(&self) -> PollStatistics {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PollStatistics {
            requests: read(&self.requests),
            published: read(&self.published),
            kicked: read(&self.kicked),
            returned: read(&self.returned),
        }
    }
}

/// Sums of [`Progress`] since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct PollStatistics {
    /// Mailbox requests handed to the control thread.
    pub requests: u64,
    /// Times that a queue's HEAD had moved.
    pub published: u64,
    /// Kicks.
    pub kicked: u64,
    /// TAIL writes.
    pub returned: u64,
}

/// The poll thread's end.
pub(crate) struct PollerEnd {
    orders: Receiver<Order>,
    events: Sender<Event>,
    given_back: Sender<PolledQueue>,
    wake: EventFd,
    bell: Arc<Bell>,
    counters: Arc<CachePadded<Counters>>,
}

/// The control thread's end.
pub(crate) struct ControlEnd {
    orders: Sender<Order>,
    events: Receiver<Event>,
    given_back: Receiver<PolledQueue>,
    wake: EventFd,
    bell: Arc<Bell>,
    counters: Arc<CachePadded<Counters>>,
}

/// The poll thread did not do what it was told in time: nobody calls `Poller::pass`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the poll thread did not answer; is Poller::pass still called? Drop the Poller when it is not")]
pub(crate) struct PollerStuck;

/// How long the control thread waits for a queue to come back. A pass takes microseconds, but its thread may be off the CPU.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long it sleeps between two looks once it has spun for a while.
const NAP: Duration = Duration::from_micros(20);

/// Both ends.
pub(crate) fn pair() -> io::Result<(PollerEnd, ControlEnd)> {
    // Room for every queue to be added, and removed, and added again.
    let (order, orders) = bounded(4 * MAX_QUEUES);
    // One request stands at a time; one used jump a queue; the rest is news that may come again.
    let (event, events) = bounded(2 * MAX_QUEUES);
    let (give_back, given_back) = bounded(4 * MAX_QUEUES);
    let wake = event_fd()?;
    let bell = Arc::new(Bell::new()?);
    let counters = Arc::default();
    let poller = PollerEnd {
        orders,
        events: event,
        given_back: give_back,
        wake: wake.try_clone()?,
        bell: Arc::clone(&bell),
        counters: Arc::clone(&counters),
    };
    Ok((poller, ControlEnd { orders: order, events, given_back, wake, bell, counters }))
}

impl PollerEnd {
    /// Whether the control thread ordered something.
    #[inline]
    pub(super) fn has_orders(&self) -> bool {
        !self.orders.is_empty()
    }

    pub(super) fn bell(&self) -> &Bell {
        &self.bell
    }

    pub(super) fn next_order(&self) -> Option<Order> {
        self.orders.try_recv().ok()
    }

    /// Tells the control thread, and wakes it; whether there was room. Without a control thread there always is.
    #[cold]
    pub(super) fn tell(&self, event: Event) -> bool {
        match self.events.try_send(event) {
            Err(TrySendError::Full(_)) => false,
            Err(TrySendError::Disconnected(_)) => true,
            Ok(()) => {
                // Fails only when it is about to wake anyway.
                let _ = self.wake.write(1);
                true
            }
        }
    }

    /// Gives a queue back. There is room for every order ever outstanding; without a control thread the queue ends here.
    pub(super) fn give_back(&self, queue: PolledQueue) {
        let _ = self.given_back.try_send(queue);
    }

    #[inline]
    pub(super) fn count(&self, progress: Progress) {
        if !progress.is_idle() {
            self.counters.add(progress);
        }
    }
}

impl ControlEnd {
    /// What the control thread waits on.
    pub(crate) fn wake(&self) -> &EventFd {
        &self.wake
    }

    /// The next thing that the poll thread told.
    pub(crate) fn next_event(&self) -> Option<Event> {
        self.events.try_recv().ok()
    }

    /// What wakes the poll thread should it sleep.
    pub(crate) fn bell(&self) -> &Bell {
        &self.bell
    }

    /// Has a queue polled. Without a poll thread nobody minds.
    pub(crate) fn add(&self, queue: PolledQueue) -> Result<(), PollerStuck> {
        self.order(Order::Add(queue)).map(drop)
    }

    /// Orders something, and wakes the poll thread should it sleep; whether there is one.
    fn order(&self, order: Order) -> Result<bool, PollerStuck> {
        match self.orders.try_send(order) {
            Ok(()) => {
                self.bell.ring();
                Ok(true)
            }
            Err(TrySendError::Disconnected(_)) => Ok(false),
            Err(TrySendError::Full(_)) => Err(PollerStuck),
        }
    }

    /// Takes a queue back from polling. When this returns well, nobody polls it any more; without a poll thread there is none.
    pub(crate) fn remove(&self, ticket: u32) -> Result<Option<PolledQueue>, PollerStuck> {
        if !self.order(Order::Remove { ticket })? {
            return Ok(None);
        }
        let deadline = Instant::now() + PATIENCE;
        let backoff = Backoff::new();
        loop {
            match self.given_back.try_recv() {
                Ok(queue) if queue.ticket == ticket => return Ok(Some(queue)),
                // One for which an earlier wait was given up.
                Ok(_) => {}
                Err(TryRecvError::Disconnected) => return Ok(None),
                Err(TryRecvError::Empty) if Instant::now() >= deadline => return Err(PollerStuck),
                // Polled, so that the poll thread need not make a system call to wake anybody.
                Err(TryRecvError::Empty) if backoff.is_completed() => thread::sleep(NAP),
                Err(TryRecvError::Empty) => backoff.snooze(),
            }
        }
    }

    /// What passes did since the start.
    pub(crate) fn counters(&self) -> &Arc<CachePadded<Counters>> {
        &self.counters
    }
}
