//! `bmctl`: asks the hypervisor of a board, and tells it what to do.

mod tables;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use bm_hypervisor::{
    api::{
        AddParams, Board, BoardStatistics, Client, FunctionDescription, FunctionNumber, Limits, LimitsParams,
        LinkParams, LogAnswer, LogParams, MethodDescription, Metrics, NoParams, PowerParams, QueueStatistics,
        ResizeParams, Resized, StateAnswer,
    },
    config::{BlkLimits, FunctionConfig, LimitsConfig, NetLimits},
};
use clap::{Args, Parser, Subcommand, ValueEnum};
use miette::{IntoDiagnostic, Report, WrapErr};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// Ask the hypervisor of a compute board, and tell it what to do.
///
/// The socket is the one in `[control]` of the board's configuration.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The socket of the board's control API.
    #[arg(short, long, value_name = "PATH")]
    socket: PathBuf,
    /// Print answers as JSON.
    #[arg(long, global = true)]
    json: bool,
    /// Seconds to wait for an answer.
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 35, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Name, state and first failure of the board.
    Board,
    /// Give the board power, or take it away.
    Power { switch: OnOff },
    /// Reset every function of the board.
    Reset,
    /// The functions, their back ends and drivers.
    Functions,
    /// Every queue with its state, indices and counters.
    Queues,
    /// What IO-Bond has, and what the functions have of it.
    Limits,
    /// Limit what function N may do in a second; without any option, it may do what it can.
    Limit(Limit),
    /// What was counted of the board.
    Statistics,
    /// Metrics in Prometheus's text format.
    Metrics,
    /// Tell the driver of disk N how large its image is by now.
    Resize {
        /// Number of the function.
        function: u8,
        /// How large the disk is to be, in bytes; otherwise nothing is changed.
        bytes: Option<u64>,
    },
    /// Take the link of network function N up or down.
    Link { function: u8, direction: UpDown },
    /// Add a function in a free place.
    Add {
        /// A TOML file with the function's table: `[blk]`, `[net]` or `[console]`, as below `functions` in a
        /// board's configuration.
        file: PathBuf,
    },
    /// Take function N away from under its driver.
    Remove { function: u8 },
    /// Set the log level: off, error, warn, info, debug, trace, or directives as in RUST_LOG.
    Log { level: String },
    /// Have the board stopped, and the program that serves it end.
    Stop,
    /// List the methods of the API.
    Methods,
    /// Call any method of the API.
    Call {
        method: String,
        /// Its parameters, a JSON object or array.
        params: Option<String>,
    },
}

/// Reads and writes, or both directions of a network, count together.
#[derive(Clone, Copy, Args)]
struct Limit {
    /// Number of the function.
    function: u8,
    /// Packets a second, of a network function.
    #[arg(long, value_name = "N", conflicts_with_all = ["iops", "bytes_per_second"])]
    packets_per_second: Option<u64>,
    /// Bits a second, of a network function.
    #[arg(long, value_name = "N", conflicts_with_all = ["iops", "bytes_per_second"])]
    bits_per_second: Option<u64>,
    /// Requests a second, of a disk.
    #[arg(long, value_name = "N")]
    iops: Option<u64>,
    /// Bytes a second, of a disk.
    #[arg(long, value_name = "N")]
    bytes_per_second: Option<u64>,
    /// How many milliseconds' worth may come at once after a rest.
    #[arg(long, value_name = "MS")]
    burst_ms: Option<u32>,
}

impl Limit {
    fn params(&self) -> LimitsParams {
        let Self { function, packets_per_second, bits_per_second, iops, bytes_per_second, burst_ms } = *self;
        let limits = match (packets_per_second, bits_per_second, iops, bytes_per_second) {
            (None, None, None, None) => None,
            (_, _, None, None) => {
                Some(LimitsConfig::Net(NetLimits { packets_per_second, bits_per_second, burst_ms }))
            }
            _ => Some(LimitsConfig::Blk(BlkLimits { iops, bytes_per_second, burst_ms })),
        };
        LimitsParams { function, limits }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum OnOff {
    On,
    Off,
}

#[derive(Clone, Copy, ValueEnum)]
enum UpDown {
    Up,
    Down,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(text) => {
            // Fails when the reader has stopped reading, which it knows.
            let _ = std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(report) => {
            eprintln!("{report:?}");
            ExitCode::FAILURE
        }
    }
}

/// A connection, and how its answers are shown.
struct Session {
    client: Client,
    json: bool,
}

impl Session {
    /// Calls a method; its answer as JSON, or as `show` has it.
    fn show<R: DeserializeOwned>(
        &mut self,
        method: &str,
        params: impl Serialize,
        show: impl FnOnce(&R) -> String,
    ) -> Result<String, Report> {
        let params = serde_json::to_value(params).into_diagnostic()?;
        let answer = self.client.call_raw(method, Some(params)).into_diagnostic()?;
        if self.json {
            return pretty(&answer);
        }
        let answer = serde_json::from_value(answer).into_diagnostic().wrap_err_with(|| {
            format!(
                "{method} was answered in another form; is bmctl as old as the hypervisor? --json shows it"
            )
        })?;
        Ok(show(&answer))
    }

    /// Calls a method with an answer that only says that it is done.
    fn done(&mut self, method: &str, params: impl Serialize, what: String) -> Result<String, Report> {
        self.show(method, params, |_: &Value| format!("{what}\n"))
    }
}

fn run(arguments: &Arguments) -> Result<String, Report> {
    // Files and JSON are read first: what is wrong with them does not concern the server.
    let function = match &arguments.command {
        Command::Add { file } => Some(read_function(file)?),
        _ => None,
    };
    let timeout = Duration::from_secs(arguments.timeout);
    let client = Client::connect(&arguments.socket, timeout).into_diagnostic()?;
    let mut session = Session { client, json: arguments.json };
    let none = NoParams {};
    match &arguments.command {
        Command::Board => session.show("board_get", none, |board: &Board| tables::board(board)),
        Command::Power { switch } => {
            let on = matches!(switch, OnOff::On);
            session.show("board_power", PowerParams { on }, state)
        }
        Command::Reset => session.show("board_reset", none, state),
        Command::Functions => {
            session.show("function_list", none, |list: &Vec<FunctionDescription>| tables::functions(list))
        }
        Command::Queues => {
            session.show("queue_list", none, |list: &Vec<QueueStatistics>| tables::queues(list))
        }
        Command::Limits => session.show("limits_get", none, |limits: &Limits| tables::limits(limits)),
        Command::Limit(limit) => {
            let params = limit.params();
            let what = if params.limits.is_some() { "limited" } else { "without limits" };
            session.done("limits_set", params, format!("function {} {what}", limit.function))
        }
        Command::Statistics => {
            session.show("statistics_get", none, |counted: &BoardStatistics| tables::statistics(counted))
        }
        Command::Metrics => session.show("metrics_get", none, |metrics: &Metrics| metrics.text.clone()),
        Command::Resize { function, bytes } => {
            let params = ResizeParams { function: *function, bytes: *bytes };
            session.show("disk_resize", params, |Resized { before, now }| {
                format!("function {function}: {before} bytes before, {now} bytes now\n")
            })
        }
        Command::Link { function, direction } => {
            let (function, up) = (*function, matches!(direction, UpDown::Up));
            let what = format!("function {function}: link {}", if up { "up" } else { "down" });
            session.done("link_set", LinkParams { function, up }, what)
        }
        Command::Add { .. } => {
            let params = function.map(|function| AddParams { function });
            session.show("function_add", params, |FunctionNumber { function }| {
                format!("function {function} added\n")
            })
        }
        Command::Remove { function } => {
            let function = *function;
            session.done(
                "function_remove",
                FunctionNumber { function },
                format!("function {function} removed"),
            )
        }
        Command::Log { level } => {
            let params = LogParams { level: level.clone() };
            session.show("log_set_level", params, |LogAnswer { before }| {
                format!("log level: {level} (was {before})\n")
            })
        }
        Command::Stop => session.done("stop", none, "stop asked for".into()),
        Command::Methods => {
            session.show("rpc_describe_methods", none, |list: &Vec<MethodDescription>| tables::methods(list))
        }
        Command::Call { method, params } => call(&mut session, method, params.as_deref()),
    }
}

fn state(StateAnswer { state }: &StateAnswer) -> String {
    format!("board is {state}\n")
}

fn call(session: &mut Session, method: &str, params: Option<&str>) -> Result<String, Report> {
    let params =
        params.map(serde_json::from_str).transpose().into_diagnostic().wrap_err(
            "the parameters are not JSON; quote them from the shell, such as '{\"function\": 0}'",
        )?;
    pretty(&session.client.call_raw(method, params).into_diagnostic()?)
}

fn pretty(value: &Value) -> Result<String, Report> {
    Ok(serde_json::to_string_pretty(value).into_diagnostic()? + "\n")
}

fn read_function(path: &Path) -> Result<FunctionConfig, Report> {
    let text = fs::read_to_string(path)
        .into_diagnostic()
        .wrap_err_with(|| format!("cannot read {}", path.display()))?;
    toml::from_str(&text).into_diagnostic().wrap_err_with(|| {
        format!(
            "{} is not a function; expected one table [blk], [net] or [console] with its `backend`",
            path.display()
        )
    })
}
