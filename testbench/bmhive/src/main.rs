//! The `bmhive` command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    bmhive::command::main()
}
