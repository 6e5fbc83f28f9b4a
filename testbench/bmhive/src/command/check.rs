//! `bmhive check`.

use std::{path::PathBuf, process::ExitCode};

use scenario::Scenario;

use super::Output;

/// Check scenario files without running them
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Scenario files, which are checked in this order
    #[arg(required = true, value_name = "SCENARIO")]
    scenarios: Vec<PathBuf>,
}

pub(super) fn run(arguments: &Arguments, output: &Output) -> miette::Result<ExitCode> {
    for path in &arguments.scenarios {
        let scenario = Scenario::load(path)?;
        let functions: usize = scenario.boards.iter().map(|board| board.functions.len()).sum();
        let back_ends: Vec<String> = scenario.back_ends().into_iter().map(|(name, _)| name).collect();
        output.print(&format!(
            "{}: {:?}, boards: {}, functions: {functions}, back ends: {}\n",
            path.display(),
            scenario.name,
            scenario.boards.len(),
            back_ends.join(" ")
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}
