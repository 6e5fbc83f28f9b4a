//! Simulations of any plan: every request comes back, once and in order, and a plan says all that there is to say.

#![allow(clippy::unwrap_used)] // a plan that cannot be run is a failed test

use bm_hypervisor::config::RingSizes;
use iobond_model::{
    cycle::Span,
    qos::{Limit, Limits},
    timing::Engine,
};
use proptest::prelude::*;
use simulation::{
    Design, Notice, Outcome, Pace, Payload, Plan, Service, Shape,
    cycle::{CycleError, run},
};

/// Runs a plan that is possible. Whatever comes out of any of them must be so.
fn outcome(plan: &Plan) -> Outcome {
    plan.check().unwrap();
    let outcome = run(plan).unwrap_or_else(|error| panic!("{error}\n{plan:?}"));
    let requests = plan.requests * u64::from(plan.queues) * u64::from(plan.boards);
    assert_eq!(outcome.requests, requests, "{plan:?}");
    for latency in &outcome.latencies {
        assert_eq!(latency.count, requests, "{}: {plan:?}", latency.name);
    }
    // A request that passed somebody before it came there is in no stage.
    for stage in &outcome.stages.stages {
        assert_eq!(stage.count, requests, "{}: {plan:?}", stage.name);
    }
    for usage in &outcome.usage {
        assert!((0.0..=1.0).contains(&usage.share), "{usage:?}: {plan:?}");
    }
    outcome
}

/// What makes a plan odd.
type Change = fn(&mut Plan);

fn few(change: impl FnOnce(&mut Plan)) -> Plan {
    let mut plan = Plan { requests: 40, warm_up: 5, ..Plan::default() };
    change(&mut plan);
    plan
}

fn sizes() -> impl Strategy<Value = RingSizes> {
    (0u32..6, 0u32..3, 6u32..13, 4u16..80).prop_map(|(guest, more, slot, slots)| RingSizes {
        guest: 2 << guest,
        shadow: 2 << guest << more,
        slot_size: 1 << slot,
        slots,
    })
}

fn design() -> impl Strategy<Value = Design> {
    let notice = prop_oneof![Just(Notice::Registers), Just(Notice::StatusPage), Just(Notice::Ring)];
    (notice, any::<[bool; 3]>()).prop_map(|(notice, [notification_data, event_idx, interrupts])| Design {
        notice,
        notification_data,
        event_idx,
        interrupts,
    })
}

fn service() -> impl Strategy<Value = Service> {
    let disk = (1u16..4, 0u64..20, 0u64..20).prop_map(|(channels, fixed, random)| Service::Disk {
        channels,
        fixed: Span::from_us(fixed),
        random: Span::from_us(random),
    });
    prop_oneof![Just(Service::Memory), disk]
}

fn pace() -> impl Strategy<Value = Pace> {
    prop_oneof![
        (1u16..64).prop_map(|depth| Pace::Closed { depth }),
        (10_000u64..1_000_000).prop_map(|rate| Pace::Open { rate })
    ]
}

/// Every way to build an engine.
fn engine() -> impl Strategy<Value = Engine> {
    let ahead = prop_oneof![Just((0, 0)), (1u8..=16, 0u8..=16)];
    let times = (prop_oneof![Just(0), 50u64..2000], prop_oneof![Just(0), 1u64..20_000]);
    (1u8..=16, ahead, times).prop_map(
        |(prefetch, (entries_ahead, descriptors_ahead), (watch, moderation))| {
            let (watch, moderation) = (Span::from_ns(watch), Span::from_ns(moderation));
            Engine { prefetch, entries_ahead, descriptors_ahead, watch, moderation }
        },
    )
}

/// Limits that let a small plan end in time, or none.
fn limits() -> impl Strategy<Value = Option<Limits>> {
    let limit = |least: u64| {
        let some = (least..1000 * least, 1u64..50).prop_map(|(rate, burst)| Limit { rate, burst });
        prop_oneof![Just(Limit::default()), some]
    };
    let both = (limit(20_000), limit(20_000_000));
    prop::option::of(both.prop_map(|(operations, bytes)| Limits { operations, bytes }))
}

/// Any small plan that is possible.
fn plan() -> impl Strategy<Value = Plan> {
    let shape = prop_oneof![Just(0u32), 1u32..200, 1u32..10_000];
    let numbers = (1u8..4, 1u8..6, 1u64..30, 0u64..8, any::<u64>());
    let timing = (1u16..9, 1u16..70, 0u64..2_000, engine());
    let shape = (shape.clone(), shape, any::<bool>());
    (shape, sizes(), design(), service(), (pace(), limits()), numbers, timing).prop_filter_map(
        "a plan that is possible",
        |((out, back, frames), rings, design, service, (pace, limits), numbers, dma)| {
            let (boards, queues, requests, warm_up, seed) = numbers;
            let payload = if frames { Payload::Frames } else { Payload::Blank };
            let shape = Shape { out, back };
            let plan = Plan {
                boards,
                queues,
                rings,
                design,
                service,
                shape,
                pace,
                requests,
                warm_up,
                seed,
                limits,
                payload,
                ..Plan::default()
            };
            let mut plan = plan;
            (plan.timing.dma.channels, plan.timing.dma.reads) = (dma.0, dma.1);
            plan.timing.back_end_entry = Span::from_ns(dma.2);
            plan.timing.engine = dma.3;
            if let Pace::Closed { depth } = &mut plan.pace {
                let most = rings.guest / (u16::from(out > 0) + u16::from(back > 0)).max(1);
                *depth = (*depth).min(most);
            }
            plan.check().is_ok().then_some(plan)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Every request comes back exactly once, in the order of its stages, and a second run is the same to the picosecond.
    #[test]
    fn every_request_of_any_plan_comes_back(plan in plan()) {
        let first = outcome(&plan);
        prop_assert_eq!(outcome(&plan), first);
    }
}

#[test]
fn the_ends_of_every_range_are_possible() {
    let odd: [(&str, Change); 22] = [
        ("queues", |plan| plan.queues = 64),
        ("queues and registers", |plan| {
            (plan.queues, plan.design) = (64, Design::PAPER);
        }),
        ("boards", |plan| plan.boards = 16),
        ("boards and registers", |plan| (plan.boards, plan.design) = (16, Design::PAPER)),
        ("depth", |plan| plan.pace = Pace::Closed { depth: 128 }),
        ("one way", |plan| {
            (plan.shape, plan.pace) = (Shape { out: 64, back: 0 }, Pace::Closed { depth: 256 });
        }),
        ("back only", |plan| {
            (plan.shape, plan.pace) = (Shape { out: 0, back: 64 }, Pace::Closed { depth: 256 });
        }),
        ("a byte", |plan| plan.shape = Shape { out: 1, back: 0 }),
        ("64 KiB", |plan| plan.shape = Shape { out: 65536, back: 65536 }),
        ("a ring of two", |plan| (plan.rings.guest, plan.rings.shadow) = (2, 2)),
        ("slots", |plan| (plan.rings.slots, plan.pace) = (4, Pace::Closed { depth: 128 })),
        ("slot size", |plan| {
            (plan.rings.slot_size, plan.rings.slots, plan.rings.shadow) = (64, 2048, 4096);
            plan.shape = Shape { out: 65536, back: 65536 };
        }),
        ("shadow", |plan| plan.rings.shadow = 32768),
        ("ring", |plan| {
            (plan.rings.guest, plan.rings.shadow) = (32768, 32768);
            plan.pace = Pace::Closed { depth: 16384 };
        }),
        ("one read", |plan| {
            (plan.timing.dma.reads, plan.timing.dma.channels, plan.queues) = (1, 1, 4);
            plan.pace = Pace::Closed { depth: 32 };
        }),
        ("many reads", |plan| {
            (plan.timing.dma.reads, plan.timing.dma.channels) = (u16::MAX, u16::MAX);
        }),
        ("many disk channels", |plan| {
            plan.boards = 16;
            plan.service = Service::Disk { channels: u16::MAX, fixed: Span::from_us(1), random: Span::ZERO };
        }),
        ("credits", |plan| {
            for link in [&mut plan.timing.board, &mut plan.timing.base] {
                let credits = &mut link.credits;
                (credits.posted_headers, credits.posted_data, credits.non_posted_headers) = (1, 16, 1);
            }
            (plan.queues, plan.pace) = (8, Pace::Closed { depth: 32 });
        }),
        ("credits and all queues", |plan| {
            plan.timing.base.credits.posted_headers = 1;
            plan.timing.board.credits.posted_headers = 1;
            plan.queues = 64;
        }),
        ("a far board", |plan| plan.timing.board_access = Span::from_us(500)),
        ("a far base", |plan| plan.timing.mailbox_hop = Span::from_us(500)),
        ("nothing takes time", |plan| {
            let timing = &mut plan.timing;
            timing.guest = iobond_model::timing::Guest {
                submit: Span::ZERO,
                complete: Span::ZERO,
                interrupt: Span::ZERO,
            };
            (timing.back_end_entry, timing.poll.pass, timing.poll.entry) =
                (Span::ZERO, Span::from_ps(1), Span::ZERO);
            (timing.board_memory, timing.base_memory, timing.dma.setup_clocks) = (Span::ZERO, Span::ZERO, 0);
        }),
    ];
    for (name, change) in odd {
        // What a failure shows is the plan; this is what it is about.
        eprintln!("{name}");
        outcome(&few(change));
    }
}

/// HEAD moves between the moment at which a pass read it and the end of that pass, and nothing else happens any more.
#[test]
fn a_head_that_moves_behind_the_back_of_a_pass_is_seen_by_the_next() {
    let mut plan = few(|plan| {
        plan.rings = RingSizes { guest: 64, shadow: 64, slot_size: 128, slots: 40 };
        plan.design = Design { event_idx: true, interrupts: false, notification_data: true, ..Design::PAPER };
        (plan.shape, plan.pace) = (Shape { out: 0, back: 2433 }, Pace::Open { rate: 281_573 });
        (plan.timing.dma.channels, plan.timing.dma.reads) = (1, 1);
        (plan.timing.back_end_entry, plan.requests, plan.warm_up) = (Span::ZERO, 3, 2);
    });
    // The first is one of those that stood still.
    for seed in [15_709_143_067_502_730_559].into_iter().chain(0..100) {
        plan.seed = seed;
        outcome(&plan);
    }
}

#[test]
fn so_many_requests_that_nobody_would_see_the_end_are_refused() {
    for change in [(|plan| plan.requests = u64::MAX) as Change, |plan| plan.warm_up = u64::MAX] {
        assert!(matches!(run(&few(change)), Err(CycleError::Plan(_))));
    }
}
