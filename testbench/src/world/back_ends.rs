//! The back ends of a scenario: each a process, `bmhive backend ...`.

use std::{ffi::OsString, fs::File, path::Path};

use super::{BackEndProcess, LiveError, places::Places};
use crate::scenario::{BackEnd, Backing, Blk, Board, Device, Scenario};

/// The back ends that run, and what each is for.
#[derive(Debug, Default)]
pub(super) struct BackEnds(Vec<(BackEnd, BackEndProcess)>);

impl BackEnds {
    /// Starts whatever `scenario` needs. Captures go to `output`.
    ///
    /// # Errors
    /// [`LiveError`]; none is left running then.
    pub(super) fn start(
        scenario: &Scenario,
        program: &Path,
        places: &Places,
        output: &Path,
    ) -> Result<Self, LiveError> {
        let mut running = Self::default();
        for (name, which) in scenario.back_ends() {
            let (args, sockets) = match which {
                BackEnd::Switch => switch_args(scenario, places, output),
                BackEnd::Disk { board, function } => {
                    (disk_args(&scenario.boards, places, board, function)?, 1)
                }
                BackEnd::Console { board, function } => (console_args(places, board, function), 2),
            };
            running.0.push((which, BackEndProcess::start(&name, program, args, sockets)?));
        }
        Ok(running)
    }

    /// Each with what it is for.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&BackEnd, &BackEndProcess)> {
        self.0.iter().map(|(which, process)| (which, process))
    }

    /// Kills one without a warning, if it runs.
    pub(super) fn kill(&mut self, which: BackEnd) {
        let found = self.0.iter_mut().find(|(candidate, _)| *candidate == which);
        if let Some((_, process)) = found {
            process.kill();
        }
    }
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

fn disk_args(
    boards: &[Board],
    places: &Places,
    board: usize,
    function: usize,
) -> Result<Vec<OsString>, LiveError> {
    let described = boards.get(board).and_then(|board| board.functions.get(function));
    let Some(Device::Blk(blk)) = described.map(|function| &function.device) else { return Ok(Vec::new()) };
    let Blk { backing, serial, queues, read_only } = blk;
    let image = places.image(board, function, backing);
    if let Backing::Scratch(bytes) = backing {
        let made = File::create(&image).and_then(|file| file.set_len(*bytes));
        made.map_err(|source| LiveError::File { path: image.clone(), source })?;
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
