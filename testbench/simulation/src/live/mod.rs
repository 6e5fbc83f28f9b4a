//! The live IO-Bond with nothing around it but what a [`Plan`] has: drivers, bm-hypervisor's poll pass without a control thread, and
//! back ends that touch no payload, all in this process and on the wall clock.
//!
//! ```text
//!   driver thread         every driver: makes requests, rings, takes answers back
//!   this or another one   for each board in turn: IO-Bond's pass, bm-hypervisor's pass, back end
//! ```
//!
//! The plan's timing is the world of virtual time's; here everything takes as long as it takes. Of its services there is only
//! [`Service::Memory`].

mod base_core;
mod driver;
mod watch;

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bm_hypervisor::{Poller, config::PollMode, pool::IOVA};
use iobond_model::live::{Bond, Idle, Mapping};
use iobond_spec::register_access::RegisterIo;
use model_port::ModelPort;
use results::measure::{CpuMeter, Worker};

use self::{
    base_core::{Base, Post},
    driver::Driver,
    watch::{Lines, Surroundings, Watch},
};
use super::{
    Notice, Outcome, Plan, PlanError, Recorder, Service,
    board::{Board, Step},
};

/// How long nothing may happen before a run counts as stuck.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Turns of the drivers between two looks at the clock and the base.
const LOOKS: u32 = 1024;

/// Why there is no outcome.
#[derive(Debug, thiserror::Error)]
pub enum WallClockError {
    /// The plan is impossible.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The plan has another service than [`Service::Memory`].
    #[error("the workload needs a back end without a disk, which only virtual time has")]
    Service,
    /// Something was returned that was not asked for, or something could not be set up.
    #[error("the queue engine stopped: {0}")]
    Engine(String),
    /// Nothing came back in time.
    #[error("latency: nothing happened for {0:?}")]
    Stuck(Duration),
    /// A thread's share of the processors could not be read.
    #[error("cannot read processor times: {0}")]
    Meter(io::Error),
}

/// Runs `plan` to its end; with `threads`, base and drivers have a thread each. Its outcome, and the share of a processor that the
/// thread of the base had.
///
/// # Errors
/// The plan is impossible, or something went wrong.
pub fn run(plan: &Plan, threads: bool) -> Result<(Outcome, f64), WallClockError> {
    plan.check()?;
    if plan.service != Service::Memory {
        return Err(WallClockError::Service);
    }
    let epoch = Instant::now();
    let mut places = (0..plan.boards).map(|_| Place::new(plan, epoch)).collect::<Result<Vec<_>, _>>()?;
    let posts = places.iter_mut().filter_map(|place| place.post.take()).collect();
    let base = Base::new(plan, posts);
    let recorder = Recorder::new(plan.warm_up);
    let lanes = places.iter().zip(0u64..).flat_map(|(place, board)| {
        let queues = 0..usize::from(plan.queues);
        queues.map(move |queue| (place, queue, board << 32 | queue as u64))
    });
    let mut drivers: Vec<_> =
        lanes.map(|(place, queue, name)| Driver::new(plan, place, queue, name)).collect();
    let share = match threads {
        false => in_turns(base, &mut drivers, &recorder)?,
        true => on_two_threads(base, &mut drivers, &recorder)?,
    };
    Ok((recorder.taken(), share))
}

/// One board, as its drivers see it.
struct Place {
    board: Arc<Board>,
    bond: Arc<Bond>,
    lines: Arc<Lines>,
    watch: Arc<Watch>,
    /// What its base core works at, until that has it.
    post: Option<Post>,
}

impl Place {
    fn new(plan: &Plan, epoch: Instant) -> Result<Self, WallClockError> {
        let board = Arc::new(Board::new(plan).map_err(engine)?);
        let lines = Arc::new(Lines::new(plan.queues));
        let watch = Arc::new(Watch::new(Arc::clone(&board), epoch));
        let surroundings = Surroundings { lines: Arc::clone(&lines), watch: Arc::clone(&watch) };
        let bond = Arc::new(Bond::new(Arc::new(surroundings)));
        bond.map_board_memory(&board.memory).map_err(engine)?;
        let length = usize::try_from(board.pool.length()).map_err(engine)?;
        bond.map(&Mapping { file: board.pool.file(), file_offset: 0, length, iova: IOVA }).map_err(engine)?;
        let registers = plan.design.notice == Notice::Registers;
        for step in board.steps(!registers) {
            carry_out(&bond, step);
        }
        let mode = if registers { PollMode::Registers } else { PollMode::StatusPage };
        let port = Arc::new(ModelPort(Arc::clone(&bond)));
        let (poller, noticed) = Poller::bare(port, &board.pool, mode, board.polled()).map_err(engine)?;
        let poller = poller.observed_by(watch::Heads(Arc::clone(&watch)));
        let post = Post::new(Arc::clone(&board), Arc::clone(&bond), poller, noticed, Arc::clone(&watch));
        Ok(Self { board, bond, lines, watch, post: Some(post) })
    }
}

/// The device knows everything that it is asked here, so that nothing waits for an answer of the base.
fn carry_out(bond: &Bond, Step { accesses, writes }: Step) {
    for access in accesses {
        bond.access(access, &mut || {});
    }
    writes.into_iter().for_each(|(at, value)| bond.write32(at, value));
}

/// Everything on this thread.
fn in_turns(mut base: Base, drivers: &mut [Driver<'_>], recorder: &Recorder) -> Result<f64, WallClockError> {
    let meter = CpuMeter::start(Worker::ThisThread).map_err(WallClockError::Meter)?;
    drive(drivers, recorder, &|| Ok(()), &mut || base.pass())?;
    meter.share().map_err(WallClockError::Meter)
}

fn on_two_threads(
    mut base: Base,
    drivers: &mut [Driver<'_>],
    recorder: &Recorder,
) -> Result<f64, WallClockError> {
    let (stop, failure) = (AtomicBool::new(false), Mutex::new(None));
    let failed = || failure.lock().unwrap_or_else(PoisonError::into_inner).take();
    let healthy = || failed().map_or(Ok(()), Err);
    let work = || {
        let meter = CpuMeter::start(Worker::ThisThread).map_err(WallClockError::Meter)?;
        let idle = Idle::default();
        while !stop.load(Ordering::Relaxed) {
            match base.pass() {
                Ok(busy) => idle.after(busy),
                Err(error) => {
                    *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    break;
                }
            }
        }
        meter.share().map_err(WallClockError::Meter)
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("base core".into()).spawn_scoped(scope, work);
        let thread = thread.map_err(engine)?;
        let driven = drive(drivers, recorder, &healthy, &mut || Ok(false));
        stop.store(true, Ordering::Relaxed);
        let share = thread.join().map_err(|_| WallClockError::Engine("the base core panicked".into()))?;
        driven.and(share)
    })
}

/// Lets every driver do its part until all are done; `base` does what it has to do in between, and says whether that was anything.
fn drive(
    drivers: &mut [Driver<'_>],
    recorder: &Recorder,
    healthy: &dyn Fn() -> Result<(), WallClockError>,
    base: &mut dyn FnMut() -> Result<bool, WallClockError>,
) -> Result<(), WallClockError> {
    let (idle, mut turns, mut idle_since) = (Idle::default(), 0_u32, None);
    while !drivers.iter().all(Driver::is_done) {
        let mut busy = false;
        for driver in drivers.iter_mut() {
            busy |= driver.step(recorder)?;
        }
        busy |= base()?;
        idle.after(busy);
        if busy {
            idle_since = None;
        }
        turns = turns.wrapping_add(1);
        if turns.is_multiple_of(LOOKS) {
            healthy()?;
            let waited = idle_since.get_or_insert_with(Instant::now).elapsed();
            if waited > TIMEOUT {
                return Err(WallClockError::Stuck(waited));
            }
        }
    }
    Ok(())
}

fn engine(error: impl std::fmt::Display) -> WallClockError {
    WallClockError::Engine(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Design, Pace, Shape};

    fn plan(design: Design) -> Plan {
        let shape = Shape { out: 64, back: 1500 };
        Plan { requests: 300, warm_up: 20, shape, design, ..Plan::default() }
    }

    /// Every request is measured once, and each of its moments is there and in order.
    fn complete(plan: &Plan, threads: bool) {
        let (outcome, share) = run(plan, threads).unwrap();
        let all = plan.requests * u64::from(plan.queues) * u64::from(plan.boards);
        assert_eq!(outcome.requests, all, "{plan:?}");
        assert_eq!(outcome.stages.stages.iter().map(|stage| stage.count).collect::<Vec<_>>(), [all; 7]);
        assert!(outcome.latency("round_trip").unwrap().p50 > 0 && share > 0.0);
    }

    #[test]
    fn requests_go_round_in_every_design() {
        let default = Design::default();
        for design in [
            default,
            Design::PAPER,
            Design { notice: Notice::StatusPage, interrupts: false, ..default },
            Design { event_idx: true, ..default },
            Design { event_idx: true, interrupts: false, notification_data: false, ..default },
        ] {
            for depth in [1, 128] {
                let plan = Plan { pace: Pace::Closed { depth }, ..plan(design) };
                complete(&plan, false);
                complete(&plan, true);
            }
        }
    }

    #[test]
    fn boards_and_queues_are_all_served() {
        let plan = Plan { boards: 3, queues: 4, pace: Pace::Closed { depth: 7 }, ..plan(Design::default()) };
        complete(&plan, false);
        complete(&plan, true);
    }

    /// 100 000 a second: 300 requests are due within 3 ms on average, and no earlier than chance has it.
    #[test]
    fn requests_come_when_they_are_due() {
        let plan = Plan { pace: Pace::Open { rate: 100_000 }, ..plan(Design::default()) };
        let (outcome, _) = run(&plan, false).unwrap();
        assert_eq!(outcome.requests, 300);
        assert!(outcome.rate() < 130_000.0, "{}", outcome.rate());
    }

    #[test]
    fn what_only_virtual_time_has_is_refused() {
        let service = Service::Disk { channels: 1, fixed: Default::default(), random: Default::default() };
        let error = run(&Plan { service, ..Plan::default() }, false).unwrap_err().to_string();
        assert!(error.contains("only virtual time has"), "{error}");
        let error = run(&Plan { boards: 17, ..Plan::default() }, false).unwrap_err().to_string();
        assert!(error.contains("boards = 17"), "{error}");
    }
}
