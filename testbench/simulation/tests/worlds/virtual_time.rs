//! What only virtual time has: services, latencies and widths, and that a plan says all there is to say.

use bm_hypervisor::config::RingSizes;
use iobond_model::{
    cycle::Span,
    qos::{Limit, Limits},
    timing::{Engine, Guest},
};
use proptest::prelude::*;
use simulation::{
    Bench, BenchError, Cycle, Design, Live, Load, Notice, Outcome, Pace, Payload, Plan, Service, Shape,
    Window, World,
};

use super::{complete, completes};

fn outcome(plan: &Plan) -> Outcome {
    complete(&Cycle, plan).unwrap_or_else(|error| panic!("{error}\n{plan:?}"))
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

    /// Every request comes back exactly once, in the order of its stages, and a second run is the same to the
    /// picosecond.
    #[test]
    fn every_request_of_any_plan_comes_back(plan in plan()) {
        let first = outcome(&plan);
        prop_assert_eq!(outcome(&plan), first);
    }
}

/// The live world refuses it, and says what it is.
#[test]
fn other_worlds_refuse_it() {
    let service = Service::Disk { channels: 1, fixed: Span::ZERO, random: Span::ZERO };
    let window = Some(Window { after: Span::ZERO, length: Span::from_us(1) });
    for (plan, lacks) in [
        (Plan { service, ..Plan::default() }, "a disk or a network behind its back ends"),
        (Plan { payload: Payload::Frames, ..Plan::default() }, "frames"),
        (Plan { loads: vec![Load::Idle], ..Plan::default() }, "a load for each board"),
        (Plan { window, ..Plan::default() }, "a window"),
    ] {
        match (Live { threads: false }).run(&plan) {
            Err(BenchError::Unsupported { world: World::Live, what }) => assert_eq!(what, lacks),
            other => panic!("{lacks}: {other:?}"),
        }
    }
}

completes! { [("cycle", &Cycle)];
    one_read_of_one_channel: |plan| {
        (plan.timing.dma.reads, plan.timing.dma.channels, plan.queues) = (1, 1, 4);
        plan.pace = Pace::Closed { depth: 32 };
    };
    all_reads_of_all_channels: |plan| {
        (plan.timing.dma.reads, plan.timing.dma.channels) = (u16::MAX, u16::MAX);
    };
    all_disk_channels: |plan| {
        plan.boards = 16;
        plan.service = Service::Disk { channels: u16::MAX, fixed: Span::from_us(1), random: Span::ZERO };
    };
    the_fewest_credits: |plan| {
        for link in [&mut plan.timing.board, &mut plan.timing.base] {
            let credits = &mut link.credits;
            (credits.posted_headers, credits.posted_data, credits.non_posted_headers) = (1, 16, 1);
        }
        (plan.queues, plan.pace) = (8, Pace::Closed { depth: 32 });
    };
    one_posted_header_for_all_queues: |plan| {
        plan.timing.base.credits.posted_headers = 1;
        plan.timing.board.credits.posted_headers = 1;
        plan.queues = 64;
    };
    a_far_board: |plan| plan.timing.board_access = Span::from_us(500);
    a_far_base: |plan| plan.timing.mailbox_hop = Span::from_us(500);
    nothing_takes_time: |plan| {
        let timing = &mut plan.timing;
        timing.guest = Guest { submit: Span::ZERO, complete: Span::ZERO, interrupt: Span::ZERO };
        (timing.back_end_entry, timing.poll.pass, timing.poll.entry) = (Span::ZERO, Span::from_ps(1), Span::ZERO);
        (timing.board_memory, timing.base_memory, timing.dma.setup_clocks) = (Span::ZERO, Span::ZERO, 0);
    };
}
