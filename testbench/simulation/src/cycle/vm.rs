//! A virtual machine in a board's place, for comparison: the same driver, back end and service, and no
//! IO-Bond. Guest and back end share the ring; a doorbell is an exit, and an interrupt is injected by one.
//! What an exit takes is lost to the guest's processor.
//!
//! Left out, and all of it costs a real one more: exits for timers and other interrupts, processors that the
//! host takes away, two stages of page tables, and the host's own storage or network stack where the back end
//! does not go around it.

use std::cell::Cell;

use iobond_model::{
    cycle::{Clock, Executor, Signal, Span},
    live::Memory,
};

use super::{
    UP, back_end,
    board_tasks::{BoardTasks, Site},
    conclude,
    driver::Machine,
    limit,
    network::Network,
    serve_network, spawn_drivers, usage, with_shares,
};
use crate::{BenchError, Outcome, Plan, Recorder};

/// What an exit takes from the guest, in all: the paper's "10 us and more".
pub const EXIT: Span = Span::from_us(10);
/// Exits in a second above which the paper calls them noticeable.
pub const NOTICEABLE: u64 = 5000;

/// How virtual machines are built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vm {
    /// What an exit takes.
    pub exit: Span,
    /// The back end waits for doorbells, which exit. Otherwise it polls the rings and wants none, and only
    /// interrupts cost.
    pub doorbells: bool,
    /// Exits that an interrupt costs: one to inject it; without posted interrupts one more for its end, and
    /// one more for a processor that had halted (Intel SDM, volume 3: virtual-interrupt delivery, HLT
    /// exiting).
    pub exits_per_interrupt: u8,
}

impl Default for Vm {
    fn default() -> Self {
        Self { exit: EXIT, doorbells: true, exits_per_interrupt: 1 }
    }
}

/// What came out, and what it cost.
#[derive(Clone, Debug, PartialEq)]
pub struct VmOutcome {
    /// The same as that of a board, without what an IO-Bond has.
    pub outcome: Outcome,
    /// Exits of all virtual machines since their drivers began.
    pub exits: u64,
    /// How long that was.
    pub span: Span,
}

impl VmOutcome {
    /// Exits in a second, of all virtual machines.
    #[must_use]
    pub fn exits_per_second(&self) -> f64 {
        self.exits as f64 / self.span.as_secs()
    }
}

/// A virtual machine that runs, and its exits so far.
struct Running<'a> {
    vm: Vm,
    tasks: &'a BoardTasks<'a>,
    exits: Cell<u64>,
}

impl Running<'_> {
    async fn exit(&self) {
        self.exits.set(self.exits.get() + 1);
        self.tasks.clock.sleep(self.vm.exit).await;
    }
}

impl Machine for Running<'_> {
    async fn notify(&self, _: &Plan, queue: usize, index: u16) {
        if self.vm.doorbells {
            self.exit().await;
        }
        let (lane, clock) = (&self.tasks.lanes[queue], self.tasks.clock);
        lane.requests.shadow(index, clock.now());
        lane.published.set(index);
        self.tasks.back_end.raise(clock);
    }

    async fn interrupted(&self, tasks: &BoardTasks<'_>) {
        for _ in 0..self.vm.exits_per_interrupt {
            self.exit().await;
        }
        tasks.clock.sleep(tasks.plan.timing.guest.interrupt).await;
    }
}

/// Runs `plan` on virtual machines in place of boards, to its end. Of its timing and design what concerns
/// IO-Bond and bm-hypervisor has no meaning.
///
/// # Errors
/// [`BenchError`].
pub fn run(plan: &Plan, vm: Vm) -> Result<VmOutcome, BenchError> {
    plan.check()?;
    let sites = Site::all(plan)?;
    let (clock, base_core, network) = (Clock::new(), Signal::default(), Network::new(plan));
    let recorder = Recorder::new(plan.warm_up).within(plan.window, UP);
    let tasks_of = |site| BoardTasks::new(&clock, site, &base_core, &recorder, None);
    let all_tasks: Vec<_> = sites.iter().map(|site| BoardTasks { shared: true, ..tasks_of(site) }).collect();
    let running: Vec<_> = all_tasks.iter().map(|tasks| Running { vm, tasks, exits: Cell::new(0) }).collect();
    let mut executor = Executor::new(&clock);
    for (tasks, machine) in all_tasks.iter().zip(&running) {
        back_end::employ(&mut executor, tasks, &network);
        spawn_drivers(&mut executor, "vm", tasks, machine, UP);
    }
    serve_network(&mut executor, &all_tasks, &network, UP);
    let ending = executor.run(UP + limit(plan));
    let events = executor.events();
    drop(executor);
    conclude(plan, ending, &all_tasks, &recorder)?;
    let now = clock.now();
    let outcome = usage::outcome::<Memory<'_, '_, ()>>(&recorder, &[], &all_tasks, (UP, now), events);
    let outcome = with_shares(outcome, &all_tasks, &network, (UP, now));
    let exits = running.iter().map(|running| running.exits.get()).sum();
    Ok(VmOutcome { outcome, exits, span: now.since(UP) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Pace, Service, Shape};

    /// ```text
    ///   submit  exit | back end, disk | exit  interrupt  complete
    /// ```
    #[test]
    fn one_request_after_the_other_exits_twice_each() {
        let (fixed, requests) = (Span::from_us(60), 100);
        let plan = Plan {
            service: Service::Disk { channels: 1, fixed, random: Span::ZERO },
            shape: Shape { out: 16, back: 4096 },
            requests,
            warm_up: 0,
            ..Plan::default()
        };
        let trapped = run(&plan, Vm::default()).expect("a plan that can be");
        assert_eq!(trapped.exits, 2 * requests);
        let timing = &plan.timing;
        let inside = timing.guest.submit + timing.back_end_entry + fixed + timing.guest.interrupt;
        let took = trapped.outcome.latency("round_trip").expect("there is one").mean;
        assert!((took - (inside + EXIT * 2).as_ns()).abs() < took / 1000.0, "{took}");
        let polled = run(&plan, Vm { doorbells: false, ..Vm::default() }).expect("a plan that can be");
        assert_eq!(polled.exits, requests);
        let took = polled.outcome.latency("round_trip").expect("there is one").mean;
        assert!((took - (inside + EXIT).as_ns()).abs() < took / 1000.0, "{took}");
    }

    #[test]
    fn exits_are_shared_by_requests_that_go_together() {
        let plan = Plan { pace: Pace::Closed { depth: 32 }, warm_up: 0, requests: 3200, ..Plan::default() };
        let VmOutcome { exits, outcome, .. } = run(&plan, Vm::default()).expect("a plan that can be");
        assert_eq!(outcome.requests, 3200);
        assert!((200..400).contains(&exits), "{exits}");
        assert_eq!(run(&plan, Vm::default()).expect("a plan that can be").outcome.digest, outcome.digest);
    }
}
