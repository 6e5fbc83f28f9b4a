//! A base server with its boards, alive: back ends in processes of their own, an IO-Bond and a bm-hypervisor per board, and the
//! board's side of each for software to sit on.

use std::{
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
};

use bm_hypervisor::{Control, Handle, Poller, Statistics};
use iobond_emulator::{BaseThread, Rest, WakeUp};
use iobond_model::live::Bond;
use model_port::ModelPort;
use results::measure::StageClock;
use scenario::{BackEnd, Backing, Board, Execution, Scenario};
use software_board::memory;
use tempfile::TempDir;
use vm_memory::GuestMemoryMmap;

use super::{
    BackEndProcess, Base, LiveBus, LiveError,
    back_ends::{BackEndCommand, BackEnds},
    bus::InterruptCounts,
    hypervisor::board_config,
    places::Places,
    stamps::Stamps,
};

/// `DEVICE_NEEDS_RESET` of the device status (virtio 1.3, 2.1).
const NEEDS_RESET: u8 = 0x40;

/// One board of a live world.
pub struct BoardHandle {
    /// Its name in the scenario.
    pub name: String,
    /// Its side of the IO-Bond.
    pub bus: Rc<LiveBus>,
    bond: Arc<Bond>,
    control: Control,
}

impl BoardHandle {
    /// The IO-Bond itself, for reading its registers as the base would.
    pub fn bond(&self) -> &Arc<Bond> {
        &self.bond
    }

    /// What its bm-hypervisor has counted.
    pub fn statistics(&self) -> Statistics {
        self.control.statistics()
    }

    /// Commands for its bm-hypervisor. Those that stop queues want somebody to pass meanwhile: another thread.
    pub fn commands(&self) -> Handle {
        self.control.handle()
    }
}

/// A running base server. Dropping it stops everything that it started.
pub struct Live {
    // In the order in which they have to end: whoever polls, the boards' hypervisors, the back ends, their files.
    thread: Option<BaseThread>,
    base: Option<Arc<Base>>,
    boards: Vec<BoardHandle>,
    back_ends: BackEnds,
    places: Places,
    _directory: TempDir,
}

impl Live {
    /// Starts everything that `scenario` names. `program` is `bmhive`, whose `backend` command the back ends are; captures go
    /// to `output`. With a `clock`, the stages of requests are stamped on it.
    ///
    /// # Errors
    /// [`LiveError`]; nothing is left running then.
    pub fn start(
        scenario: &Scenario,
        program: &Path,
        output: &Path,
        clock: Option<&Arc<StageClock>>,
    ) -> Result<Self, LiveError> {
        let directory = tempfile::Builder::new()
            .prefix("bmhive-")
            .tempdir()
            .map_err(|source| LiveError::File { path: std::env::temp_dir(), source })?;
        let places = Places::new(directory.path());
        let back_ends = BackEnds::start(scenario, program, &places, output, &|| false)?;
        let mut pollers = Vec::new();
        let mut started = Vec::new();
        for (index, board) in scenario.boards.iter().enumerate() {
            let (poller, running) = start_board(index, board, scenario, &places, clock)?;
            pollers.push((Arc::clone(&running.bond), poller));
            started.push(running);
        }
        let base = Arc::new(Base::new(pollers));
        let thread = match scenario.execution {
            Execution::Threads => {
                let wake_up = Arc::new(WakeUp::new().map_err(LiveError::Thread)?);
                let thread = BaseThread::start(Arc::clone(&base), Rest::Never, wake_up);
                Some(thread.map_err(LiveError::Thread)?)
            }
            Execution::Inline => None,
        };
        let lent = thread.is_none().then_some(&base);
        let boards = started.into_iter().map(|board| board.handle(lent, clock)).collect();
        Ok(Self { thread, base: Some(base), boards, back_ends, places, _directory: directory })
    }

    /// The boards, in the scenario's order.
    pub fn boards(&self) -> &[BoardHandle] {
        &self.boards
    }

    /// The socket of the back end behind a function.
    pub fn socket(&self, board: usize, function: usize) -> PathBuf {
        self.places.socket(board, function)
    }

    /// The image behind a disk, while it lives.
    pub fn image(&self, board: usize, function: usize, backing: &Backing) -> PathBuf {
        self.places.image(board, function, backing)
    }

    /// Process ids and names of the back ends.
    pub fn back_ends(&self) -> impl Iterator<Item = (&BackEnd, &BackEndProcess)> {
        self.back_ends.iter()
    }

    /// Kills a back end without a warning, if it runs.
    pub fn kill(&mut self, which: BackEnd) {
        self.back_ends.kill(which);
    }

    /// Starts a back end again that was killed, and waits until it listens.
    ///
    /// # Errors
    /// [`LiveError`]; it is not there then.
    pub fn restart(&mut self, which: BackEnd) -> Result<(), LiveError> {
        self.back_ends.restart(which)
    }

    /// How a back end was started.
    pub fn back_end_command(&self, which: BackEnd) -> Option<BackEndCommand> {
        self.back_ends.command(which).cloned()
    }

    /// The first failure of any board's bm-hypervisor: what is behind most errors that a board's driver sees.
    pub fn failure(&self) -> Option<LiveError> {
        self.boards.iter().find_map(|board| {
            let reason = board.control.failure()?;
            Some(LiveError::Hypervisor { board: board.name.clone(), reason })
        })
    }

    /// The first function that asks its driver for a reset: IO-Bond stopped one of its queues, which is the driver's fault or that
    /// of the sizes it was given, and no failure of the base.
    pub fn stopped(&self) -> Option<LiveError> {
        self.boards.iter().find_map(|board| {
            let functions = board.statistics().functions;
            let stopped = functions.iter().position(|function| function.status & NEEDS_RESET != 0)?;
            let (queue, reason) = functions[stopped].last_queue_error.clone()?;
            Some(LiveError::Stopped { board: board.name.clone(), function: stopped, queue, reason })
        })
    }

    /// Bytes that each board takes beyond its own memory and its slots: the IO-Bond, shadow rings and status page.
    pub fn footprint(&self) -> Vec<u64> {
        let of = |board: &BoardHandle| {
            let pool = board.statistics().memory;
            board.bond.footprint() as u64 + pool.total - pool.slots
        };
        self.boards.iter().map(of).collect()
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        // Pollers go before the control threads that would otherwise wait for them.
        self.thread = None;
        self.base = None;
        let lent: Vec<_> = self.boards.iter().map(|board| Rc::clone(&board.bus)).collect();
        lent.iter().for_each(|bus| bus.end());
    }
}

/// A board whose bm-hypervisor runs, before it is known who polls it.
struct Started {
    name: String,
    bond: Arc<Bond>,
    memory: GuestMemoryMmap,
    interrupts: Arc<InterruptCounts>,
    control: Control,
}

impl Started {
    fn handle(self, base: Option<&Arc<Base>>, clock: Option<&Arc<StageClock>>) -> BoardHandle {
        let bond = Arc::clone(&self.bond);
        let bus = LiveBus::new(bond, self.memory, self.interrupts, base.cloned(), clock.cloned());
        BoardHandle { name: self.name, bus: Rc::new(bus), bond: self.bond, control: self.control }
    }
}

fn start_board(
    index: usize,
    board: &Board,
    scenario: &Scenario,
    places: &Places,
    clock: Option<&Arc<StageClock>>,
) -> Result<(Poller<ModelPort, Stamps>, Started), LiveError> {
    let name = board.name.clone();
    let memory = board_memory(board)?;
    let stamps = Stamps(clock.cloned());
    let interrupts = Arc::new(InterruptCounts::new(stamps.clone()));
    let bond = Bond::new(Arc::<InterruptCounts>::clone(&interrupts) as _);
    bond.map_board_memory(&memory).map_err(|source| LiveError::Map { board: name.clone(), source })?;
    let bond = Arc::new(bond);
    let config = board_config(index, board, scenario, places);
    let started = bm_hypervisor::start(config, Arc::new(ModelPort(Arc::clone(&bond))));
    let (poller, control) =
        started.map_err(|reason| LiveError::Hypervisor { board: name.clone(), reason: Arc::new(reason) })?;
    Ok((poller.observed_by(stamps), Started { name, bond, memory, interrupts, control }))
}

fn board_memory(board: &Board) -> Result<GuestMemoryMmap, LiveError> {
    let mebibytes = u32::try_from(board.memory_bytes >> 20).unwrap_or(u32::MAX);
    memory::create(mebibytes).map_err(|source| LiveError::Memory { board: board.name.clone(), source })
}
