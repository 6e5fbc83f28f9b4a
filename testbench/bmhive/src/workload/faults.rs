//! The faults of a scenario: a thread that kills back ends when their time has come, and starts them again.

use std::{
    sync::mpsc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use bmhive_server::{BackEndCommand, Live};
use rustix::process::{Pid, Signal, kill_process};
use scenario::{BackEnd, Scenario};

/// Something that happens to a back end.
enum Step {
    Kill(Option<Pid>),
    Restart(BackEndCommand),
}

/// Faults that are to happen. Dropping it calls off those to come.
pub(super) struct Faults {
    /// Closed to call the rest off.
    call_off: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<Vec<Duration>>>,
}

impl Faults {
    /// Plans the faults of `scenario`, counted from now. Back ends that it starts again last until it is
    /// called off.
    pub(super) fn plan(scenario: &Scenario, live: &Live) -> Self {
        let start = Instant::now();
        let mut steps = steps(scenario, live);
        steps.sort_by_key(|(after, _)| *after);
        let (call_off, called_off) = mpsc::channel();
        let thread = thread::spawn(move || {
            let mut steps = steps.into_iter();
            let mut restarted = Vec::new();
            while let Some((after, step)) = steps.next() {
                let left = after.saturating_sub(start.elapsed());
                if called_off.recv_timeout(left) != Err(mpsc::RecvTimeoutError::Timeout) {
                    let over = std::iter::once((after, step)).chain(steps);
                    return over
                        .filter(|(_, step)| matches!(step, Step::Kill(_)))
                        .map(|(after, _)| after)
                        .collect();
                }
                match step {
                    // The child is waited for only after this thread has ended, so the pid is still its own;
                    // that it has died by itself is not an error here.
                    Step::Kill(pid) => drop(pid.map(|pid| kill_process(pid, Signal::KILL))),
                    Step::Restart(command) => match command.start(&|| false) {
                        Ok(process) => restarted.push(process),
                        Err(error) => tracing::error!(%error, "a back end was not started again"),
                    },
                }
            }
            if !restarted.is_empty() {
                // They end with the thread that started them.
                let _ = called_off.recv();
            }
            Vec::new()
        });
        Self { call_off: Some(call_off), thread: Some(thread) }
    }

    /// Calls off the faults that have not happened; when they would have.
    pub(super) fn call_off(mut self) -> Vec<Duration> {
        self.end()
    }

    fn end(&mut self) -> Vec<Duration> {
        self.call_off = None;
        self.thread.take().and_then(|thread| thread.join().ok()).unwrap_or_default()
    }
}

/// What happens, and when. A kill is of the process that runs now; the scenario has no other of one that is
/// started again.
fn steps(scenario: &Scenario, live: &Live) -> Vec<(Duration, Step)> {
    let pid_of = |wanted: BackEnd| {
        let process = live.back_ends().find(|(which, _)| **which == wanted);
        process.and_then(|(_, process)| Pid::from_raw(process.pid().cast_signed()))
    };
    let steps = scenario.faults.iter().flat_map(|fault| {
        let kill = (fault.after, Step::Kill(pid_of(fault.kill)));
        let restart = fault.restart_after.zip(live.back_end_command(fault.kill));
        let restart = restart.map(|(after, command)| (fault.after + after, Step::Restart(command)));
        std::iter::once(kill).chain(restart)
    });
    steps.collect()
}

impl Drop for Faults {
    fn drop(&mut self) {
        self.end();
    }
}
