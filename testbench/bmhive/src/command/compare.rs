//! `bmhive compare`.

use std::{path::PathBuf, process::ExitCode};

use miette::IntoDiagnostic;
use results::{RunResult, report::compare::Comparison};

use super::Output;

/// Lay two results side by side
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A result.json, or the directory of a run
    a: PathBuf,
    /// The result, or the directory of a run, that is compared with it
    b: PathBuf,
    /// Fail when a figure, latency or point of a curve is worse in B than in A by more than this percentage,
    /// or is missing in B
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    fail_above: Option<f64>,
}

fn percent(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if number.is_finite() && number >= 0.0 { Ok(number) } else { Err("expected 0 or more".to_owned()) }
}

pub(super) fn run(arguments: &Arguments, output: &Output) -> miette::Result<ExitCode> {
    let a = RunResult::read(&arguments.a).into_diagnostic()?;
    let b = RunResult::read(&arguments.b).into_diagnostic()?;
    let comparison = Comparison::new(&a, &b);
    output.print(&comparison.render())?;
    let Some(limit) = arguments.fail_above else { return Ok(ExitCode::SUCCESS) };
    let regressions: Vec<&str> = comparison.regressions(limit).map(|row| row.name.as_str()).collect();
    if regressions.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    Err(miette::miette!("worse by more than {limit} %, or missing: {}", regressions.join(", ")))
}
