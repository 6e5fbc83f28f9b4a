//! `bmhive console`: a terminal on a board.

use std::{
    io,
    os::unix::net::UnixStream,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bmhive_server::terminal::{self, Left};
use miette::{Context, IntoDiagnostic};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::{DEFAULT_INSTANCE, Output, board};

/// Attach this terminal to a board's console; Ctrl-] detaches
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Name of the board, as the scenario gives it
    board: String,
    /// The machine's serial port instead of the virtio console
    #[arg(long)]
    serial: bool,
    /// Name of the instance, as `bmhive up --name` gave it
    #[arg(long, default_value = DEFAULT_INSTANCE)]
    name: String,
}

pub(super) fn run(arguments: &Arguments, output: &Output) -> miette::Result<ExitCode> {
    let status = board::look(&arguments.name, &arguments.board)?;
    let board = &arguments.board;
    let path = if arguments.serial {
        status.serial.ok_or_else(|| miette::miette!("{board} is off, and so is its serial port"))?
    } else {
        let missing =
            || miette::miette!("{board} has no console function; --serial attaches to its serial port");
        status.terminal.ok_or_else(missing)?
    };
    let stream = UnixStream::connect(&path)
        .into_diagnostic()
        .wrap_err_with(|| format!("cannot connect to {}", path.display()))?;
    let ended = Arc::new(AtomicBool::new(false));
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&ended)).into_diagnostic()?;
    }
    if terminal::is_interactive() {
        output.say(&format!("{board}: attached, Ctrl-] detaches\r"));
    }
    let (keyboard, screen) = (io::stdin(), io::stdout());
    let left =
        terminal::attach(&keyboard, &screen, &stream, || ended.load(Ordering::Relaxed)).into_diagnostic()?;
    match left {
        Left::Detached => output.say(&format!("\n{board}: detached")),
        Left::EndOfInput | Left::Interrupted => {}
        Left::Closed => output.say(&format!("\n{board}: the console was closed")),
    }
    Ok(ExitCode::SUCCESS)
}
