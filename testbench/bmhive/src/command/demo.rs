//! `bmhive demo`, which is also what `bmhive` alone does.

use std::{path::PathBuf, process::ExitCode};

use scenario::Scenario;

use super::{Output, run};

/// Where the demonstration leaves its results.
const OUTPUT: &str = "target/bmhive/demo";

/// Run the demonstration: two boards, a disk each, and a switch between them (the default command)
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// File to write to a disk and send between the boards; this executable when not given
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Directory for result.json, report.html and captures
    #[arg(long, value_name = "DIR", default_value = OUTPUT)]
    out: PathBuf,
}

impl Default for Arguments {
    fn default() -> Self {
        Self { file: None, out: OUTPUT.into() }
    }
}

pub(super) fn run(arguments: &Arguments, output: &Output) -> miette::Result<ExitCode> {
    run::carry_out(&Scenario::demonstration()?, arguments.file.as_deref(), &arguments.out, output)
}
