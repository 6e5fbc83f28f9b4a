//! Commands from outside, as the control thread carries them out.

use std::{sync::Arc, time::Duration, time::Instant};

use crossbeam_channel::Sender;
use iobond_spec::address::FunctionId;
use serde::{Deserialize, Serialize};
use vmm_sys_util::epoll::Epoll;

use super::{
    Shared,
    board::{Board, Room, Tools},
    description::Description,
    offer::LIMITS,
    served::Served,
    statistics::QueueStatistics,
    watch_back_end,
};
use crate::{
    BoardState, Error,
    config::{ConfigError, FunctionConfig, LimitsConfig, Rates},
    device::{Device, Kind},
    lifecycle::Happening,
    pool::Pool,
    port::Port,
    vhost_user::BackEnd,
    virtio_pci::{Function, transport_features},
};

/// Commands that may wait for the control thread: one of each client of the API, and a few of the embedder's.
pub(super) const WAITING: usize = 24;

/// A command that was not carried out, or not to its end.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CommandError {
    /// There is no control thread any more.
    #[error("the board is stopped")]
    Ended,
    /// Too many commands wait.
    #[error("{WAITING} commands wait for the board already; try again later")]
    Busy,
    /// The control thread did not come to it, or is not done with it.
    #[error("no answer within {0:?}; a back end that does not answer may be what holds it up, see its log")]
    TimedOut(Duration),
    /// The board is in a state in which this cannot be done.
    #[error("cannot {what} a board that is {state}")]
    State {
        /// What was asked for.
        what: &'static str,
        /// Where the board stands.
        state: BoardState,
    },
    /// There is no function of that number.
    #[error("there is no function {0}; `function_list` names those there are")]
    NoFunction(u8),
    /// The function is another device.
    #[error("function {function} is a {is} device, and this is for a {wanted} device")]
    WrongDevice {
        /// Its number.
        function: u8,
        /// What it is.
        is: &'static str,
        /// What it would have to be.
        wanted: &'static str,
    },
    /// A disk is not as large as expected.
    #[error(
        "the back end of function {function} says that its disk has {found} bytes, not {expected}; nothing was changed. Resize its image first"
    )]
    Size {
        /// Its number.
        function: u8,
        /// What was expected, in bytes.
        expected: u64,
        /// How large it is.
        found: u64,
    },
    /// There is no place for another function.
    #[error(
        "no free place has room for {queues} queues with such rings; remove a function that is as large, or start the board with `[[spares]]`"
    )]
    NoRoom {
        /// Queues that the function has.
        queues: u16,
    },
    /// The configuration of a function cannot be used.
    #[error("{0}")]
    Config(Arc<ConfigError>),
    /// A back end, or the device, failed.
    #[error("{0}")]
    Failed(Arc<Error>),
}

impl From<ConfigError> for CommandError {
    fn from(error: ConfigError) -> Self {
        Self::Config(Arc::new(error))
    }
}

/// How large a disk was and is, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Resized {
    /// What its driver knew before.
    pub before: u64,
    /// What it knows now.
    pub now: u64,
}

/// A function whose back end is connected.
pub(super) struct Addition {
    pub(super) config: FunctionConfig,
    pub(super) device: Device,
    pub(super) back_end: BackEnd,
}

/// Where the answer goes. Who gave up does not get it.
pub(super) struct Reply<T>(Sender<Result<T, CommandError>>);

impl<T> Reply<T> {
    pub(super) fn new(sender: Sender<Result<T, CommandError>>) -> Self {
        Self(sender)
    }

    /// Answers, once what was done is written down.
    fn after<P: Port>(self, answer: Result<T, CommandError>, board: &mut Board<P>, shared: &Shared) {
        board.note();
        board.follow_drivers();
        shared.publish(board);
        let _ = self.0.try_send(answer);
    }
}

/// What can be asked for; see [`Handle`](super::handle::Handle).
pub(super) enum Command {
    Power(bool, Reply<BoardState>),
    Reset(Reply<BoardState>),
    Resize { function: u8, bytes: Option<u64>, reply: Reply<Resized> },
    SetLink { function: u8, up: bool, reply: Reply<()> },
    SetLimits { function: u8, limits: Option<LimitsConfig>, reply: Reply<()> },
    Remove(u8, Reply<()>),
    Add(Box<Addition>, Reply<u8>),
    Describe(Reply<Description>),
    Queues(Reply<Vec<QueueStatistics>>),
}

/// A command, and until when anybody waits for it.
pub(super) struct Order {
    pub(super) deadline: Instant,
    pub(super) command: Command,
}

impl<P: Port> Board<P> {
    /// Carries a command out, unless whoever asked has given up. What it changed is published before it is answered.
    pub(super) fn carry_out(&mut self, order: Order, epoll: &Epoll, shared: &Shared) {
        if Instant::now() >= order.deadline {
            return;
        }
        match order.command {
            Command::Power(on, reply) => reply.after(self.set_power(on, shared), self, shared),
            Command::Reset(reply) => reply.after(self.reset(), self, shared),
            Command::Resize { function, bytes, reply } => {
                reply.after(self.resize(function, bytes), self, shared);
            }
            Command::SetLink { function, up, reply } => {
                reply.after(self.set_link(function, up), self, shared);
            }
            Command::SetLimits { function, limits, reply } => {
                reply.after(self.set_limits(function, limits), self, shared);
            }
            Command::Remove(function, reply) => reply.after(self.remove(function), self, shared),
            Command::Add(addition, reply) => reply.after(self.add(*addition, epoll), self, shared),
            Command::Describe(reply) => reply.after(Ok(self.describe()), self, shared),
            Command::Queues(reply) => reply.after(Ok(self.queues()), self, shared),
        }
    }

    fn set_power(&mut self, on: bool, shared: &Shared) -> Result<BoardState, CommandError> {
        let what = if on { "give power to" } else { "take power from" };
        let already = if on { self.state.has_power() } else { self.state == BoardState::Off };
        if !already {
            // IO-Bond tells of the reset that goes with it, but a board that has power could have something answered first.
            let done = match on {
                true => self.power_on(),
                false => self.power_off(|board| {
                    board.forget_drivers();
                    shared.publish(board);
                }),
            };
            if !done {
                return Err(CommandError::State { what, state: self.state });
            }
            if on {
                self.forget_drivers();
            }
            tracing::info!(board = self.name, on, "power switched");
        }
        Ok(self.state)
    }

    fn reset(&mut self) -> Result<BoardState, CommandError> {
        self.fold_counters();
        if !self.state.on(Happening::ResetAsked) {
            return Err(CommandError::State { what: "reset", state: self.state });
        }
        self.forget_drivers();
        self.registers.reset_board();
        self.each(|served, tools| served.stop_all(tools));
        tracing::info!(board = self.name, "board reset");
        Ok(self.state)
    }

    /// Resets every function, and writes that down: a life that goes on with the board starts no queue of these drivers again.
    fn forget_drivers(&mut self) {
        self.functions.iter_mut().flatten().for_each(|served| served.function.reset());
        self.note();
    }

    /// A function that is there, and is a `wanted` device if that matters; of a board that has a device.
    fn find(&self, what: &'static str, function: u8, wanted: Option<Kind>) -> Result<&Served, CommandError> {
        if matches!(self.state, BoardState::Absent | BoardState::Failed) {
            return Err(CommandError::State { what, state: self.state });
        }
        let served = self.functions.get(usize::from(function)).and_then(Option::as_ref);
        let served = served.ok_or(CommandError::NoFunction(function))?;
        let kind = served.function.device().kind;
        match wanted {
            Some(wanted) if kind != wanted => {
                Err(CommandError::WrongDevice { function, is: kind.name(), wanted: wanted.name() })
            }
            Some(_) | None => Ok(served),
        }
    }

    /// Does something that talks to the back end of a function. An error of it is also the board's.
    fn with_back_end<T>(
        &mut self,
        function: u8,
        what: impl FnOnce(&mut Served, &mut Tools<'_, P>) -> Result<T, Error>,
    ) -> Result<T, CommandError> {
        let mut done = None;
        let failed =
            self.with(function.into(), |served, tools| what(served, tools).map(|value| done = Some(value)));
        match (done, failed) {
            (Some(value), None) => Ok(value),
            (_, Some(error)) => Err(CommandError::Failed(error)),
            (None, None) => Err(CommandError::NoFunction(function)),
        }
    }

    fn resize(&mut self, function: u8, expected: Option<u64>) -> Result<Resized, CommandError> {
        let served = self.find("resize a disk of", function, Some(Kind::Blk))?;
        if !served.alive {
            let died = served.back_end.error(crate::vhost_user::Problem::Died);
            return Err(CommandError::Failed(Arc::new(died.into())));
        }
        let resized = self.with_back_end(function, |served, tools| served.resize(expected, tools))?;
        match expected {
            Some(expected) if expected != resized.now => {
                Err(CommandError::Size { function, expected, found: resized.now })
            }
            Some(_) | None => {
                let Resized { before, now } = resized;
                tracing::info!(board = self.name, function, before, now, "disk resized");
                Ok(resized)
            }
        }
    }

    fn set_link(&mut self, function: u8, up: bool) -> Result<(), CommandError> {
        self.find("switch a link of", function, Some(Kind::Net))?;
        self.with_back_end(function, |served, tools| served.set_link(up, tools))?;
        tracing::info!(board = self.name, function, up, "link switched");
        Ok(())
    }

    fn set_limits(&mut self, function: u8, limits: Option<LimitsConfig>) -> Result<(), CommandError> {
        let wanted = limits.map(|limits| match limits {
            LimitsConfig::Net(_) => Kind::Net,
            LimitsConfig::Blk(_) => Kind::Blk,
        });
        let id = self.find("limit a function of", function, wanted)?.id;
        let rates = limits.and_then(|limits| limits.rates());
        self.limit(id, rates)?;
        tracing::info!(board = self.name, function, ?rates, "limits set");
        Ok(())
    }

    /// Holds a function to `rates`, or to nothing, if IO-Bond can.
    fn limit(&self, id: FunctionId, rates: Option<Rates>) -> Result<(), CommandError> {
        if self.identity.features.limits() {
            self.registers.limit(id, rates.as_ref());
        } else if rates.is_some() {
            return Err(CommandError::Failed(Arc::new(Error::Missing(LIMITS))));
        }
        Ok(())
    }

    /// The board is kept from the function first, so that nothing of it is started again.
    fn remove(&mut self, function: u8) -> Result<(), CommandError> {
        let id = self.find("remove a function of", function, None)?.id;
        self.fold_counters();
        self.registers.withdraw(id);
        self.with(id.index(), |served, tools| {
            tools.end.poll_waker().unwatch(served.back_end.call());
            served.stop_all(tools)
        });
        self.searches.forget(id.index());
        if let Some(place) = self.functions.get_mut(id.index()) {
            *place = None;
        }
        tracing::info!(board = self.name, function, "function removed");
        Ok(())
    }

    fn add(&mut self, addition: Addition, epoll: &Epoll) -> Result<u8, CommandError> {
        let Addition { config, device, back_end } = addition;
        if matches!(self.state, BoardState::Absent | BoardState::Failed) {
            return Err(CommandError::State { what: "add a function to", state: self.state });
        }
        let free = FunctionId::all().zip(&self.rooms).zip(&self.functions);
        let fitting = free
            .filter(|(_, served)| served.is_none())
            .map(|(place, _)| place)
            .find(|(_, room)| fits(&self.pool, room, &device));
        let Some((id, room)) = fitting.map(|(id, room)| (id, *room)) else {
            return Err(CommandError::NoRoom { queues: device.queues() });
        };
        self.limit(id, config.limits().and_then(|limits| limits.rates()))?;
        for (context, index) in (room.first_context..).zip(0..device.queues()) {
            self.pool.refit(context.into(), device.sizes(index));
            self.registers.forget_tally(context);
        }
        let failed = |error| CommandError::Failed(Arc::new(Error::System(error)));
        watch_back_end(epoll, self, id.index(), &back_end).map_err(failed)?;
        let function = Function::new(device, transport_features(&self.identity.features));
        let mut served = Served::new(id, function, back_end, room.first_context);
        served.added = true;
        let device = served.function.device().kind.name();
        let image = self.image(&served);
        if let Some(place) = self.functions.get_mut(id.index()) {
            *place = Some(served);
        }
        self.searches.expect(id.index(), config);
        // Whoever goes on with the board knows of every function that there may be.
        self.note();
        self.registers.present(id, &image);
        tracing::info!(board = self.name, function = %id, device, "function added");
        Ok(id.index() as u8)
    }

    fn queues(&self) -> Vec<QueueStatistics> {
        let of = |served| {
            let queues = 0..Served::queues(served);
            queues.map(move |index| self.registers.queue_statistics(served, index))
        };
        self.present().flat_map(of).collect()
    }
}

/// Whether all queues of `device` fit into `room`.
fn fits(pool: &Pool, room: &Room, device: &Device) -> bool {
    let mut queues = (room.first_context..).zip(0..device.queues());
    device.queues() <= room.contexts
        && queues.all(|(context, index)| pool.fits(context.into(), device.sizes(index)))
}
