//! `bmhive board`.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use bmhive_server::instance::{Action, BoardStatus, Reply, Request, ask};
use miette::IntoDiagnostic;

use super::{DEFAULT_INSTANCE, Output};

/// How long a board may take until it is as it was asked to be: more than an instance waits for a guest.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Between two requests for the status.
const LOOK: Duration = Duration::from_millis(50);

/// Switch a board on or off, or reset it
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Name of the board, as the scenario gives it
    board: String,
    /// What is done with its power
    #[arg(value_enum)]
    action: Action,
    /// Name of the instance, as `bmhive up --name` gave it
    #[arg(long, default_value = DEFAULT_INSTANCE)]
    name: String,
}

pub(super) fn run(arguments: &Arguments, output: &Output) -> miette::Result<ExitCode> {
    let Arguments { board, action, name } = arguments;
    let request = Request::Board { board: board.clone(), action: *action };
    ask(name, &request).into_diagnostic()?;
    if *action == Action::Stop {
        await_off(name, board)?;
    }
    output.say(&format!("{board}: {}", look(name, board)?.power.word()));
    Ok(ExitCode::SUCCESS)
}

fn await_off(name: &str, board: &str) -> miette::Result<()> {
    let deadline = Instant::now() + TIMEOUT;
    while look(name, board)?.power.is_on() {
        if Instant::now() > deadline {
            miette::bail!(
                "{board} is still on after {TIMEOUT:?}; `bmhive board {board} kill` cuts its power"
            );
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

/// How a board is.
pub(super) fn look(name: &str, board: &str) -> miette::Result<BoardStatus> {
    let Reply::Status(status) = ask(name, &Request::Status).into_diagnostic()? else {
        miette::bail!("instance {name:?} does not answer with its status");
    };
    let known: Vec<_> = status.boards.iter().map(|board| board.name.clone()).collect();
    let found = status.boards.into_iter().find(|candidate| candidate.name == board);
    found.ok_or_else(|| miette::miette!("no board is called {board:?}; there are {}", known.join(", ")))
}
