//! `bmhive bench`.

use std::process::ExitCode;

use miette::{Context, IntoDiagnostic};

use super::Console;
use crate::{bench, measure::this_machine, report, result::RunResult};

/// Measure, beside a baseline in the same run
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// What to measure
    #[arg(value_enum)]
    what: What,
    /// Print one JSON array of rows instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum What {
    /// The queue engine alone, on one core
    Ring,
    /// A disk's random reads
    Blk,
    /// Frames between two boards
    Net,
    /// What a board costs its base
    Memory,
}

pub(super) fn run(arguments: &Arguments, console: &Console) -> miette::Result<ExitCode> {
    let program = std::env::current_exe().into_diagnostic().wrap_err("cannot find this executable")?;
    let figures = match arguments.what {
        What::Ring => bench::ring::run(),
        What::Blk => bench::blk::run(&program),
        What::Net => bench::net::run(&program),
        What::Memory => bench::memory::run(&program),
    }
    .into_diagnostic()?;
    if arguments.json {
        let rows = serde_json::to_string_pretty(&figures).into_diagnostic()?;
        console.print(&format!("{rows}\n"))?;
    } else {
        let mut result = RunResult::new("bmhive bench", None, this_machine());
        result.figures = figures;
        console.print(&report::render_terminal(&result, false))?;
    }
    Ok(ExitCode::SUCCESS)
}
