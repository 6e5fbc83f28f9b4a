//! The `bmhive` command line. Each subcommand is a file; `miette` is for here only, the rest of the crate has
//! its own errors.
//!
//! Exit status: 0, 1 for anything that went wrong or came out different, 2 for a command line that makes no
//! sense.

mod ablation;
mod backend;
mod bench;
mod board;
mod check;
mod compare;
mod console;
mod demo;
mod iobond;
mod launch;
mod output;
mod paper;
mod run;
mod status;
mod trace;
mod up;
mod world;

use std::process::ExitCode;

use clap::{ArgAction, Parser, Subcommand};

pub use output::Output;

/// What `bmhive up` calls its instance without `--name`.
const DEFAULT_INSTANCE: &str = "default";

/// IO-Bond: bare-metal virtio for a server full of compute boards
#[derive(Debug, Parser)]
#[command(name = "bmhive", version)]
struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,
    /// Say more: -v what is done, -vv every step. RUST_LOG, where set, decides instead
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
    /// Say nothing but results and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Arguments),
    Run(run::Arguments),
    Up(up::Arguments),
    Status(status::Arguments),
    Console(console::Arguments),
    Board(board::Arguments),
    Iobond(iobond::Arguments),
    Bench(bench::Arguments),
    Ablation(ablation::Arguments),
    Check(check::Arguments),
    Compare(compare::Arguments),
    Trace(trace::Arguments),
    Paper(paper::Arguments),
    #[command(hide = true, subcommand)]
    Backend(backend::Arguments),
    #[command(hide = true)]
    Launch(launch::Arguments),
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let line = CommandLine::parse();
    let output = Output::new(line.quiet, line.verbose);
    output.start_log();
    let outcome = match line.command.unwrap_or_else(|| Command::Demo(demo::Arguments::default())) {
        Command::Demo(arguments) => demo::run(&arguments, &output),
        Command::Run(arguments) => run::run(&arguments, &output),
        Command::Up(arguments) => up::run(&arguments, &output),
        Command::Status(arguments) => status::run(&arguments, &output),
        Command::Console(arguments) => console::run(&arguments, &output),
        Command::Board(arguments) => board::run(&arguments, &output),
        Command::Iobond(arguments) => iobond::run(&arguments, &output),
        Command::Bench(arguments) => bench::run(&arguments, &output),
        Command::Ablation(arguments) => ablation::run(&arguments, &output),
        Command::Check(arguments) => check::run(&arguments, &output),
        Command::Compare(arguments) => compare::run(&arguments, &output),
        Command::Trace(arguments) => trace::run(&arguments, &output),
        Command::Paper(arguments) => paper::run(&arguments, &output),
        Command::Backend(arguments) => backend::run(arguments),
        Command::Launch(arguments) => launch::run(&arguments),
    };
    outcome.unwrap_or_else(|report| {
        output.complain(&report);
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }
}
