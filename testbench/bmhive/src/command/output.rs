//! What the commands say, and how loudly.

use std::{
    io::{self, IsTerminal, Write},
    path::Path,
    process::ExitCode,
};

use miette::{GraphicalReportHandler, GraphicalTheme, IntoDiagnostic, Report};
use results::{RunResult, report};
use tracing_subscriber::EnvFilter;

use crate::progress::Progress;

/// Columns of an error with a piece of its file; more than its lines need, so that they are not broken.
const ERROR_WIDTH: usize = 200;

/// Standard output for results, standard error for everything else.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    quiet: bool,
    verbose: u8,
}

impl Output {
    pub(super) const fn new(quiet: bool, verbose: u8) -> Self {
        Self { quiet, verbose }
    }

    /// Logs of this crate and the libraries, on standard error.
    pub(super) fn start_log(self) {
        // What ends a run is told by `complain`; the library's own word of it would be a repetition.
        let level = match (self.quiet, self.verbose) {
            (true, _) => "off",
            (_, 0) => "warn,bm_hypervisor::control::board=off",
            (_, 1) => "info",
            (_, 2) => "debug",
            _ => "trace",
        };
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(io::stderr)
            .with_ansi(io::stderr().is_terminal())
            .init();
    }

    /// For steps that take long.
    #[must_use]
    pub fn progress(self) -> Progress {
        Progress::new(self.quiet)
    }

    /// Reports progress in a line on standard error. A terminal that has hung up changes nothing.
    pub fn say(self, line: &str) {
        if !self.quiet {
            let _ = writeln!(io::stderr(), "{line}");
        }
    }

    /// Prints what a command was asked for. A reader that has gone, as `head` does, is not an error.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn print(self, text: &str) -> miette::Result<()> {
        match io::stdout().lock().write_all(text.as_bytes()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            outcome => outcome.into_diagnostic(),
        }
    }

    /// Ends a run: prints its result, leaves `result.json` and `report.html` in `directory` and says so, and
    /// fails when a check of it failed.
    ///
    /// # Errors
    /// A file or standard output cannot be written.
    pub fn conclude(self, result: &RunResult, directory: &Path) -> miette::Result<ExitCode> {
        let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        self.print(&report::render_terminal(result, colour))?;
        let record = result.write(directory).into_diagnostic()?;
        let page = report::write(result, directory).into_diagnostic()?;
        self.print(&format!("\n{}\n{}\n", record.display(), page.display()))?;
        Ok(if result.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// Prints an error: the place in its file where it has one, otherwise one line with its causes.
    pub(super) fn complain(self, report: &Report) {
        eprintln!("{}", explain(report, io::stderr().is_terminal()));
    }
}

fn explain(report: &Report, colour: bool) -> String {
    // Some errors end with their cause already.
    let line = report.chain().map(ToString::to_string).fold("error".to_owned(), |line, cause| {
        if line.ends_with(&cause) { line } else { format!("{line}: {cause}") }
    });
    if report.source_code().is_none() {
        return line;
    }
    let theme = if colour { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let mut picture = String::new();
    match GraphicalReportHandler::new_themed(theme)
        .with_width(ERROR_WIDTH)
        .render_report(&mut picture, report.as_ref())
    {
        Ok(()) => picture,
        Err(_) => line,
    }
}
