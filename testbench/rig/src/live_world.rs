//! A base server whose boards are in this process, and the software on one of them.
//!
//! ```text
//!   World: Live ------------ bmhive backend blk, net (processes)
//!     Software: bus, board memory, the PCI functions that it found
//!       disk, net, transport: a driver's hold on one of them
//! ```

use std::{
    path::{Path, PathBuf},
    rc::Rc,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use crate::{bmhive::program, test_folder::random_bytes};
use bm_hypervisor::FunctionStatistics;
use bmhive_server::{Live, LiveBus};
use iobond_model::live::Bond;
use iobond_spec::{
    offsets::{functions, queues},
    register_access::RegisterIo,
};
use scenario::{Device, Scenario};
use software_board::{
    blk::{Blk, SECTOR},
    bus::Bus,
    memory::DmaMemory,
    net::Net,
    pci,
    queue::RingOptions,
    transport::PciTransport,
};

/// Nothing that a test waits for takes as long.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// No test in this process takes as long; one that does hangs, and is ended with its back ends.
const LIFETIME: Duration = Duration::from_secs(60);

pub type Transport = PciTransport<Rc<LiveBus>>;
/// A disk with twice as many descriptors as a test has requests in flight.
pub type Disk = Blk<Transport, 256>;

pub struct World {
    pub live: Live,
    scenario: Scenario,
    _watchdog: mpsc::Sender<()>,
}

impl World {
    /// Starts what a scenario without captures says.
    pub fn start(text: &str) -> Self {
        let scenario = Scenario::parse("a test", text, Path::new("/")).unwrap();
        Self::start_scenario(scenario)
    }

    pub fn start_scenario(scenario: Scenario) -> Self {
        let (watchdog, ended) = mpsc::channel();
        thread::spawn(move || {
            if ended.recv_timeout(LIFETIME) == Err(mpsc::RecvTimeoutError::Timeout) {
                eprintln!("a live world of {LIFETIME:?}: the test hangs");
                // The back ends end with this process.
                std::process::abort();
            }
        });
        let live = Live::start(&scenario, program(), Path::new("/nowhere"), None).unwrap();
        Self { live, scenario, _watchdog: watchdog }
    }

    /// The software of a board; once, as it hands out the board's memory.
    pub fn software(&self, board: usize) -> Software {
        let bus = Rc::clone(&self.live.boards()[board].bus);
        let memory = DmaMemory::new(bus.memory()).unwrap();
        let functions = pci::enumerate(&*bus).unwrap();
        assert_eq!(functions.len(), self.scenario.boards[board].functions.len());
        Software { bus, memory, functions }
    }

    pub fn bond(&self, board: usize) -> &Bond {
        self.live.boards()[board].bond()
    }

    /// The image on the host behind a disk.
    pub fn image(&self, board: usize, function: usize) -> PathBuf {
        let Device::Blk(disk) = &self.scenario.boards[board].functions[function].device else {
            panic!("function {function} of board {board}: not a disk")
        };
        self.live.image(board, function, &disk.backing)
    }

    /// What bm-hypervisor counted of a function, once that is as `expected`; it is published now and then.
    pub fn await_statistics(
        &self,
        board: usize,
        function: usize,
        expected: impl Fn(&FunctionStatistics) -> bool,
    ) -> FunctionStatistics {
        let start = Instant::now();
        loop {
            let statistics = self.live.boards()[board].statistics().functions.swap_remove(function);
            if expected(&statistics) {
                return statistics;
            }
            assert!(start.elapsed() < DEADLINE, "{statistics:?}");
            self.live.boards()[board].bus.relax();
        }
    }

    /// A register of queue context `context`.
    pub fn queue_register(&self, board: usize, context: u32, register: u32) -> u32 {
        self.bond(board).read32(queues::BASE + context * queues::STRIDE + register)
    }

    /// Interrupts that IO-Bond says a function has sent.
    pub fn interrupts(&self, board: usize, function: u32) -> u32 {
        self.bond(board).read32(functions::BASE + function * functions::STRIDE + functions::INTERRUPTS)
    }
}

pub struct Software {
    pub bus: Rc<LiveBus>,
    pub memory: Rc<DmaMemory>,
    pub functions: Vec<pci::Function>,
}

impl Software {
    pub fn transport(&self, function: usize) -> Transport {
        PciTransport::new(Rc::clone(&self.bus), self.functions[function].clone()).unwrap()
    }

    pub fn disk(&self, function: usize, options: RingOptions) -> Disk {
        Blk::new(self.transport(function), &self.memory, options).unwrap()
    }

    pub fn net(&self, function: usize, options: RingOptions) -> Net<Transport> {
        Net::new(self.transport(function), &self.memory, options).unwrap()
    }

    /// A disk that has just been set up works: a write, and what was written read back.
    pub fn disk_works(&self, function: usize, seed: u64) {
        prove(&mut self.disk(function, RingOptions::default()), seed);
    }
}

/// Writes to a place that `seed` chooses, and reads it back.
pub fn prove(disk: &mut Disk, seed: u64) {
    let data = random_bytes(8 * SECTOR, seed);
    let sector = seed * 8 % (disk.capacity() - 8);
    disk.write(sector, &data).unwrap();
    let mut read = vec![0; data.len()];
    disk.read(sector, &mut read).unwrap();
    assert!(read == data, "sector {sector} holds something else");
}

/// A base server with boards, given as in a scenario, on one thread and without captures.
pub fn boards(boards: &[String]) -> World {
    boards_on("inline", boards)
}

/// The same with an execution of the test's own.
pub fn boards_on(execution: &str, boards: &[String]) -> World {
    World::start(&format!("[server]\nname = \"live\"\nexecution = {execution:?}\n{}", boards.concat()))
}
