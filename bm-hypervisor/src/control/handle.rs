//! A board for other threads: its reports, and commands, each of which is answered within a bound.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use crossbeam_channel::{RecvTimeoutError, Sender, TrySendError, bounded};
use crossbeam_utils::CachePadded;
use vmm_sys_util::eventfd::EventFd;

use super::{
    Report, Shared,
    commands::{Addition, Command, CommandError, Order, Reply},
    description::Description,
    offer::offered_device,
    served::reconfigure::Resized,
    statistics::{QueueStatistics, Statistics},
};
use crate::{
    BoardState, Error,
    config::{FunctionConfig, LimitsConfig},
    poll::channel::Counters,
    vhost_user::{BackEnd, Socket},
};

/// How long a command may take ([`Handle`] says so). Enough to switch off a board whose back ends all fall
/// silent with their default time-outs.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Commands for one board. It is cheap to clone, and may be used from any thread.
///
/// The control thread carries commands out one after the other, between accesses of its board. Each waits at
/// most 30 s; one that was not begun by then is not carried out any more.
#[derive(Clone, Debug)]
pub struct Handle {
    orders: Sender<Order>,
    wake: Arc<EventFd>,
    shared: Arc<Shared>,
    counters: Arc<CachePadded<Counters>>,
}

impl Handle {
    pub(super) fn new(
        orders: Sender<Order>,
        wake: EventFd,
        shared: Arc<Shared>,
        counters: Arc<CachePadded<Counters>>,
    ) -> Self {
        Self { orders, wake: Arc::new(wake), shared, counters }
    }

    /// What was counted until now. Does not wait.
    pub fn statistics(&self) -> Statistics {
        // The control thread publishes what it counts after each turn; it does not hear of what passes count.
        Statistics { poll: self.counters.read(), ..self.shared.report().statistics.clone() }
    }

    /// The first failure, if there was any; see [`Control::failure`](super::Control::failure).
    pub fn failure(&self) -> Option<Arc<Error>> {
        self.shared.report().failure.clone()
    }

    pub(super) fn report(&self) -> Report {
        self.shared.report().clone()
    }

    /// Has the control thread end; does not wait for it.
    pub(super) fn end(&self) {
        self.shared.stop.store(true, Ordering::Release);
        self.wake();
    }

    fn wake(&self) {
        // Fails only when the thread is about to wake anyway.
        let _ = self.wake.write(1);
    }

    /// Gives the board power, or takes it away after its queues are taken back from their back ends. Returns
    /// its new state. A board that has power already, or none, stays as it is.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub fn power(&self, on: bool) -> Result<BoardState, CommandError> {
        self.ask(|reply| Command::Power(on, reply))
    }

    /// Resets every function of a board that has power, as a conventional reset of its bus does.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub fn reset(&self) -> Result<BoardState, CommandError> {
        self.ask(Command::Reset)
    }

    /// Asks the back end of a disk how large it is now, and tells the driver if that has changed. With
    /// `bytes`, nothing changes unless it is just as large.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub fn resize(&self, function: u8, bytes: Option<u64>) -> Result<Resized, CommandError> {
        self.ask(|reply| Command::Resize { function, bytes, reply })
    }

    /// Takes the link of a network function up or down. While it is down its vrings are disabled at the back
    /// end, which neither takes frames nor brings any.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub fn set_link(&self, function: u8, up: bool) -> Result<(), CommandError> {
        self.ask(|reply| Command::SetLink { function, up, reply })
    }

    /// Holds a function to other limits from now on, with full bursts, or to none.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub fn set_limits(&self, function: u8, limits: Option<LimitsConfig>) -> Result<(), CommandError> {
        limits.map_or(Ok(()), |limits| limits.check("limits"))?;
        self.ask(|reply| Command::SetLimits { function, limits, reply })
    }

    /// Removes a function, whatever its driver does, and disconnects its back end.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub fn remove_function(&self, function: u8) -> Result<(), CommandError> {
        self.ask(|reply| Command::Remove(function, reply))
    }

    /// Adds a function in the place of one that was removed, or in a spare one. Returns its number. The back
    /// end is connected on the calling thread, so that the board does not wait for it.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub fn add_function(&self, config: &FunctionConfig) -> Result<u8, CommandError> {
        config.check(config.device_name())?;
        let connected = || {
            let mut back_end = BackEnd::open(Socket::new(config.backend())?, config.backend())?;
            let device = offered_device(config, &mut back_end)?;
            Ok(Addition { config: config.clone(), device, back_end })
        };
        let addition = connected().map_err(|error| CommandError::Failed(Arc::new(Error::BackEnd(error))))?;
        self.ask(|reply| Command::Add(Box::new(addition), reply))
    }

    /// The board's functions and what its IO-Bond has.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub fn describe(&self) -> Result<Description, CommandError> {
        self.ask(Command::Describe)
    }

    /// Every queue of every function, read from IO-Bond's registers.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub fn queues(&self) -> Result<Vec<QueueStatistics>, CommandError> {
        self.ask(Command::Queues)
    }

    fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, CommandError> {
        let deadline = Instant::now() + TIMEOUT;
        let (reply, answer) = bounded(1);
        self.orders.try_send(Order { deadline, command: command(Reply::new(reply)) }).map_err(|error| {
            match error {
                TrySendError::Full(_) => CommandError::Busy,
                TrySendError::Disconnected(_) => CommandError::Ended,
            }
        })?;
        self.wake();
        answer.recv_deadline(deadline).unwrap_or_else(|error| {
            Err(match error {
                RecvTimeoutError::Timeout => CommandError::TimedOut(TIMEOUT),
                RecvTimeoutError::Disconnected => CommandError::Ended,
            })
        })
    }
}
