//! What goes wrong below the boards: back ends that end or misbehave, and boards that the base has to end.
//!
//! A back end takes only its own functions along: bm-hypervisor stops them and asks their drivers for a reset
//! ([`bm_hypervisor::Control::failure`]). Only when the IO-Bond itself is gone the whole board ends.

use std::time::{Duration, Instant};

use bm_hypervisor::{BoardState, Error, vhost_user::Problem};
use scenario::{BackEnd, Device, Scenario};

use super::Event;
use crate::{LiveError, Served, ServedBoard};

/// `DRIVER_OK` of the device status (virtio 1.3, 2.1).
const DRIVER_OK: u8 = 4;
/// How long the end of a process may come after the end of its connections.
const LAST_BREATH: Duration = Duration::from_millis(500);
/// Least time between two starts of the same back end.
const PACE: Duration = Duration::from_secs(1);

/// A back end and what hangs on it.
#[derive(Debug)]
pub(super) struct WatchedBackEnd {
    /// The functions that it serves: index of the board, number of the function.
    pub functions: Vec<(usize, usize)>,
    /// How it ended, if it has.
    pub ended: Option<String>,
    which: BackEnd,
    /// When it may be started again.
    again: Instant,
}

/// A board's first failure.
#[derive(Clone, Copy, Debug)]
enum Heard {
    Nothing,
    /// Noticed then, and not told yet.
    Since(Instant),
    Told,
}

/// What is known of an instance's back ends and boards, so that each failure is told once.
#[derive(Debug)]
pub(super) struct Watch {
    /// In the order of [`Scenario::back_ends`].
    back_ends: Vec<WatchedBackEnd>,
    boards: Vec<Heard>,
    /// Back ends that ended are started again.
    restart: bool,
}

impl Watch {
    pub(super) fn new(scenario: &Scenario) -> Self {
        let again = Instant::now();
        let served = |(_, which): (String, BackEnd)| WatchedBackEnd {
            functions: served_by(scenario, which),
            ended: None,
            which,
            again,
        };
        Self {
            back_ends: scenario.back_ends().into_iter().map(served).collect(),
            boards: vec![Heard::Nothing; scenario.boards.len()],
            restart: scenario.restart,
        }
    }

    /// In the order in which [`Served::back_ends`] has them.
    pub(super) fn back_ends(&self) -> &[WatchedBackEnd] {
        &self.back_ends
    }

    /// Looks what has happened, and waits for the processes that have ended.
    pub(super) fn look(&mut self, now: Instant, served: &mut Served, events: &mut Vec<(String, Event)>) {
        let mut over = Vec::new();
        for ((_, process), watched) in served.back_ends_mut().zip(&mut self.back_ends) {
            if watched.ended.is_none()
                && let Some(status) = process.ended()
            {
                let how = watched.ended.insert(status.to_string()).clone();
                over.push((process.name().to_owned(), how, &watched.functions));
            }
        }
        for (name, how, functions) in over {
            let name_of = |&(board, function): &(usize, usize)| {
                served.boards().get(board).map(|board| format!("{}.{function}", board.name))
            };
            let functions = functions.iter().filter_map(name_of).collect();
            let wait = self.restart;
            events.push((format!("back end {name}"), Event::BackEndEnded { how, functions, wait }));
        }
        if self.restart {
            self.start_again(now, served, events);
        }
        for index in 0..self.boards.len() {
            self.look_at_board(index, now, served, events);
        }
    }

    /// Starts those again that have ended, each at most once a second, for ever.
    fn start_again(&mut self, now: Instant, served: &mut Served, events: &mut Vec<(String, Event)>) {
        let names: Vec<String> = served.back_ends().map(|(_, process)| process.name().to_owned()).collect();
        let due = |back_end: &WatchedBackEnd| back_end.ended.is_some() && now >= back_end.again;
        for (name, back_end) in
            names.into_iter().zip(&mut self.back_ends).filter(|(_, back_end)| due(back_end))
        {
            back_end.again = now + PACE;
            match served.restart(back_end.which) {
                Ok(()) => {
                    back_end.ended = None;
                    events.push((format!("back end {name}"), Event::BackEndStarted));
                }
                Err(error) => tracing::warn!(%error, "a back end was not started again"),
            }
        }
    }

    fn look_at_board(
        &mut self,
        index: usize,
        now: Instant,
        served: &Served,
        events: &mut Vec<(String, Event)>,
    ) {
        let (Some(base), Some(heard)) = (served.boards().get(index), self.boards.get(index).copied()) else {
            return;
        };
        let heard_now = match (heard, base.failure()) {
            (Heard::Told, _) | (_, None) => return,
            (Heard::Nothing, Some(_)) => Heard::Since(now),
            (Heard::Since(then), Some(_)) if now.duration_since(then) < LAST_BREATH => return,
            (Heard::Since(_), Some(failure)) => {
                // What comes of a process that ended is told already, with how it ended.
                let function = failing_function(base).filter(|number| self.ended(index, *number).is_none());
                let event = match (board_failure(base), function) {
                    (Some(reason), _) => Some(Event::Failed(reason)),
                    (None, Some(function)) => {
                        Some(Event::FunctionFailed { function, reason: complaint(&failure) })
                    }
                    (None, None) => None,
                };
                events.extend(event.map(|event| (base.name.clone(), event)));
                Heard::Told
            }
        };
        self.boards[index] = heard_now;
    }

    /// How the back end of a function ended, if it has.
    fn ended(&self, board: usize, function: usize) -> Option<&str> {
        let serves = |back_end: &&WatchedBackEnd| back_end.functions.contains(&(board, function));
        self.back_ends.iter().find(serves)?.ended.as_deref()
    }

    /// What is wrong with the back end of a function.
    pub(super) fn function_failure(&self, served: &Served, board: usize, function: usize) -> Option<String> {
        if let Some(how) = self.ended(board, function).filter(|_| !self.restart) {
            return Some(format!("its back end ended ({how})"));
        }
        let base = served.boards().get(board)?;
        failing_function(base).filter(|number| *number == function)?;
        base.failure().as_ref().map(complaint)
    }
}

/// Functions behind which a back end stands.
fn served_by(scenario: &Scenario, which: BackEnd) -> Vec<(usize, usize)> {
    let all = scenario.boards.iter().enumerate().flat_map(|(board, described)| {
        described.functions.iter().enumerate().map(move |(number, function)| (board, number, function))
    });
    let is_behind = |&(at_board, number, function): &(usize, usize, &scenario::Function)| match which {
        BackEnd::Switch => matches!(function.device, Device::Net(_)),
        BackEnd::Disk { board, function } | BackEnd::Console { board, function } => {
            (at_board, number) == (board, function)
        }
    };
    all.filter(is_behind).map(|(board, number, _)| (board, number)).collect()
}

/// The function of a board to which its first failure belongs.
fn failing_function(base: &ServedBoard) -> Option<usize> {
    match base.failure()? {
        LiveError::Hypervisor { reason, .. } => match &*reason {
            Error::BackEnd(error) => {
                base.back_end_sockets().iter().position(|socket| *socket == error.socket)
            }
            Error::Queue { function, .. } | Error::PollerStuck { function, .. } => Some(function.index()),
            _ => None,
        },
        _ => None,
    }
}

/// What a back end did, without the advice of a program in which it can be started anew.
fn complaint(failure: &LiveError) -> String {
    let LiveError::Hypervisor { reason, .. } = failure else { return failure.to_string() };
    match &**reason {
        Error::BackEnd(error) => match &error.problem {
            Problem::Died | Problem::Closed { .. } => "its back end closed its connection".into(),
            problem => format!("its back end {problem}"),
        },
        other => other.to_string(),
    }
}

/// Why the base has ended a board, if it has.
pub(super) fn board_failure(base: &ServedBoard) -> Option<String> {
    let failure = base.failure()?;
    match &failure {
        // Only the first failure is kept: a board may have lost a back end before it lost everything.
        _ if base.statistics().state == BoardState::Failed => Some(Error::DeviceGone.to_string()),
        _ if failing_function(base).is_some() => None,
        LiveError::Hypervisor { reason, .. } => Some(reason.to_string()),
        other => Some(other.to_string()),
    }
}

/// Whether all functions of a board have a driver.
pub(super) fn drivers_up(base: &ServedBoard) -> bool {
    base.statistics().functions.iter().all(|function| function.status & DRIVER_OK != 0)
}
