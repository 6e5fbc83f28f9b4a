//! `bmhive bench sim`: how fast the world of virtual time is, on one core.
//!
//! ```text
//!   events     tasks that sleep, each for times of its own      beside a binary heap by time and number
//!   packets    a saturated board at 64 bytes                    beside a budget
//!   boards     16 of them for each request                      beside one of them
//!   memory     what a run of ten times the virtual time leaves  beside a run of one time
//! ```

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fs,
    hint::black_box,
    io,
    time::{Duration, Instant},
};

use iobond_model::cycle::{Clock, Ending, Executor, Span, Time, Wheel};
use results::{Figure, measure::per_second};
use simulation::{Pace, Plan, Shape, cycle};

use super::{Paired, SEED};
use crate::workload::WorkloadError;

/// Tasks that sleep: as few as one board has that is idle, and more than sixteen have that are busy.
const TASKS: [usize; 3] = [64, 1024, 16384];
/// Longest sleep of a task. A judgement: a flight and a memory's time, which most tasks of a simulation wait
/// for.
const SLEEP_NS: u64 = 1000;
/// Packets in a second of wall time that a saturated board is asked to have. Our own choice.
const PACKETS: f64 = 1e6;
/// Requests of each round of a saturated board, and of each board of sixteen.
const REQUESTS: u64 = 100_000;
const REQUESTS_OF_SIXTEEN: u64 = 10_000;
/// How long one round of the engine takes.
const ROUND: Duration = Duration::from_millis(300);

/// Runs the bench.
///
/// # Errors
/// [`WorkloadError`].
pub fn run() -> Result<Vec<Figure>, WorkloadError> {
    // While nothing else has taken memory from the system that it might give to a simulation.
    let memory = memory()?;
    let mut figures = Vec::new();
    for tasks in TASKS {
        let paired = Paired::measure(|| executor(tasks), || Ok(heap(tasks)))?;
        figures.push(paired.figure(&format!("sim.events.{tasks}"), "events/s", "a binary heap alone"));
        let paired = Paired::measure(|| Ok(wheel(tasks)), || Ok(heap(tasks)))?;
        figures.push(paired.figure(&format!("sim.wheel.{tasks}"), "events/s", "a binary heap"));
    }
    for (name, back) in [("sim.packets.64", 64), ("sim.one_way.64", 0)] {
        let plan = saturated(back, REQUESTS);
        let paired = Paired::measure(|| Ok(per_second(REQUESTS, simulate(&plan)?.0)), || Ok(PACKETS))?;
        figures.push(paired.figure(name, "packets/s", "budget of 1 M/s"));
    }
    let plan = saturated(64, REQUESTS);
    let paired = Paired::measure(
        || {
            let (took, events) = simulate(&plan)?;
            Ok(per_second(events, took))
        },
        || executor(1024),
    )?;
    figures.push(paired.figure("sim.events.saturated", "events/s", "the engine with 1024 sleepers"));
    let (one, sixteen) = (saturated(64, 16 * REQUESTS_OF_SIXTEEN), sixteen_boards());
    let cost = |plan: &Plan| {
        simulate(plan).map(|(took, _)| took.as_nanos() as f64 / (16 * REQUESTS_OF_SIXTEEN) as f64)
    };
    let paired = Paired::measure(|| cost(&sixteen), || cost(&one))?;
    figures.push(paired.figure("sim.boards.16", "ns", "a request of one board alone"));
    figures.push(memory);
    Ok(figures)
}

/// One board whose ring is always full.
fn saturated(back: u32, requests: u64) -> Plan {
    let shape = Shape { out: 64, back };
    let depth = if back > 0 { 128 } else { 256 };
    Plan { shape, pace: Pace::Closed { depth }, requests, warm_up: 0, ..Plan::default() }
}

fn sixteen_boards() -> Plan {
    Plan { boards: 16, ..saturated(64, REQUESTS_OF_SIXTEEN) }
}

/// Wall time and events of a simulation, its set-up included.
fn simulate(plan: &Plan) -> Result<(Duration, u64), WorkloadError> {
    let begun = Instant::now();
    let outcome = cycle::run(plan).map_err(WorkloadError::bench("a simulation came to no end"))?;
    Ok((begun.elapsed(), outcome.events))
}

/// Events in a second of the engine, with `tasks` that do nothing but sleep.
fn executor(tasks: usize) -> Result<f64, WorkloadError> {
    let clock = Clock::new();
    let mut executor = Executor::new(&clock);
    for task in 0..tasks {
        let mut sleeps = Sleeps::new(task);
        let clock = &clock;
        executor.spawn(String::new(), async move {
            loop {
                clock.sleep(sleeps.next()).await;
            }
        });
    }
    let (begun, mut until) = (Instant::now(), Time::ZERO);
    while begun.elapsed() < ROUND {
        until += Span::from_us(10);
        match executor.run(until) {
            Ending::OutOfTime => {}
            ending => {
                let source = format!("{ending:?}").into();
                return Err(WorkloadError::Bench { what: "sleepers came to an end", source });
            }
        }
    }
    Ok(per_second(executor.events(), begun.elapsed()))
}

/// Events in a second that the wheel alone takes out and puts in anew.
fn wheel(tasks: usize) -> f64 {
    let mut sleeps: Vec<_> = (0..tasks).map(Sleeps::new).collect();
    let mut wheel = Wheel::default();
    sleeps.iter_mut().enumerate().for_each(|(task, sleeps)| wheel.put(Time::ZERO + sleeps.next(), task));
    turns(|| {
        if let Some((now, task)) = wheel.take(Time::MAX) {
            wheel.put(now + sleeps[task].next(), black_box(task));
        }
    })
}

/// The same of a heap ordered by time, and by number within one.
fn heap(tasks: usize) -> f64 {
    let mut sleeps: Vec<_> = (0..tasks).map(Sleeps::new).collect();
    let (mut heap, mut number) = (BinaryHeap::new(), 0u64);
    let mut put = |heap: &mut BinaryHeap<_>, time: Time, task: usize| {
        number += 1;
        heap.push(Reverse((time, number, task)));
    };
    for (task, sleeps) in sleeps.iter_mut().enumerate() {
        put(&mut heap, Time::ZERO + sleeps.next(), task);
    }
    turns(|| {
        if let Some(Reverse((now, _, task))) = heap.pop() {
            put(&mut heap, now + sleeps[task].next(), black_box(task));
        }
    })
}

/// How often `turn` is done in a second, over a round.
fn turns(mut turn: impl FnMut()) -> f64 {
    let (mut count, begun) = (0u64, Instant::now());
    while begun.elapsed() < ROUND {
        (0..1000).for_each(|_| turn());
        count += 1000;
    }
    per_second(count, begun.elapsed())
}

/// The times for which one task sleeps.
struct Sleeps(fastrand::Rng);

impl Sleeps {
    fn new(task: usize) -> Self {
        Self(fastrand::Rng::with_seed(SEED ^ task as u64))
    }

    #[inline]
    fn next(&mut self) -> Span {
        Span::from_ps(1 + self.0.u64(..SLEEP_NS * 1000))
    }
}

/// The most memory that this process had after a run of ten times the virtual time, beside what it had after
/// one.
fn memory() -> Result<Figure, WorkloadError> {
    let peak = || peak().map_err(|source| WorkloadError::File { path: "/proc/self/status".into(), source });
    simulate(&saturated(64, REQUESTS))?;
    let once = peak()?;
    simulate(&saturated(64, 10 * REQUESTS))?;
    let figure = Figure::new("sim.memory.10x", peak()?, "bytes", None);
    Ok(figure.beside("a tenth of the virtual time", once))
}

/// Bytes that were resident at most, since the process began.
fn peak() -> io::Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse::<u32>().ok());
    let bytes = kibibytes.map(|kibibytes| f64::from(kibibytes) * 1024.0);
    bytes.ok_or_else(|| io::Error::other("there is no VmHWM in it"))
}
