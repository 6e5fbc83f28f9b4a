//! `bmhive bench`.

use std::{path::Path, process::ExitCode};

use miette::{Context, IntoDiagnostic};

use super::Output;
use crate::{
    bench,
    measure::this_machine,
    report,
    result::{Figure, RunResult},
    workload::WorkloadError,
};

/// Measure, beside a baseline in the same run
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// What to measure; everything when not given
    #[arg(value_enum)]
    what: Option<What>,
    /// Print one JSON array of rows instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum What {
    /// The queue engine alone, on one core
    Ring,
    /// A disk's random reads, and what a board costs its base
    Blk,
    /// Frames between two boards
    Net,
    /// What a board costs its base, alone
    Memory,
}

pub(super) fn run(arguments: &Arguments, output: &Output) -> miette::Result<ExitCode> {
    let program = std::env::current_exe().into_diagnostic().wrap_err("cannot find this executable")?;
    let wanted = arguments.what.map_or_else(|| vec![What::Ring, What::Blk, What::Net], |what| vec![what]);
    let mut figures = Vec::new();
    for what in wanted {
        figures.extend(measure(what, &program).into_diagnostic()?);
    }
    if arguments.json {
        let rows = serde_json::to_string_pretty(&figures).into_diagnostic()?;
        output.print(&format!("{rows}\n"))?;
    } else {
        let mut result = RunResult::new("bmhive bench", None, this_machine());
        result.figures = figures;
        output.print(&report::render_terminal(&result, false))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(what: What, program: &Path) -> Result<Vec<Figure>, WorkloadError> {
    match what {
        What::Ring => bench::ring::run(),
        What::Blk => {
            // Before there are drivers and their buffers, which are none of the base's.
            let memory = bench::memory::run(program)?;
            Ok([bench::blk::run(program)?, memory].concat())
        }
        What::Net => bench::net::run(program),
        What::Memory => bench::memory::run(program),
    }
}
