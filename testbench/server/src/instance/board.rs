//! A board's power: its machine is switched on and off, and ends in one way or another.

use std::{
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::Power;
use crate::guest::{Ended, KernelError, Machine, Qemu, QmpError, check_kernel};

/// How long a guest may take to switch off when its power button was pressed, before it is switched off.
pub(super) const POWER_BUTTON: Duration = Duration::from_secs(15);
/// The same when the whole instance ends and the user waits for a prompt.
pub(super) const POWER_BUTTON_AT_END: Duration = Duration::from_secs(5);
/// How long QEMU may take to quit, before it is killed.
const QUIT: Duration = Duration::from_secs(1);

/// Something that happened to a board or a back end.
#[allow(missing_docs, reason = "the fields are those of the message")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Its machine was switched on.
    On,
    /// The drivers of all functions are up.
    DriversUp(Duration),
    /// It is off: the guest switched it off, or it was told to.
    Off,
    Killed,
    /// QEMU ended without order; how, and its last words.
    Crashed(String),
    /// The base ended the board; why.
    Failed(String),
    /// A function failed, most likely its back end, and asks its driver for a reset.
    FunctionFailed {
        function: usize,
        reason: String,
    },
    /// A back end ended. The functions that it served, as `BOARD.FUNCTION`, ask their drivers for a reset.
    BackEndEnded {
        how: String,
        functions: Vec<String>,
        wait: bool,
    },
    /// A back end was started again.
    BackEndStarted,
}

/// What cannot be done to a board's power.
#[allow(missing_docs, reason = "the fields are those of the message")]
#[derive(Debug, thiserror::Error)]
pub enum PowerError {
    /// The scenario has no such board.
    #[error("no board is called {name:?}; there are {}", known.join(", "))]
    NoBoard { name: String, known: Vec<String> },
    /// The scenario has no guest for it.
    #[error("board {0} has no guest; give it a [board.guest] in the scenario")]
    NoGuest(String),
    /// It is on already.
    #[error("board {0} is on already")]
    On(String),
    #[error("board {0} is off; `bmhive board {0} start` switches it on")]
    Off(String),
    #[error("board {board}: {source}")]
    Kernel { board: String, source: KernelError },
    /// QEMU cannot be started.
    #[error("board {board}: cannot start QEMU: {source}")]
    Start { board: String, source: io::Error },
    #[error(
        "board {board}: {source}; has it only just been started? `bmhive board {board} kill` cuts its power"
    )]
    Qmp { board: String, source: QmpError },
}

/// A machine on its way to its end.
#[derive(Clone, Copy, Debug)]
enum Ending {
    /// The guest was asked; QEMU is told to quit at this time.
    Guest(Instant),
    /// QEMU was told to quit; it is killed at this time.
    Quit(Instant),
}

/// A board's machine and what became of it.
#[derive(Debug)]
pub(super) struct PoweredBoard {
    name: String,
    /// Where its sockets and logs are.
    pub directory: PathBuf,
    machine: Option<Qemu>,
    ending: Option<Ending>,
    /// What it is while there is no machine.
    rest: Power,
    drivers_up_after: Option<Duration>,
}

impl PoweredBoard {
    /// A board that is off.
    pub(super) fn new(name: &str, directory: PathBuf, has_guest: bool) -> Self {
        let rest = if has_guest { Power::Off } else { Power::None };
        Self { name: name.into(), directory, machine: None, ending: None, rest, drivers_up_after: None }
    }

    pub(super) fn power(&self) -> Power {
        match (&self.machine, self.ending, self.drivers_up_after) {
            (None, ..) => self.rest.clone(),
            (Some(_), Some(_), _) => Power::Stopping,
            (Some(_), None, None) => Power::Starting,
            (Some(_), None, Some(_)) => Power::Running,
        }
    }

    pub(super) fn machine(&self) -> Option<&Qemu> {
        self.machine.as_ref()
    }

    pub(super) fn drivers_up_after(&self) -> Option<Duration> {
        self.drivers_up_after
    }

    /// Switches the machine on.
    pub(super) fn start(&mut self, program: &Path, machine: &Machine<'_>) -> Result<Event, PowerError> {
        if self.machine.is_some() {
            return Err(PowerError::On(self.name.clone()));
        }
        check_kernel(machine.kernel())
            .map_err(|source| PowerError::Kernel { board: self.name.clone(), source })?;
        let started = Qemu::start(program, machine, &[]);
        let qemu = started.map_err(|source| PowerError::Start { board: self.name.clone(), source })?;
        (self.machine, self.ending, self.drivers_up_after) = (Some(qemu), None, None);
        Ok(Event::On)
    }

    /// Asks the guest to switch off; `timeout` later it is switched off. A guest without drivers cannot hear
    /// it, and QEMU is told to quit at once.
    pub(super) fn stop(&mut self, now: Instant, timeout: Duration) -> Result<(), PowerError> {
        let machine = self.machine.as_ref().ok_or_else(|| PowerError::Off(self.name.clone()))?;
        if self.ending.is_some() {
            return Ok(());
        }
        let heard = self.drivers_up_after.is_some()
            && machine.qmp().and_then(|mut qmp| qmp.system_powerdown()).is_ok();
        self.ending = Some(Ending::Guest(if heard { now + timeout } else { now }));
        Ok(())
    }

    /// Cuts the board's power: QEMU is killed.
    pub(super) fn kill(&mut self) -> Result<Event, PowerError> {
        let mut machine = self.machine.take().ok_or_else(|| PowerError::Off(self.name.clone()))?;
        machine.kill();
        self.come_to_rest(Power::Killed);
        Ok(Event::Killed)
    }

    /// Presses the reset button.
    pub(super) fn reset(&mut self) -> Result<(), PowerError> {
        let machine = self.machine.as_ref().ok_or_else(|| PowerError::Off(self.name.clone()))?;
        let outcome = machine.qmp().and_then(|mut qmp| qmp.system_reset());
        outcome.map_err(|source| PowerError::Qmp { board: self.name.clone(), source })
    }

    /// Looks what has become of the machine; `drivers_up` says whether all functions have a driver.
    pub(super) fn look(&mut self, now: Instant, drivers_up: impl FnOnce() -> bool) -> Option<Event> {
        let machine = self.machine.as_mut()?;
        if let Some(ended) = machine.ended() {
            self.machine = None;
            return Some(self.after(&ended));
        }
        match self.ending {
            Some(Ending::Guest(deadline)) if now >= deadline => {
                let heard = machine.qmp().and_then(|mut qmp| qmp.quit()).is_ok();
                self.ending = Some(Ending::Quit(if heard { now + QUIT } else { now }));
            }
            // Its end is seen at the next look.
            Some(Ending::Quit(deadline)) if now >= deadline => machine.kill(),
            _ if self.drivers_up_after.is_none() && drivers_up() => {
                let after = now.saturating_duration_since(machine.started());
                self.drivers_up_after = Some(after);
                return Some(Event::DriversUp(after));
            }
            _ => {}
        }
        None
    }

    fn after(&mut self, ended: &Ended) -> Event {
        if ended.in_order() || self.ending.is_some() {
            self.come_to_rest(Power::Off);
            return Event::Off;
        }
        let reason = ended.to_string();
        self.come_to_rest(Power::Crashed { reason: reason.clone() });
        Event::Crashed(reason)
    }

    fn come_to_rest(&mut self, rest: Power) {
        (self.rest, self.ending, self.drivers_up_after) = (rest, None, None);
    }
}
