//! `bmhive backend`: the back ends of a run are this same executable, so that it needs no other file.

use std::process::ExitCode;

use miette::IntoDiagnostic;

/// Serve one back end, as a run starts it
#[derive(Debug, clap::Subcommand)]
pub(super) enum Arguments {
    /// Serve a disk from a raw image
    Blk(vhost_backends::blk::Options),
    /// Serve the ports of the switch
    Net(vhost_backends::net::Options),
    /// Serve a console, whose other end is a socket
    Console(vhost_backends::console::Options),
}

pub(super) fn run(arguments: Arguments) -> miette::Result<ExitCode> {
    bmhive_server::end_with_parent();
    match arguments {
        Arguments::Blk(options) => vhost_backends::blk::serve(options),
        Arguments::Net(options) => vhost_backends::net::serve(options),
        Arguments::Console(options) => vhost_backends::console::serve(options),
    }
    .into_diagnostic()?;
    Ok(ExitCode::SUCCESS)
}
