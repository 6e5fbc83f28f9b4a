//! The flow of `bmhive demo` and `bmhive run`: bring a server up, move a file, measure, tell.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bmhive_server::{Live, LiveBus, LiveError};
use iobond_spec::address::FunctionId;
use results::{
    BoardRecord, Check, Figure, RunResult,
    measure::{CpuMeter, StageClock, StageRecorder, Worker, per_second, this_machine},
};
use scenario::{BlkWorkload, Device, Extent, NetWorkload, Scenario};
use software_board::{
    blk::{Blk, SECTOR},
    bus::Bus,
    memory::DmaMemory,
    net::Net,
    pci,
    queue::RingOptions,
    transport::PciTransport,
};
use virtio_drivers::transport::DeviceType;

use super::{
    Watch, WorkloadError, counters,
    disk::{self, Measured},
    faults::Faults,
    file::{Hashing, digest_of},
    link, record,
};
use crate::progress::{Progress, Step, Unit};

/// Seed of everything random in a demonstration: places on the disk, TCP sequence numbers.
const SEED: u64 = 0x0010_B0ED;
/// Bytes of a ping-pong's frames.
const PING: usize = 64;

type Transport = PciTransport<Rc<LiveBus>>;
type Pair = (Net<Transport>, Net<Transport>);

/// What to carry out.
pub struct Plan<'a> {
    /// The scenario that is carried out.
    pub scenario: &'a Scenario,
    /// `bmhive` itself, for the back ends.
    pub program: &'a Path,
    /// What to write, read back and send; if not what the scenario says.
    pub file: Option<&'a Path>,
    /// Directory of the captures.
    pub output: &'a Path,
    /// Where steps are shown.
    pub progress: &'a Progress,
    /// Set when the run is to end early, as on a signal.
    pub interrupted: &'a AtomicBool,
}

/// Carries `plan` out. Checks that failed are in the result; an error is what kept the flow from its end.
///
/// # Errors
/// [`WorkloadError`].
pub fn run(plan: &Plan<'_>) -> Result<RunResult, WorkloadError> {
    let clock = Arc::new(StageClock::new());
    let live = Live::start(plan.scenario, plan.program, plan.output, Some(&clock))?;
    let faults = Faults::plan(plan.scenario, &live);
    let mut result = RunResult::new(&plan.scenario.name, Some(record(plan.scenario)), this_machine());
    let stage = Stage { plan, live: &live, clock };
    let outcome = stage.play(&mut result).and_then(|()| stage.healthy());
    for fault in faults.call_off() {
        result.notes.push(format!("The fault after {fault:?} did not happen: the workload was over before."));
    }
    match outcome {
        Ok(()) => Ok(result),
        Err(error) => Err(stage.cause_of(error)),
    }
}

/// A server that is up, and what is to happen on it.
struct Stage<'a> {
    plan: &'a Plan<'a>,
    live: &'a Live,
    clock: Arc<StageClock>,
}

/// A board with its functions found.
struct Found {
    bus: Rc<LiveBus>,
    memory: Rc<DmaMemory>,
    functions: Vec<pci::Function>,
}

impl Found {
    /// A driver's hold on the function of `kind`, if there is one.
    fn transport(&self, kind: DeviceType) -> Result<Option<(FunctionId, Transport)>, WorkloadError> {
        use virtio_drivers::transport::Transport as _;
        for function in &self.functions {
            let transport = PciTransport::new(Rc::clone(&self.bus), function.clone())?;
            if transport.device_type() == kind {
                return Ok(Some((function.id, transport)));
            }
        }
        Ok(None)
    }

    fn disk(&self) -> Result<Option<(FunctionId, Blk<Transport>)>, WorkloadError> {
        let Some((id, transport)) = self.transport(DeviceType::Block)? else { return Ok(None) };
        Ok(Some((id, Blk::new(transport, &self.memory, RingOptions::default())?)))
    }

    fn net(&self) -> Result<Option<Net<Transport>>, WorkloadError> {
        let Some((_, transport)) = self.transport(DeviceType::Network)? else { return Ok(None) };
        Ok(Some(Net::new(transport, &self.memory, RingOptions::default())?))
    }
}

impl Stage<'_> {
    fn play(&self, result: &mut RunResult) -> Result<(), WorkloadError> {
        let boards = self.find_functions(result)?;
        let file = self.file()?;
        self.to_disk_and_back(&boards, &file, result)?;
        self.send_between_boards(&boards, &file, result)?;
        if let Some(workload) = &self.plan.scenario.workload.blk {
            self.measure_disk(&boards, workload, result)?;
        }
        if let Some(workload) = &self.plan.scenario.workload.net {
            self.measure_link(&boards, workload, result)?;
        }
        Ok(())
    }

    /// Most errors of a driver follow from a failure of the world, of which word may come a little later.
    fn cause_of(&self, error: WorkloadError) -> WorkloadError {
        let deadline = Instant::now() + Duration::from_millis(500);
        loop {
            match (self.broken(), &error) {
                (_, WorkloadError::Interrupted) => return error,
                (Some(failure), _) => return failure.into(),
                // These have causes of their own.
                (
                    None,
                    WorkloadError::File { .. } | WorkloadError::TooLarge { .. } | WorkloadError::Needs(_),
                ) => {
                    return error;
                }
                (None, _) if Instant::now() >= deadline => return error,
                // In the inline world IO-Bonds and hypervisors run on the thread that waits, which is this
                // one.
                (None, _) => self.live.boards().iter().for_each(|board| {
                    board.bus.relax();
                }),
            }
        }
    }

    /// What broke the world, if it is broken.
    fn broken(&self) -> Option<LiveError> {
        self.live.failure().or_else(|| self.live.stopped())
    }

    fn healthy(&self) -> Result<(), WorkloadError> {
        if self.plan.interrupted.load(Ordering::Relaxed) {
            return Err(WorkloadError::Interrupted);
        }
        self.broken().map_or(Ok(()), |failure| Err(failure.into()))
    }

    /// Has every board look for its functions.
    fn find_functions(&self, result: &mut RunResult) -> Result<Vec<Found>, WorkloadError> {
        let mut boards = Vec::new();
        for board in self.live.boards() {
            let memory = DmaMemory::new(board.bus.memory())?;
            let functions = pci::enumerate(&*board.bus)?;
            let shown: Vec<String> = functions.iter().map(ToString::to_string).collect();
            result.boards.push(BoardRecord { name: board.name.clone(), functions: shown });
            boards.push(Found { bus: Rc::clone(&board.bus), memory, functions });
        }
        Ok(boards)
    }

    /// The file that is moved around: `--file`, the scenario's, or this executable.
    fn file(&self) -> Result<PathBuf, WorkloadError> {
        let named = self.plan.file.or(self.plan.scenario.workload.file.as_deref());
        Ok(named.unwrap_or(self.plan.program).to_owned())
    }

    fn open(path: &Path) -> Result<(File, u64), WorkloadError> {
        let file_error = |source| WorkloadError::File { path: path.to_owned(), source };
        let file = File::open(path).map_err(file_error)?;
        let metadata = file.metadata().map_err(file_error)?;
        if metadata.is_dir() {
            return Err(file_error(io::ErrorKind::IsADirectory.into()));
        }
        Ok((file, metadata.len()))
    }

    /// Writes the file to the first disk, reads it back, and looks at what the back end has on the host.
    fn to_disk_and_back(
        &self,
        boards: &[Found],
        path: &Path,
        result: &mut RunResult,
    ) -> Result<(), WorkloadError> {
        let healthy = || self.healthy();
        for (index, board) in boards.iter().enumerate() {
            let Some((id, mut disk)) = board.disk()? else { continue };
            if disk.read_only() {
                continue;
            }
            let (file, bytes) = Self::open(path)?;
            let capacity = disk.capacity() * SECTOR as u64;
            if bytes > capacity {
                let device = format!("{} {id}", self.live.boards()[index].name);
                return Err(WorkloadError::TooLarge { device, bytes, capacity });
            }
            let mut source = Hashing::new(file);
            let mut watch = Watch::new("writing the file", &healthy);
            let step = self.plan.progress.step("file to the disk, through IO-Bond", bytes, Unit::Bytes);
            let start = Instant::now();
            disk::write_stream(&mut disk, &mut source, path, &mut watch, |done| step.reach(done))?;
            finish(step, "file.write", bytes, start, result);

            let mut copy = Hashing::new(io::sink());
            let mut watch = Watch::new("reading the file back", &healthy);
            let step = self.plan.progress.step("and back", bytes, Unit::Bytes);
            let start = Instant::now();
            disk::read_stream(&mut disk, bytes, &mut copy, &mut watch, |done| step.reach(done))?;
            finish(step, "file.read", bytes, start, result);
            counters::tally(self.live, result);

            let expected = source.digest();
            result.checks.push(Check::equal("SHA-256, read back from the disk", &expected, &copy.digest()));
            if let Some(on_host) = self.digest_on_host(index, id, bytes)? {
                result.checks.push(Check::equal("SHA-256, image on the host", &expected, &on_host));
            }
            return Ok(());
        }
        result.notes.push("No board has a disk that can be written; the file was not written to one.".into());
        Ok(())
    }

    fn digest_on_host(
        &self,
        board: usize,
        id: FunctionId,
        bytes: u64,
    ) -> Result<Option<String>, WorkloadError> {
        let described = &self.plan.scenario.boards[board].functions[id.index()].device;
        let Device::Blk(blk) = described else { return Ok(None) };
        let image = self.live.image(board, id.index(), &blk.backing);
        let digest =
            digest_of(&image, bytes).map_err(|source| WorkloadError::File { path: image, source })?;
        Ok(Some(digest))
    }

    /// Sends the file by TCP from the first board with a network card to the second.
    fn send_between_boards(
        &self,
        boards: &[Found],
        path: &Path,
        result: &mut RunResult,
    ) -> Result<(), WorkloadError> {
        let Some((a, b)) = self.pair(boards)? else {
            result.notes.push("Fewer than two boards have a network card; nothing was sent.".into());
            return Ok(());
        };
        let healthy = || self.healthy();
        let (file, bytes) = Self::open(path)?;
        let step = Rc::new(self.plan.progress.step("file from board to board, by TCP", bytes, Unit::Bytes));
        let shown = Rc::clone(&step);
        let mut source = Hashing::new(file);
        let mut copy = Hashing::new(io::sink()).reporting(move |done| shown.reach(done));
        let mut watch = Watch::new("sending the file", &healthy);
        let start = Instant::now();
        let tally = || counters::tally(self.live, result);
        let arrived = link::transfer(a, b, &mut source, &mut copy, SEED, &mut watch, tally)?;
        let digests = (source.digest(), copy.digest());
        if let Ok(step) = Rc::try_unwrap(step) {
            finish(step, "file.tcp", arrived, start, result);
        }
        result.checks.push(Check::equal("bytes that arrived by TCP", &bytes, &arrived));
        result.checks.push(Check::equal("SHA-256, received by TCP", &digests.0, &digests.1));
        Ok(())
    }

    /// Drivers of the first two network cards.
    fn pair(&self, boards: &[Found]) -> Result<Option<Pair>, WorkloadError> {
        let mut cards = Vec::new();
        for board in boards {
            cards.extend(board.net()?);
            if cards.len() == 2 {
                let second = cards.pop();
                return Ok(cards.pop().zip(second));
            }
        }
        Ok(None)
    }

    fn measure_disk(
        &self,
        boards: &[Found],
        workload: &BlkWorkload,
        result: &mut RunResult,
    ) -> Result<(), WorkloadError> {
        let healthy = || self.healthy();
        for board in boards {
            let Some((_, mut disk)) = board.disk()? else { continue };
            for &depth in &workload.queue_depths {
                let name = format!("blk.randread.4k.qd{depth}");
                let (total, unit) = extent(workload.extent, Unit::Requests);
                let step =
                    self.plan.progress.step(&format!("4 KiB random reads, {depth} in flight"), total, unit);
                let mut stages = (depth == 1).then(|| StageRecorder::new(Arc::clone(&self.clock)));
                let mut watch = Watch::new("random reads", &healthy);
                let meter = CpuMeter::start(Worker::ThisThread).map_err(WorkloadError::Meter)?;
                let measured = disk::random_reads(
                    &mut disk,
                    depth,
                    workload.extent,
                    SEED,
                    stages.as_mut(),
                    &mut watch,
                    |done, elapsed| step.reach(position(workload.extent, done, elapsed)),
                )?;
                let share = meter.share().map_err(WorkloadError::Meter)?;
                conclude(&name, "reads/s", &measured, Some(share), result);
                if let Some(stages) = stages {
                    note_incomplete(&name, stages.incomplete(), result);
                    result.stages.push(stages.stages(&name));
                }
                step.finish(&summary(&measured));
            }
            counters::tally(self.live, result);
            return Ok(());
        }
        Err(WorkloadError::Needs("a disk for [workload.blk], and no board has one"))
    }

    fn measure_link(
        &self,
        boards: &[Found],
        workload: &NetWorkload,
        result: &mut RunResult,
    ) -> Result<(), WorkloadError> {
        let Some((mut a, mut b)) = self.pair(boards)? else {
            return Err(WorkloadError::Needs("two boards with a network card for [workload.net]"));
        };
        let healthy = || self.healthy();
        let (total, unit) = extent(workload.extent, Unit::Requests);
        let step = self.plan.progress.step("64 B ping-pong between the boards", total, unit);
        let mut watch = Watch::new("the ping-pong", &healthy);
        let meter = CpuMeter::start(Worker::ThisThread).map_err(WorkloadError::Meter)?;
        let measured =
            link::ping_pong(&mut a, &mut b, PING, workload.extent, &mut watch, |done, elapsed| {
                step.reach(position(workload.extent, done, elapsed));
            })?;
        let share = meter.share().map_err(WorkloadError::Meter)?;
        conclude("net.pingpong.64", "round trips/s", &measured, Some(share), result);
        step.finish(&summary(&measured));
        counters::tally(self.live, result);
        Ok(())
    }
}

/// The figure of a file that was moved.
fn finish(step: Step, name: &str, bytes: u64, start: Instant, result: &mut RunResult) {
    let rate = per_second(bytes, start.elapsed());
    step.finish(&format!("{:.0} MB/s", rate / 1e6));
    result.figures.push(Figure::new(name, rate, "bytes/s", None));
}

/// Figure and latencies of a measurement.
fn conclude(name: &str, unit: &str, measured: &Measured, share: Option<f64>, result: &mut RunResult) {
    let rate = per_second(measured.latency.count(), measured.elapsed);
    result.figures.push(Figure::new(name, rate, unit, share));
    result.latencies.push(measured.latency.latency(name));
}

/// Requests of which a stage is not known are missing from the stages, which has to be said.
fn note_incomplete(name: &str, requests: u64, result: &mut RunResult) {
    if requests > 0 {
        result.notes.push(format!(
            "{name}: {requests} requests are not in the stages, as not every moment was seen."
        ));
    }
}

fn summary(measured: &Measured) -> String {
    let rate = per_second(measured.latency.count(), measured.elapsed);
    let (p50, p99) = (measured.latency.quantile(0.5), measured.latency.quantile(0.99));
    format!("{:.1} k/s, p50 {:.1} us, p99 {:.1} us", rate / 1e3, p50 as f64 / 1e3, p99 as f64 / 1e3)
}

fn extent(extent: Extent, counted: Unit) -> (u64, Unit) {
    match extent {
        Extent::Count(count) => (count, counted),
        Extent::Time(time) => (time.as_millis() as u64, Unit::Milliseconds),
    }
}

fn position(extent: Extent, done: u64, elapsed: Duration) -> u64 {
    match extent {
        Extent::Count(_) => done,
        Extent::Time(_) => elapsed.as_millis() as u64,
    }
}
