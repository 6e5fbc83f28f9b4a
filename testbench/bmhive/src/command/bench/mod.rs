//! `bmhive bench`.

mod latency;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use bmhive_server::guest::{self, Wanted};
use miette::{Context, IntoDiagnostic};
use results::{Figure, RunResult, measure::this_machine, report};

use super::Output;
use crate::bench;

/// Measure, beside a baseline in the same run
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    suite: Option<Suite>,
    /// What to measure; everything but the guest when not given
    #[arg(value_enum)]
    what: Option<What>,
    /// Print one JSON array of rows instead of a table
    #[arg(long)]
    json: bool,
    /// For `guest`: directory of QEMU, kernel and initial RAM disk [default: $BMHIVE_GUEST, then
    /// target/guest]
    #[arg(long, value_name = "DIR")]
    guest: Option<PathBuf>,
    /// For `guest`: what runs the guests' instructions
    #[arg(long, value_enum, default_value_t)]
    accel: Wanted,
}

/// Benches with choices of their own.
#[derive(Debug, clap::Subcommand)]
enum Suite {
    Latency(latency::Arguments),
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum What {
    /// The queue engine alone, on one core
    Ring,
    /// A disk's random reads, and what a board costs its base
    Blk,
    /// Frames between two boards
    Net,
    /// A bm-hypervisor's poll pass, alone
    Poll,
    /// What a board costs its base, alone
    Memory,
    /// The world of virtual time, on one core
    Sim,
    /// Disks, boot and idle cost of a Linux guest, beside QEMU's own devices (minutes; needs `cargo xtask
    /// guest`)
    Guest,
}

pub(super) fn run(arguments: &Arguments, output: &Output) -> miette::Result<ExitCode> {
    if let Some(Suite::Latency(arguments)) = &arguments.suite {
        return latency::run(arguments, output);
    }
    let program = std::env::current_exe().into_diagnostic().wrap_err("cannot find this executable")?;
    let wanted = arguments
        .what
        .map_or_else(|| vec![What::Sim, What::Ring, What::Poll, What::Blk, What::Net], |what| vec![what]);
    let mut figures = Vec::new();
    for what in wanted {
        figures.extend(measure(what, arguments, &program)?);
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

fn measure(what: What, arguments: &Arguments, program: &Path) -> miette::Result<Vec<Figure>> {
    let figures = match what {
        What::Ring => bench::ring::run(),
        What::Blk => {
            // Before there are drivers and their buffers, which do not belong to the base.
            let memory = bench::memory::run(program).into_diagnostic()?;
            bench::blk::run(program).map(|figures| [figures, memory].concat())
        }
        What::Net => bench::net::run(program),
        What::Poll => bench::poll::run(program),
        What::Memory => bench::memory::run(program),
        What::Sim => bench::sim::run(),
        What::Guest => {
            let files = guest::find(arguments.guest.as_deref()).into_diagnostic()?;
            let directory = tempfile::tempdir().into_diagnostic().wrap_err("cannot make a directory")?;
            let choice = arguments.accel.choose(&files, program, directory.path(), &|| false);
            eprintln!("accelerator {}: {}", choice.accelerator, choice.reason);
            bench::guest::run(program, &files, choice.accelerator)
        }
    };
    figures.into_diagnostic()
}
