//! The world `live`: boards, their IO-Bonds, bm-hypervisor's poll pass without a control thread, and back
//! ends that touch no payload, all in this process and on the wall clock.
//!
//! ```text
//!   driver thread         every driver in turn: makes requests, notifies IO-Bond, takes answers back
//!   this or another one   for each board in turn: IO-Bond's pass, bm-hypervisor's pass, back end
//! ```
//!
//! The plan's timing is the world of virtual time's; here everything takes as long as it takes. Left out are
//! whatever needs a service other than [`Service::Memory`], loads that differ between boards, windows, and
//! frames.

mod base_core;
mod driver;
mod watch;

use std::{
    cell::{Cell, RefCell},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Waker},
    time::{Duration, Instant},
};

use bm_hypervisor::pool::IOVA;
use iobond_model::{
    cycle::Time,
    live::{Bond, Idle, Mapping},
};
use iobond_spec::register_access::RegisterIo;
use model_port::ModelPort;
use results::{
    World,
    measure::{CpuMeter, Worker},
};

use self::{
    base_core::{Base, Post},
    driver::Queue,
    watch::{Lines, Surroundings, Watch},
};
use super::{
    Bench, BenchError, BoardError, Fault, Notice, Outcome, Payload, Plan, Recorder, Service,
    board::{Board, Step},
    driver::Driver,
};

/// How long nothing may happen before a run counts as stuck.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Turns of the drivers between two looks at the clock and the base.
const LOOKS: u32 = 1024;

/// Runs plans on the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Live {
    /// IO-Bonds, pollers and back ends have a thread of their own.
    pub threads: bool,
}

impl Bench for Live {
    fn world(&self) -> World {
        World::Live
    }

    fn run(&self, plan: &Plan) -> Result<Outcome, BenchError> {
        plan.check()?;
        self.check(plan)?;
        let epoch = Instant::now();
        let places = (0..plan.boards.into()).map(|number| Place::new(plan, number, epoch));
        let (places, posts): (Vec<_>, Vec<_>) = places.collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
        let base = Base::new(plan, posts);
        let (recorder, turns) = (Recorder::new(plan.warm_up), Turns::default());
        let queues = places.iter().flat_map(|place| (0..plan.queues.into()).map(move |queue| (place, queue)));
        let drivers = queues.map(|(place, queue)| -> Running<'_> {
            let platform = Queue::new(plan, place, queue, &turns);
            Box::pin(Driver::new(plan, &place.board, (place.number, queue), platform, &recorder).run())
        });
        let share = match self.threads {
            false => in_turns(base, drivers.collect(), &turns)?,
            true => on_two_threads(base, drivers.collect(), &turns)?,
        };
        Ok(Outcome { cpu_share: Some(share), ..recorder.taken() })
    }
}

impl Live {
    fn check(self, plan: &Plan) -> Result<(), BenchError> {
        let lacks = [
            (plan.service != Service::Memory, "a disk or a network behind its back ends"),
            (plan.payload != Payload::Blank, "frames"),
            (!plan.loads.is_empty(), "a load for each board"),
            (plan.window.is_some(), "a window"),
        ];
        let what = lacks.into_iter().find_map(|(is, what)| is.then_some(what));
        what.map_or(Ok(()), |what| Err(BenchError::Unsupported { world: self.world(), what }))
    }
}

/// One board, as its drivers see it.
struct Place {
    number: usize,
    board: Arc<Board>,
    bond: Arc<Bond>,
    lines: Arc<Lines>,
    watch: Arc<Watch>,
}

impl Place {
    /// Board `number` of `plan`, set up, and what its base core works at.
    fn new(plan: &Plan, number: usize, epoch: Instant) -> Result<(Self, Post), BoardError> {
        let board = Arc::new(Board::new(plan)?);
        let lines = Arc::new(Lines::new(plan.queues));
        let watch = Arc::new(Watch::new(Arc::clone(&board), epoch));
        let surroundings = Surroundings { lines: Arc::clone(&lines), watch: Arc::clone(&watch) };
        let bond = Arc::new(Bond::new(Arc::new(surroundings)));
        bond.map_board_memory(&board.memory)?;
        let length = board.pool.length() as usize;
        bond.map(&Mapping { file: board.pool.file(), file_offset: 0, length, iova: IOVA })?;
        for Step { accesses, writes } in board.steps(plan.design.notice != Notice::Registers) {
            // The device answers all of these itself, so that none waits for the base.
            for access in accesses {
                bond.access(access, &mut || {});
            }
            writes.into_iter().for_each(|(at, value)| bond.write32(at, value));
        }
        let port = Arc::new(ModelPort(Arc::clone(&bond)));
        let (poller, noticed) = board.poller(&plan.design, &port)?;
        let poller = poller.observed_by(watch::Heads(Arc::clone(&watch)));
        let post =
            Post::new(number, Arc::clone(&board), Arc::clone(&bond), poller, noticed, Arc::clone(&watch));
        Ok((Self { number, board, bond, lines, watch }, post))
    }
}

/// A driver that has not come to its end.
type Running<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// What the drivers of one thread came to.
#[derive(Default)]
struct Turns {
    /// Grows with every step that a driver makes.
    steps: Cell<u64>,
    failure: RefCell<Option<BenchError>>,
}

impl Turns {
    fn happened(&self) {
        self.steps.set(self.steps.get().wrapping_add(1));
    }

    fn fail(&self, board: usize, at: Time, fault: Fault) {
        self.failure.replace(Some(BenchError::Failed { board, at, fault }));
    }

    fn has_failed(&self) -> bool {
        self.failure.borrow().is_some()
    }

    /// Polls every driver until all are done; `base` does what it has to do in between, and says whether that
    /// was anything.
    ///
    /// A driver finds by itself whether it may continue, so no waker is needed: each is polled again in its
    /// turn.
    fn drive(
        &self,
        mut drivers: Vec<Running<'_>>,
        healthy: &dyn Fn() -> Result<(), BenchError>,
        base: &mut dyn FnMut() -> Result<bool, BenchError>,
    ) -> Result<(), BenchError> {
        let mut context = Context::from_waker(Waker::noop());
        let (idle, mut turns, mut idle_since) = (Idle::default(), 0_u32, None);
        while !drivers.is_empty() {
            let before = self.steps.get();
            drivers.retain_mut(|driver| driver.as_mut().poll(&mut context).is_pending());
            if let Some(error) = self.failure.take() {
                return Err(error);
            }
            let busy = base()? | (self.steps.get() != before);
            idle.after(busy);
            if busy {
                idle_since = None;
            }
            turns = turns.wrapping_add(1);
            if turns.is_multiple_of(LOOKS) {
                healthy()?;
                let waited = idle_since.get_or_insert_with(Instant::now).elapsed();
                if waited > TIMEOUT {
                    return Err(BenchError::Stuck(waited));
                }
            }
        }
        Ok(())
    }
}

/// Everything on this thread; the share of a processor that it had.
fn in_turns(mut base: Base, drivers: Vec<Running<'_>>, turns: &Turns) -> Result<f64, BenchError> {
    let meter = CpuMeter::start(Worker::ThisThread).map_err(BenchError::Meter)?;
    turns.drive(drivers, &|| Ok(()), &mut || base.pass())?;
    meter.share().map_err(BenchError::Meter)
}

/// The base on a thread of its own; the share of a processor that this had.
fn on_two_threads(mut base: Base, drivers: Vec<Running<'_>>, turns: &Turns) -> Result<f64, BenchError> {
    let (stop, failure) = (AtomicBool::new(false), Mutex::new(None));
    let failed = || failure.lock().unwrap_or_else(PoisonError::into_inner).take();
    let healthy = || failed().map_or(Ok(()), Err);
    let work = || {
        let meter = CpuMeter::start(Worker::ThisThread).map_err(BenchError::Meter)?;
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
        meter.share().map_err(BenchError::Meter)
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("base core".into()).spawn_scoped(scope, work);
        let thread = thread.map_err(BenchError::Thread)?;
        let driven = turns.drive(drivers, &healthy, &mut || Ok(false));
        stop.store(true, Ordering::Relaxed);
        let share = thread.join().map_err(|_| BenchError::Panicked)?;
        driven.and(share)
    })
}
