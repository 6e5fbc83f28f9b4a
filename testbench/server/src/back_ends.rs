//! The back ends of a scenario: each a process, `bmhive backend ...`.

use std::{
    env,
    ffi::OsString,
    fs::File,
    io,
    os::{fd::AsRawFd, unix::fs::symlink},
    path::{Path, PathBuf},
};

use scenario::{BackEnd, Backing, Blk, Board, Device, Scenario};

use super::{BackEndError, BackEndProcess, LiveError, places::Places};

/// Where scratch disks lie when `TMPDIR` does not say: what is written to them may not fit into memory, of
/// which both a run directory and `/tmp` may be made. `/var/tmp` is for large files (FHS 3.0, 5.15).
const SCRATCH: &str = "/var/tmp";

/// The back ends that run, and what each is for.
#[derive(Debug, Default)]
pub(super) struct BackEnds {
    running: Vec<Running>,
    /// The scratch disks, which last as long as they are open here.
    scratch: Vec<File>,
}

/// A back end with what it takes to start it again.
#[derive(Debug)]
struct Running {
    which: BackEnd,
    process: BackEndProcess,
    /// How it was started.
    command: BackEndCommand,
}

/// How a back end is started.
#[derive(Clone, Debug)]
pub struct BackEndCommand {
    name: String,
    program: PathBuf,
    args: Vec<OsString>,
    sockets: usize,
}

impl BackEndCommand {
    /// Starts it, and waits until it listens, unless `give_up` says in between that it is not wanted any
    /// more. It ends with the thread that calls this.
    ///
    /// # Errors
    /// [`BackEndError`]; nothing is left running then.
    pub fn start(&self, give_up: &dyn Fn() -> bool) -> Result<BackEndProcess, BackEndError> {
        BackEndProcess::start(&self.name, &self.program, &self.args, self.sockets, give_up)
    }
}

impl BackEnds {
    /// Starts whatever `scenario` needs, unless `give_up` says in between that it is not wanted any more.
    /// Captures go to `output`.
    ///
    /// # Errors
    /// [`LiveError`]; none is left running then.
    pub(super) fn start(
        scenario: &Scenario,
        program: &Path,
        places: &Places,
        output: &Path,
        give_up: &dyn Fn() -> bool,
    ) -> Result<Self, LiveError> {
        let mut back_ends = Self::default();
        for (name, which) in scenario.back_ends() {
            if give_up() {
                return Err(LiveError::GivenUp);
            }
            let (args, sockets) = match which {
                BackEnd::Switch => switch_args(scenario, places, output),
                BackEnd::Disk { board, function } => {
                    (back_ends.disk_args(&scenario.boards, places, board, function)?, 1)
                }
                BackEnd::Console { board, function } => (console_args(places, board, function), 2),
            };
            let command = BackEndCommand { name, program: program.into(), args, sockets };
            back_ends.running.push(Running { which, process: command.start(give_up)?, command });
        }
        Ok(back_ends)
    }

    /// Each with what it is for.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&BackEnd, &BackEndProcess)> {
        self.running.iter().map(|running| (&running.which, &running.process))
    }

    /// The same, to be looked after.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&BackEnd, &mut BackEndProcess)> {
        self.running.iter_mut().map(|running| (&running.which, &mut running.process))
    }

    /// Kills one without a warning, if it runs.
    pub(super) fn kill(&mut self, which: BackEnd) {
        if let Some(running) = self.find_mut(which) {
            running.process.kill();
        }
    }

    /// How one was started.
    pub(super) fn command(&self, which: BackEnd) -> Option<&BackEndCommand> {
        self.running.iter().find(|running| running.which == which).map(|running| &running.command)
    }

    /// Starts one again that was killed.
    ///
    /// # Errors
    /// [`LiveError`]; it is not there then.
    pub(super) fn restart(&mut self, which: BackEnd) -> Result<(), LiveError> {
        let running = self.find_mut(which).ok_or(LiveError::NoBackEnd(which))?;
        running.process = running.command.start(&|| false)?;
        Ok(())
    }

    fn find_mut(&mut self, which: BackEnd) -> Option<&mut Running> {
        self.running.iter_mut().find(|running| running.which == which)
    }

    fn disk_args(
        &mut self,
        boards: &[Board],
        places: &Places,
        board: usize,
        function: usize,
    ) -> Result<Vec<OsString>, LiveError> {
        let described = boards.get(board).and_then(|board| board.functions.get(function));
        let Some(Device::Blk(blk)) = described.map(|function| &function.device) else {
            return Ok(Vec::new());
        };
        let Blk { backing, serial, queues, read_only } = blk;
        let image = places.image(board, function, backing);
        if let Backing::Scratch(bytes) = backing {
            self.scratch.push(scratch_disk(*bytes, &image)?);
        }
        let mut args: Vec<OsString> = ["blk", "--socket"].map(OsString::from).into();
        args.extend([places.socket(board, function).into(), "--image".into(), image.into()]);
        args.extend(["--serial".into(), OsString::from(serial)]);
        args.extend(["--queues".into(), OsString::from(queues.to_string())]);
        if *read_only {
            args.push("--read-only".into());
        }
        Ok(args)
    }
}

/// An empty disk that `name` leads to while it is open: the file has no name of its own, so that it goes with
/// this process however that ends, and `name` is a link to it through proc(5).
fn scratch_disk(bytes: u64, name: &Path) -> Result<File, LiveError> {
    let directory =
        env::var_os("TMPDIR").filter(|path| !path.is_empty()).map_or(SCRATCH.into(), PathBuf::from);
    let made: io::Result<File> = tempfile::tempfile_in(&directory).and_then(|file| {
        file.set_len(bytes)?;
        symlink(format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()), name)?;
        Ok(file)
    });
    made.map_err(|reason| LiveError::Scratch { mebibytes: bytes >> 20, directory, reason })
}

/// The switch has a port for every net function, in the scenario's order.
fn switch_args(scenario: &Scenario, places: &Places, output: &Path) -> (Vec<OsString>, usize) {
    let mut args = vec![OsString::from("net")];
    let (mut ports, mut pairs) = (0, 1);
    for (index, board) in scenario.boards.iter().enumerate() {
        for (number, function) in board.functions.iter().enumerate() {
            let Device::Net(net) = &function.device else { continue };
            args.extend([OsString::from("--port"), places.socket(index, number).into()]);
            ports += 1;
            pairs = net.queue_pairs.max(pairs);
        }
    }
    args.extend([OsString::from("--queues"), pairs.to_string().into()]);
    if scenario.capture {
        args.extend([OsString::from("--pcap-dir"), output.into()]);
    }
    (args, ports)
}

fn console_args(places: &Places, board: usize, function: usize) -> Vec<OsString> {
    vec![
        "console".into(),
        "--socket".into(),
        places.socket(board, function).into(),
        "--terminal".into(),
        places.terminal(board, function).into(),
        "--log".into(),
        places.log(board, function).into(),
    ]
}
