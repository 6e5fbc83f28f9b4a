//! The instance itself: the base, the boards' machines, and the clients that ask about them.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::mpsc::RecvTimeoutError,
    time::{Duration, Instant},
};

use scenario::{Board, Scenario};

use super::{
    Action, Event, Power, PowerError, Reply, Request, RunDirectory, RunDirectoryError,
    board::{POWER_BUTTON, POWER_BUTTON_AT_END, PoweredBoard},
    health::{Watch, drivers_up},
    listener::Requests,
};
use crate::{
    LiveError, Served,
    guest::{Choice, GuestFiles, Machine},
};

/// Where the base has its sockets and files, in the run directory. No board is called so: names have no dot.
const BASE: &str = "base.d";
/// Between two looks at machines that are to end.
const LOOK: Duration = Duration::from_millis(10);

/// What an instance is made of.
#[derive(Debug)]
pub struct Options {
    /// The instance's name, as `--name` gives it.
    pub name: String,
    /// The boards, and what they are made of.
    pub scenario: Scenario,
    /// What guests are made of where the scenario does not say.
    pub files: GuestFiles,
    /// What runs their instructions.
    pub accelerator: Choice,
    /// `bmhive`, as which back ends and guests are started.
    pub program: PathBuf,
}

/// An instance that did not come up.
#[allow(missing_docs, reason = "the fields are those of the message")]
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    #[error(transparent)]
    Base(#[from] LiveError),
    #[error(transparent)]
    Power(#[from] PowerError),
    #[error(transparent)]
    Directory(#[from] RunDirectoryError),
    /// The control socket, or the base's directory, could not be made.
    #[error("cannot make {}: {source}", path.display())]
    System { path: PathBuf, source: io::Error },
}

/// A running instance. Dropping it kills its guests, stops its base and removes its directory.
pub struct Instance {
    // In the order in which they have to end.
    pub(super) boards: Vec<PoweredBoard>,
    pub(super) served: Served,
    pub(super) watch: Watch,
    requests: Requests,
    pub(super) options: Options,
    pub(super) started: Instant,
    directory: RunDirectory,
}

impl Instance {
    /// Starts the base, unless `give_up` says in between that it is not wanted any more; all boards are off.
    /// The calling thread has to last as long as the instance: processes that it starts end with it.
    ///
    /// # Errors
    /// [`InstanceError`]; nothing is left running then.
    pub fn start(
        options: Options,
        directory: RunDirectory,
        give_up: &dyn Fn() -> bool,
    ) -> Result<Self, InstanceError> {
        let system = |path: &Path| {
            let path = path.to_owned();
            move |source| InstanceError::System { path, source }
        };
        let base = directory.path().join(BASE);
        fs::create_dir(&base).map_err(system(&base))?;
        let served = Served::start(&options.scenario, &options.program, &base, give_up)?;
        let power = |board: &Board| {
            Ok(PoweredBoard::new(&board.name, directory.make(&board.name)?, board.guest.is_some()))
        };
        let boards =
            options.scenario.boards.iter().map(power).collect::<Result<Vec<_>, RunDirectoryError>>()?;
        let socket = directory.control_socket();
        let requests = Requests::listen(&socket).map_err(system(&socket))?;
        let watch = Watch::new(&options.scenario);
        Ok(Self { boards, served, watch, requests, options, started: Instant::now(), directory })
    }

    /// Where its sockets and logs are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Switches on every board whose guest wants it.
    ///
    /// # Errors
    /// [`PowerError`] of the first board that cannot be.
    pub fn autostart(&mut self) -> Result<Vec<(String, Event)>, PowerError> {
        let boards = self.options.scenario.boards.iter().enumerate();
        let wanted: Vec<usize> = boards
            .filter(|(_, board)| board.guest.as_ref().is_some_and(|guest| guest.autostart))
            .map(|(index, _)| index)
            .collect();
        wanted.into_iter().map(|index| self.switch_on(index)).collect()
    }

    /// Answers a client that asks within `timeout`, and looks after the boards. Returns what happened to
    /// them.
    pub fn step(&mut self, timeout: Duration) -> Vec<(String, Event)> {
        let mut events = Vec::new();
        match self.requests.recv_timeout(timeout) {
            Ok(asked) => {
                let reply = self.carry_out(&asked.request, &mut events);
                asked.answer(reply);
            }
            Err(RecvTimeoutError::Timeout) => {}
            // No client can ask any more; the boards run on.
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(timeout),
        }
        self.look(&mut events);
        events
    }

    /// Whether no machine is on.
    #[must_use]
    pub fn all_off(&self) -> bool {
        self.boards.iter().all(|board| !board.power().is_on())
    }

    /// Whether a machine ended without order and is still as it ended.
    #[must_use]
    pub fn any_crashed(&self) -> bool {
        self.boards.iter().any(|board| matches!(board.power(), Power::Crashed { .. }))
    }

    /// Ends everything in order, within a few seconds: guests first, which are asked to switch off, unless
    /// `hurry` says that the user does not wait for them.
    pub fn shut_down(mut self, hurry: impl Fn() -> bool) -> Vec<(String, Event)> {
        let mut events = Vec::new();
        for board in &mut self.boards {
            // A board that is off stays off.
            let _ = board.stop(Instant::now(), POWER_BUTTON_AT_END);
        }
        while !self.all_off() && !hurry() {
            std::thread::sleep(LOOK);
            self.look(&mut events);
        }
        events
    }

    fn look(&mut self, events: &mut Vec<(String, Event)>) {
        let now = Instant::now();
        for (board, base) in self.boards.iter_mut().zip(self.served.boards()) {
            let happened = board.look(now, || drivers_up(base));
            events.extend(happened.map(|event| (base.name.clone(), event)));
        }
        self.watch.look(now, &mut self.served, events);
    }

    fn carry_out(&mut self, request: &Request, events: &mut Vec<(String, Event)>) -> Reply {
        match request {
            Request::Status => Reply::Status(Box::new(self.status())),
            Request::Board { board, action } => match self.act(board, *action) {
                Ok(happened) => {
                    events.extend(happened);
                    Reply::Done
                }
                Err(error) => Reply::Refused { reason: error.to_string() },
            },
        }
    }

    fn act(&mut self, name: &str, action: Action) -> Result<Option<(String, Event)>, PowerError> {
        let boards = &self.options.scenario.boards;
        let Some(index) = boards.iter().position(|board| board.name == name) else {
            let known = boards.iter().map(|board| board.name.clone()).collect();
            return Err(PowerError::NoBoard { name: name.into(), known });
        };
        let board = &mut self.boards[index];
        match action {
            Action::Start => self.switch_on(index).map(Some),
            Action::Stop => board.stop(Instant::now(), POWER_BUTTON).map(|()| None),
            Action::Kill => board.kill().map(|event| Some((name.to_owned(), event))),
            Action::Reset => board.reset().map(|()| None),
        }
    }

    fn switch_on(&mut self, index: usize) -> Result<(String, Event), PowerError> {
        let Options { scenario, files, accelerator, program, .. } = &self.options;
        let board = &scenario.boards[index];
        let name = board.name.clone();
        let guest = board.guest.as_ref().ok_or_else(|| PowerError::NoGuest(name.clone()))?;
        let functions = self.served.boards()[index].function_sockets();
        let power = &mut self.boards[index];
        let directory = power.directory.clone();
        let accelerator = accelerator.accelerator;
        let machine = Machine { files, board, guest, index, accelerator, functions, directory: &directory };
        Ok((name, power.start(program, &machine)?))
    }
}
