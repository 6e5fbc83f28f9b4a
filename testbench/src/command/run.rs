//! `bmhive run`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use miette::{Context, IntoDiagnostic};

use super::Console;
use crate::{
    scenario::Scenario,
    workload::demonstration::{self, Plan},
};

/// Run a scenario
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Scenario file
    scenario: PathBuf,
    /// Directory for result.json, report.html and captures [default: target/bmhive/NAME of the file]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments, console: &Console) -> miette::Result<ExitCode> {
    let scenario = Scenario::load(&arguments.scenario)?;
    let name = arguments.scenario.file_stem().unwrap_or_default();
    let out = arguments.out.clone().unwrap_or_else(|| Path::new("target/bmhive").join(name));
    carry_out(&scenario, None, &out, console)
}

/// Carries a scenario out, prints its result and leaves it in `out`.
pub(super) fn carry_out(
    scenario: &Scenario,
    file: Option<&Path>,
    out: &Path,
    console: &Console,
) -> miette::Result<ExitCode> {
    std::fs::create_dir_all(out)
        .into_diagnostic()
        .wrap_err_with(|| format!("cannot make the directory {}", out.display()))?;
    let program = std::env::current_exe().into_diagnostic().wrap_err("cannot find this executable")?;
    let progress = console.progress();
    let plan = Plan { scenario, program: &program, file, output: out, progress: &progress };
    let result = demonstration::run(&plan).into_diagnostic()?;
    console.conclude(&result, out)
}
