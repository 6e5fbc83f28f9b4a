//! Limits on what a function does: the registers, and a live IO-Bond that is held to them.

#![allow(clippy::unwrap_used)] // of memory that the rig has mapped

mod rig;

use std::time::{Duration, Instant};

use iobond_model::{
    device::Effect,
    qos::{Limit, Limits},
    shadow::{Context, QueueFeatures},
};
use iobond_spec::{
    function::{NOTIFY, PCIE_CAP},
    offsets::qos,
    register_access::{Over, RegisterIo},
};
use rig::{
    back_end::BackEnd,
    guest::{Guest, direct, out, writable},
    live::Live,
    registers::{booted, disable, enable, function},
};

/// So much a second that nothing that a test does is ever held up by it.
const PLENTY: Limit = Limit { rate: 1 << 40, burst: 1 << 31 };
/// A byte a second: a test does not see the end of a debt.
const fn hardly(burst: u64) -> Limit {
    Limit { rate: 1, burst }
}

/// Programs the limits of function 0.
fn limit<T: RegisterIo>(over: &Over<T>, operations: Limit, bytes: Limit) {
    let registers = over.registers();
    let [file, ..] = registers.qos();
    file.control().write(|r| r.set_enable(false));
    file.operations_lo().write(|r| r.set_value(operations.rate as u32));
    file.operations_hi().write(|r| r.set_value((operations.rate >> 32) as u32));
    file.operations_burst().write(|r| r.set_value(operations.burst as u32));
    file.bytes_lo().write(|r| r.set_value(bytes.rate as u32));
    file.bytes_hi().write(|r| r.set_value((bytes.rate >> 32) as u32));
    file.bytes_burst().write(|r| r.set_value(bytes.burst as u32));
    file.control().write(|r| r.set_enable(true));
}

fn delays(live: &Live) -> u32 {
    live.over().registers().qos()[0].delays().read().count()
}

fn returned(live: &Live, used: u16) {
    live.over().registers().queues()[0].tail().write(|r| r.set_index(used));
}

#[test]
fn limits_are_taken_on_the_edge_and_closed_while_they_hold() {
    let over = booted(1);
    let limits = Limits { operations: Limit { rate: 5 << 32 | 7, burst: 9 }, bytes: PLENTY };
    limit(&over, limits.operations, limits.bytes);
    let set = |limits| Effect::Limits { function: function(0), limits };
    assert_eq!(over.0.take_effects(), [set(Some(limits))]);
    over.0.write32(qos::BASE + qos::OPERATIONS_LO, 1);
    over.0.write32(qos::BASE + qos::BYTES_BURST, 1);
    over.0.write32(qos::BASE + qos::CONTROL, 1);
    assert_eq!(over.0.take_effects(), []);
    assert_eq!(over.registers().board().refused_accesses().read().count(), 2);
    over.0.config_write(0, PCIE_CAP + 8, 2, 1 << 15);
    assert!(!over.0.take_effects().iter().any(|effect| matches!(effect, Effect::Limits { .. })), "an FLR");
    over.0.act(|device, _, _| device.delay(function(0)));
    assert_eq!(over.registers().qos()[0].delays().read().count(), 1);
    over.0.write32(qos::BASE + qos::CONTROL, 0);
    assert_eq!(over.0.take_effects(), [set(None)]);
}

/// What is left over waits, no pass spins for it, and is done when the limits go.
#[test]
fn a_queue_that_has_used_up_its_burst_waits_until_it_may_go_on() {
    let live = Live::new();
    let context = live.start();
    live.settle();
    limit(&live.over(), PLENTY, hardly(250));
    let (mut guest, mut back_end) = (Guest::new(&live.board, &context), BackEnd::new(&live.base, &context));
    for _ in 0..5 {
        guest.offer(&direct(&[out(100)])).unwrap();
    }
    live.write(NOTIFY, 2, 0);
    live.settle();
    assert_eq!((back_end.take(), delays(&live)), (3, 1));
    let due = live.bond.until_due().expect("a queue waits");
    assert!((10..=50).contains(&due.as_secs()), "50 bytes of debt: {due:?}");
    live.write(NOTIFY, 2, 0);
    live.settle();
    assert_eq!((back_end.take(), delays(&live)), (0, 1), "it waits already");

    live.over().registers().qos()[0].control().write(|r| r.set_enable(false));
    live.settle();
    assert_eq!((back_end.take(), live.bond.until_due()), (2, None));
}

/// A packet is a packet when it is there: buffers go up as they come, and come down at the rate.
#[test]
fn a_queue_that_counts_on_return_offers_buffers_for_nothing() {
    let live = Live::new();
    let features = QueueFeatures { count_on_return: true, ..QueueFeatures::default() };
    let context = Context { features, ..live.start() };
    disable(&live.over().registers(), 0);
    enable(&live.over(), 0, &context);
    live.settle();
    limit(&live.over(), PLENTY, hardly(150));
    let (mut guest, mut back_end) = (Guest::new(&live.board, &context), BackEnd::new(&live.base, &context));
    for _ in 0..5 {
        guest.offer(&direct(&[writable(100)])).unwrap();
    }
    live.write(NOTIFY, 2, 0);
    live.settle();
    assert_eq!((back_end.take(), delays(&live)), (5, 0));
    (0..5).for_each(|_| drop(back_end.complete(0, 100, 1)));
    returned(&live, back_end.used);
    live.settle();
    assert_eq!((guest.collect().len(), delays(&live)), (2, 1));
}

/// Bytes count where they are copied, be it on the way back.
#[test]
fn bytes_count_in_both_directions() {
    let live = Live::new();
    let context = live.start();
    live.settle();
    limit(&live.over(), PLENTY, hardly(101));
    let (mut guest, mut back_end) = (Guest::new(&live.board, &context), BackEnd::new(&live.base, &context));
    for _ in 0..3 {
        guest.offer(&direct(&[out(50), writable(100)])).unwrap();
    }
    live.write(NOTIFY, 2, 0);
    live.settle();
    assert_eq!(back_end.take(), 3, "each was admitted with something left");
    back_end.complete(0, 100, 1);
    returned(&live, back_end.used);
    live.settle();
    assert_eq!((guest.collect().len(), delays(&live)), (0, 1));
}

/// Limits stay while the function is reset; what waited is forgotten with its queue.
#[test]
fn a_queue_that_waits_goes_with_its_function_and_the_next_one_is_still_limited() {
    let live = Live::new();
    let context = live.start();
    live.settle();
    limit(&live.over(), PLENTY, hardly(1));
    for rounds in 1..=2 {
        let mut guest = Guest::new(&live.board, &context);
        for _ in 0..3 {
            guest.offer(&direct(&[out(100)])).unwrap();
        }
        live.write(NOTIFY, 2, 0);
        live.settle();
        let registers = live.over();
        let forwarded = registers.registers().queues()[0].forwarded().read().count();
        assert!(forwarded <= u32::from(rounds == 1), "{forwarded} in round {rounds}");
        live.config_write(PCIE_CAP + 8, 2, 1 << 15);
        live.boot();
        live.start();
    }
}

/// Over 300 ms of the wall clock a queue that always has work moves what it may, and no more.
#[test]
fn a_limited_queue_gets_its_rate_and_no_more() {
    const OPERATIONS: Limit = Limit { rate: 2000, burst: 200 };
    let live = Live::new();
    let context: Context = live.start();
    live.settle();
    let (mut guest, mut back_end) = (Guest::new(&live.board, &context), BackEnd::new(&live.base, &context));
    let start = Instant::now();
    limit(&live.over(), OPERATIONS, Limit::default());
    let mut moved = 0;
    while start.elapsed() < Duration::from_millis(300) {
        while guest.offer(&direct(&[out(10), writable(10)])).is_some() {}
        live.write(NOTIFY, 2, 0);
        live.bond.pass();
        moved += back_end.take();
        while !back_end.held.is_empty() {
            back_end.complete(0, 10, 1);
        }
        returned(&live, back_end.used);
        live.bond.pass();
        guest.collect();
    }
    let rate = OPERATIONS.rate as f64 * start.elapsed().as_secs_f64();
    assert!(moved as f64 <= rate + OPERATIONS.burst as f64 + 1.0, "{moved} of {rate} and a burst");
    assert!(moved as f64 >= rate / 2.0, "{moved} of {rate}");
    assert!(delays(&live) > 0);
}
