//! A base server whose boards are machines of their own: every function stands on a vfio-user socket, and whoever hosts the board
//! (QEMU, or any client) connects there. Boards come and go; the base goes on.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use bm_hypervisor::{Control, Poller, Statistics};
use iobond_emulator::{BaseThread, InterruptLines, WakeUp, serve_functions};
use iobond_model::live::Bond;
use iobond_spec::{address::FunctionId, offsets::functions, register_access::RegisterIo};
use iobond_vfio_user::Server;
use model_port::ModelPort;
use scenario::{BackEnd, Board, Device, Scenario};

use super::{
    BackEndProcess, Base, LiveError, back_ends::BackEnds, emulated::rest, hypervisor::board_config,
    places::Places, stamps::Stamps,
};

/// One board, as its base serves it.
pub struct ServedBoard {
    /// Its name in the scenario.
    pub name: String,
    sockets: Vec<PathBuf>,
    back_end_sockets: Vec<PathBuf>,
    terminal: Option<PathBuf>,
    bond: Arc<Bond>,
    control: Control,
    servers: Vec<Server>,
}

impl ServedBoard {
    /// The vfio-user socket of each function, in the scenario's order.
    pub fn function_sockets(&self) -> &[PathBuf] {
        &self.sockets
    }

    /// The vhost-user socket behind each function, in the same order.
    pub fn back_end_sockets(&self) -> &[PathBuf] {
        &self.back_end_sockets
    }

    /// The socket that terminals connect to, if the board has a console.
    pub fn terminal(&self) -> Option<&Path> {
        self.terminal.as_deref()
    }

    /// The IO-Bond itself, for reading its registers as the base would.
    pub fn bond(&self) -> &Arc<Bond> {
        &self.bond
    }

    /// What its bm-hypervisor has counted, with the status that each driver has set.
    pub fn statistics(&self) -> Statistics {
        self.control.statistics()
    }

    /// Interrupts that IO-Bond has sent to `function` of the board; wraps.
    pub fn interrupts(&self, function: usize) -> u32 {
        let known = u8::try_from(function).ok().and_then(FunctionId::new);
        known.map_or(0, |id| {
            let file = functions::BASE + id.index() as u32 * functions::STRIDE;
            self.bond.read32(file + functions::INTERRUPTS)
        })
    }

    /// The first failure of its bm-hypervisor, if there was one: of a back end, which ends its function, or of the board.
    pub fn failure(&self) -> Option<LiveError> {
        let reason = self.control.failure()?;
        Some(LiveError::Hypervisor { board: self.name.clone(), reason })
    }
}

/// A running base server. Dropping it stops everything that it started.
pub struct Served {
    // In the order in which they have to end: whoever polls, the boards' sockets and hypervisors, the back ends.
    thread: Option<BaseThread>,
    boards: Vec<ServedBoard>,
    back_ends: BackEnds,
    places: Places,
}

impl Served {
    /// Starts the base of `scenario`: its back ends, and an IO-Bond and a bm-hypervisor for each board, with every function on a
    /// vfio-user socket in `directory`. `program` is `bmhive`, whose `backend` command the back ends are; captures go to
    /// `directory` too. `give_up` is asked now and then whether the base is not wanted any more.
    ///
    /// # Errors
    /// [`LiveError`]; nothing is left running then.
    pub fn start(
        scenario: &Scenario,
        program: &Path,
        directory: &Path,
        give_up: &dyn Fn() -> bool,
    ) -> Result<Self, LiveError> {
        let places = Places::new(directory);
        let back_ends = BackEnds::start(scenario, program, &places, directory, give_up)?;
        let wake_up = Arc::new(WakeUp::new().map_err(LiveError::Thread)?);
        let mut posts = Vec::new();
        let mut boards = Vec::new();
        for (index, board) in scenario.boards.iter().enumerate() {
            if give_up() {
                return Err(LiveError::GivenUp);
            }
            let (poller, started) = start_board(index, board, scenario, &places, &wake_up)?;
            posts.push((Arc::clone(&started.bond), poller));
            boards.push(started);
        }
        let base = Arc::new(Base::new(posts));
        base.wake(&wake_up).map_err(LiveError::Thread)?;
        let thread = BaseThread::start(base, rest(scenario), wake_up).map_err(LiveError::Thread)?;
        Ok(Self { thread: Some(thread), boards, back_ends, places })
    }

    /// The boards, in the scenario's order.
    pub fn boards(&self) -> &[ServedBoard] {
        &self.boards
    }

    /// Process ids and names of the back ends.
    pub fn back_ends(&self) -> impl Iterator<Item = (&BackEnd, &BackEndProcess)> {
        self.back_ends.iter()
    }

    /// The same, to look which of them have ended.
    pub fn back_ends_mut(&mut self) -> impl Iterator<Item = (&BackEnd, &mut BackEndProcess)> {
        self.back_ends.iter_mut()
    }

    /// Starts a back end again that has ended, and waits until it listens. It ends with the thread that calls this.
    ///
    /// # Errors
    /// [`LiveError`]; it is not there then.
    pub fn restart(&mut self, which: BackEnd) -> Result<(), LiveError> {
        self.back_ends.restart(which)
    }

    /// The image behind a disk, while it lives.
    pub fn image(&self, board: usize, function: usize, backing: &scenario::Backing) -> PathBuf {
        self.places.image(board, function, backing)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // No board reaches its IO-Bond any more; then pollers go before the control threads that would otherwise wait for them.
        self.boards.iter_mut().for_each(|board| board.servers.clear());
        self.thread = None;
    }
}

fn start_board(
    index: usize,
    board: &Board,
    scenario: &Scenario,
    places: &Places,
    wake_up: &Arc<WakeUp>,
) -> Result<(Poller<ModelPort, Stamps>, ServedBoard), LiveError> {
    let name = board.name.clone();
    let lines = Arc::new(InterruptLines::new(Arc::clone(wake_up)));
    let bond = Arc::new(Bond::new(Arc::clone(&lines) as _));
    let config = board_config(index, board, scenario, places);
    let started = bm_hypervisor::start(config, Arc::new(ModelPort(Arc::clone(&bond))));
    let (poller, control) =
        started.map_err(|reason| LiveError::Hypervisor { board: name.clone(), reason: Arc::new(reason) })?;
    let sockets: Vec<_> = (0..board.functions.len()).map(|number| places.vfio_user(index, number)).collect();
    let back_end_sockets = (0..board.functions.len()).map(|number| places.socket(index, number)).collect();
    let servers = serve_functions(&bond, &lines, &sockets)
        .map_err(|source| LiveError::Server { board: name.clone(), source })?;
    let is_console = |number: &usize| matches!(board.functions[*number].device, Device::Console(_));
    let terminal = (0..board.functions.len()).find(is_console).map(|number| places.terminal(index, number));
    let board = ServedBoard { name, sockets, back_end_sockets, terminal, bond, control, servers };
    Ok((poller.observed_by(Stamps(None)), board))
}
