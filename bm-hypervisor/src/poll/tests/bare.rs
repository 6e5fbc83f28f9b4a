//! A poller without a control thread: it polls from its first pass on, and has events for the rest.

use iobond_spec::ring::split::IDX;

use super::*;
use crate::poll::bare::{BareEvent, BareEvents, BareQueue};

fn bare(mode: PollMode) -> (Arc<RegisterFile>, Pool, Poller<RegisterFile>, BareEvents) {
    let pool = Pool::new(&[SIZES; CONTEXTS], false).unwrap();
    let port = Arc::new(RegisterFile::default());
    let place = pool.take(CONTEXT.into()).unwrap();
    let queues = [BareQueue { context: CONTEXT, place }];
    let (poller, events) = Poller::bare(Arc::clone(&port), &pool, mode, queues).unwrap();
    (port, pool, poller, events)
}

fn use_up_to(pool: &Pool, index: u16) {
    let place = pool.place(CONTEXT.into()).unwrap();
    pool.mapping().words16()[((place.used + IDX) / 2) as usize].store(index, Ordering::Release);
}

#[test]
fn it_polls_its_queues_and_kicks_no_back_end() {
    let (port, pool, mut poller, events) = bare(PollMode::Registers);
    assert_eq!((poller.queues(), poller.pass()), (1, Progress::default()));
    port.values.lock().unwrap().insert(HEAD, 3);
    assert_eq!(poller.pass(), Progress { published: 1, ..Progress::default() });
    use_up_to(&pool, 2);
    assert_eq!(poller.pass(), Progress { returned: 1, ..Progress::default() });
    assert_eq!(*port.written.lock().unwrap(), [(TAIL, 2)]);
    assert!(poller.pass().is_idle() && events.next().is_none());
}

#[test]
fn it_says_what_the_board_asks_for() {
    let (_port, pool, mut poller, events) = bare(PollMode::StatusPage);
    for (kind, event) in [
        (MailboxKindE::Read, BareEvent::Request { sequence: 7, read: true, offset: 0x14, data: 5 }),
        (MailboxKindE::Write, BareEvent::Request { sequence: 7, read: false, offset: 0x14, data: 5 }),
        (MailboxKindE::Reset, BareEvent::Reset { sequence: 7 }),
    ] {
        let word = 7 << mailbox_t::request::Request::SEQUENCE_OFFSET | kind as u32;
        for (at, value) in [(MAILBOX_WORD - 2, 0x14), (MAILBOX_WORD - 1, 5), (MAILBOX_WORD, word)] {
            pool.mapping().words32()[at].store(value, Ordering::Release);
        }
        assert_eq!(poller.pass(), Progress { requests: 1, ..Progress::default() });
        assert_eq!((events.next(), events.next()), (Some(event), None));
    }
}

#[test]
fn it_says_that_something_is_wrong_once() {
    let (port, pool, mut poller, events) = bare(PollMode::StatusPage);
    pool.mapping().words32()[ERROR_WORD].store(1 << CONTEXT, Ordering::Release);
    use_up_to(&pool, SIZES.shadow + 1);
    for _ in 0..3 {
        poller.pass();
    }
    assert_eq!(events.next(), Some(BareEvent::QueueErrors));
    assert_eq!((events.next(), events.next()), (Some(BareEvent::UsedJump { context: CONTEXT }), None));
    assert!(port.written.lock().unwrap().is_empty(), "nothing is returned of a ring that is nonsense");

    let (port, _pool, mut poller, events) = bare(PollMode::Registers);
    port.values.lock().unwrap().insert(mailbox::BASE + mailbox::REQUEST, ALL_ONES);
    for _ in 0..3 {
        poller.pass();
    }
    assert_eq!((events.next(), events.next()), (Some(BareEvent::Gone), None));
}
