//! The control thread: everything about a board that is slow.
//!
//! It answers forwarded accesses, talks to back ends, starts and stops queues, and notices back ends and
//! devices that are lost. It sleeps until the poll thread or a connection wakes it.

mod adopt;
mod back_end_search;
mod board;
pub mod commands;
mod contexts;
mod counters;
pub mod description;
pub mod handle;
mod notes;
pub(crate) mod offer;
mod registers;
mod resources;
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
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, bounded};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

pub use self::served::reconfigure::Resized;
use self::{
    adopt::ResumeError, board::Board, commands::Order, handle::Handle, notes::Journaled,
    statistics::Statistics,
};
use crate::{
    Error,
    config::BoardConfig,
    keep::{Keeper, SavedFds},
    poll::{
        Poller,
        channel::{self, PollerEnd},
    },
    pool::IOVA,
    port::Port,
    vhost_user::BackEnd,
};

/// Milliseconds between two checks that the device is still there, when nothing else happens. An idle board's
/// control thread wakes for nothing else.
const TICK: i32 = 1_000;
/// Time between two looks at counters. Less than the tick, so that each tick is a look.
const COUNTERS: Duration = Duration::from_millis(900);
/// The epoll data of the wake-up event; that of a connection is the index of its function.
const WAKE: u64 = u64::MAX;

/// Starts a board: connects its back ends, programs its IO-Bond, gives it power, and starts the control
/// thread.
///
/// Waits for back ends, each for at most its time-out.
///
/// # Errors
/// What keeps the board from starting; nothing of the base's can be reached from the board then.
pub fn start<P: Port + 'static>(config: BoardConfig, port: Arc<P>) -> Result<(Poller<P>, Control), Error> {
    let (poller_end, control_end) = channel::pair()?;
    let board = Board::bring_up(&config, Arc::clone(&port), control_end, None)?;
    spawn_control_thread(&config, port, poller_end, board)
}

/// The same for a process that may be ended at any moment, and has a keeper. With the descriptors that a
/// previous process saved it resumes the board, which keeps running; `port` then reaches a device that was
/// not reset, and has the pool mapped. If they do not match the board, the log says why, and the board starts
/// anew, as after a loss of power.
///
/// # Errors
/// As [`start`]. With saved descriptors, a back end that cannot be reached is an error too, and nothing has
/// changed then: it may be tried again.
pub fn start_kept<P: Port + 'static>(
    config: BoardConfig,
    port: Arc<P>,
    keeper: impl Fn() -> Box<dyn Keeper>,
    saved: Option<SavedFds>,
) -> Result<(Poller<P>, Control), Error> {
    if let Some(saved) = saved {
        let (poller_end, control_end) = channel::pair()?;
        match Board::adopt(&config, Arc::clone(&port), control_end, saved, keeper()) {
            Ok(board) => return spawn_control_thread(&config, port, poller_end, board),
            Err(ResumeError::Failed(error)) => return Err(error),
            Err(ResumeError::Mismatch(reason)) => {
                tracing::warn!(board = config.name, reason, "cannot resume the board; power-cycling it");
            }
        }
        // The previous process mapped it; whether it still was does not matter.
        let _ = port.unmap_dma(IOVA);
    }
    let (poller_end, control_end) = channel::pair()?;
    let board = Board::bring_up(&config, Arc::clone(&port), control_end, Some(keeper()))?;
    spawn_control_thread(&config, port, poller_end, board)
}

/// Starts the control thread of a board that is up.
fn spawn_control_thread<P: Port + 'static>(
    config: &BoardConfig,
    port: Arc<P>,
    poller_end: PollerEnd,
    board: Board<P>,
) -> Result<(Poller<P>, Control), Error> {
    let wake = board.end().wake().try_clone()?;
    let epoll = Epoll::new()?;
    watch(&epoll, &board)?;
    if let Some(wake_up) = port.wake_up() {
        board.end().poll_waker().watch(&wake_up)?;
    }
    let poller = Poller::new(port, Arc::clone(board.pool().mapping()), config.poll, poller_end);
    let counters = Arc::clone(board.end().counters());
    let shared = Arc::new(Shared::default());
    shared.publish(&board);
    let (orders, ordered) = bounded(commands::WAITING);
    let thread = thread::Builder::new().name(format!("bm-{}", config.name)).spawn({
        let shared = Arc::clone(&shared);
        move || run(board, &epoll, &ordered, &shared)
    })?;
    let handle = Handle::new(orders, wake, shared, counters);
    Ok((poller, Control { handle, thread: Some(thread) }))
}

/// Has `epoll` report the wake-up event, and every connection that ends or sends something unasked: once
/// each, since neither condition ends. Interrupts of back ends wake the poll thread.
fn watch<P: Port>(epoll: &Epoll, board: &Board<P>) -> io::Result<()> {
    let wake = EpollEvent::new(EventSet::IN, WAKE);
    epoll.ctl(ControlOperation::Add, board.end().wake().as_raw_fd(), wake)?;
    board.connected().try_for_each(|(index, back_end)| watch_back_end(epoll, board, index, back_end))
}

/// Has `epoll` report the connection of function `index`, and the back end's interrupts wake the poll thread.
fn watch_back_end<P: Port>(
    epoll: &Epoll,
    board: &Board<P>,
    index: usize,
    back_end: &BackEnd,
) -> io::Result<()> {
    board.end().poll_waker().watch(back_end.call())?;
    watch_connection(epoll, index, back_end)
}

/// Has `epoll` report one connection. A former one of the same function was closed, which removed it.
fn watch_connection(epoll: &Epoll, index: usize, back_end: &BackEnd) -> io::Result<()> {
    let events = EventSet::IN | EventSet::READ_HANG_UP | EventSet::EDGE_TRIGGERED;
    let event = EpollEvent::new(events, index as u64);
    epoll.ctl(ControlOperation::Add, back_end.connection().as_raw_fd(), event)
}

/// The control thread: turns, each of which ends with a note in the journal and a report.
fn run<P: Port>(mut board: Board<P>, epoll: &Epoll, ordered: &Receiver<Order>, shared: &Shared) {
    let mut counted = Instant::now();
    let mut events = [EpollEvent::default(); 1 + iobond_spec::MAX_FUNCTIONS];
    while !shared.stop.load(Ordering::Acquire) {
        // A wait that a signal interrupts ended without an event.
        let ready = epoll.wait(TICK, &mut events).unwrap_or(0);
        let events = events.get(..ready).unwrap_or_default();
        board.committed(|board| turn(board, events, epoll));
        while let Ok(order) = ordered.try_recv() {
            board.carry_out(order, epoll, shared);
        }
        if counted.elapsed() >= COUNTERS {
            board.fold_counters();
            counted = Instant::now();
        }
        shared.publish(&board);
    }
    board.take_down();
    shared.publish(&board);
}

/// Handles what woke the control thread: the poll thread, back ends that were found, and `events` of
/// connections.
fn turn<P: Port>(board: &mut Board<P>, events: &[EpollEvent], epoll: &Epoll) {
    board.take_events();
    board.take_returned(epoll, watch_connection);
    for event in events.iter().filter(|event| event.data() != WAKE) {
        board.look_at_back_end(event.data() as usize);
    }
    if events.is_empty() {
        board.check_device();
    }
    board.follow_drivers();
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

/// A board's control thread, for its embedder. Dropping it stops the board, too.
#[derive(Debug)]
pub struct Control {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl Control {
    /// Commands for the board, from any thread. A handle keeps nothing alive: once the board is stopped,
    /// every command returns [`CommandError::Ended`](commands::CommandError::Ended).
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// What was counted until now.
    pub fn statistics(&self) -> Statistics {
        self.handle.statistics()
    }

    /// The first failure, if there was any: of a back end, whose function stopped with DEVICE_NEEDS_RESET
    /// while the others continue; or of the device, with which the whole board ended. That a back end is away
    /// is not a failure ([`BackEndState::Away`](crate::BackEndState::Away)).
    pub fn failure(&self) -> Option<Arc<Error>> {
        self.handle.failure()
    }

    /// Takes power from the board, stops its queues, and ends the control thread.
    ///
    /// Until this returns another thread has to keep calling [`Poller::pass`], unless the poller was dropped
    /// before; otherwise this waits half a second for each queue, and logs that.
    ///
    /// # Errors
    /// The first failure of the board, now or earlier.
    pub fn stop(mut self) -> Result<Statistics, Arc<Error>> {
        if self.end().is_err() {
            return Err(Arc::new(Error::Panicked));
        }
        let Report { statistics, failure } = self.handle.report();
        match failure {
            None => Ok(statistics),
            Some(failure) => Err(failure),
        }
    }

    fn end(&mut self) -> thread::Result<()> {
        self.handle.end();
        self.thread.take().map_or(Ok(()), JoinHandle::join)
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // Already reported, by the panic itself.
        let _ = self.end();
    }
}
