//! `bmhive up`.

use std::{
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bmhive_server::{
    guest::{self, Wanted},
    instance::{Event, Instance, Options, RunDirectory},
};
use miette::{Context, IntoDiagnostic};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use scenario::{Poll, Scenario};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::{DEFAULT_INSTANCE, Output};

/// Between two looks at the boards, while no request comes.
const LOOK: Duration = Duration::from_millis(100);

/// Start a base server with compute boards that run Linux, until Ctrl-C
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Scenario file; two boards with a console, a disk and a network card each when not given
    scenario: Option<PathBuf>,
    /// What `bmhive status`, `console` and `board` find it by
    #[arg(long, default_value = DEFAULT_INSTANCE)]
    name: String,
    /// Directory of QEMU, kernel and initial RAM disk, as `cargo xtask guest` makes it [default:
    /// $BMHIVE_GUEST, then target/guest]
    #[arg(long, value_name = "DIR")]
    guest: Option<PathBuf>,
    /// What runs the guests' instructions
    #[arg(long, value_enum, default_value_t)]
    accel: Wanted,
    /// What the base core does between requests [default: what the scenario says]
    #[arg(long, value_enum)]
    poll: Option<Poll>,
    /// End when every board is off
    #[arg(long)]
    until_off: bool,
}

pub(super) fn run(arguments: &Arguments, output: &Output) -> miette::Result<ExitCode> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        let registered = signal_hook::flag::register(signal, Arc::clone(&interrupted));
        registered.into_diagnostic().wrap_err("cannot listen for signals")?;
    }
    let is_interrupted = || interrupted.load(Ordering::Relaxed);
    let started = start(arguments, output, &is_interrupted);
    if is_interrupted() {
        miette::bail!("interrupted before the boards were on; nothing is left running");
    }
    let mut instance = started?;
    say_all(output, instance.autostart().into_diagnostic()?);
    let over = |instance: &Instance| arguments.until_off && instance.all_off();
    while !is_interrupted() && !over(&instance) {
        say_all(output, instance.step(LOOK));
    }
    let crashed = instance.any_crashed();
    if !instance.all_off() {
        output.say("switching the boards off (Ctrl-C again ends at once)");
    }
    interrupted.store(false, Ordering::Relaxed);
    say_all(output, instance.shut_down(is_interrupted));
    if arguments.until_off && crashed { Ok(ExitCode::FAILURE) } else { Ok(ExitCode::SUCCESS) }
}

fn start(arguments: &Arguments, output: &Output, give_up: &dyn Fn() -> bool) -> miette::Result<Instance> {
    let mut scenario = match &arguments.scenario {
        Some(file) => Scenario::load(file)?,
        None => Scenario::linux()?,
    };
    scenario.poll = arguments.poll.unwrap_or(scenario.poll);
    if scenario.boards.iter().all(|board| board.guest.is_none()) {
        miette::bail!("no board of {} has a guest; give one a [board.guest]", scenario.file);
    }
    let files = guest::find(arguments.guest.as_deref()).into_diagnostic()?;
    raise_descriptor_limit();
    let program = std::env::current_exe().into_diagnostic().wrap_err("cannot find this executable")?;
    let directory = RunDirectory::claim(&arguments.name).into_diagnostic()?;
    output.say(&format!("{}: Linux {} in QEMU {}", scenario.name, files.kernel_version, files.qemu_version));
    let accelerator = arguments.accel.choose(&files, &program, directory.path(), give_up);
    if give_up() {
        miette::bail!("interrupted");
    }
    output.say(&format!("accelerator {}: {}", accelerator.accelerator, accelerator.reason));
    let began = Instant::now();
    let options = Options { name: arguments.name.clone(), scenario, files, accelerator, program };
    let instance = Instance::start(options, directory, give_up).into_diagnostic()?;
    introduce(&instance, began.elapsed(), output);
    Ok(instance)
}

/// Sixteen boards of eight functions take 1300 descriptors, and most shells allow 1024 until a process asks
/// for more.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Never above what is allowed; should it fail, whatever needs a descriptor says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// What is there, and how to get at it.
fn introduce(instance: &Instance, took: Duration, output: &Output) {
    let status = instance.status();
    let back_ends: Vec<_> = status.back_ends.iter().map(|back_end| back_end.name.as_str()).collect();
    output.say(&format!("base up after {:.1} s, back ends {}", took.as_secs_f64(), back_ends.join(" ")));
    for board in &status.boards {
        let functions: Vec<_> = board.functions.iter().map(|function| function.device.as_str()).collect();
        output.say(&format!("{}: {}", board.name, functions.join(", ")));
    }
    let name = match status.instance.as_str() {
        DEFAULT_INSTANCE => String::new(),
        name => format!(" --name {name}"),
    };
    if let Some(board) = status.boards.first() {
        let serial = if board.terminal.is_some() { "" } else { " --serial" };
        output.say(&format!(
            "a shell: bmhive console {}{serial}{name}; all of it: bmhive status{name}",
            board.name
        ));
    }
    output.say(&format!("sockets and logs in {}", instance.directory().display()));
}

fn say_all(output: &Output, events: impl IntoIterator<Item = (String, Event)>) {
    for (name, event) in events {
        let line = match event {
            Event::On => "on".to_owned(),
            Event::DriversUp(after) => format!("drivers up after {:.1} s", after.as_secs_f64()),
            Event::Off => "off".to_owned(),
            Event::Killed => "killed".to_owned(),
            Event::Crashed(reason) => reason,
            Event::Failed(reason) => format!("the base has ended the board: {reason}"),
            Event::FunctionFailed { function, reason } => {
                format!("function {function} asks its driver for a reset: {reason}")
            }
            Event::BackEndEnded { how, functions, wait: true } => {
                format!("ended ({how}); {} wait until it is there again", functions.join(", "))
            }
            Event::BackEndStarted => "started again".to_owned(),
            Event::BackEndEnded { how, functions, wait: false } => format!(
                "ended ({how}); stopped until `bmhive up` is started again, and a reset asked of the driver: {}; the rest goes on",
                functions.join(", ")
            ),
        };
        output.say(&format!("{name}: {line}"));
    }
}
