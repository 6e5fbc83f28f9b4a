//! A run in virtual time is a pure function of its plan, to the picosecond, and plans that differ in one
//! thing differ as that thing has it. The four digests stand for every moment of a run: a change of one is a
//! change of behaviour, or of a latency; accept it on purpose.

#![allow(clippy::unwrap_used, reason = "a plan that cannot be run is a failed test")]

use std::{env, fmt::Write, process::Command};

use iobond_model::cycle::Span;
use simulation::{Design, Notice, Outcome, Pace, Plan, Service, Shape, cycle};

/// Says to [`digests_are_what_they_were`] in a process of its own that it is to print them.
const PRINT: &str = "CYCLE_DIGEST_PRINT";

const BY_CHANCE: Pace = Pace::Open { rate: 200_000 };
const FULL: Pace = Pace::Closed { depth: 128 };

fn plan(change: impl FnOnce(&mut Plan)) -> Plan {
    let mut plan = Plan { requests: 200, warm_up: 20, ..Plan::default() };
    change(&mut plan);
    plan
}

fn run(change: impl FnOnce(&mut Plan)) -> Outcome {
    cycle::run(&plan(change)).unwrap()
}

/// Half of the requests took at most so many nanoseconds.
fn median(outcome: &Outcome, latency: &str) -> u64 {
    outcome.latency(latency).unwrap().p50
}

/// Between them: registers and vrings that are polled, chance, a disk, looking ahead, watched rings,
/// moderation, and more than one board and queue.
fn plans() -> [(&'static str, Plan); 4] {
    let disk = Service::Disk { channels: 4, fixed: Span::from_us(20), random: Span::from_us(10) };
    let sixteen = |plan: &mut Plan| (plan.boards, plan.queues, plan.pace) = (16, 2, BY_CHANCE);
    let disk = |plan: &mut Plan| {
        (plan.service, plan.pace) = (disk, Pace::Closed { depth: 16 });
        plan.shape = Shape { out: 16, back: 4096 };
    };
    let watched = |plan: &mut Plan| {
        (plan.queues, plan.pace) = (2, BY_CHANCE);
        let engine = &mut plan.timing.engine;
        (engine.entries_ahead, engine.descriptors_ahead, engine.prefetch) = (4, 4, 8);
        (engine.watch, engine.moderation) = (Span::from_ns(250), Span::from_us(20));
    };
    [
        ("sixteen boards by chance", plan(sixteen)),
        ("a disk", plan(disk)),
        ("the paper", plan(|plan| (plan.design, plan.pace) = (Design::PAPER, Pace::Closed { depth: 8 }))),
        ("watched rings", plan(watched)),
    ]
}

/// A line for each plan: its digest, its events, and p50 and the longest of each latency in nanoseconds.
fn digests() -> String {
    let mut text = String::new();
    for (name, plan) in plans() {
        let outcome = cycle::run(&plan).unwrap_or_else(|error| panic!("{name}: {error}"));
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

#[test]
fn chance_is_the_seeds() {
    let seeded = |seed| run(|plan| (plan.pace, plan.seed) = (BY_CHANCE, seed));
    assert_eq!(seeded(1), seeded(1));
    assert_ne!(seeded(1).digest, seeded(2).digest);
    // One request after the other leaves nothing to chance.
    assert_eq!(run(|plan| plan.seed = 1), run(|plan| plan.seed = 2));
}

#[test]
fn the_more_a_request_carries_the_longer_it_takes() {
    let took = [64, 1500, 4096, 65536]
        .map(|size| median(&run(|plan| plan.shape = Shape { out: size, back: size }), "round_trip"));
    assert!(took.is_sorted_by(|less, more| less < more), "{took:?}");
}

/// What a board shares with others is the base core alone.
#[test]
fn more_boards_are_no_faster_and_each_has_what_it_had_alone() {
    let [one, sixteen] = [1, 16].map(|boards| run(|plan| (plan.boards, plan.pace) = (boards, FULL)));
    assert!(median(&sixteen, "round_trip") >= median(&one, "round_trip"));
    assert_eq!(sixteen.requests, 16 * one.requests);
    assert!(sixteen.rate() <= 16.0 * one.rate() && sixteen.rate() > 15.0 * one.rate());
}

#[test]
fn an_engine_with_less_is_no_faster() {
    let took = |change: fn(&mut Plan)| {
        let with_all_rings_full = |plan: &mut Plan| {
            (plan.queues, plan.pace) = (4, FULL);
            change(plan);
        };
        run(with_all_rings_full).span
    };
    let whole = took(|_| ());
    let few_tags = took(|plan| (plan.timing.dma.channels, plan.timing.dma.reads) = (1, 2));
    assert!(few_tags > whole, "reads outstanding: {few_tags}, {whole}");
    let alone = took(|plan| plan.timing.engine.prefetch = 1);
    assert!(alone > whole, "descriptors read together: {alone}, {whole}");
    let few_slots = took(|plan| plan.rings.slots = 8);
    assert!(few_slots > whole, "slots: {few_slots}, {whole}");
}

/// An index, then entries, then descriptors; or all of them in one round trip to the board.
#[test]
fn looking_ahead_saves_round_trips_to_the_board() {
    let ahead = |count| {
        let outcome = run(|plan| {
            (plan.timing.engine.entries_ahead, plan.timing.engine.descriptors_ahead) = (count, count);
        });
        median(&outcome, "doorbell_to_shadow")
    };
    assert!(ahead(4) < ahead(0), "{} and {} ns", ahead(4), ahead(0));
}

/// A vring is seen where it lies; a status page waits for a pass; registers for a pass with reads across the
/// link.
#[test]
fn a_back_end_learns_of_buffers_the_sooner_the_nearer_they_are_shown() {
    let learns = [Notice::Ring, Notice::StatusPage, Notice::Registers].map(|notice| {
        let outcome = run(|plan| plan.design = Design { notice, ..Design::default() });
        outcome.latency("shadow_to_back_end").unwrap().mean
    });
    assert!(learns.is_sorted_by(|near, far| near < far), "{learns:?}");
}

#[test]
fn what_is_suppressed_is_not_sent() {
    let count = |event_idx, interrupts, moderation| {
        let outcome = run(|plan| {
            plan.design = Design { event_idx, interrupts, ..Design::default() };
            (plan.pace, plan.timing.engine.moderation) = (BY_CHANCE, Span::from_us(moderation));
        });
        (outcome.doorbells, outcome.interrupts)
    };
    let all = count(false, true, 0);
    assert_eq!(count(false, false, 0).1, 0, "a driver that polls");
    let indexed = count(true, true, 0);
    assert!(indexed.0 < all.0 && indexed.1 <= all.1, "by index: {indexed:?}, {all:?}");
    let rare = count(false, true, 20);
    assert!(rare.1 < all.1, "interrupts 20 us apart: {rare:?}, {all:?}");
}

#[test]
fn a_disk_takes_its_time() {
    let (channels, fixed) = (1, Span::from_us(20));
    let disk =
        |random| median(&run(|plan| plan.service = Service::Disk { channels, fixed, random }), "round_trip");
    let memory = median(&run(|_| ()), "round_trip");
    assert!(disk(Span::ZERO).abs_diff(memory + 20_000) <= 100, "{} and {memory}", disk(Span::ZERO));
    assert!(disk(Span::from_us(10)) > disk(Span::ZERO));
}
