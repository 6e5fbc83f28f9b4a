//! The faults of a scenario: a thread that kills back ends when their time has come.

use std::{
    sync::mpsc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    scenario::{BackEnd, Scenario},
    world::Live,
};

/// Faults that are to happen. Dropping it calls off those to come.
pub(super) struct Faults {
    /// Closed to call the rest off.
    call_off: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<Vec<Duration>>>,
}

impl Faults {
    /// Plans the faults of `scenario`, counted from now.
    pub(super) fn plan(scenario: &Scenario, live: &Live) -> Self {
        let start = Instant::now();
        let pid_of = |wanted: BackEnd| {
            let process = live.back_ends().find(|(which, _)| **which == wanted);
            process.and_then(|(_, process)| Pid::from_raw(process.pid().cast_signed()))
        };
        let mut times: Vec<_> =
            scenario.faults.iter().map(|fault| (fault.after, pid_of(fault.kill))).collect();
        times.sort_by_key(|(after, _)| *after);
        let (call_off, called_off) = mpsc::channel();
        let thread = thread::spawn(move || {
            let mut times = times.into_iter();
            while let Some((after, pid)) = times.next() {
                let left = after.saturating_sub(start.elapsed());
                if called_off.recv_timeout(left) != Err(mpsc::RecvTimeoutError::Timeout) {
                    return std::iter::once(after).chain(times.map(|(after, _)| after)).collect();
                }
                // The child is waited for only after this thread has ended, so the pid is still its own; that it has died by
                // itself is no error here.
                pid.map(|pid| kill_process(pid, Signal::KILL));
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

impl Drop for Faults {
    fn drop(&mut self) {
        self.end();
    }
}
