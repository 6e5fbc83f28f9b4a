//! An IO-Bond in the `live` world: real memory, the wall clock, several threads.
//!
//! ```text
//!   board thread                Bond                     base thread
//!   config, BAR, doorbells ---> registers, engine <---   registers, TAIL
//!                               pass()                   memfd: rings, slots, status page
//! ```

#![allow(clippy::unwrap_used)] // of memory that the rig has mapped

mod rig;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use iobond_model::{front_end::Message, live::MapError, shadow::Context};
use iobond_spec::{
    ALL_ONES, MAX_QUEUES,
    address::BaseAddr,
    function::{COMMON, DEVICE, NOTIFY, PCIE_CAP},
    offsets::queues,
    register_access::{RegisterIo, decode},
    registers::components::{
        mailbox_kind_e::MailboxKindE as Kind, mailbox_t::request::Request,
        queue_error_e::QueueErrorE as Error, queue_state_e::QueueStateE as State,
    },
    status_page,
};
use proptest::{
    prelude::*,
    test_runner::{RngAlgorithm, TestRng},
};
use rig::{
    BASE, BOARD, Image, Shape,
    back_end::BackEnd,
    guest::{Guest, direct, out, writable},
    live::{LENGTH, Live},
    registers::{disable, enable, function, grant, revoke},
};
use vm_memory::{Bytes, GuestAddress};

#[test]
fn base_memory_is_mapped_once_and_unmapped_as_it_was_mapped() {
    let live = Live::new();
    assert!(matches!(live.map(BASE, 0, LENGTH), Err(MapError::Overlap { .. })));
    assert!(matches!(live.map(BASE + LENGTH as u64 - 0x1000, 0, 0x2000), Err(MapError::Overlap { .. })));
    assert!(matches!(live.map(0xFFFF_FFFF_FFFF_F000, 0, 0x2000), Err(MapError::Overlap { .. })));
    assert!(matches!(live.map(BASE * 2, 0, 0), Err(MapError::System { .. })));
    assert!(matches!(live.map(BASE * 2, 0x800, 0x1000), Err(MapError::System { .. })));
    assert!(matches!(live.map(BASE * 2, LENGTH as u64, 0x1000), Err(MapError::System { .. })));
    let unmap = |iova| live.bond.unmap(BaseAddr(iova));
    assert!(matches!(unmap(BASE + 0x1000), Err(MapError::NotMapped { .. })));
    assert!(matches!(unmap(BASE * 2), Err(MapError::NotMapped { .. })));
    assert!(unmap(BASE).is_ok());
    assert!(matches!(unmap(BASE), Err(MapError::NotMapped { .. })));
    assert!(live.map(BASE, 0, LENGTH).is_ok());
}

// One queue, one thread.

/// Doorbell, pass, HEAD; TAIL, pass, message.
#[test]
fn a_chain_goes_up_with_a_doorbell_and_down_with_tail() {
    let live = Live::new();
    live.open_msix();
    live.show_status();
    let context = live.start();
    live.settle();
    let mut guest = Guest::new(&live.board, &context);
    let mut back_end = BackEnd::new(&live.base, &context);

    let head = guest.offer(&direct(&[out(100), writable(100)])).unwrap();
    assert!(!live.bond.pass(), "the driver did not notify");
    live.write(NOTIFY, 2, 0);
    assert!(live.bond.pass());
    assert_eq!((live.status(status_page::HEADS), back_end.take()), (1, 1));

    back_end.complete(0, 60, 0x11);
    let over = live.over();
    over.registers().queues()[0].tail().write(|r| r.set_index(back_end.used));
    assert_eq!(guest.collect(), []);
    assert!(live.bond.pass());
    assert_eq!(guest.collect(), [(head, 60)]);
    let vector = u32::from(context.vector);
    assert_eq!(*live.controller.messages.lock().unwrap(), [Message { address: 0xFEE0_0000, data: vector }]);

    let registers = over.registers();
    let queue = &registers.queues()[0];
    assert_eq!((queue.forwarded().read().count(), queue.retired().read().count()), (1, 1));
    assert_eq!((queue.bytes_up().read().count(), queue.bytes_down().read().count()), (100, 60));
    assert_eq!((queue.doorbells().read().count(), queue.interrupts().read().count()), (1, 1));
    assert_eq!((queue.head().read().index(), queue.tail().read().index()), (1, 1));
}

#[test]
fn a_base_that_asks_is_interrupted_once_when_something_changes() {
    let live = Live::new();
    let raised = || live.controller.raised.swap(0, Ordering::Relaxed);
    let context = live.start();
    live.settle();
    let arm = || live.over().registers().board().wake().write(|r| r.set_arm(true));
    let mut guest = Guest::new(&live.board, &context);
    let mut offer = || {
        guest.offer(&direct(&[out(100)])).unwrap();
        live.write(NOTIFY, 2, 0);
        live.bond.pass();
    };
    offer();
    assert_eq!(raised(), 0, "the base did not ask");
    arm();
    assert_eq!(raised(), 0, "nothing happened");
    offer();
    offer();
    assert_eq!(raised(), 1, "asked once");
    arm();
    live.write(COMMON, 4, 0);
    assert_eq!(raised(), 1, "the mailbox");
    arm();
    live.board.write_obj(0x7000u16, GuestAddress(context.guest.avail.0 + 2)).unwrap();
    live.write(NOTIFY, 2, 0);
    live.bond.pass();
    assert_eq!(raised(), 1, "a queue in error");
    arm();
    live.bond.reset_base();
    raised();
    live.write(NOTIFY, 2, 0);
    live.bond.pass();
    assert_eq!(raised(), 0, "a reset disarms");
}

#[test]
fn a_reset_of_the_base_function_forgets_the_tail_of_a_queue_that_is_off() {
    let live = Live::new();
    let tail = || live.over().registers().queues()[5].tail().read().index();
    live.over().registers().queues()[5].tail().write(|r| r.set_index(9));
    assert_eq!(tail(), 9);
    live.bond.reset_base();
    assert_eq!(tail(), 0);
    assert!(!live.bond.pass(), "nothing is left to do for it");
}

#[test]
fn tail_starts_from_zero_when_its_queue_is_enabled() {
    let live = Live::new();
    let tail = || live.over().registers().queues()[0].tail().read().index();
    live.over().registers().queues()[0].tail().write(|r| r.set_index(9));
    live.start();
    assert_eq!(tail(), 0);
    live.settle();
    assert_eq!(live.state(0), (State::Running, Error::None));
}

#[test]
fn what_was_made_available_before_the_queue_was_enabled_is_found() {
    let live = Live::new();
    let context = live.start();
    disable(&live.over().registers(), 0);
    Guest::new(&live.board, &context).offer(&direct(&[out(1)])).unwrap();
    live.write(NOTIFY, 2, 0); // No queue is there to be notified.
    assert!(!live.bond.pass());
    enable(&live.over(), 0, &context);
    live.settle();
    assert_eq!(live.over().registers().queues()[0].head().read().index(), 1);
}

#[test]
fn a_bad_ring_shows_in_the_status_page_until_the_queue_is_disabled() {
    let live = Live::new();
    live.show_status();
    let context = live.start();
    live.settle();
    Guest::new(&live.board, &context).publish(context.guest.size);
    live.write(NOTIFY, 2, 0);
    live.settle();
    assert_eq!(live.state(0), (State::Error, Error::BadHead));
    assert_eq!(live.status(status_page::QUEUE_ERRORS), 1);
    live.write(NOTIFY, 2, 0);
    live.settle();
    assert_eq!((live.state(0), live.status(status_page::HEADS)), ((State::Error, Error::BadHead), 0));
    disable(&live.over().registers(), 0);
    assert_eq!((live.state(0), live.status(status_page::QUEUE_ERRORS)), ((State::Disabled, Error::None), 0));
}

#[test]
fn disabling_forgets_what_was_pending() {
    let live = Live::new();
    live.open_msix();
    let context = live.start();
    live.settle();
    let mut guest = Guest::new(&live.board, &context);
    let mut back_end = BackEnd::new(&live.base, &context);
    guest.offer(&direct(&[writable(10)])).unwrap();
    live.write(NOTIFY, 2, 0);
    live.settle();
    assert_eq!(back_end.take(), 1);
    back_end.complete(0, 10, 1);
    //  a doorbell and a TAIL are pending; the board resets the function
    guest.offer(&direct(&[out(10)])).unwrap();
    live.write(NOTIFY, 2, 0);
    live.over().registers().queues()[0].tail().write(|r| r.set_index(1));
    let board = Image::of(&live.board, BOARD);
    let base = Image::of(&live.base, BASE);
    live.config_write(PCIE_CAP + 8, 2, 0x8000);
    live.settle();
    board.assert_same_but(&Image::of(&live.board, BOARD), &[], "board memory of a queue that is gone");
    base.assert_same_but(&Image::of(&live.base, BASE), &[], "base memory of a queue that is gone");
    assert_eq!(*live.controller.messages.lock().unwrap(), []);
    assert_eq!(live.state(0), (State::Disabled, Error::None));
    let over = live.over();
    let request = over.registers().mailbox().request().read();
    assert_eq!(request.kind(), Kind::Reset);
    assert_eq!(over.registers().queues()[0].tail().read().index(), 0);
}

// The status page.

#[test]
fn the_status_page_is_written_whole_and_mirrors_the_mailbox() {
    let live = Live::new();
    live.write(DEVICE + 8, 4, 0x1111);
    live.write(DEVICE + 12, 2, 0x2222);
    live.show_status();
    let over = live.over();
    let registers = over.registers();
    let mailbox = registers.mailbox();
    for (offset, data) in [(DEVICE + 8, 0x1111), (DEVICE + 12, 0x2222)] {
        let word = live.status(status_page::MAILBOX_WORD);
        assert_eq!(word, over.0.read32(0x80));
        assert_eq!((live.status(0), live.status(4)), (offset, data));
        mailbox.answer().write(|r| r.set_sequence(decode::<Request>(word).sequence()));
    }
    assert_eq!([0, 4, 8].map(|at| live.status(at)), [0; 3], "nothing stands");
    for queue in 0..MAX_QUEUES as u64 {
        assert_eq!(live.status(status_page::HEADS + 4 * queue), 0);
    }
    assert_eq!((live.status(status_page::QUEUE_ERRORS), live.status(status_page::QUEUE_ERRORS + 4)), (0, 0));
}

#[test]
fn a_status_page_that_is_off_or_not_granted_is_left_alone() {
    for revoked in [false, true] {
        let live = Live::new();
        live.show_status();
        let over = live.over();
        if revoked {
            revoke(&over.registers(), 0);
        } else {
            over.registers().status_page().control().write(|r| r.set_enable(false));
        }
        let before = Image::of(&live.base, BASE);
        live.write(DEVICE, 4, 1);
        enable(&over, 0, &Context { slot_count: 0, ..Shape::default().context(0) });
        before.assert_same_but(&Image::of(&live.base, BASE), &[], "a page that the base has taken back");
    }
}

// Deadlines.

#[test]
fn an_unanswered_read_ends_with_all_ones() {
    let live = Live::new();
    let over = live.over();
    over.registers().mailbox().deadline().write(|r| r.set_microseconds(2_000));
    let mut waits = 0u64;
    assert_eq!(live.read(COMMON, &mut || waits += 1), ALL_ONES);
    assert!(waits > 0);
    assert_eq!(over.registers().mailbox().expired_reads().read().count(), 1);
    assert_eq!(over.registers().mailbox().fill().read().waiting(), 0);
}

#[test]
fn a_board_that_fills_the_mailbox_is_let_through_at_the_deadline() {
    let live = Live::new();
    let over = live.over();
    over.registers().mailbox().deadline().write(|r| r.set_microseconds(1_000));
    for n in 0..200 {
        live.write(DEVICE, 4, n); // Returns, in the end, although the base never answers.
    }
    let registers = over.registers();
    let mailbox = registers.mailbox();
    assert_eq!(mailbox.expired_writes().read().count() + u32::from(mailbox.fill().read().waiting()), 200);
}

/// With no access to notice, only passes, the mailbox still moves on.
#[test]
fn a_pass_ends_what_is_overdue() {
    let live = Live::new();
    let over = live.over();
    over.registers().mailbox().deadline().write(|r| r.set_microseconds(0));
    live.write(DEVICE, 4, 1);
    live.bond.pass();
    assert_eq!(over.registers().mailbox().expired_writes().read().count(), 1);
}

// Many threads.

#[test]
fn unmapping_under_traffic_faults_the_queue_and_touches_nothing() {
    let live = Live::new();
    let context = live.start();
    live.settle();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                live.bond.pass();
            }
        });
        let mut guest = Guest::new(&live.board, &context);
        let mut back_end = BackEnd::new(&live.base, &context);
        let mut rounds = 0;
        while live.state(0).0 == State::Running && rounds < 20_000 {
            guest.offer(&direct(&[out(500), writable(500)]));
            live.write(NOTIFY, 2, 0);
            rounds += 1;
            if rounds == 200 {
                live.bond.unmap(BaseAddr(BASE)).unwrap();
                //  from here on base memory is the base's alone
                live.base.write_slice(&vec![0xCA; LENGTH], GuestAddress(BASE)).unwrap();
                //  TAIL sends the engine there, whatever it had done before
                live.over().registers().queues()[0].tail().write(|r| r.set_index(back_end.used + 1));
            } else if rounds < 200 {
                back_end.take();
                while !back_end.held.is_empty() {
                    back_end.complete(0, 500, 1);
                }
                live.over().registers().queues()[0].tail().write(|r| r.set_index(back_end.used));
                guest.collect();
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    live.settle();
    assert_eq!(live.state(0), (State::Error, Error::BaseFault));
    let mut after = vec![0; LENGTH];
    live.base.read_slice(&mut after, GuestAddress(BASE)).unwrap();
    assert!(after.iter().all(|&byte| byte == 0xCA), "memory was touched after it was unmapped");
}

/// One thread is the board, one the base, one passes; each does what it likes. It ends, and the device still
/// works.
#[test]
fn threads_do_what_they_like() {
    for seed in 0..4u8 {
        println!("seed {seed}");
        let live = Live::new();
        let over = live.over();
        over.registers().mailbox().deadline().write(|r| r.set_microseconds(50));
        live.show_status();
        let context = live.start();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let passes = scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    live.bond.pass();
                }
            });
            let board = scope.spawn(|| be_the_board(&live, &context, seed));
            let base = scope.spawn(|| be_the_base(&live, &context, seed));
            let ends = [board.join(), base.join()];
            stop.store(true, Ordering::Relaxed);
            passes.join().unwrap();
            ends.into_iter().for_each(|end| end.unwrap());
        });
        // Everything as at the beginning: a chain goes up.
        over.registers().board().control().modify(|r| r.set_reset(true));
        live.boot();
        for queue in 0..4 {
            disable(&over.registers(), queue);
        }
        revoke(&over.registers(), 0);
        grant(&over.registers(), 0, BaseAddr(BASE), LENGTH as u64);
        live.start();
        live.settle();
        Guest::new(&live.board, &context).offer(&direct(&[out(9)])).unwrap();
        live.write(NOTIFY, 2, 0);
        live.settle();
        assert_eq!(
            (live.state(0), over.registers().queues()[0].head().read().index()),
            ((State::Running, Error::None), 1)
        );
    }
}

fn random(seed: u8, thread: u8) -> TestRng {
    TestRng::from_seed(RngAlgorithm::ChaCha, &[seed ^ thread.rotate_left(4); 32])
}

fn be_the_board(live: &Live, context: &Context, seed: u8) {
    let mut random = random(seed, 1);
    let mut guest = Guest::new(&live.board, context);
    for _ in 0..600 {
        match random.random_range(0..12) {
            0..6 => {
                guest.offer(&direct(&[out(70), writable(300)]));
                live.write(NOTIFY, 2, 0);
            }
            6 => drop(guest.collect()),
            7 => drop(live.read(4 * random.random_range(0..0x2000), &mut || ())),
            8 => live.write(4 * random.random_range(0..0x2000), 4, random.random()),
            9 => guest.set_available(random.random(), random.random_range(0..16)),
            10 => live.config_write(4, 2, random.random_range(0..8)),
            _ => {
                live.config_write(PCIE_CAP + 8, 2, 0x8000);
                live.boot();
                guest = Guest::new(&live.board, context);
                guest.set_avail_index(0);
            }
        }
    }
}

fn be_the_base(live: &Live, context: &Context, seed: u8) {
    let mut random = random(seed, 2);
    let over = live.over();
    for _ in 0..1500 {
        let registers = over.registers();
        let queue = random.random_range(0..4);
        match random.random_range(0..10) {
            0..3 => {
                let sequence = registers.mailbox().request().read().sequence();
                registers.mailbox().answer().write(|r| r.set_sequence(sequence));
            }
            3..5 => enable(&over, queue, &Context { index: queue as u16, ..*context }),
            5 => disable(&registers, queue),
            6 => registers.queues()[queue].tail().write(|r| r.set_index(random.random_range(0..4))),
            7 => {
                revoke(&registers, 0);
                grant(&registers, 0, BaseAddr(BASE), LENGTH as u64);
            }
            8 => {
                live.bond.unmap(BaseAddr(BASE)).unwrap();
                live.map(BASE, 0, LENGTH).unwrap();
            }
            _ => over.0.write32(4 * random.random_range(0x1000..0x1400), random.random()),
        }
    }
}

/// ```text
///   host:   takes the guest's memory .......... gives it back
///   base:   enables the queue ... pass, pass        pass: the chain goes up
/// ```
#[test]
fn a_ring_that_the_host_moves_is_waited_for_and_one_that_stays_away_is_an_error() {
    let live = Live::new();
    let context = Shape::default().context(0);
    let reached = live.bond.board_memory(function(0));
    live.start();
    Guest::new(&live.board, &context).offer(&direct(&[out(1)])).unwrap();
    reached.unmap_all();
    live.start_again(&context);
    for _ in 0..3 {
        assert!(live.bond.pass(), "the ring is not read again");
        assert!(!live.in_error());
    }
    reached.map_all(&live.board).unwrap();
    live.bond.pass();
    assert_eq!(live.bond.read32(queues::BASE + queues::HEAD), 1);

    reached.unmap_all();
    live.start_again(&context);
    let deadline = Instant::now() + Duration::from_secs(10);
    while live.bond.pass() && Instant::now() < deadline {}
    assert!(live.in_error());
}
