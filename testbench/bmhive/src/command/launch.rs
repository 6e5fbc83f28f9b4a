//! `bmhive launch`: becomes another program that ends when this one's parent does.

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use miette::{Context, IntoDiagnostic};

/// Become a program that ends with its parent, as `bmhive up` starts QEMU
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Path of the program
    program: PathBuf,
    /// Arguments that the program is given
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

pub(super) fn run(arguments: &Arguments) -> miette::Result<ExitCode> {
    Err(bmhive_server::guest::launch(&arguments.program, &arguments.arguments))
        .into_diagnostic()
        .wrap_err_with(|| format!("cannot run {}", arguments.program.display()))
}
