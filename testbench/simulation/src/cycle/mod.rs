//! The `cycle` world: boards, their IO-Bonds and their base server in virtual time. A run is a pure function
//! of its [`Plan`].
//!
//! ```text
//!   driver        one per queue, on a processor of the board's own
//!   IO-Bond       iobond_model::cycle: the device and engines of the live world
//!   base core     bm-hypervisor's poll pass, over all boards in turn
//!   back end      one per board, on a processor of its own; a disk behind it, if there is one
//!   network       one port, which the back ends of all boards share, if they have one
//! ```
//! [`vm`] is the same without an IO-Bond, for comparison.
//!
//! Left out: bm-hypervisor's control threads. Drivers find their queues set up; what they forward is timed by
//! [`accesses`] alone.

mod back_end;
mod base_core;
mod board_tasks;
mod driver;
mod forwarded;
mod frames;
mod network;
mod packets;
mod timeline;
mod usage;
pub mod vm;
mod watch;

use std::rc::Rc;

use iobond_model::{
    cycle::{Activity, Bond, Clock, Ending, Executor, Signal, Span, Time},
    device::Access,
    fabric::Fabric,
    live::Memory,
};
use iobond_spec::offsets;

pub use forwarded::{Accesses, accesses};
pub use packets::{Captured, Packets};
pub use timeline::Timeline;
pub use watch::{Seen, Watch};

use self::{
    base_core::Hypervisor,
    board_tasks::{BoardTasks, Site},
    driver::{Machine, Queue},
    network::Network,
};
use crate::{
    Bench, BenchError, Notice, Outcome, Plan, Recorder, Service, Share, Usage, Window, World,
    board::{Board, COMMAND, FIRST, Step},
    driver::Driver,
};

/// Runs plans in virtual time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cycle;

impl Bench for Cycle {
    fn world(&self) -> World {
        World::Cycle
    }

    fn run(&self, plan: &Plan) -> Result<Outcome, BenchError> {
        run(plan)
    }
}

/// Round trips to board and base until an IO-Bond whose queues were enabled is quiet again: each reads an
/// index and, with EVENT_IDX, says where it wants a doorbell and reads it again.
const SETTLE: u64 = 8;
/// Virtual time that a request may take on average before a run is given up: ten times the longest that a
/// disk or a full ring of frames takes.
const TIMEOUT: Span = Span::from_us(10_000);

/// Runs `plan` to its end.
///
/// # Errors
/// [`BenchError`].
pub fn run(plan: &Plan) -> Result<Outcome, BenchError> {
    run_with(plan, None, back_end::employ)
}

/// The same, and `watch` sees all of it: the outcome is that of [`run`].
///
/// # Errors
/// [`BenchError`].
pub fn run_watched(plan: &Plan, watch: &Rc<dyn Watch>) -> Result<Outcome, BenchError> {
    run_with(plan, Some(watch), back_end::employ)
}

/// Runs `plan` with back ends of its caller's: `back_end` has an executor work for that of each board.
fn run_with(
    plan: &Plan,
    watch: Option<&Rc<dyn Watch>>,
    back_end: impl for<'a> Fn(&mut Executor<'a>, &'a BoardTasks<'a>, &'a Network),
) -> Result<Outcome, BenchError> {
    plan.check()?;
    let sites = Site::all(plan)?;
    // Each of these borrows from the one before, so that no struct can have them all.
    let reached = sites.iter().map(|site| site.board.reached()).collect::<Result<Vec<_>, _>>()?;
    let leases: Vec<_> = reached.iter().map(|(board, base)| (board.lease(), base.lease())).collect();
    // Messages go to a board over its link, and not from memory.
    let memories: Vec<_> = leases.iter().map(|(board, base)| Memory::new(board, base, &())).collect();
    let hypervisors =
        sites.iter().map(|site| Hypervisor::new(plan, &site.board)).collect::<Result<Vec<_>, _>>()?;
    let (clock, base_core, network) = (Clock::new(), Signal::default(), Network::new(plan));
    let recorder = Recorder::new(plan.warm_up).within(plan.window, UP);
    let tasks_of = |site| BoardTasks::new(&clock, site, &base_core, &recorder, watch);
    let all_tasks: Vec<_> = sites.iter().map(tasks_of).collect();
    let bonds: Vec<_> = memories
        .iter()
        .zip(&all_tasks)
        .map(|(memory, tasks)| watched(Bond::new(&clock, &plan.timing, memory, tasks), tasks))
        .collect();
    let mut executor = Executor::new(&clock);
    for (tasks, bond) in all_tasks.iter().zip(&bonds) {
        let name = format!("board{}", tasks.number);
        bond.serve(&mut executor, &name, plan.queues.into());
        back_end(&mut executor, tasks, &network);
        executor.spawn(format!("{name}: set-up"), bring_up(tasks.board, &clock, bond, plan));
    }
    executor.serve("base core", base_core::poll(plan, hypervisors, &all_tasks, &bonds));
    let set_up = executor.run(Time::MAX);
    let begin = UP.max(clock.now());
    for (tasks, bond) in all_tasks.iter().zip(&bonds) {
        spawn_drivers(&mut executor, "board", tasks, bond, begin);
    }
    serve_network(&mut executor, &all_tasks, &network, begin);
    let ending = if set_up == Ending::Finished { executor.run(begin + limit(plan)) } else { set_up };
    let events = executor.events();
    drop(executor);
    conclude(plan, ending, &all_tasks, &recorder)?;
    let outcome = usage::outcome(&recorder, &bonds, &all_tasks, (begin, clock.now()), events);
    Ok(with_shares(outcome, &all_tasks, &network, (begin, clock.now())))
}

/// Sets an IO-Bond up, in the steps of [`Board::steps`].
async fn bring_up<M: Fabric>(board: &Board, clock: &Clock, bond: &Bond<'_, M>, plan: &Plan) {
    for Step { accesses, writes } in board.steps(plan.design.notice != Notice::Registers) {
        // A read passes no write: once it is answered, what was written before it has been done.
        for access in accesses {
            bond.access(access).await;
        }
        bond.access(Access::ConfigRead { function: FIRST, offset: COMMAND, width: 2 }).await;
        writes.into_iter().for_each(|(at, value)| bond.write_register(at, value));
        bond.read_register(offsets::board::BASE + offsets::board::STATE).await;
    }
    clock.sleep((plan.timing.board_access + plan.timing.mailbox_hop) * SETTLE).await;
}

/// Has a board's drivers begin when everything is set up.
fn spawn_drivers<'b, M: Machine>(
    executor: &mut Executor<'b>,
    kind: &str,
    tasks: &'b BoardTasks<'b>,
    machine: &'b M,
    begin: Time,
) {
    let BoardTasks { plan, number, board, .. } = *tasks;
    for queue in 0..usize::from(plan.queues) {
        let platform = Queue { tasks, machine, queue };
        let driver = Driver::new(plan, board, (number, queue), platform, &tasks.sink);
        executor.spawn(format!("{kind}{number}: driver of queue {queue}"), async move {
            tasks.clock.until(begin).await;
            driver.run().await;
        });
    }
}

/// Has the port to the network at work, and what sends to the boards from `begin` on.
fn serve_network<'b>(
    executor: &mut Executor<'b>,
    all_tasks: &'b [BoardTasks<'_>],
    network: &'b Network,
    begin: Time,
) {
    let Some(clock) = all_tasks.first().map(|tasks| tasks.clock) else { return };
    if uses_network(all_tasks) {
        executor.serve("network", network.carry(all_tasks, clock));
        for tasks in all_tasks {
            executor.serve(format!("network for board{}", tasks.number), network.come(tasks, begin));
        }
    }
}

fn uses_network(all_tasks: &[BoardTasks<'_>]) -> bool {
    all_tasks.iter().any(|tasks| matches!(tasks.plan.service, Service::Network { .. }))
}

/// How long a run may take in virtual time.
fn limit(plan: &Plan) -> Span {
    match plan.window {
        Some(Window { after, length }) => after + length,
        None => TIMEOUT * plan.total(),
    }
}

/// Whether a run came to the end that it was to come to.
fn conclude(
    plan: &Plan,
    ending: Ending,
    all_tasks: &[BoardTasks<'_>],
    recorder: &Recorder,
) -> Result<(), BenchError> {
    if concluded(ending, all_tasks)? || plan.window.is_some() {
        return Ok(());
    }
    let wanted = plan.total() * u64::from(plan.queues) * u64::from(plan.boards);
    Err(BenchError::TooLong { done: recorder.count(), wanted, limit: limit(plan) })
}

/// Whether all tasks came to their end, and not to that of the time that they were given.
fn concluded(ending: Ending, all_tasks: &[BoardTasks<'_>]) -> Result<bool, BenchError> {
    let at = all_tasks.first().map_or(Time::ZERO, |tasks| tasks.clock.now());
    // What failed comes first: where a board stops, others wait.
    for tasks in all_tasks {
        if let Some(fault) = tasks.failure.take() {
            return Err(BenchError::Failed { board: tasks.number, at, fault });
        }
    }
    match ending {
        Ending::Finished => Ok(true),
        Ending::OutOfTime => Ok(false),
        Ending::Deadlock(stuck) => Err(BenchError::Deadlock { at, stuck }),
        Ending::Livelock { at, tasks } => Err(BenchError::Livelock { at, tasks }),
    }
}

/// Adds to `outcome` what each board got, and how busy the network was since `begin`.
fn with_shares(
    mut outcome: Outcome,
    all_tasks: &[BoardTasks<'_>],
    network: &Network,
    (begin, now): (Time, Time),
) -> Outcome {
    let shares = all_tasks.iter().map(|tasks| {
        let (requests, carried) = (tasks.sink.requests(), network.carried(tasks.number));
        let bytes = requests * u64::from(tasks.plan.shape.out + tasks.plan.shape.back);
        Share { requests, bytes, wire_bytes: carried.bytes, lost: carried.lost }
    });
    outcome.boards = shares.collect();
    if uses_network(all_tasks) {
        let share = network.busy().as_secs() / now.since(begin).as_secs();
        outcome.usage.push(Usage { name: "network".to_owned(), share, bytes: network.bytes() });
    }
    outcome
}

/// Has what watches `tasks` see its IO-Bond's hardware as well.
fn watched<'a, M: Fabric>(bond: Bond<'a, M>, tasks: &BoardTasks<'_>) -> Bond<'a, M> {
    let (number, Some(watch)) = (tasks.number, tasks.watch.clone()) else { return bond };
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
    ///   driver ---> IO-Bond ---> shadow vring, and no back end
    /// ```
    #[test]
    fn a_back_end_that_never_answers_is_a_deadlock_that_names_what_waits() {
        let plan = Plan { queues: 2, ..Plan::default() };
        let error = run_with(&plan, None, |_, _, _| ()).unwrap_err();
        assert!(matches!(error, BenchError::Deadlock { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("nothing can happen any more"), "{text}");
        for queue in 0..2 {
            let waits = format!("board0: driver of queue {queue} waits for an answer in queue ({queue})");
            assert!(text.contains(&waits), "{text}");
        }
    }

    fn spin<'a>(executor: &mut Executor<'a>, tasks: &'a BoardTasks<'a>, _: &'a Network) {
        executor.serve(format!("board{}: back end", tasks.number), async {
            tasks.back_end.wait(tasks.clock).await;
            std::future::poll_fn(|_| {
                tasks.clock.wake(tasks.clock.task());
                std::task::Poll::Pending
            })
            .await
        });
    }

    #[test]
    fn a_back_end_that_only_takes_turns_is_a_livelock_that_names_it() {
        let error = run_with(&Plan::default(), None, spin).unwrap_err();
        assert!(matches!(error, BenchError::Livelock { .. }), "{error}");
        assert!(error.to_string().ends_with("while these go on: board0: back end"), "{error}");
    }
}
