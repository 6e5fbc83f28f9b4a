//! A base server: back ends in processes of their own, and an IO-Bond and a bm-hypervisor for each board.
//! Where the boards are, in this process or behind sockets, is said by their buses.

use std::{path::PathBuf, sync::Arc};

use bm_hypervisor::{Control, Handle, Statistics};
use iobond_emulator::BaseThread;
use iobond_model::live::Bond;
use iobond_spec::{address::FunctionId, offsets::functions, register_access::RegisterIo};
use model_port::ModelPort;
use scenario::{BackEnd, Backing, Scenario};
use tempfile::TempDir;

use super::{
    BackEndProcess, LiveError,
    back_ends::{BackEndCommand, BackEnds},
    base_core::PolledBoard,
    hypervisor::board_config,
    places::Places,
    stamps::Stamps,
};

/// The way from a board to its IO-Bond.
pub trait Detach {
    /// The board reaches its IO-Bond no longer, and lends its base no processor.
    fn detach(&mut self);
}

/// One board, as its base serves it; it reaches its IO-Bond by a `B`.
pub struct BaseBoard<B> {
    /// Its name in the scenario.
    pub name: String,
    /// Its side of the IO-Bond.
    pub bus: B,
    bond: Arc<Bond>,
    control: Control,
    back_end_sockets: Vec<PathBuf>,
}

impl<B> BaseBoard<B> {
    /// Starts the bm-hypervisor of board `index` behind `bond`; when the functions are there, `bus` gives the
    /// board its way to them.
    pub(super) fn start(
        index: usize,
        scenario: &Scenario,
        places: &Places,
        (bond, stamps): (Arc<Bond>, Stamps),
        bus: impl FnOnce() -> Result<B, LiveError>,
    ) -> Result<(PolledBoard, Self), LiveError> {
        let board = &scenario.boards[index];
        let name = board.name.clone();
        let config = board_config(index, board, scenario, places);
        let started = bm_hypervisor::start(config, Arc::new(ModelPort(Arc::clone(&bond))));
        let (poller, control) = started
            .map_err(|reason| LiveError::Hypervisor { board: name.clone(), reason: Arc::new(reason) })?;
        let polled = PolledBoard::new(Arc::clone(&bond), poller.observed_by(stamps));
        let back_end_sockets =
            (0..board.functions.len()).map(|number| places.socket(index, number)).collect();
        Ok((polled, Self { name, bus: bus()?, bond, control, back_end_sockets }))
    }

    /// The vhost-user socket behind each function, in the scenario's order.
    pub fn back_end_sockets(&self) -> &[PathBuf] {
        &self.back_end_sockets
    }

    /// The IO-Bond itself, for reading its registers as the base would.
    pub fn bond(&self) -> &Arc<Bond> {
        &self.bond
    }

    /// What its bm-hypervisor has counted, with the status that each driver has set.
    pub fn statistics(&self) -> Statistics {
        self.control.statistics()
    }

    /// Commands for its bm-hypervisor. Those that stop queues need another thread that passes over the base
    /// meanwhile.
    pub fn commands(&self) -> Handle {
        self.control.handle()
    }

    /// Interrupts that IO-Bond has sent to `function` of the board; wraps.
    pub fn interrupts(&self, function: usize) -> u32 {
        let known = u8::try_from(function).ok().and_then(FunctionId::new);
        known.map_or(0, |id| {
            let file = functions::BASE + id.index() as u32 * functions::STRIDE;
            self.bond.read32(file + functions::INTERRUPTS)
        })
    }

    /// The first failure of its bm-hypervisor, if there was one: of a back end, which ends its function, or
    /// of the board.
    pub fn failure(&self) -> Option<LiveError> {
        let reason = self.control.failure()?;
        Some(LiveError::Hypervisor { board: self.name.clone(), reason })
    }
}

/// A running base server. Dropping it stops everything that it started.
pub struct BaseServer<B: Detach> {
    // In the order in which they have to end: the thread that polls, the boards' hypervisors, the back ends,
    // their files.
    pub(super) thread: Option<BaseThread>,
    pub(super) boards: Vec<BaseBoard<B>>,
    pub(super) back_ends: BackEnds,
    pub(super) places: Places,
    pub(super) _directory: Option<TempDir>,
}

impl<B: Detach> BaseServer<B> {
    /// The boards, in the scenario's order.
    pub fn boards(&self) -> &[BaseBoard<B>] {
        &self.boards
    }

    /// The image behind a disk, while the server runs.
    pub fn image(&self, board: usize, function: usize, backing: &Backing) -> PathBuf {
        self.places.image(board, function, backing)
    }

    /// The back ends, each with what it is for.
    pub fn back_ends(&self) -> impl Iterator<Item = (&BackEnd, &BackEndProcess)> {
        self.back_ends.iter()
    }

    /// The same, to look which of them have ended.
    pub fn back_ends_mut(&mut self) -> impl Iterator<Item = (&BackEnd, &mut BackEndProcess)> {
        self.back_ends.iter_mut()
    }

    /// Kills a back end without a warning, if it runs.
    pub fn kill(&mut self, which: BackEnd) {
        self.back_ends.kill(which);
    }

    /// Starts a back end again that has ended, and waits until it listens. It ends with the thread that calls
    /// this.
    ///
    /// # Errors
    /// [`LiveError`]; the back end does not run then.
    pub fn restart(&mut self, which: BackEnd) -> Result<(), LiveError> {
        self.back_ends.restart(which)
    }

    /// How a back end was started.
    pub fn back_end_command(&self, which: BackEnd) -> Option<BackEndCommand> {
        self.back_ends.command(which).cloned()
    }

    /// The first failure of any board's bm-hypervisor: what is behind most errors that a board's driver sees.
    pub fn failure(&self) -> Option<LiveError> {
        self.boards.iter().find_map(BaseBoard::failure)
    }
}

impl<B: Detach> Drop for BaseServer<B> {
    fn drop(&mut self) {
        // No board reaches its IO-Bond any more; then pollers go before the control threads, which would
        // otherwise wait for them. The last that has the pollers is the thread, or a bus that lends its
        // processor.
        self.boards.iter_mut().for_each(|board| board.bus.detach());
        self.thread = None;
    }
}
