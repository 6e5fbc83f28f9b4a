//! `bm-hypervisor`: serves one compute board, or says what keeps it from that.

mod program;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use bm_hypervisor::{
    check::{Level, judge, survey},
    config::{BoardConfig, ConfigError},
    logging::{self, LogFormat},
    probe::probe,
};
use clap::{Parser, Subcommand};
use miette::{IntoDiagnostic, LabeledSpan, MietteDiagnostic, NamedSource, Report, WrapErr};
use unix_service::Rest;

use crate::program::{
    confine::Seccomp,
    kept::Inherited,
    selftest::selftest,
    serve::{Options, port_of, serve},
};

/// One hypervisor per compute board, between its IO-Bond and vhost-user back ends.
///
/// Without a subcommand it serves the board of --config until SIGTERM, SIGINT or SIGHUP: opens the IO-Bond
/// that `port` names, connects the back ends, and gives the board power.
#[derive(Parser)]
#[command(version, subcommand_negates_reqs = true)]
struct Arguments {
    /// What a line of the log looks like: text, or json.
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Option<Command>,
    /// The board's configuration, a TOML file
    #[arg(long, value_name = "FILE", required = true)]
    config: Option<PathBuf>,
    /// What the poll thread does when there is no work: polls on, or sleeps until IO-Bond or a back end wakes
    /// it
    #[arg(long, value_enum, default_value = "busy")]
    poll: Poll,
    /// With `--poll adaptive`: microseconds without work before it sleeps
    #[arg(long, value_name = "N", default_value_t = 200)]
    poll_us: u32,
    /// Become this user once the IO-Bond, the pool and the sockets are open
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// What happens to a system call that serving a board does not make
    #[arg(long, value_enum, default_value = "on")]
    seccomp: Seccomp,
}

/// What the poll thread does when there is no work.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Poll {
    /// Polls on: for a core of its own.
    Busy,
    /// Sleeps after a while.
    Adaptive,
}

#[derive(Subcommand)]
enum Command {
    /// Validate a board's configuration, look at the machine, and ask each back end what it offers.
    ///
    /// Says of the machine's IOMMU, device, memory and cores whether they are ready, and what to do where
    /// they are not. Then prints each back end's features, protocol features and queues, a disk's capacity,
    /// and what a board would be offered. Fails if the configuration cannot be used, something in the machine
    /// is an error and not only a warning, or a back end cannot be reached or cannot serve its function.
    /// Takes and changes nothing.
    Check {
        /// The board's configuration, a TOML file.
        config: PathBuf,
        /// Do not connect to back ends.
        #[arg(long)]
        no_back_ends: bool,
    },
    /// Check that the IO-Bond of a board, and the port to it, do what every IO-Bond has to.
    ///
    /// Needs neither back ends nor a board that runs. The IO-Bond must not be in use: it is reset before and
    /// after every check.
    Selftest {
        /// The board's configuration, of which only the port is used.
        config: PathBuf,
    },
}

fn main() -> ExitCode {
    let inherited = Inherited::take_all();
    let Arguments { log_format, command, config, poll, poll_us, user, seccomp } = Arguments::parse();
    let log = logging::start(log_format, tracing::Level::WARN);
    let rest = match poll {
        Poll::Busy => Rest::Never,
        Poll::Adaptive => Rest::After(Duration::from_micros(poll_us.into())),
    };
    let options = Options { rest, user, seccomp };
    let done = match (command, config) {
        (Some(Command::Check { config, no_back_ends }), _) => check(&config, !no_back_ends),
        (Some(Command::Selftest { config }), _) => {
            load(&config).and_then(|c| selftest(port_of(&c)?)).map(|()| true)
        }
        (None, Some(config)) => {
            load(&config).and_then(|config| serve(config, &options, log, inherited)).map(|()| true)
        }
        // clap asks for --config where there is no subcommand.
        (None, None) => Ok(true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(report) => {
            eprintln!("{report:?}");
            ExitCode::FAILURE
        }
    }
}

fn load(path: &Path) -> Result<BoardConfig, Report> {
    let text = fs::read_to_string(path)
        .into_diagnostic()
        .wrap_err_with(|| format!("cannot read {}", path.display()))?;
    BoardConfig::from_toml(&text).map_err(|error| explain(&error, path, &text))
}

/// Prints what `check` found; false if any of it is an error.
fn check(path: &Path, back_ends: bool) -> Result<bool, Report> {
    let config = load(path)?;
    println!("board {}, functions: {}", config.name, config.functions.len());
    let findings = judge(&config, &survey(&config, Path::new("/")));
    findings.iter().for_each(|finding| println!("  {finding}"));
    if back_ends {
        for probed in probe(&config).into_diagnostic()? {
            probed.describe().iter().for_each(|line| println!("{line}"));
        }
    }
    Ok(findings.iter().all(|finding| finding.level < Level::Error))
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
