//! `bmhive run`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, atomic::AtomicBool},
};

use miette::{Context, IntoDiagnostic, miette};
use results::World;
use scenario::Scenario;
use signal_hook::consts::{SIGINT, SIGTERM};

use super::{Output, world::one_of};
use crate::workload::{
    demonstration::{self, Plan},
    simulated,
};

/// Run a scenario and measure it
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Scenario file, in TOML
    scenario: PathBuf,
    /// Directory for result.json, report.html and captures [default: target/bmhive/NAME of the file]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// What carries it: `live` all of it, with real back ends; `cycle` its random reads, alike on every
    /// machine
    #[arg(long, default_value_t = World::Live, value_parser = one_of(&[World::Live, World::Cycle]))]
    world: World,
}

pub(super) fn run(arguments: &Arguments, output: &Output) -> miette::Result<ExitCode> {
    let scenario = Scenario::load(&arguments.scenario)?;
    let name = arguments.scenario.file_stem().unwrap_or_default();
    let out = arguments.out.clone().unwrap_or_else(|| Path::new("target/bmhive").join(name));
    match arguments.world {
        World::Live => carry_out(&scenario, None, &out, output),
        World::Cycle => {
            let say = |depth| output.say(&format!("simulating random reads, {depth} in flight"));
            let result = simulated::run(&scenario, say).into_diagnostic()?;
            output.conclude(&result, &out)
        }
        world => Err(miette!("world {world} runs no scenario; choose live or cycle")),
    }
}

/// Carries a scenario out, prints its result and leaves it in `out`.
pub(super) fn carry_out(
    scenario: &Scenario,
    file: Option<&Path>,
    out: &Path,
    output: &Output,
) -> miette::Result<ExitCode> {
    std::fs::create_dir_all(out)
        .into_diagnostic()
        .wrap_err_with(|| format!("cannot make the directory {}", out.display()))?;
    let program = std::env::current_exe().into_diagnostic().wrap_err("cannot find this executable")?;
    let progress = output.progress();
    let interrupted = interruption().into_diagnostic().wrap_err("cannot listen for signals")?;
    let plan = Plan {
        scenario,
        program: &program,
        file,
        output: out,
        progress: &progress,
        interrupted: &interrupted,
    };
    let mut result = demonstration::run(&plan).into_diagnostic()?;
    result.notes.extend(guests_stay_off(scenario));
    output.conclude(&result, out)
}

/// The boards' software is this process; guests are for `bmhive up`.
fn guests_stay_off(scenario: &Scenario) -> Option<String> {
    let boards: Vec<_> = scenario.boards.iter().filter(|board| board.guest.is_some()).collect();
    let names: Vec<_> = boards.iter().map(|board| board.name.as_str()).collect();
    (!names.is_empty()).then(|| {
        format!("The guests of {} were not started: `bmhive up` runs them, `bmhive run` is the boards' software itself.", names.join(", "))
    })
}

/// Set by the first SIGINT or SIGTERM, so that a run ends in order and leaves nothing behind; the second ends
/// the process.
fn interruption() -> std::io::Result<Arc<AtomicBool>> {
    /// What a shell reports of a process that SIGINT ended.
    const STATUS: i32 = 130;
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, STATUS, Arc::clone(&flag))?;
        signal_hook::flag::register(signal, Arc::clone(&flag))?;
    }
    Ok(flag)
}
