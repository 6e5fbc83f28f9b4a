//! `bmhive paper`.

use std::{fs, path::PathBuf, process::ExitCode};

use miette::{Context, IntoDiagnostic};
use results::replace;

use super::Output;
use crate::paper;

/// Print the paper's figures beside those of the simulation, and by how much they differ
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Print one JSON array of rows: figure, published, ours, error, calibrated, and why
    #[arg(long)]
    json: bool,
    /// Print a table in Markdown, as docs/paper.md has it
    #[arg(long, conflicts_with = "json")]
    markdown: bool,
    /// Write it to a file; a document that has such a table in Markdown gets it in place of its own
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments, output: &Output) -> miette::Result<ExitCode> {
    let rows = paper::rows().into_diagnostic()?;
    let text = match arguments {
        Arguments { json: true, .. } => paper::json(&rows).into_diagnostic()?,
        Arguments { markdown: true, .. } => paper::markdown(&rows),
        _ => paper::terminal(&rows),
    };
    let Some(path) = &arguments.out else {
        output.print(&text)?;
        return Ok(ExitCode::SUCCESS);
    };
    let document = fs::read_to_string(path).ok().filter(|_| arguments.markdown);
    let text = document.and_then(|document| paper::inserted(&document, &text)).unwrap_or(text);
    replace(path, text.as_bytes())
        .into_diagnostic()
        .wrap_err_with(|| format!("cannot write {}", path.display()))?;
    Ok(ExitCode::SUCCESS)
}
