//! What passes between poll thread and control thread. Channels are bounded and lock-free, and no thread
//! blocks on one, so that using it makes no system call. The control thread waits on an event that the poll
//! thread writes when it has told it something; it wakes the poll thread in turn, which matters if that
//! sleeps.

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

use super::{PollWaker, PolledQueue, Progress};
use crate::event::event_fd;

/// A mailbox request as it stood in status page or registers: `mailbox.request`, `mailbox.offset`,
/// `mailbox.data`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) word: u32,
    pub(crate) offset: u32,
    pub(crate) data: u32,
}

/// What the poll thread tells the control thread.
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

/// What the control thread orders of the poll thread.
#[derive(Debug)]
pub(crate) enum Order {
    /// Poll this queue from the next pass on.
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

    /// The sums until now; each is read by itself, so that they may be of different passes.
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
    /// Kicks, of any back end.
    pub kicked: u64,
    /// TAIL writes: one per queue and batch of used buffers.
    pub returned: u64,
}

/// The poll thread's end.
pub(crate) struct PollerEnd {
    orders: Receiver<Order>,
    events: Sender<Event>,
    given_back: Sender<PolledQueue>,
    wake: EventFd,
    poll_waker: Arc<PollWaker>,
    counters: Arc<CachePadded<Counters>>,
}

/// The control thread's end.
pub(crate) struct ControlEnd {
    orders: Sender<Order>,
    events: Receiver<Event>,
    given_back: Receiver<PolledQueue>,
    wake: EventFd,
    poll_waker: Arc<PollWaker>,
    counters: Arc<CachePadded<Counters>>,
}

/// The poll thread did not do what it was told in time: no thread calls `Poller::pass`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the poll thread did not answer; is Poller::pass still called? Drop the Poller when it is not")]
pub(crate) struct PollerStuck;

/// How long the control thread waits for a queue to come back. A pass takes microseconds, but its thread may
/// be off the CPU.
const TIMEOUT: Duration = Duration::from_millis(500);
/// How long it sleeps between two tries once it has spun for a while.
const NAP: Duration = Duration::from_micros(20);

/// The two ends of new channels.
pub(crate) fn pair() -> io::Result<(PollerEnd, ControlEnd)> {
    // Enough for every queue to be added, and removed, and added again.
    let (order, orders) = bounded(4 * MAX_QUEUES);
    // One request stands at a time, and one jump per queue; the other events are told again while they last.
    let (event, events) = bounded(2 * MAX_QUEUES);
    let (give_back, given_back) = bounded(4 * MAX_QUEUES);
    let wake = event_fd()?;
    let poll_waker = Arc::new(PollWaker::new()?);
    let counters = Arc::default();
    let poller = PollerEnd {
        orders,
        events: event,
        given_back: give_back,
        wake: wake.try_clone()?,
        poll_waker: Arc::clone(&poll_waker),
        counters: Arc::clone(&counters),
    };
    Ok((poller, ControlEnd { orders: order, events, given_back, wake, poll_waker, counters }))
}

impl PollerEnd {
    /// Whether the control thread ordered something.
    #[inline]
    pub(super) fn has_orders(&self) -> bool {
        !self.orders.is_empty()
    }

    pub(super) fn poll_waker(&self) -> &PollWaker {
        &self.poll_waker
    }

    pub(super) fn next_order(&self) -> Option<Order> {
        self.orders.try_recv().ok()
    }

    /// Tells the control thread, and wakes it; false if the channel is full. Without a control thread it
    /// never is.
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

    /// Gives a queue back. The channel holds as many as there are orders; without a control thread the queue
    /// ends here.
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

    /// Wakes the poll thread if it sleeps.
    pub(crate) fn poll_waker(&self) -> &PollWaker {
        &self.poll_waker
    }

    /// Starts polling `queue`. A no-op once the `Poller` is dropped.
    pub(crate) fn add(&self, queue: PolledQueue) -> Result<(), PollerStuck> {
        self.order(Order::Add(queue)).map(drop)
    }

    /// Orders something, and wakes the poll thread if it sleeps; false once the `Poller` is dropped.
    fn order(&self, order: Order) -> Result<bool, PollerStuck> {
        match self.orders.try_send(order) {
            Ok(()) => {
                self.poll_waker.wake();
                Ok(true)
            }
            Err(TrySendError::Disconnected(_)) => Ok(false),
            Err(TrySendError::Full(_)) => Err(PollerStuck),
        }
    }

    /// Takes a queue back from polling. When this returns `Ok`, it is polled no longer: it is here, or ended
    /// with the `Poller`.
    pub(crate) fn remove(&self, ticket: u32) -> Result<Option<PolledQueue>, PollerStuck> {
        if !self.order(Order::Remove { ticket })? {
            return Ok(None);
        }
        let deadline = Instant::now() + TIMEOUT;
        let backoff = Backoff::new();
        loop {
            match self.given_back.try_recv() {
                Ok(queue) if queue.ticket == ticket => return Ok(Some(queue)),
                // One for which an earlier wait was given up.
                Ok(_) => {}
                Err(TryRecvError::Disconnected) => return Ok(None),
                Err(TryRecvError::Empty) if Instant::now() >= deadline => return Err(PollerStuck),
                // Polled, so that the poll thread need not make a system call to wake this one.
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
