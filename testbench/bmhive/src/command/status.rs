//! `bmhive status`.

use std::process::ExitCode;

use bmhive_server::instance::{Reply, Request, ask, render_status};
use miette::IntoDiagnostic;

use super::{DEFAULT_INSTANCE, Output};

/// Show how the boards of an instance are
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Name of the instance, as `bmhive up --name` gave it
    #[arg(long, default_value = DEFAULT_INSTANCE)]
    name: String,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments, output: &Output) -> miette::Result<ExitCode> {
    let Reply::Status(status) = ask(&arguments.name, &Request::Status).into_diagnostic()? else {
        miette::bail!("instance {:?} does not answer with its status", arguments.name);
    };
    if arguments.json {
        let text = serde_json::to_string_pretty(&status).into_diagnostic()?;
        output.print(&format!("{text}\n"))?;
    } else {
        output.print(&render_status(&status))?;
    }
    Ok(ExitCode::SUCCESS)
}
