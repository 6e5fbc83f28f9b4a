//! `bmhive iobond`.

use std::{path::PathBuf, process::ExitCode};

use miette::{Context, IntoDiagnostic};
use scenario::Scenario;
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

use super::Output;

/// Emulate IO-Bonds alone, for a base and boards of your own, until Ctrl-C
///
/// Every function of a board, and each IO-Bond's own function on the base, is a vfio-user socket:
/// bm-hypervisor or a QEMU that plays the base connects to the one, a board's QEMU to the others. What the
/// functions are is for the base to say; the scenario only says how many.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Scenario file that says how many boards and functions there are
    scenario: PathBuf,
    /// Where the sockets are made; must exist
    #[arg(long, value_name = "DIR")]
    directory: PathBuf,
}

pub(super) fn run(arguments: &Arguments, output: &Output) -> miette::Result<ExitCode> {
    let mut signals =
        Signals::new([SIGHUP, SIGINT, SIGTERM]).into_diagnostic().wrap_err("cannot listen for signals")?;
    let scenario = Scenario::load(&arguments.scenario)?;
    let emulated = bmhive_server::emulate(&scenario, &arguments.directory).into_diagnostic()?;
    for bond in emulated.bonds() {
        output.print(&format!("{} base {}\n", bond.sockets.name, bond.sockets.base.display()))?;
        for (number, socket) in bond.sockets.functions.iter().enumerate() {
            output.print(&format!("{} function {number} {}\n", bond.sockets.name, socket.display()))?;
        }
    }
    output.print("ready\n")?;
    signals.forever().next();
    Ok(ExitCode::SUCCESS)
}
