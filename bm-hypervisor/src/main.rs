//! `bm-hypervisor`: what can be done with a board's configuration without the board.
//!
//! Serving a board takes a port to its IO-Bond. Ports to hardware are later work; until then boards are served by programs that
//! embed the library.

use std::{
    fs,
    io::IsTerminal,
    path::{Path, PathBuf},
    process::ExitCode,
};

use bm_hypervisor::{
    config::{BoardConfig, ConfigError},
    probe::probe,
};
use clap::{Parser, Subcommand};
use miette::{IntoDiagnostic, LabeledSpan, MietteDiagnostic, NamedSource, Report, WrapErr};
use tracing_subscriber::EnvFilter;

/// One hypervisor per compute board, between its IO-Bond and vhost-user back ends.
///
/// So far this program only checks configurations. Serving a board takes a port to its IO-Bond; ports to hardware come with
/// later work, and until then boards are served by programs that embed the library.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Validate a board's configuration and ask each of its back ends what it offers.
    ///
    /// Prints the back end's features, protocol features and queues, a disk's capacity, and what a board would be offered.
    /// Fails if the configuration cannot be used, or a back end cannot be reached or cannot serve its function.
    Check {
        /// The board's configuration, a TOML file.
        config: PathBuf,
    },
}

fn main() -> ExitCode {
    let filter = EnvFilter::builder().with_default_directive(tracing::Level::WARN.into()).from_env_lossy();
    let colour = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colour).init();
    let Command::Check { config } = Arguments::parse().command;
    match check(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(report) => {
            eprintln!("{report:?}");
            ExitCode::FAILURE
        }
    }
}

fn check(path: &Path) -> Result<(), Report> {
    let text = fs::read_to_string(path)
        .into_diagnostic()
        .wrap_err_with(|| format!("cannot read {}", path.display()))?;
    let config = BoardConfig::from_toml(&text).map_err(|error| explain(&error, path, &text))?;
    println!("board {}, functions: {}", config.name, config.functions.len());
    for probed in probe(&config).into_diagnostic()? {
        probed.describe().iter().for_each(|line| println!("{line}"));
    }
    Ok(())
}

/// Shows the place in the file that an error is about.
fn explain(error: &ConfigError, path: &Path, text: &str) -> Report {
    let message = match error {
        ConfigError::Toml(error) => error.message().to_owned(),
        ConfigError::Value { .. } => error.to_string(),
    };
    let labels = error.span().map(|span| LabeledSpan::at(span, "here"));
    let diagnostic = MietteDiagnostic::new(message).with_labels(labels);
    Report::new(diagnostic).with_source_code(NamedSource::new(path.display().to_string(), text.to_owned()))
}
