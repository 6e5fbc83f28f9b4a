//! Plans on every world: each request comes back, once and in order. A further world joins by a line of
//! [`worlds`].

#![allow(clippy::unwrap_used, reason = "a plan that cannot be run is a failed test")]

mod every_world;
mod virtual_time;

use simulation::{Bench, BenchError, Cycle, Live, Outcome, Plan};

fn worlds() -> [(&'static str, &'static dyn Bench); 3] {
    [("cycle", &Cycle), ("live", &Live { threads: false }), ("live, two threads", &Live { threads: true })]
}

/// Runs a plan that is possible, and looks at what must be so of any of them.
fn complete(bench: &dyn Bench, plan: &Plan) -> Result<Outcome, BenchError> {
    let outcome = bench.run(plan)?;
    let requests = plan.requests * u64::from(plan.queues) * u64::from(plan.boards);
    assert_eq!(outcome.requests, requests, "{plan:?}");
    assert_eq!((outcome.latencies.len(), outcome.stages.stages.len()), (4, 7));
    for latency in &outcome.latencies {
        assert_eq!(latency.count, requests, "{}: {plan:?}", latency.name);
    }
    // A request that passed a stage before the one in front of it is in no stage.
    for stage in &outcome.stages.stages {
        assert_eq!(stage.count, requests, "{}: {plan:?}", stage.name);
    }
    for usage in &outcome.usage {
        assert!((0.0..=1.0).contains(&usage.share), "{usage:?}: {plan:?}");
    }
    Ok(outcome)
}

/// A plan of few requests with one change.
fn few(change: impl FnOnce(&mut Plan)) -> Plan {
    let mut plan = Plan { requests: 40, warm_up: 5, ..Plan::default() };
    change(&mut plan);
    plan
}

/// A test for each named change of a plan: it completes in all `$worlds`.
macro_rules! completes {
    ($worlds:expr; $($name:ident: $change:expr;)*) => {
        $(#[test]
        fn $name() {
            let plan = crate::few($change);
            plan.check().unwrap();
            for (world, bench) in $worlds {
                if let Err(error) = crate::complete(bench, &plan) {
                    panic!("{world}: {error}");
                }
            }
        })*
    };
}
use completes;
