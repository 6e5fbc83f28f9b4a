//! A base server with its boards, alive: back ends in processes of their own, an IO-Bond and a bm-hypervisor per board, and the
//! board's side of each for software to sit on.

use std::{
    ffi::OsString,
    fs::File,
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
};

use bm_hypervisor::{
    Control, Poller, Statistics,
    config::{BackEndConfig, BlkConfig, BoardConfig, FunctionConfig, MacAddress, NetConfig, RingConfig},
};
use iobond_model::live::{BoardMapError, Bond};
use tempfile::TempDir;
use vm_memory::GuestMemoryMmap;

use super::{
    BackEndError, BackEndProcess, Base, LiveBus, ModelPort, base_core::BaseThread, bus::InterruptCounts,
    stamps::Stamps,
};
use crate::{
    board::memory::{self, MemoryError},
    measure::StageClock,
    scenario::{BackEnd, Backing, Board, Device, Execution, Function, Net, Scenario},
};

/// Microseconds that a forwarded access may take. Far above the register's reset value: on a laptop whoever answers may have
/// to wait for a processor, and a driver that is told all ones gives up.
const MAILBOX_DEADLINE_US: u32 = 5_000_000;

/// `DEVICE_NEEDS_RESET` of the device status (virtio 1.3, 2.1).
const NEEDS_RESET: u8 = 0x40;

/// A world that did not come up, or that broke.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// A directory or file could not be made.
    #[error("cannot make {}: {source}", path.display())]
    File {
        /// What was to be made.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A board's memory could not be made.
    #[error("board {board}: {source}")]
    Memory {
        /// The board.
        board: String,
        /// Why.
        source: MemoryError,
    },
    /// A board's memory could not be made known to its IO-Bond.
    #[error("board {board}: {source}")]
    Map {
        /// The board.
        board: String,
        /// Why.
        source: BoardMapError,
    },
    /// A back end did not start.
    #[error(transparent)]
    BackEnd(#[from] BackEndError),
    /// A MAC address that bm-hypervisor does not take.
    #[error("{0}")]
    Address(String),
    /// A board's bm-hypervisor did not start, or has failed.
    #[error("board {board}: {reason}")]
    Hypervisor {
        /// The board.
        board: String,
        /// Why.
        reason: Arc<bm_hypervisor::Error>,
    },
    /// A function whose device bm-hypervisor does not offer.
    #[error(
        "board {board}, function {function}: bm-hypervisor offers no console yet; leave the function out"
    )]
    Console {
        /// The board.
        board: String,
        /// The function's number on it.
        function: usize,
    },
    /// A queue was stopped.
    #[error(
        "board {board}, function {function}, queue {queue}: IO-Bond stopped it ({reason}); are slot_size and slots large enough?"
    )]
    Stopped {
        /// The board.
        board: String,
        /// The function's number on it.
        function: usize,
        /// The queue's index in the function.
        queue: u16,
        /// `queues[n].state.error`.
        reason: String,
    },
    /// No thread for the base.
    #[error("cannot start the base core's thread: {0}")]
    Thread(std::io::Error),
}

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
}

/// A running base server. Dropping it stops everything that it started.
pub struct Live {
    // In the order in which they have to end: whoever polls, the boards' hypervisors, the back ends, their files.
    thread: Option<BaseThread>,
    base: Option<Arc<Base>>,
    boards: Vec<BoardHandle>,
    back_ends: Vec<(BackEnd, BackEndProcess)>,
    directory: TempDir,
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
        let back_ends = start_back_ends(scenario, program, directory.path(), output)?;
        let mut pollers = Vec::new();
        let mut started = Vec::new();
        for (index, board) in scenario.boards.iter().enumerate() {
            let (poller, running) = start_board(index, board, directory.path(), clock)?;
            pollers.push((Arc::clone(&running.bond), poller));
            started.push(running);
        }
        let base = Arc::new(Base::new(pollers));
        let thread = match scenario.execution {
            Execution::Threads => Some(BaseThread::start(Arc::clone(&base)).map_err(LiveError::Thread)?),
            Execution::Inline => None,
        };
        let lent = thread.is_none().then_some(&base);
        let boards = started.into_iter().map(|board| board.handle(lent, clock)).collect();
        Ok(Self { thread, base: Some(base), boards, back_ends, directory })
    }

    /// The boards, in the scenario's order.
    pub fn boards(&self) -> &[BoardHandle] {
        &self.boards
    }

    /// The socket of the back end behind a function.
    pub fn socket(&self, board: usize, function: usize) -> PathBuf {
        socket(self.directory.path(), board, function)
    }

    /// The image behind a disk, while it lives.
    pub fn image(&self, board: usize, function: usize, backing: &Backing) -> PathBuf {
        image(self.directory.path(), board, function, backing)
    }

    /// Process ids and names of the back ends.
    pub fn back_ends(&self) -> impl Iterator<Item = (&BackEnd, &BackEndProcess)> {
        self.back_ends.iter().map(|(which, process)| (which, process))
    }

    /// Kills a back end without a warning, if it runs.
    pub fn kill(&mut self, which: BackEnd) {
        let found = self.back_ends.iter_mut().find(|(candidate, _)| *candidate == which);
        if let Some((_, process)) = found {
            process.kill();
        }
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
    directory: &Path,
    clock: Option<&Arc<StageClock>>,
) -> Result<(Poller<ModelPort, Stamps>, Started), LiveError> {
    let name = board.name.clone();
    let memory = board_memory(board)?;
    let interrupts = Arc::new(InterruptCounts::default());
    let stamps = Stamps(clock.cloned());
    let mut bond = Bond::new(Arc::<InterruptCounts>::clone(&interrupts) as _);
    bond.map_board_memory(&memory).map_err(|source| LiveError::Map { board: name.clone(), source })?;
    if clock.is_some() {
        bond = bond.observed_by(Arc::new(stamps.clone()));
    }
    let bond = Arc::new(bond);
    let config = board_config(index, board, directory)?;
    let started = bm_hypervisor::start(config, Arc::new(ModelPort(Arc::clone(&bond))));
    let (poller, control) =
        started.map_err(|reason| LiveError::Hypervisor { board: name.clone(), reason: Arc::new(reason) })?;
    Ok((poller.observed_by(stamps), Started { name, bond, memory, interrupts, control }))
}

fn board_memory(board: &Board) -> Result<GuestMemoryMmap, LiveError> {
    let mebibytes = u32::try_from(board.memory_bytes >> 20).unwrap_or(u32::MAX);
    memory::create(mebibytes).map_err(|source| LiveError::Memory { board: board.name.clone(), source })
}

fn board_config(index: usize, board: &Board, directory: &Path) -> Result<BoardConfig, LiveError> {
    let functions = board.functions.iter().enumerate();
    let functions = functions
        .map(|(number, function)| {
            let console = || LiveError::Console { board: board.name.clone(), function: number };
            function_config(function, socket(directory, index, number))?.ok_or_else(console)
        })
        .collect::<Result<_, _>>()?;
    let mut config = BoardConfig::new(board.name.clone(), functions);
    config.mailbox_deadline_us = MAILBOX_DEADLINE_US;
    Ok(config)
}

fn mac_address(net: &Net) -> Result<MacAddress, LiveError> {
    MacAddress::new(net.mac.octets()).map_err(|error| LiveError::Address(error.to_string()))
}

fn function_config(function: &Function, socket: PathBuf) -> Result<Option<FunctionConfig>, LiveError> {
    let back_end = BackEndConfig::new(socket);
    let ring = RingConfig {
        guest: Some(function.queue_size),
        shadow: None,
        slot_size: Some(function.slot_size),
        slots: Some(function.slots),
    };
    Ok(Some(match &function.device {
        Device::Blk(blk) => {
            let mut config = BlkConfig::new(back_end);
            (config.queues, config.read_only, config.ring) = (blk.queues, blk.read_only, ring);
            FunctionConfig::Blk(config)
        }
        Device::Net(net) => {
            let mut config = NetConfig::new(mac_address(net)?, back_end);
            (config.queue_pairs, config.ring) = (net.queue_pairs, ring);
            FunctionConfig::Net(config)
        }
        Device::Console(_) => return Ok(None),
    }))
}

fn start_back_ends(
    scenario: &Scenario,
    program: &Path,
    directory: &Path,
    output: &Path,
) -> Result<Vec<(BackEnd, BackEndProcess)>, LiveError> {
    let mut running = Vec::new();
    for (name, which) in scenario.back_ends() {
        let (args, sockets) = match which {
            BackEnd::Switch => switch_args(scenario, directory, output),
            BackEnd::Disk { board, function } => (disk_args(scenario, directory, board, function)?, 1),
            BackEnd::Console { board, function } => (console_args(directory, board, function), 1),
        };
        running.push((which, BackEndProcess::start(&name, program, args, sockets)?));
    }
    Ok(running)
}

/// The switch has a port for every net function, in the scenario's order.
fn switch_args(scenario: &Scenario, directory: &Path, output: &Path) -> (Vec<OsString>, usize) {
    let mut args = vec![OsString::from("net")];
    let (mut ports, mut pairs) = (0, 1);
    for (index, board) in scenario.boards.iter().enumerate() {
        for (number, function) in board.functions.iter().enumerate() {
            let Device::Net(net) = &function.device else { continue };
            args.extend([OsString::from("--port"), socket(directory, index, number).into()]);
            ports += 1;
            pairs = net.queue_pairs.max(pairs);
        }
    }
    args.extend([OsString::from("--queues"), pairs.to_string().into()]);
    if scenario.capture {
        args.extend([OsString::from("--pcap-dir"), output.into()]);
    }
    (args, ports)
}

fn disk_args(
    scenario: &Scenario,
    directory: &Path,
    board: usize,
    function: usize,
) -> Result<Vec<OsString>, LiveError> {
    let described = scenario.boards.get(board).and_then(|board| board.functions.get(function));
    let Some(Function { device: Device::Blk(blk), .. }) = described else { return Ok(Vec::new()) };
    let image = image(directory, board, function, &blk.backing);
    if let Backing::Scratch(bytes) = blk.backing {
        let made = File::create(&image).and_then(|file| file.set_len(bytes));
        made.map_err(|source| LiveError::File { path: image.clone(), source })?;
    }
    let mut args: Vec<OsString> = ["blk", "--socket"].map(OsString::from).into();
    args.extend([socket(directory, board, function).into(), "--image".into(), image.into()]);
    args.extend(["--serial".into(), OsString::from(&blk.serial)]);
    args.extend(["--queues".into(), OsString::from(blk.queues.to_string())]);
    if blk.read_only {
        args.push("--read-only".into());
    }
    Ok(args)
}

fn console_args(directory: &Path, board: usize, function: usize) -> Vec<OsString> {
    let beside = |ending| directory.join(format!("{board}.{function}.{ending}")).into();
    let socket = socket(directory, board, function).into();
    [
        "console".into(),
        "--socket".into(),
        socket,
        "--terminal".into(),
        beside("terminal"),
        "--log".into(),
        beside("log"),
    ]
    .into()
}

fn socket(directory: &Path, board: usize, function: usize) -> PathBuf {
    directory.join(format!("{board}.{function}.sock"))
}

fn image(directory: &Path, board: usize, function: usize, backing: &Backing) -> PathBuf {
    match backing {
        Backing::Image(path) => path.clone(),
        Backing::Scratch(_) => directory.join(format!("{board}.{function}.img")),
    }
}
