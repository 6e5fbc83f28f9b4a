//! What simulations come to, to the picosecond. A change of these snapshots is a change of behaviour, or of a latency: look at it, and
//! accept it on purpose.

#![allow(clippy::unwrap_used)] // a plan that cannot be run is a failed test

use std::{env, fmt::Write, process::Command};

use iobond_model::cycle::Span;
use simulation::{Design, Notice, Pace, Plan, Service, Shape, cycle::run};

/// Says to [`digests_are_what_they_were`] in a process of its own that it is to print them.
const PRINT: &str = "CYCLE_DIGEST_PRINT";

fn plans() -> Vec<(String, Plan)> {
    let base = || Plan { requests: 200, warm_up: 20, ..Plan::default() };
    let open = Pace::Open { rate: 200_000 };
    let full = Pace::Closed { depth: 128 };
    let disk = Service::Disk { channels: 4, fixed: Span::from_us(20), random: Span::from_us(10) };
    let with = |design: Design| Plan { design, pace: Pace::Closed { depth: 8 }, ..base() };
    let mut plans = vec![
        ("one at a time".to_owned(), base()),
        ("a full ring".to_owned(), Plan { pace: full, ..base() }),
        ("by chance".to_owned(), Plan { pace: open, ..base() }),
        ("by chance, another seed".to_owned(), Plan { pace: open, seed: 2, ..base() }),
        ("one way".to_owned(), Plan { shape: Shape { out: 64, back: 0 }, pace: full, ..base() }),
        ("back only".to_owned(), Plan { shape: Shape { out: 0, back: 1500 }, pace: full, ..base() }),
        (
            "4 KiB".to_owned(),
            Plan { shape: Shape { out: 4096, back: 4096 }, pace: Pace::Closed { depth: 8 }, ..base() },
        ),
        (
            "64 KiB".to_owned(),
            Plan { shape: Shape { out: 65536, back: 16 }, pace: Pace::Closed { depth: 4 }, ..base() },
        ),
        ("four queues".to_owned(), Plan { queues: 4, pace: full, ..base() }),
        ("sixteen boards".to_owned(), Plan { boards: 16, pace: full, ..base() }),
        ("sixteen boards by chance".to_owned(), Plan { boards: 16, queues: 2, pace: open, ..base() }),
        (
            "a disk".to_owned(),
            Plan {
                service: disk,
                shape: Shape { out: 16, back: 4096 },
                pace: Pace::Closed { depth: 16 },
                ..base()
            },
        ),
        ("a disk by chance".to_owned(), Plan { service: disk, pace: open, ..base() }),
        ("few slots".to_owned(), {
            let mut plan = Plan {
                pace: open,
                shape: Shape { out: 1500, back: 0 },
                ..with(Design { event_idx: true, ..Design::default() })
            };
            (plan.rings.slots, plan.rings.slot_size) = (8, 256);
            plan
        }),
        ("few tags".to_owned(), {
            let mut plan = Plan { queues: 4, pace: full, ..base() };
            (plan.timing.dma.channels, plan.timing.dma.reads) = (1, 2);
            plan
        }),
        ("the paper".to_owned(), with(Design::PAPER)),
        ("looking ahead".to_owned(), {
            let mut plan = Plan { queues: 2, pace: open, ..base() };
            (plan.timing.engine.entries_ahead, plan.timing.engine.descriptors_ahead) = (4, 4);
            plan
        }),
        ("watched rings".to_owned(), {
            let mut plan = Plan { queues: 2, pace: open, ..base() };
            let engine = &mut plan.timing.engine;
            (engine.entries_ahead, engine.descriptors_ahead, engine.prefetch) = (4, 4, 8);
            (engine.watch, engine.moderation) = (Span::from_ns(250), Span::from_us(20));
            plan
        }),
    ];
    for notice in [Notice::Registers, Notice::StatusPage, Notice::Ring] {
        for event_idx in [false, true] {
            for interrupts in [false, true] {
                let design = Design { notice, event_idx, interrupts, ..Design::default() };
                let name = format!("{notice:?}, event_idx {event_idx}, interrupts {interrupts}");
                plans.push((name, with(design)));
            }
        }
    }
    plans
}

/// A line for each plan: its digest, its events, and p50 and the longest of each latency in nanoseconds.
fn digests() -> String {
    let mut text = String::new();
    for (name, plan) in plans() {
        let outcome = run(&plan).unwrap_or_else(|error| panic!("{name}: {error}"));
        write!(text, "{name}: {:016x}, {} events", outcome.digest, outcome.events).unwrap();
        for latency in &outcome.latencies {
            write!(text, ", {} {}/{}", latency.name, latency.p50, latency.max).unwrap();
        }
        text.push('\n');
    }
    text
}

#[test]
fn digests_are_what_they_were() {
    let digests = digests();
    if env::var_os(PRINT).is_some() {
        println!("{digests}");
        return;
    }
    insta::assert_snapshot!(digests);
}

/// Neither where memory lies nor what ran before may matter.
#[test]
fn a_plan_says_all_there_is_to_say() {
    let first = digests();
    assert_eq!(digests(), first, "the second time in one process");
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", "digests_are_what_they_were", "--nocapture"])
        .env(PRINT, "1")
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && printed.contains(&first), "in a process of its own: {printed}");
}
