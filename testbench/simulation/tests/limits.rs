//! What a tenant gets whose function is held to limits, by its IO-Bond's own meters.

#![allow(clippy::expect_used, reason = "a plan that cannot be run is a failed test")]

use iobond_model::{
    cycle::Span,
    qos::{Limit, Limits},
};
use simulation::{Load, Pace, Plan, Service, Shape, Way, Window, cycle::run};

const WINDOW: Option<Window> = Some(Window { after: Span::from_us(1000), length: Span::from_us(2000) });

/// Requests and payload bytes a second of the one board.
fn rates(plan: &Plan) -> (f64, f64) {
    let outcome = run(plan).expect("a plan that can be");
    let seconds = outcome.span.as_secs();
    (outcome.boards[0].requests as f64 / seconds, outcome.boards[0].bytes as f64 / seconds)
}

fn near(value: f64, wanted: f64) -> bool {
    (value / wanted - 1.0).abs() < 0.01
}

fn plan(service: Service, shape: Shape, operations: u64, bytes: u64) -> Plan {
    let limit = |rate| Limit { rate, burst: rate / 10_000 };
    let limits = Some(Limits { operations: limit(operations), bytes: limit(bytes) });
    let pace = Pace::Closed { depth: 128 };
    Plan { service, shape, pace, limits, window: WINDOW, ..Plan::default() }
}

#[test]
fn a_sender_gets_what_it_may_and_no_more() {
    let transmit = Service::Network { way: Way::Transmit };
    let (packets, _) = rates(&plan(transmit, Shape { out: 76, back: 0 }, 1_000_000, 0));
    assert!(near(packets, 1e6), "{packets}");
    let (_, bytes) = rates(&plan(transmit, Shape { out: 1526, back: 0 }, 0, 500_000_000));
    assert!(near(bytes, 5e8), "{bytes}");
}

#[test]
fn a_receiver_is_charged_where_its_frames_are_returned() {
    let receive = Service::Network { way: Way::Receive { rate: 2_000_000 } };
    let shape = Shape { out: 0, back: 1526 };
    let (packets, _) = rates(&plan(receive, shape, 300_000, 0));
    assert!(near(packets, 3e5), "{packets}");
    let (_, bytes) = rates(&plan(receive, shape, 0, 500_000_000));
    assert!(near(bytes, 5e8), "{bytes}");
}

/// What a request brings back is charged, too.
#[test]
fn both_directions_count() {
    let (_, bytes) = rates(&plan(Service::Memory, Shape { out: 16, back: 4096 }, 0, 400_000_000));
    assert!(near(bytes, 4e8), "{bytes}");
}

#[test]
fn without_limits_there_is_more() {
    let transmit = Service::Network { way: Way::Transmit };
    let mut free = plan(transmit, Shape { out: 76, back: 0 }, 1_000_000, 0);
    free.limits = None;
    let (packets, _) = rates(&free);
    assert!(packets > 3e6, "{packets}");
    free.loads = vec![Load::Idle];
    free.boards = 2;
    assert_eq!(rates(&free).0, 0.0, "and one that is idle gets nothing");
}
