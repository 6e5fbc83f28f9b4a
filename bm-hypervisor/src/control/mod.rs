//! The control thread: everything about a board that is slow.
//!
//! It answers forwarded accesses, talks to back ends, starts and stops queues, and watches for back ends and devices that go
//! away. It sleeps until the poll thread or a connection wakes it.

mod board;
pub(crate) mod offer;
mod registers;
mod served;
pub mod statistics;

use std::{
    io,
    os::fd::AsRawFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use crossbeam_utils::CachePadded;
use vmm_sys_util::{
    epoll::{ControlOperation, Epoll, EpollEvent, EventSet},
    eventfd::EventFd,
};

use self::{board::Board, statistics::Statistics};
use crate::{
    Error,
    config::BoardConfig,
    poll::{
        Poller,
        channel::{self, Counters},
    },
    port::Port,
};

/// Milliseconds between two looks whether the device is still there, when nothing else happens. All that an idle board's control
/// thread wakes for.
const TICK: i32 = 1_000;
/// What the wake-up event is called among connections, which are called by the index of their function.
const WAKE: u64 = u64::MAX;

/// Starts a board: connects its back ends, programs its IO-Bond, gives it power, and starts the control thread.
///
/// Waits for back ends, each for at most its time-out.
///
/// # Errors
/// Whatever keeps the board from starting; nothing of the base's can be reached from the board then.
pub fn start<P: Port + 'static>(config: BoardConfig, port: Arc<P>) -> Result<(Poller<P>, Control), Error> {
    let (poller_end, control_end) = channel::pair()?;
    let wake = control_end.wake().try_clone()?;
    let epoll = Epoll::new()?;
    let board = Board::bring_up(&config, Arc::clone(&port), control_end)?;
    watch(&epoll, &board)?;
    if let Some(wake_up) = port.wake_up() {
        board.end().bell().hear(&wake_up)?;
    }
    let poller = Poller::new(port, Arc::clone(board.pool().mapping()), config.poll, poller_end);
    let counters = Arc::clone(board.end().counters());
    let shared = Arc::new(Shared::default());
    shared.publish(&board);
    let thread = thread::Builder::new().name(format!("bm-{}", config.name)).spawn({
        let shared = Arc::clone(&shared);
        move || run(board, &epoll, &shared)
    })?;
    Ok((poller, Control { shared, counters, wake, thread: Some(thread) }))
}

/// Has `epoll` report the wake-up event, and every connection that ends or speaks unasked: once each, since neither goes away.
/// Interrupts of back ends are the poll thread's.
fn watch<P: Port>(epoll: &Epoll, board: &Board<P>) -> io::Result<()> {
    let add = |fd: i32, events, name| epoll.ctl(ControlOperation::Add, fd, EpollEvent::new(events, name));
    add(board.end().wake().as_raw_fd(), EventSet::IN, WAKE)?;
    let events = EventSet::IN | EventSet::READ_HANG_UP | EventSet::EDGE_TRIGGERED;
    board.connected().try_for_each(|(index, back_end)| {
        board.end().bell().hear(back_end.call())?;
        add(back_end.connection().as_raw_fd(), events, index as u64)
    })
}

/// The control thread.
fn run<P: Port>(mut board: Board<P>, epoll: &Epoll, shared: &Shared) {
    let mut events = [EpollEvent::default(); 1 + iobond_spec::MAX_FUNCTIONS];
    while !shared.stop.load(Ordering::Acquire) {
        // An interrupted wait is one that nothing woke.
        let ready = epoll.wait(TICK, &mut events).unwrap_or(0);
        board.take_events();
        for event in events.iter().take(ready).filter(|event| event.data() != WAKE) {
            board.look_at_back_end(event.data() as usize);
        }
        if ready == 0 {
            board.check_device();
        }
        shared.publish(&board);
    }
    board.take_down();
    shared.publish(&board);
}

/// What control thread and embedder share.
#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    report: Mutex<Report>,
}

#[derive(Clone, Debug, Default)]
struct Report {
    statistics: Statistics,
    failure: Option<Arc<Error>>,
}

impl Shared {
    fn report(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish<P: Port>(&self, board: &Board<P>) {
        let report = Report { statistics: board.statistics(), failure: board.failure().cloned() };
        *self.report() = report;
    }
}

/// The embedder's hold on a board's control thread. Dropping it stops the board, too.
#[derive(Debug)]
pub struct Control {
    shared: Arc<Shared>,
    counters: Arc<CachePadded<Counters>>,
    wake: EventFd,
    thread: Option<JoinHandle<()>>,
}

impl Control {
    /// What was counted until now.
    pub fn statistics(&self) -> Statistics {
        // The control thread publishes what it counts whenever it did something; it does not hear of what passes count.
        Statistics { poll: self.counters.read(), ..self.shared.report().statistics.clone() }
    }

    /// The first failure, if there was any: of a back end, whose function stopped with DEVICE_NEEDS_RESET while the others go on;
    /// or of the device, with which the whole board ended.
    pub fn failure(&self) -> Option<Arc<Error>> {
        self.shared.report().failure.clone()
    }

    /// Takes power from the board, stops its queues, and ends the control thread.
    ///
    /// Either [`Poller::pass`] goes on being called on another thread until this returns, or the poller was dropped before;
    /// otherwise this waits half a second for each queue in vain, and says so.
    ///
    /// # Errors
    /// The first failure of the board, now or earlier.
    pub fn stop(mut self) -> Result<Statistics, Arc<Error>> {
        if self.end().is_err() {
            return Err(Arc::new(Error::Panicked));
        }
        let Report { statistics, failure } = self.shared.report().clone();
        match failure {
            None => Ok(statistics),
            Some(failure) => Err(failure),
        }
    }

    fn end(&mut self) -> thread::Result<()> {
        self.shared.stop.store(true, Ordering::Release);
        // Fails only when the thread is about to wake anyway.
        let _ = self.wake.write(1);
        self.thread.take().map_or(Ok(()), JoinHandle::join)
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // Already reported, by the panic itself.
        let _ = self.end();
    }
}
