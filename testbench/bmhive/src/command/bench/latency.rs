//! `bmhive bench latency`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use miette::{Context, IntoDiagnostic, miette};
use results::{RunResult, World, measure::this_machine, report};
use scenario::{Execution, Scenario};
use simulation::{Bench, Cycle, Live, Plan};

use crate::{
    bench::latency::{self, Load, Sweep},
    command::{Output, world::one_of},
    progress::Unit,
    workload::record,
};

/// Most requests of a queue and point: a run has an end.
const MOST_REQUESTS: u64 = 100_000_000;

/// How long a request takes through IO-Bond, and where
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// What carries the requests
    #[arg(long, default_value_t = World::Cycle, value_parser = one_of(&World::ALL))]
    world: World,
    /// Boards, rings, timing and design; without it the paper's timing, and one board with a queue of a
    /// network card
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// Numbers of boards, 1 to 16; all else is measured with the first [default: 1,2,4,8,16, or the
    /// scenario's]
    #[arg(long, value_name = "N", value_delimiter = ',')]
    boards: Option<Vec<u8>>,
    /// Numbers of queues of a board, 1 to 64; all else is measured with the first [default: 1,2,4,8, or the
    /// scenario's]
    #[arg(long, value_name = "N", value_delimiter = ',')]
    queues: Option<Vec<u8>>,
    /// Bytes that a request carries, there and back; loads, queues and boards are measured with the first
    #[arg(long, value_name = "BYTES", value_delimiter = ',', default_value = "64,1500,4096,65536")]
    sizes: Vec<u32>,
    /// `idle` (one request at a time), percentages of what comes through at random times, `saturation` (the
    /// ring is always full)
    #[arg(long, value_name = "LOAD", value_delimiter = ',', default_value = "idle,10,50,90,saturation")]
    loads: Vec<Load>,
    /// Requests of each queue that are measured at each point
    #[arg(long, value_name = "N", default_value_t = 50_000, value_parser = clap::value_parser!(u64).range(1..=MOST_REQUESTS))]
    requests: u64,
    /// Seed of all that is random
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// For `live`: whether IO-Bonds, pollers and back ends have a thread of their own [default: the
    /// scenario's, or inline]
    #[arg(long, value_enum)]
    execution: Option<Execution>,
    /// Leave result.json and report.html there
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments, output: &Output) -> miette::Result<ExitCode> {
    let scenario = arguments.scenario.as_deref().map(Scenario::load).transpose()?;
    let bench = arguments.bench(scenario.as_ref())?;
    let sweep = arguments.sweep(scenario.as_ref());
    sweep.check().into_diagnostic()?;
    let title = format!("Latency through IO-Bond, world {}", bench.world());
    let mut result = RunResult::new(&title, scenario.as_ref().map(record), this_machine());
    result.world = bench.world();
    result.notes.extend([latency::NAMES.to_owned(), latency::describe(&sweep.plan)]);
    let step = output.progress().step("points", sweep.points(), Unit::Requests);
    let findings = sweep.run(bench.as_ref(), &mut |_| step.advance(1)).into_diagnostic()?;
    step.finish("measured");
    findings.put_into(&mut result);
    arguments.tell(&result, output)
}

impl Arguments {
    /// The world that carries the requests.
    fn bench(&self, scenario: Option<&Scenario>) -> miette::Result<Box<dyn Bench>> {
        let execution = self.execution.or_else(|| scenario.map(|scenario| scenario.execution));
        let threads = execution == Some(Execution::Threads);
        match self.world {
            World::Live => Ok(Box::new(Live { threads })),
            World::Cycle => Ok(Box::new(Cycle)),
            world @ (World::Rtl | World::Vfio) => {
                Err(miette!("world {world}: {}", world.missing().unwrap_or_default()))
            }
        }
    }

    fn sweep(&self, scenario: Option<&Scenario>) -> Sweep {
        let plan = scenario.map_or_else(Plan::default, Plan::of);
        let plan = Plan { requests: self.requests, seed: self.seed, ..plan };
        let default = |given: &Option<Vec<u8>>, of_scenario: u8, otherwise: &[u8]| match (given, scenario) {
            (Some(given), _) => given.clone(),
            (None, Some(_)) => vec![of_scenario],
            (None, None) => otherwise.to_vec(),
        };
        Sweep {
            boards: default(&self.boards, plan.boards, &[1, 2, 4, 8, 16]),
            queues: default(&self.queues, plan.queues, &[1, 2, 4, 8]),
            sizes: self.sizes.clone(),
            loads: self.loads.clone(),
            plan,
        }
    }

    fn tell(&self, result: &RunResult, output: &Output) -> miette::Result<ExitCode> {
        if self.json {
            let text = serde_json::to_string_pretty(result).into_diagnostic()?;
            output.print(&format!("{text}\n"))?;
            if let Some(directory) = &self.out {
                leave(result, directory)?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        match &self.out {
            Some(directory) => output.conclude(result, directory),
            None => {
                output.print(&report::render_terminal(result, false))?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

fn leave(result: &RunResult, directory: &Path) -> miette::Result<()> {
    result.write(directory).into_diagnostic()?;
    report::write(result, directory).into_diagnostic().wrap_err("cannot leave a report")?;
    Ok(())
}
