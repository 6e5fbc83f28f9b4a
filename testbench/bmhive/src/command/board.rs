//! `bmhive board`.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use bmhive_server::instance::{Action, BoardStatus, Reply, Request, ask};
use miette::IntoDiagnostic;

use super::{DEFAULT_INSTANCE, Output};

/// How long a board may take until it is as it was asked to be: more than an instance waits for a guest.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two questions.
const LOOK: Duration = Duration::from_millis(50);

/// Switch a board on or off, or reset it
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The board's name
    board: String,
    /// What to do
    #[arg(value_enum)]
    action: Action,
    /// The instance
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
    let deadline = Instant::now() + PATIENCE;
    while look(name, board)?.power.is_on() {
        if Instant::now() > deadline {
            miette::bail!(
                "{board} is still on after {PATIENCE:?}; `bmhive board {board} kill` cuts its power"
            );
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

/// How a board is.
pub(super) fn look(name: &str, board: &str) -> miette::Result<BoardStatus> {
    let Reply::Status(status) = ask(name, &Request::Status).into_diagnostic()? else {
        miette::bail!("instance {name:?} does not say how it is");
    };
    let known: Vec<_> = status.boards.iter().map(|board| board.name.clone()).collect();
    let found = status.boards.into_iter().find(|candidate| candidate.name == board);
    found.ok_or_else(|| miette::miette!("no board is called {board:?}; there are {}", known.join(", ")))
}
