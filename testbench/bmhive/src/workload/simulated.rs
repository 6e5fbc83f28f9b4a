//! A scenario's reads in virtual time: the latencies of `bmhive run`, by the same names, without a guest, a
//! disk or a clock.
//!
//! Left out: the file, the ping-pong between boards, faults, and everything of the disk but that it answers;
//! its image would be in memory, as it mostly is in the live world.

use iobond_model::cycle::Span;
use results::{Figure, RunResult, World, measure::this_machine};
use scenario::{BlkWorkload, Device, Extent, Function, Scenario};
use simulation::{BenchError, Pace, Plan, Service, Shape, Window, cycle};

use super::record;

/// Before the payload of a request (virtio 1.3, 5.2.6: type, reserved, sector), and behind it: its status.
const HEADER: u32 = 16;
const STATUS: u32 = 1;
/// Bytes of a read, as in the live world.
const READ: u32 = 4096;
/// Reads that are not measured: the first of a ring.
const WARM_UP: u64 = 100;

/// Why a scenario has nothing to simulate.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are those of the message")]
pub enum SimulatedError {
    /// There is no workload that this world knows.
    #[error(
        "world cycle simulates [workload.blk], and the scenario has none; add it, or run it with `--world live`"
    )]
    NoReads,
    /// There is nothing to read.
    #[error("[workload.blk] needs a disk, and no board has one")]
    NoDisk,
    /// A depth did not come to its end.
    #[error("blk.randread.4k.qd{depth}: {source}")]
    Cycle { depth: u16, source: BenchError },
}

/// Simulates the reads of `scenario`, at each of its depths.
///
/// # Errors
/// [`SimulatedError`]; `progress` is told each depth before it is simulated.
pub fn run(scenario: &Scenario, progress: impl Fn(u16)) -> Result<RunResult, SimulatedError> {
    let workload = scenario.workload.blk.as_ref().ok_or(SimulatedError::NoReads)?;
    let mut functions = scenario.boards.iter().flat_map(|board| &board.functions);
    let disk =
        functions.find(|function| matches!(function.device, Device::Blk(_))).ok_or(SimulatedError::NoDisk)?;
    let mut result = RunResult::new(&scenario.name, Some(record(scenario)), this_machine());
    result.world = World::Cycle;
    result.notes = left_out(scenario);
    for &depth in &workload.queue_depths {
        progress(depth);
        let plan = plan(scenario, disk, workload, depth);
        let outcome = cycle::run(&plan).map_err(|source| SimulatedError::Cycle { depth, source })?;
        let name = format!("blk.randread.4k.qd{depth}");
        result.figures.push(Figure::new(&name, outcome.rate(), "reads/s", None));
        result.latencies.extend(outcome.latency("round_trip").cloned().map(|mut latency| {
            latency.name.clone_from(&name);
            latency
        }));
        if depth == 1 {
            let mut stages = outcome.stages;
            stages.name = name;
            result.stages.push(stages);
        }
    }
    Ok(result)
}

/// One board, as all are alike; its driver uses one queue, as the live world's does.
fn plan(scenario: &Scenario, disk: &Function, workload: &BlkWorkload, depth: u16) -> Plan {
    let (requests, window) = match workload.extent {
        Extent::Count(count) => (count, None),
        Extent::Time(time) => {
            let length = Span::from_ns(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
            (1, Some(Window { after: Span::from_us(1000), length }))
        }
    };
    Plan {
        boards: 1,
        queues: 1,
        service: Service::Memory,
        shape: Shape { out: HEADER, back: READ + STATUS },
        pace: Pace::Closed { depth },
        requests,
        warm_up: WARM_UP,
        window,
        ..Plan::of(scenario).with_function(disk)
    }
}

/// What the live world would do besides.
fn left_out(scenario: &Scenario) -> Vec<String> {
    let workload = &scenario.workload;
    let mut notes = vec![
        "Simulated are random reads of one disk whose image is in memory; times are the timing's, and equal on every machine.".to_owned(),
    ];
    for (is, what) in [
        (workload.net.is_some(), "[workload.net]"),
        (workload.file.is_some(), "the file"),
        (!scenario.faults.is_empty(), "[[fault]]"),
    ] {
        if is {
            notes.push(format!("Left out in virtual time: {what}."));
        }
    }
    notes
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn scenario(more: &str) -> Scenario {
        let text = format!(
            "[server]\nname = \"s\"\n[[board]]\nname = \"b\"\nmemory_mib = 64\n[[board.function]]\nkind = \"net\"\nmac = \"52:54:00:00:00:01\"\n\
             [[board.function]]\nkind = \"blk\"\nsize_mib = 8\n{more}"
        );
        Scenario::parse("test", &text, Path::new("")).unwrap()
    }

    #[test]
    fn reads_have_the_names_of_the_live_world_and_repeat_themselves() {
        let scenario =
            scenario("[workload.blk]\nreads = 500\nqueue_depths = [1, 8]\n[workload.net]\nround_trips = 5\n");
        let result = run(&scenario, |_| ()).unwrap();
        let names: Vec<_> =
            result.latencies.iter().map(|latency| (latency.name.as_str(), latency.count)).collect();
        assert_eq!(names, [("blk.randread.4k.qd1", 500), ("blk.randread.4k.qd8", 500)]);
        assert_eq!((result.world, result.stages.len()), (World::Cycle, 1));
        assert!(result.notes.iter().any(|note| note.contains("[workload.net]")), "{:?}", result.notes);
        assert!(result.figures[1].value > 2.0 * result.figures[0].value, "{:?}", result.figures);
        assert_eq!(run(&scenario, |_| ()).unwrap().latencies, result.latencies);
    }

    /// For 50 ms of virtual time, and no faster than the disk may.
    #[test]
    fn a_time_is_virtual_and_limits_hold() {
        let disk = "limits = { iops = 10000, burst_ms = 1 }\n";
        let workload = "[workload.blk]\nseconds = 0.05\nqueue_depths = [4]\n";
        let result = run(&scenario(&(disk.to_owned() + workload)), |_| ()).unwrap();
        assert!((9_500.0..10_600.0).contains(&result.figures[0].value), "{:?}", result.figures);
    }

    #[test]
    fn nothing_to_read_is_said() {
        assert!(matches!(run(&scenario(""), |_| ()), Err(SimulatedError::NoReads)));
    }
}
