//! The instance itself: the base, the boards' machines, and who asks about them.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::{Duration, Instant},
};

use iobond_spec::{offsets::queues, register_access::RegisterIo};

use super::{
    Action, BackEndStatus, BoardStatus, Event, FunctionStatus, Power, PowerError, Reply, Request,
    RunDirectory, RunDirectoryError, Status,
    board::{POWER_BUTTON, POWER_BUTTON_AT_END, PoweredBoard},
    listener::{Asked, listen},
};
use crate::{
    guest::{Choice, GuestFiles, Machine},
    scenario::{Board, Scenario},
    world::{LiveError, Served, ServedBoard},
};

/// `DRIVER_OK` of the device status (virtio 1.3, 2.1).
const DRIVER_OK: u8 = 4;
/// Where the world has its sockets and files, in the run directory. No board is called so: names have no dot.
const WORLD: &str = "base.d";
/// Between two looks at machines that are to end.
const LOOK: Duration = Duration::from_millis(10);

/// What an instance is made of.
#[derive(Debug)]
pub struct Options {
    /// Its name.
    pub name: String,
    /// What it runs.
    pub scenario: Scenario,
    /// What guests are made of where the scenario does not say.
    pub files: GuestFiles,
    /// Who runs their instructions.
    pub accelerator: Choice,
    /// `bmhive`, as which back ends and guests are started.
    pub program: PathBuf,
}

/// An instance that did not come up.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// The base did not.
    #[error(transparent)]
    World(#[from] LiveError),
    /// A board's machine did not.
    #[error(transparent)]
    Power(#[from] PowerError),
    /// A directory could not be made.
    #[error(transparent)]
    Directory(#[from] RunDirectoryError),
    /// The control socket, or the world's directory, could not be made.
    #[error("cannot make {}: {source}", path.display())]
    System {
        /// What was to be made.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A running instance. Dropping it kills its guests, stops its base and removes its directory.
pub struct Instance {
    // In the order in which they have to end.
    boards: Vec<PoweredBoard>,
    served: Served,
    /// Which boards the base is known to have given up.
    failed: Vec<bool>,
    requests: Receiver<Asked>,
    options: Options,
    started: Instant,
    directory: RunDirectory,
}

impl Instance {
    /// Starts the base; all boards are off. The calling thread has to live as long as the instance: processes that it starts end
    /// with it.
    ///
    /// # Errors
    /// [`InstanceError`]; nothing is left running then.
    pub fn start(options: Options, directory: RunDirectory) -> Result<Self, InstanceError> {
        let system = |path: &Path| {
            let path = path.to_owned();
            move |source| InstanceError::System { path, source }
        };
        let world = directory.path().join(WORLD);
        fs::create_dir(&world).map_err(system(&world))?;
        let served = Served::start(&options.scenario, &options.program, &world)?;
        let power = |board: &Board| {
            Ok(PoweredBoard::new(&board.name, directory.make(&board.name)?, board.guest.is_some()))
        };
        let boards =
            options.scenario.boards.iter().map(power).collect::<Result<Vec<_>, RunDirectoryError>>()?;
        let socket = directory.control_socket();
        let requests = listen(&socket).map_err(system(&socket))?;
        let failed = vec![false; boards.len()];
        Ok(Self { boards, served, failed, requests, options, started: Instant::now(), directory })
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

    /// Answers whoever asks within `patience`, and looks after the boards. Returns what happened to them.
    pub fn step(&mut self, patience: Duration) -> Vec<(String, Event)> {
        let mut events = Vec::new();
        match self.requests.recv_timeout(patience) {
            Ok(asked) => {
                let reply = self.carry_out(&asked.request, &mut events);
                asked.answer(reply);
            }
            Err(RecvTimeoutError::Timeout) => {}
            // Nobody can ask any more; the boards go on.
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(patience),
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

    /// Ends everything in order, within a few seconds: guests first, which are asked to switch off; `hurry` says that nobody
    /// waits for them any more.
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
        let served = self.served.boards().iter().zip(&mut self.failed);
        for (board, (base, failed)) in self.boards.iter_mut().zip(served) {
            let happened = |event| (base.name.clone(), event);
            events.extend(board.look(now, || drivers_up(base)).map(happened));
            if !*failed && let Some(failure) = base.failure() {
                *failed = true;
                events.push(happened(Event::Failed(failure.to_string())));
            }
        }
    }

    fn carry_out(&mut self, request: &Request, events: &mut Vec<(String, Event)>) -> Reply {
        match request {
            Request::Status => Reply::Status(Box::new(self.status())),
            Request::Board { board, action } => match self.act(board, *action) {
                Ok(happened) => {
                    events.extend(happened);
                    Reply::Done
                }
                Err(reason) => Reply::Refused { reason },
            },
        }
    }

    fn act(&mut self, name: &str, action: Action) -> Result<Option<(String, Event)>, String> {
        let boards = &self.options.scenario.boards;
        let Some(index) = boards.iter().position(|board| board.name == name) else {
            let known: Vec<_> = boards.iter().map(|board| board.name.as_str()).collect();
            return Err(format!("no board is called {name:?}; there are {}", known.join(", ")));
        };
        let board = self.boards.get_mut(index).ok_or("the board has no power switch")?;
        let outcome = match action {
            Action::Start => self.switch_on(index).map(Some),
            Action::Stop => board.stop(Instant::now(), POWER_BUTTON).map(|()| None),
            Action::Kill => board.kill().map(|event| Some((name.to_owned(), event))),
            Action::Reset => board.reset().map(|()| None),
        };
        outcome.map_err(|error| error.to_string())
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

    /// How everything is.
    #[must_use]
    pub fn status(&self) -> Status {
        let Options { name, scenario, accelerator, .. } = &self.options;
        let boards = scenario.boards.iter().zip(&self.boards).zip(self.served.boards());
        let names = scenario.back_ends();
        let back_ends = self.served.back_ends().map(|(which, process)| {
            let known = names.iter().find(|(_, back_end)| back_end == which);
            BackEndStatus {
                name: known.map(|(name, _)| name.clone()).unwrap_or_default(),
                pid: process.pid(),
            }
        });
        Status {
            instance: name.clone(),
            pid: std::process::id(),
            scenario: scenario.file.clone(),
            uptime: self.started.elapsed().as_secs_f64(),
            accelerator: accelerator.accelerator,
            accelerator_reason: accelerator.reason.clone(),
            boards: boards.map(|((board, power), base)| board_status(board, power, base)).collect(),
            back_ends: back_ends.collect(),
        }
    }
}

fn drivers_up(base: &ServedBoard) -> bool {
    base.statistics().functions.iter().all(|function| function.status & DRIVER_OK != 0)
}

fn board_status(board: &Board, power: &PoweredBoard, base: &ServedBoard) -> BoardStatus {
    let machine = power.machine();
    let in_directory = |name| board.guest.as_ref().map(|_| power.directory.join(name));
    BoardStatus {
        name: board.name.clone(),
        power: power.power(),
        failure: base.failure().map(|failure| failure.to_string()),
        pid: machine.map(crate::guest::Qemu::pid),
        uptime: machine.map(|machine| machine.started().elapsed().as_secs_f64()),
        drivers_up_after: power.drivers_up_after().map(|after| after.as_secs_f64()),
        terminal: base.terminal().map(Path::to_owned),
        serial: machine.and_then(|_| in_directory(crate::guest::SERIAL_SOCKET)),
        serial_log: in_directory(crate::guest::SERIAL_LOG),
        functions: functions(board, base),
    }
}

/// The functions of a board. Queue contexts are handed out in the functions' order.
fn functions(board: &Board, base: &ServedBoard) -> Vec<FunctionStatus> {
    let mut first_queue = 0;
    let counted = base.statistics().functions.into_iter().zip(&board.functions).zip(base.function_sockets());
    counted
        .enumerate()
        .map(|(number, ((counted, function), socket))| {
            let own = first_queue..first_queue + u32::from(function.queues());
            first_queue = own.end;
            let sum = |register| {
                let read = |queue| base.bond().read32(queues::BASE + queue * queues::STRIDE + register);
                own.clone().map(read).map(u64::from).sum()
            };
            FunctionStatus {
                device: counted.device.to_owned(),
                socket: socket.clone(),
                status: counted.status,
                features: counted.negotiated,
                queues: counted.running_queues,
                interrupts: base.interrupts(number).into(),
                requests: sum(queues::RETIRED),
                bytes_up: sum(queues::BYTES_UP),
                bytes_down: sum(queues::BYTES_DOWN),
                queue_error: counted.last_queue_error.map(|(queue, error)| format!("queue {queue}: {error}")),
            }
        })
        .collect()
}
