//! What holds in every world: all requests come back, whatever rings, queues, boards, designs and loads are.

use iobond_model::cycle::Span;
use simulation::{BenchError, Design, Notice, Pace, Plan, PlanError, Shape};

use super::{complete, completes, few, worlds};

#[test]
fn requests_come_back_in_every_design() {
    let default = Design::default();
    for design in [
        default,
        Design::PAPER,
        Design { notice: Notice::StatusPage, interrupts: false, ..default },
        Design { event_idx: true, ..default },
        Design { event_idx: true, interrupts: false, notification_data: false, ..default },
    ] {
        for (depth, (world, bench)) in
            [1, 128].into_iter().flat_map(|depth| worlds().map(|world| (depth, world)))
        {
            let pace = Pace::Closed { depth };
            let shape = Shape { out: 64, back: 1500 };
            let plan = Plan { requests: 300, warm_up: 20, shape, pace, design, ..Plan::default() };
            let outcome = complete(bench, &plan).unwrap_or_else(|error| panic!("{world}: {error}"));
            assert!(outcome.latency("round_trip").unwrap().p50 > 0, "{world}: {plan:?}");
        }
    }
}

/// ```text
///   due    |  |    | |  ...  |          after 320 gaps, 10 us each on average and the same in every world
///   done     |    |    | |  ...   |     none before it was due
/// ```
#[test]
fn requests_come_when_they_are_due() {
    let plan = Plan { requests: 300, warm_up: 20, pace: Pace::Open { rate: 100_000 }, ..Plan::default() };
    for (world, bench) in worlds() {
        let outcome = complete(bench, &plan).unwrap();
        assert!(outcome.span > Span::from_us(2300), "{world}: {}", outcome.span);
    }
}

#[test]
fn only_where_time_is_real_a_processor_is_shared() {
    for (world, bench) in worlds() {
        let outcome = complete(bench, &few(|_| {})).unwrap();
        assert_eq!(outcome.cpu_share.is_some(), bench.world() == simulation::World::Live, "{world}");
    }
}

#[test]
fn what_cannot_be_is_refused() {
    type Change = fn(&mut Plan);
    let impossible: [(Change, &str); 4] = [
        (|plan| plan.boards = 17, "boards"),
        (|plan| plan.requests = 0, "requests"),
        (|plan| plan.requests = u64::MAX, "requests"),
        (|plan| plan.warm_up = u64::MAX, "warm_up"),
    ];
    for ((world, bench), (change, wrong)) in
        worlds().into_iter().flat_map(|world| impossible.map(|case| (world, case)))
    {
        match bench.run(&few(change)) {
            Err(BenchError::Plan(PlanError::Range { field, .. })) => assert_eq!(field, wrong, "{world}"),
            other => panic!("{world}: {wrong}: {other:?}"),
        }
    }
}

completes! { worlds();
    a_few_of_many_boards_and_queues: |plan| {
        (plan.boards, plan.queues, plan.pace) = (3, 4, Pace::Closed { depth: 7 });
    };
    all_queues: |plan| plan.queues = 64;
    all_queues_by_registers: |plan| (plan.queues, plan.design) = (64, Design::PAPER);
    all_boards: |plan| plan.boards = 16;
    all_boards_by_registers: |plan| (plan.boards, plan.design) = (16, Design::PAPER);
    a_full_ring: |plan| plan.pace = Pace::Closed { depth: 128 };
    one_way: |plan| {
        (plan.shape, plan.pace) = (Shape { out: 64, back: 0 }, Pace::Closed { depth: 256 });
    };
    back_only: |plan| {
        (plan.shape, plan.pace) = (Shape { out: 0, back: 64 }, Pace::Closed { depth: 256 });
    };
    a_byte: |plan| plan.shape = Shape { out: 1, back: 0 };
    the_largest_payload: |plan| plan.shape = Shape { out: 65536, back: 65536 };
    a_ring_of_two: |plan| (plan.rings.guest, plan.rings.shadow) = (2, 2);
    the_fewest_slots: |plan| (plan.rings.slots, plan.pace) = (4, Pace::Closed { depth: 128 });
    the_smallest_slots: |plan| {
        (plan.rings.slot_size, plan.rings.slots, plan.rings.shadow) = (64, 2048, 4096);
        plan.shape = Shape { out: 65536, back: 65536 };
    };
    the_longest_shadow_vring: |plan| plan.rings.shadow = 32768;
    the_longest_ring: |plan| {
        (plan.rings.guest, plan.rings.shadow) = (32768, 32768);
        plan.pace = Pace::Closed { depth: 16384 };
    };
}
