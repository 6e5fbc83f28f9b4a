//! Commands from other threads, as the control thread carries them out.

use std::{sync::Arc, time::Duration, time::Instant};

use crossbeam_channel::Sender;
use iobond_spec::address::FunctionId;
use vmm_sys_util::epoll::Epoll;

use super::{
    Shared,
    board::Board,
    contexts::ContextRange,
    description::Description,
    notes::Journaled,
    offer::LIMITS,
    resources::Resources,
    served::{Served, reconfigure::Resized},
    statistics::QueueStatistics,
    watch_back_end,
};
use crate::{
    BoardState, Error,
    config::{ConfigError, FunctionConfig, LimitsConfig, Rates},
    device::{Device, Kind},
    lifecycle::BoardEvent,
    pool::Pool,
    port::Port,
    register_writes,
    vhost_user::BackEnd,
    virtio_pci::{Function, transport_features},
};

/// Commands that may wait for the control thread: one per client of the API, and a few of the embedder's.
pub(super) const WAITING: usize = 24;

/// A command that was not carried out, or not to its end.
#[derive(Clone, Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are those of the message")]
pub enum CommandError {
    /// The control thread has ended.
    #[error("the board is stopped")]
    Ended,
    /// Too many commands wait.
    #[error("{WAITING} commands wait for the board already; try again later")]
    Busy,
    /// The control thread did not begin it in time, or is not done with it.
    #[error("no answer within {0:?}; a back end that does not answer may be what holds it up, see its log")]
    TimedOut(Duration),
    /// The board is in a state in which this cannot be done.
    #[error("cannot {what} a board that is {state}")]
    State { what: &'static str, state: BoardState },
    /// There is no function of that number.
    #[error("there is no function {0}; `function_list` names those there are")]
    NoFunction(u8),
    /// The function is another device.
    #[error("function {function} is a {is} device, and this is for a {wanted} device")]
    WrongDevice { function: u8, is: &'static str, wanted: &'static str },
    /// A disk is not as large as expected.
    #[error(
        "the back end of function {function} says that its disk has {found} bytes, not {expected}; nothing was changed. Resize its image first"
    )]
    Size {
        function: u8,
        /// In bytes, as `found`.
        expected: u64,
        found: u64,
    },
    /// No place is large enough for another function.
    #[error(
        "no free place takes {queues} queues with such rings; remove a function that is as large, or start the board with `[[spares]]`"
    )]
    NoFreePlace { queues: u16 },
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

/// A function whose back end is connected.
pub(super) struct Addition {
    pub(super) config: FunctionConfig,
    pub(super) device: Device,
    pub(super) back_end: BackEnd,
}

/// Where the answer goes. A client that has given up does not get it.
pub(super) struct Reply<T>(Sender<Result<T, CommandError>>);

impl<T> Reply<T> {
    pub(super) fn new(sender: Sender<Result<T, CommandError>>) -> Self {
        Self(sender)
    }

    /// Carries a command out and answers it.
    fn after<P: Port>(
        self,
        board: &mut Board<P>,
        shared: &Shared,
        command: impl FnOnce(&mut Board<P>) -> Result<T, CommandError>,
    ) {
        let answer = board.committed(command);
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

/// A command, and until when its client waits for it.
pub(super) struct Order {
    pub(super) deadline: Instant,
    pub(super) command: Command,
}

impl<P: Port> Board<P> {
    /// Carries a command out, unless its client has given up. What it changed is noted, then published, then
    /// answered.
    pub(super) fn carry_out(&mut self, order: Order, epoll: &Epoll, shared: &Shared) {
        if Instant::now() >= order.deadline {
            return;
        }
        match order.command {
            Command::Power(on, reply) => reply.after(self, shared, |board| board.set_power(on, shared)),
            Command::Reset(reply) => reply.after(self, shared, Self::reset),
            Command::Resize { function, bytes, reply } => {
                reply.after(self, shared, |board| board.resize(function, bytes));
            }
            Command::SetLink { function, up, reply } => {
                reply.after(self, shared, |board| board.set_link(function, up));
            }
            Command::SetLimits { function, limits, reply } => {
                reply.after(self, shared, |board| board.set_limits(function, limits));
            }
            Command::Remove(function, reply) => reply.after(self, shared, |board| board.remove(function)),
            Command::Add(addition, reply) => reply.after(self, shared, |board| board.add(*addition, epoll)),
            Command::Describe(reply) => reply.after(self, shared, |board| Ok(board.describe())),
            Command::Queues(reply) => reply.after(self, shared, |board| Ok(board.queues())),
        }
    }

    fn set_power(&mut self, on: bool, shared: &Shared) -> Result<BoardState, CommandError> {
        let what = if on { "give power to" } else { "take power from" };
        let already = if on { self.state.has_power() } else { self.state == BoardState::Off };
        if !already {
            // IO-Bond reports the reset that comes with it, but an access could be answered before that.
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
        if !self.state.on(BoardEvent::ResetAsked) {
            return Err(CommandError::State { what: "reset", state: self.state });
        }
        self.forget_drivers();
        self.registers.write(register_writes::reset());
        self.each(|served, resources| served.stop_all(resources));
        tracing::info!(board = self.name, "board reset");
        Ok(self.state)
    }

    /// Resets every function. Noted before power goes or IO-Bond resets them: another process starts no queue
    /// of these drivers again.
    fn forget_drivers(&mut self) {
        self.committed(|board| {
            board.functions.iter_mut().flatten().for_each(|served| served.function.reset())
        });
    }

    /// The function of that number, which has to be a `wanted` device, if one is wanted, of a board that has
    /// a device.
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

    /// Does something that talks to the back end of a function, whose error is also the board's.
    fn with_back_end<T>(
        &mut self,
        function: u8,
        act: impl FnOnce(&mut Served, &mut Resources<'_, P>) -> Result<T, Error>,
    ) -> Result<T, CommandError> {
        let mut done = None;
        let failed = self.with(function.into(), |served, resources| {
            act(served, resources).map(|value| done = Some(value))
        });
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
        let resized = self.with_back_end(function, |served, resources| served.resize(expected, resources))?;
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
        self.with_back_end(function, |served, resources| served.set_link(up, resources))?;
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
            self.registers.write(register_writes::limit(id, rates.as_ref()));
        } else if rates.is_some() {
            return Err(CommandError::Failed(Arc::new(Error::Missing(LIMITS))));
        }
        Ok(())
    }

    /// The function is withdrawn from the board first, so that none of its queues is started again.
    fn remove(&mut self, function: u8) -> Result<(), CommandError> {
        let id = self.find("remove a function of", function, None)?.id;
        self.fold_counters();
        self.registers.write(register_writes::withdraw(id));
        self.with(id.index(), |served, resources| {
            resources.end.poll_waker().unwatch(served.back_end.call());
            served.stop_all(resources)
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
        let free = FunctionId::all().zip(&self.contexts).zip(&self.functions);
        let fitting = free
            .filter(|(_, served)| served.is_none())
            .map(|(place, _)| place)
            .find(|(_, contexts)| fits(&self.pool, **contexts, &device));
        let Some((id, contexts)) = fitting.map(|(id, contexts)| (id, *contexts)) else {
            return Err(CommandError::NoFreePlace { queues: device.queues() });
        };
        self.limit(id, config.limits().and_then(|limits| limits.rates()))?;
        for (context, index) in contexts.numbers().zip(0..device.queues()) {
            self.pool.refit(context.into(), device.sizes(index));
            self.tallies.forget(context);
        }
        let failed = |error| CommandError::Failed(Arc::new(Error::System(error)));
        watch_back_end(epoll, self, id.index(), &back_end).map_err(failed)?;
        let function = Function::new(device, transport_features(&self.identity.features));
        let mut served = Served::new(id, function, back_end, contexts.first);
        served.added = true;
        let device = served.function.device().kind.name();
        let image = self.image(&served);
        self.searches.expect(id.index(), config);
        // Noted before the board finds it: another process removes functions that were added, if it knows of
        // them.
        self.committed(|board| board.functions[id.index()] = Some(served));
        self.registers.write(register_writes::present(id, &image));
        tracing::info!(board = self.name, function = %id, device, "function added");
        Ok(id.index() as u8)
    }

    fn queues(&mut self) -> Vec<QueueStatistics> {
        let Self { functions, registers, tallies, .. } = self;
        let served = functions.iter().flatten();
        let queues = served.flat_map(|served| (0..served.queues()).map(move |index| (served, index)));
        queues.map(|(served, index)| served.queue_statistics(index, registers, tallies)).collect()
    }
}

/// Whether all queues of `device` fit into `contexts`.
fn fits(pool: &Pool, contexts: ContextRange, device: &Device) -> bool {
    let mut queues = contexts.numbers().zip(0..device.queues());
    device.queues() <= contexts.count
        && queues.all(|(context, index)| pool.fits(context.into(), device.sizes(index)))
}
