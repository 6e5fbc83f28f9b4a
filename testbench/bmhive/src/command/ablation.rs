//! `bmhive ablation`.

use std::{path::PathBuf, process::ExitCode};

use miette::IntoDiagnostic;
use results::{RunResult, report};

use super::Output;
use crate::ablation;

/// Simulate the design with one choice changed at a time, and say what each is worth
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Print the result as JSON
    #[arg(long, conflicts_with = "markdown")]
    json: bool,
    /// Print the table as Markdown
    #[arg(long)]
    markdown: bool,
    /// Leave result, report and plots in this directory
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments, output: &Output) -> miette::Result<ExitCode> {
    let measured = ablation::run(|row| output.say(&format!("simulating {}", row.key))).into_diagnostic()?;
    let result = ablation::result(&measured);
    if let Some(directory) = &arguments.out {
        return output.conclude(&result, directory);
    }
    if arguments.markdown {
        output.print(&ablation::markdown(&measured))?;
    } else if arguments.json {
        let text = serde_json::to_string_pretty(&result).into_diagnostic()?;
        output.print(&format!("{text}\n"))?;
    } else {
        // The figures are the table's, for programs.
        let shown = RunResult { figures: Vec::new(), ..result.clone() };
        output.print(&report::render_terminal(&shown, false))?;
    }
    Ok(if result.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
