//! Figures beside a baseline that is measured in the same run.
//!
//! On a machine that others use too, speed drifts from one second to the next. So a figure and its baseline
//! take turns in short rounds, and the median round of each is what counts. `cpu_share` is that of the thread
//! that did the measured work: well below 1 means that another process had the processor, and that the row is
//! not worth much.

pub mod blk;
pub mod guest;
pub mod latency;
pub mod memory;
pub mod net;
pub mod poll;
pub mod ring;
pub mod sim;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use bmhive_server::BackEndProcess;
use iobond_model::live::Idle;
use results::{
    Figure,
    measure::{CpuMeter, Worker},
};
use scenario::{Extent, Scenario};
use software_board::{
    direct::{self, DeviceConfig, DirectTransport},
    memory::DmaMemory,
    queue::RingOptions,
};
use vm_memory::GuestMemoryMmap;

use crate::workload::WorkloadError;

/// Rounds of a figure and of its baseline.
const ROUNDS: usize = 7;
/// How long one round takes.
const ROUND: Extent = Extent::Time(Duration::from_millis(300));
/// MiB of memory of a board in a bench.
const BOARD_MIB: u32 = 64;
/// How a bench's drivers use their rings: they poll, as fast drivers do, with an IO-Bond and without.
const RINGS: RingOptions = RingOptions::POLLED;
/// Seed of everything random in a bench.
const SEED: u64 = 0x0BEC;

/// Rounds of a figure and of its baseline, in turns.
struct Paired {
    values: Vec<f64>,
    baselines: Vec<f64>,
    shares: Vec<f64>,
}

impl Paired {
    /// Lets `measured` and `baseline` take turns; each returns its value of one round.
    fn measure(
        mut measured: impl FnMut() -> Result<f64, WorkloadError>,
        mut baseline: impl FnMut() -> Result<f64, WorkloadError>,
    ) -> Result<Self, WorkloadError> {
        let mut paired = Self { values: Vec::new(), baselines: Vec::new(), shares: Vec::new() };
        for _ in 0..ROUNDS {
            let meter = CpuMeter::start(Worker::ThisThread).map_err(WorkloadError::Meter)?;
            paired.values.push(measured()?);
            paired.shares.push(meter.share().map_err(WorkloadError::Meter)?);
            paired.baselines.push(baseline()?);
        }
        Ok(paired)
    }

    /// Every value times `factor`, as from packets to bytes.
    fn scaled(mut self, factor: f64) -> Self {
        self.values.iter_mut().chain(&mut self.baselines).for_each(|value| *value *= factor);
        self
    }

    /// The median round, without its baseline.
    fn alone(mut self, name: &str, unit: &str) -> Figure {
        Figure::new(name, median(&mut self.values), unit, Some(median(&mut self.shares)))
    }

    /// The median round beside the median round of the baseline.
    fn figure(mut self, name: &str, unit: &str, baseline: &str) -> Figure {
        let baseline_value = median(&mut self.baselines);
        self.alone(name, unit).beside(baseline, baseline_value)
    }
}

/// The middle value; 0 without values.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// A scenario that a bench is made of.
fn scenario(text: &str) -> Result<Scenario, WorkloadError> {
    Ok(Scenario::parse("built in", text, Path::new(""))?)
}

/// A driver's place without an IO-Bond: its memory, and back ends of its own.
struct Bare {
    map: GuestMemoryMmap,
    memory: std::rc::Rc<DmaMemory>,
}

impl Bare {
    fn new() -> Result<Self, WorkloadError> {
        let map = software_board::memory::create(BOARD_MIB)?;
        Ok(Self { memory: DmaMemory::new(&map)?, map })
    }

    /// A driver's hold on the back end at `socket`. It waits as a board behind an IO-Bond does.
    fn connect(
        &self,
        socket: &Path,
        device: virtio_drivers::transport::DeviceType,
        queues: u16,
        features: u64,
        config: DeviceConfig,
    ) -> Result<DirectTransport<impl Fn() + use<>>, WorkloadError> {
        let back_end =
            direct::BackEnd { socket: socket.to_owned(), device, queues, queue_size: 256, features, config };
        let idle = Idle::default();
        Ok(DirectTransport::connect(back_end, &self.map, move || idle.after(false))?)
    }
}

/// Back ends for the baseline, in a directory of their own.
struct OwnBackEnd {
    _process: BackEndProcess,
    directory: tempfile::TempDir,
}

impl OwnBackEnd {
    /// Starts `bmhive backend ARGS`, where `args` is told the directory.
    fn start(
        program: &Path,
        sockets: usize,
        args: impl FnOnce(&Path) -> std::io::Result<Vec<std::ffi::OsString>>,
    ) -> Result<Self, WorkloadError> {
        let temporary = || tempfile::Builder::new().prefix("bmhive-bench-").tempdir();
        let failed = |source| WorkloadError::File { path: std::env::temp_dir(), source };
        let directory = temporary().map_err(failed)?;
        let args = args(directory.path()).map_err(failed)?;
        let process = BackEndProcess::start("baseline", program, args, sockets, &|| false)
            .map_err(|error| WorkloadError::World(error.into()))?;
        Ok(Self { _process: process, directory })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}
