//! The `cycle` world: boards, their IO-Bonds and their base server in virtual time. A run is a pure function of its [`Plan`].
//!
//! ```text
//!   driver        one a queue, on a processor of the board's own
//!   IO-Bond       iobond_model::cycle: the device and engines of the live world
//!   base core     bm-hypervisor's poll pass, over all boards in turn
//!   back end      one a board, on a processor of its own; a disk behind it, if there is one
//!   network       one port, which the back ends of all boards share, if they have one
//! ```
//! [`vm`] is the same without an IO-Bond, for comparison.

mod back_end;
mod base_core;
mod driver;
mod forwarded;
mod frames;
mod network;
mod packets;
mod station;
mod timeline;
mod usage;
pub mod vm;
mod watch;

use std::rc::Rc;

use iobond_model::{
    cycle::{Activity, Bond, Clock, Ending, Executor, Signal, Span, Stuck, Time},
    fabric::Fabric,
    live::{Interrupts, Memory},
};
use iobond_spec::address::FunctionId;

pub use forwarded::{Accesses, accesses};
pub use packets::{Captured, Packets};
pub use timeline::Timeline;
pub use watch::{Seen, Watch};

use crate::{
    Outcome, Plan, PlanError, Recorder, Service, Share, Usage, Window,
    board::{Board, BoardError},
    random::Chance,
    recorder::OfBoard,
};
use base_core::Hypervisor;
use driver::{Driver, Machine};
use network::Network;
use station::Station;

/// Why there is no outcome.
#[derive(Debug, thiserror::Error)]
pub enum CycleError {
    /// The plan is impossible.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// There is no memory for it.
    #[error(transparent)]
    Board(#[from] BoardError),
    /// Something went wrong in the simulated system.
    #[error("{board} failed at {at}: {what}")]
    Failed {
        /// Which board.
        board: String,
        /// When.
        at: Time,
        /// What.
        what: String,
    },
    /// Everyone waits.
    #[error("at {at} nothing can happen any more: {}", list(stuck))]
    Deadlock {
        /// Since when.
        at: Time,
        /// Who waits for what.
        stuck: Vec<Stuck>,
    },
    /// Time stands still.
    #[error("time stands still at {at}, while these go on: {}", tasks.join(", "))]
    Livelock {
        /// When.
        at: Time,
        /// Who goes on.
        tasks: Vec<String>,
    },
    /// It takes longer than anybody would wait.
    #[error(
        "{done} of {wanted} requests were done in {limit} of virtual time; the load is more than the design carries"
    )]
    TooLong {
        /// Requests that were done.
        done: u64,
        /// Requests that were to be.
        wanted: u64,
        /// The virtual time that it was given.
        limit: Span,
    },
}

/// Who waits for what, the first few of them.
fn list(stuck: &[Stuck]) -> String {
    const MOST: usize = 6;
    let mut text = stuck.iter().take(MOST).map(ToString::to_string).collect::<Vec<_>>().join("; ");
    if stuck.len() > MOST {
        text += &format!("; and {} more", stuck.len() - MOST);
    }
    text
}

/// Messages go to the board over its link, and not from memory.
struct Silent;

impl Interrupts for Silent {
    fn raise(&self, _: FunctionId, _: u16) {}
}

/// Virtual time that a request may take on average before a run is given up: ten times the longest that a disk or a full ring of
/// frames takes.
const PATIENCE: Span = Span::from_us(10_000);

/// Runs `plan` to its end.
///
/// # Errors
/// [`CycleError`].
pub fn run(plan: &Plan) -> Result<Outcome, CycleError> {
    run_with(plan, None, back_end::employ)
}

/// The same, and `watch` sees all of it: the outcome is that of [`run`].
///
/// # Errors
/// [`CycleError`].
pub fn run_watched(plan: &Plan, watch: &Rc<dyn Watch>) -> Result<Outcome, CycleError> {
    run_with(plan, Some(watch), back_end::employ)
}

/// Runs `plan` with back ends of its caller's: `back_end` has an executor work for that of each board.
fn run_with(
    plan: &Plan,
    watch: Option<&Rc<dyn Watch>>,
    back_end: impl for<'a> Fn(&mut Executor<'a>, &'a Plan, usize, &'a Station<'a>, &'a Network),
) -> Result<Outcome, CycleError> {
    plan.check()?;
    let plans: Vec<Plan> = (0..plan.boards.into()).map(|number| plan.of_board(number)).collect();
    let boards = plans.iter().map(Board::new).collect::<Result<Vec<_>, _>>()?;
    let reached = boards.iter().map(Board::reached).collect::<Result<Vec<_>, _>>()?;
    let leases: Vec<_> = reached.iter().map(|(board, base)| (board.lease(), base.lease())).collect();
    let memories: Vec<_> = leases.iter().map(|(board, base)| Memory::new(board, base, &Silent)).collect();
    let hypervisors =
        boards.iter().map(|board| Hypervisor::new(plan, board)).collect::<Result<Vec<_>, _>>()?;
    let (clock, base_core, network) = (Clock::new(), Signal::default(), Network::new(plan));
    let recorder = Recorder::new(plan.warm_up).within(plan.window, UP);
    let sinks: Vec<_> = boards.iter().map(|_| OfBoard::new(&recorder)).collect();
    let stations: Vec<_> = plans
        .iter()
        .zip(boards.iter().enumerate())
        .map(|(plan, board)| Station::new(&clock, plan, board, &base_core, watch))
        .collect();
    let bonds: Vec<_> = memories
        .iter()
        .zip(&stations)
        .map(|(memory, station)| watched(Bond::new(&clock, &plan.timing, memory, station), station))
        .collect();
    let mut executor = Executor::new(&clock);
    for (number, (station, bond)) in stations.iter().zip(&bonds).enumerate() {
        let name = format!("board{number}");
        bond.serve(&mut executor, &name, plan.queues.into());
        back_end(&mut executor, &plans[number], number, station, &network);
        executor.spawn(format!("{name}: set-up"), station.board.bring_up(&clock, bond, plan));
    }
    executor.serve("base core", base_core::poll(plan, hypervisors, &stations, &bonds));
    let set_up = executor.run(Time::MAX);
    let begin = UP.max(clock.now());
    for (number, (station, bond)) in stations.iter().zip(&bonds).enumerate() {
        spawn_drivers(
            &mut executor,
            ("board", number),
            (&plans[number], begin),
            station,
            bond,
            &sinks[number],
        );
    }
    serve_network(&mut executor, (&plans, begin), &stations, &network);
    let ending = if set_up == Ending::Finished { executor.run(begin + limit(plan)) } else { set_up };
    let events = executor.events();
    drop(executor);
    conclude(plan, ending, &stations, &recorder)?;
    let outcome = usage::outcome(&recorder, &bonds, &stations, (begin, clock.now()), events);
    Ok(with_shares(outcome, &plans, &sinks, &network, (begin, clock.now())))
}

/// Has a board's drivers begin when everything is set up.
fn spawn_drivers<'b, M: Machine>(
    executor: &mut Executor<'b>,
    (kind, number): (&str, usize),
    (plan, begin): (&'b Plan, Time),
    station: &'b Station<'b>,
    machine: &'b M,
    sink: &'b OfBoard<'b>,
) {
    for queue in 0..usize::from(plan.queues) {
        let chance = Chance::new(plan.seed, (number as u64) << 32 | queue as u64);
        let driver = Driver { plan, station, machine, queue, chance, sink, due: Time::ZERO };
        executor.spawn(format!("{kind}{number}: driver of queue {queue}"), async move {
            station.clock.until(begin).await;
            driver.run().await;
        });
    }
}

/// Has the port to the network at work, and those who send to the boards from `begin` on.
fn serve_network<'b>(
    executor: &mut Executor<'b>,
    (plans, begin): (&'b [Plan], Time),
    stations: &'b [Station<'_>],
    network: &'b Network,
) {
    let Some(clock) = stations.first().map(|station| station.clock) else { return };
    if plans.iter().any(|plan| matches!(plan.service, Service::Network { .. })) {
        executor.serve("network", network.carry(plans, stations, clock));
        for (number, plan) in plans.iter().enumerate() {
            executor.serve(format!("network for board{number}"), network.come(plan, clock, number, begin));
        }
    }
}

/// How long a run may take in virtual time.
fn limit(plan: &Plan) -> Span {
    match plan.window {
        Some(Window { after, length }) => after + length,
        None => PATIENCE * plan.total(),
    }
}

/// Whether a run came to the end that it was to come to.
fn conclude(
    plan: &Plan,
    ending: Ending,
    stations: &[Station<'_>],
    recorder: &Recorder,
) -> Result<(), CycleError> {
    let at = stations.first().map_or(Time::ZERO, |station| station.clock.now());
    for (number, station) in stations.iter().enumerate() {
        if let Some(what) = station.failure.take() {
            return Err(CycleError::Failed { board: format!("board{number}"), at, what });
        }
    }
    match ending {
        Ending::Finished => Ok(()),
        Ending::OutOfTime if plan.window.is_some() => Ok(()),
        Ending::OutOfTime => {
            let wanted = plan.total() * u64::from(plan.queues) * u64::from(plan.boards);
            Err(CycleError::TooLong { done: recorder.count(), wanted, limit: limit(plan) })
        }
        Ending::Deadlock(stuck) => Err(CycleError::Deadlock { at, stuck }),
        Ending::Livelock { at, tasks } => Err(CycleError::Livelock { at, tasks }),
    }
}

/// Adds to `outcome` what each board got, and how busy the network was since `begin`.
fn with_shares(
    mut outcome: Outcome,
    plans: &[Plan],
    sinks: &[OfBoard<'_>],
    network: &Network,
    (begin, now): (Time, Time),
) -> Outcome {
    let shares = plans.iter().zip(sinks).enumerate().map(|(number, (plan, sink))| {
        let (requests, carried) = (sink.requests(), network.carried(number));
        let bytes = requests * u64::from(plan.shape.out + plan.shape.back);
        Share { requests, bytes, wire_bytes: carried.bytes, lost: carried.lost }
    });
    outcome.boards = shares.collect();
    if plans.iter().any(|plan| matches!(plan.service, Service::Network { .. })) {
        let share = network.busy().as_secs() / now.since(begin).as_secs();
        outcome.usage.push(Usage { name: "network".to_owned(), share, bytes: network.bytes() });
    }
    outcome
}

/// Has those who watch `station` watch its IO-Bond's hardware as well.
fn watched<'a, M: Fabric>(bond: Bond<'a, M>, station: &Station<'_>) -> Bond<'a, M> {
    let (number, Some(watch)) = (station.number, station.watch.clone()) else { return bond };
    bond.watched_by(Rc::new(move |activity| {
        let now = match activity {
            Activity::Packet { sent, .. } => sent.at,
            Activity::Copied { to, .. } | Activity::Read { to, .. } => to,
        };
        watch.see(now, number, &Seen::Hardware(activity));
    }))
}

/// When the drivers begin, at the earliest: mostly everything has been set up by then.
const UP: Time = Time::from_ps(1_000_000_000);

#[cfg(test)]
mod tests {
    use super::*;

    /// ```text
    ///   driver ---> IO-Bond ---> shadow vring, and nobody looks
    /// ```
    #[test]
    fn a_back_end_that_never_answers_is_a_deadlock_that_names_who_waits() {
        let plan = Plan { queues: 2, ..Plan::default() };
        let error = run_with(&plan, None, |_, _, _, _, _| ()).unwrap_err();
        assert!(matches!(error, CycleError::Deadlock { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("nothing can happen any more"), "{text}");
        for queue in 0..2 {
            let waits = format!("board0: driver of queue {queue} waits for an answer in queue ({queue})");
            assert!(text.contains(&waits), "{text}");
        }
    }

    fn spin<'a>(
        executor: &mut Executor<'a>,
        _: &'a Plan,
        number: usize,
        station: &'a Station<'a>,
        _: &'a Network,
    ) {
        executor.serve(format!("board{number}: back end"), async {
            station.back_end.wait(station.clock).await;
            std::future::poll_fn(|_| {
                station.clock.wake(station.clock.task());
                std::task::Poll::Pending
            })
            .await
        });
    }

    #[test]
    fn a_back_end_that_only_takes_turns_is_a_livelock_that_names_it() {
        let error = run_with(&Plan::default(), None, spin).unwrap_err();
        assert!(matches!(error, CycleError::Livelock { .. }), "{error}");
        assert!(error.to_string().ends_with("while these go on: board0: back end"), "{error}");
    }
}
