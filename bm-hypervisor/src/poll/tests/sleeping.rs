//! Sleeping between passes: what is asked of back ends before, what wakes, and that no wake-up is lost.

use std::{os::fd::AsRawFd, thread};

use iobond_spec::ring::split::{AVAIL_NO_INTERRUPT, FLAGS, IDX, need_event, used_event_offset};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

use super::*;

/// Whether the poll thread would be woken within `milliseconds`.
fn wakes(poller: &Poller<RegisterFile>, milliseconds: i32) -> bool {
    let epoll = Epoll::new().unwrap();
    let readable = EpollEvent::new(EventSet::IN, 0);
    epoll.ctl(ControlOperation::Add, poller.waker().as_raw_fd(), readable).unwrap();
    epoll.wait(milliseconds, &mut [EpollEvent::default()]).unwrap() == 1
}

/// The back end's half of a vring, as far as notifications go.
struct BackEnd {
    pool: Arc<Mapping>,
    avail: u64,
    used: u64,
    event_idx: bool,
    call: EventFd,
}

impl BackEnd {
    /// The back end of `bench`'s queue; its interrupts wake the poll thread.
    fn of(bench: &Bench, event_idx: bool) -> Self {
        let place = bench.pool.place(CONTEXT.into()).unwrap();
        let call = event_fd().unwrap();
        bench.end.poll_waker().watch(&call).unwrap();
        Self { pool: Arc::clone(bench.pool.mapping()), avail: place.avail, used: place.used, event_idx, call }
    }

    fn word(&self, offset: u64) -> &AtomicU16 {
        &self.pool.words16()[(offset / 2) as usize]
    }

    /// Whether the front end wants to hear that the used index moved (virtio 1.3, 2.7.7.2).
    fn is_wanted(&self, old: u16, new: u16) -> bool {
        match self.event_idx {
            true => need_event(
                self.word(self.avail + used_event_offset(SIZES.shadow)).load(Ordering::Relaxed),
                new,
                old,
            ),
            false => self.word(self.avail + FLAGS).load(Ordering::Relaxed) & AVAIL_NO_INTERRUPT == 0,
        }
    }

    /// Uses `count` buffers; whether it interrupted.
    fn uses(&self, count: u16) -> bool {
        let old = self.word(self.used + IDX).load(Ordering::Relaxed);
        let new = old.wrapping_add(count);
        self.word(self.used + IDX).store(new, Ordering::Release);
        fence(Ordering::SeqCst);
        let wanted = self.is_wanted(old, new);
        if wanted {
            self.call.write(1).unwrap();
        }
        wanted
    }
}

#[test]
fn back_ends_interrupt_only_while_armed_and_that_wakes() {
    for (mode, event_idx) in MODES.into_iter().flat_map(|mode| [(mode, false), (mode, true)]) {
        let mut bench = Bench::with_queue(mode, event_idx);
        let back_end = BackEnd::of(&bench, event_idx);
        bench.poller.disarm();
        for _ in 0..3 {
            assert!(!back_end.uses(3), "polled");
            bench.pass();
            assert!(!bench.poller.arm() && !wakes(&bench.poller, 0), "nothing waits");
            assert!(back_end.uses(1) && wakes(&bench.poller, 0));
            bench.poller.disarm();
            bench.pass();
            assert!(!back_end.uses(60), "polled again");
            bench.pass();
        }
    }
}

#[test]
fn arming_says_what_waits_already() {
    for mode in MODES {
        let mut bench = Bench::with_queue(mode, false);
        assert!(!bench.poller.arm());
        bench.publish(1);
        assert!(bench.poller.arm(), "HEAD moved");
        bench.pass();
        assert!(!bench.poller.arm());
        bench.used(IDX, 1);
        assert!(bench.poller.arm(), "a buffer was used");
        bench.pass();
        assert!(!bench.poller.arm());
        bench.page(2, 1 << 8 | 1);
        bench.register(mailbox::BASE + mailbox::REQUEST, 1 << 8 | 1);
        assert!(bench.poller.arm(), "a forwarded access");
        bench.pass();
        assert!(!bench.poller.arm());
        bench.used(IDX, 2 + SIZES.shadow);
        bench.pass();
        assert!(!bench.poller.arm(), "a broken ring is left alone");
    }
}

#[test]
fn an_error_on_the_page_is_taken_up_before_sleeping() {
    let mut bench = Bench::new(PollMode::StatusPage);
    bench.page(ERROR_WORD, 4);
    assert!(bench.poller.arm());
    bench.pass();
    assert!(!bench.poller.arm());
}

#[test]
fn an_error_in_the_registers_is_told_before_sleeping_and_right_after() {
    let mut bench = Bench::new(PollMode::Registers);
    bench.register(board::BASE + board::STATE, 2);
    assert!(!bench.poller.arm(), "it stands until the driver's reset");
    assert_eq!(bench.end.next_event(), Some(Event::QueueErrors));
    bench.pass();
    assert_eq!(bench.end.next_event(), Some(Event::QueueErrors));
    bench.pass();
    assert_eq!(bench.end.next_event(), None);
}

#[test]
fn orders_wake_and_a_queue_that_comes_while_armed_is_armed() {
    for event_idx in [false, true] {
        let mut bench = Bench::new(PollMode::StatusPage);
        assert!(!bench.poller.arm() && !wakes(&bench.poller, 0));
        bench.end.add(bench.queue(None, event_idx)).unwrap();
        assert!(wakes(&bench.poller, 0) && bench.poller.arm(), "an order waits");
        let back_end = BackEnd::of(&bench, event_idx);
        bench.pass();
        assert!(back_end.uses(1) && wakes(&bench.poller, 0));
    }
}

#[test]
fn no_back_end_takes_anothers_wake_up() {
    let mut bench = Bench::with_queue(PollMode::StatusPage, false);
    let (good, thief) = (BackEnd::of(&bench, false), BackEnd::of(&bench, false));
    assert!(!bench.poller.arm());
    assert!(good.uses(1));
    thief.call.write(1).unwrap();
    thief.call.read().unwrap();
    assert!(wakes(&bench.poller, 0));
    bench.pass();
    assert!(!bench.poller.arm() && !wakes(&bench.poller, 0));
}

/// One thread uses a buffer, and the next one only when TAIL says that this one was seen; the other sleeps
/// whenever it may. A single wake-up that is lost ends the test, since nothing else would wake the sleeper.
#[test]
fn no_wake_up_is_lost_however_arming_and_using_meet() {
    const ROUNDS: u16 = 20_000;
    for event_idx in [false, true] {
        let mut bench = Bench::with_queue(PollMode::StatusPage, event_idx);
        let back_end = BackEnd::of(&bench, event_idx);
        let seen = Arc::new(AtomicU16::new(0));
        let user = thread::spawn({
            let seen = Arc::clone(&seen);
            move || {
                for round in 0..ROUNDS {
                    while seen.load(Ordering::Acquire) != round {
                        std::hint::spin_loop();
                    }
                    // Meets the other thread earlier and later in its way to sleep.
                    (0..u32::from(round) * 7 % 512).for_each(|_| std::hint::spin_loop());
                    back_end.uses(1);
                }
                // Its event stays open, as it does in the front end of a back end that dies: a closed one
                // wakes no thread.
                back_end
            }
        });
        let mut slept = 0;
        while bench.poller.polled.queues[0].last_used != ROUNDS {
            if !bench.poller.pass().is_idle() {
                seen.store(bench.poller.polled.queues[0].last_used, Ordering::Release);
                continue;
            }
            if !bench.poller.arm() {
                slept += 1;
                assert!(wakes(&bench.poller, 10_000), "a wake-up was lost after {slept} sleeps");
            }
            bench.poller.disarm();
        }
        user.join().unwrap();
        assert!(slept > 0, "it slept at least once");
    }
}

proptest! {
    #[test]
    fn whatever_is_used_next_interrupts_and_in_between_nothing_does(
        start: u16, event_idx: bool, steps in prop::collection::vec(1u16..=SIZES.shadow, 1..50)
    ) {
        let mut bench = Bench::with_queue(PollMode::StatusPage, event_idx);
        let back_end = BackEnd::of(&bench, event_idx);
        back_end.word(back_end.used + IDX).store(start, Ordering::Release);
        bench.poller.polled.queues[0].last_used = start;
        bench.poller.disarm();
        for step in steps {
            prop_assert!(!back_end.uses(step));
            bench.pass();
            prop_assert!(!bench.poller.arm());
            prop_assert!(back_end.uses(step));
            bench.poller.disarm();
            bench.pass();
        }
    }
}
