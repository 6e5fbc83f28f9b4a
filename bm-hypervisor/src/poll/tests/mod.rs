//! One pass at a time: what moved, and what the pass does about it.

mod bare;
mod sleeping;

use std::sync::Mutex;

use iobond_spec::{address::BaseAddr, register_access::RegisterIo, ring::split::USED_NO_NOTIFY};
use proptest::prelude::*;
use vmm_sys_util::eventfd::EventFd;

use super::{channel::ControlEnd, *};
use crate::{
    config::RingSizes,
    event::event_fd,
    pool::Pool,
    port::{PortError, Region},
};

/// Registers that can be set, and that remember what was written.
#[derive(Default)]
struct RegisterFile {
    values: Mutex<std::collections::BTreeMap<u32, u32>>,
    written: Mutex<Vec<(u32, u32)>>,
}

impl RegisterIo for RegisterFile {
    fn read32(&self, offset: u32) -> u32 {
        self.values.lock().unwrap().get(&offset).copied().unwrap_or(0)
    }

    fn write32(&self, offset: u32, value: u32) {
        self.written.lock().unwrap().push((offset, value));
    }
}

impl Port for RegisterFile {
    fn map_dma(&self, _: &Region<'_>) -> Result<(), PortError> {
        Ok(())
    }

    fn unmap_dma(&self, _: BaseAddr) -> Result<(), PortError> {
        Ok(())
    }

    fn reset(&self) -> Result<(), PortError> {
        Ok(())
    }
}

const SIZES: RingSizes = RingSizes { guest: 16, shadow: 64, slot_size: 64, slots: 16 };
/// The context that is polled, out of [`CONTEXTS`].
const CONTEXT: u8 = 2;
const CONTEXTS: usize = 4;
const TAIL: u32 = queues::BASE + CONTEXT as u32 * queues::STRIDE + queues::TAIL;
const HEAD: u32 = queues::BASE + CONTEXT as u32 * queues::STRIDE + queues::HEAD;

struct Bench {
    port: Arc<RegisterFile>,
    pool: Pool,
    end: ControlEnd,
    poller: Poller<RegisterFile>,
    kick: EventFd,
    mode: PollMode,
}

impl Bench {
    fn new(mode: PollMode) -> Self {
        let pool = Pool::new(&[SIZES; CONTEXTS], false).unwrap();
        let (poller_end, end) = channel::pair().unwrap();
        let port = Arc::new(RegisterFile::default());
        let poller = Poller::new(Arc::clone(&port), Arc::clone(pool.mapping()), mode, poller_end);
        Self { port, pool, end, poller, kick: event_fd().unwrap(), mode }
    }

    /// With a queue and a back end that is kicked.
    fn with_queue(mode: PollMode, event_idx: bool) -> Self {
        let mut bench = Self::new(mode);
        let kick = bench.kick.try_clone().unwrap();
        bench.add(Some(kick), event_idx);
        bench
    }

    fn queue(&self, kick: Option<EventFd>, event_idx: bool) -> PolledQueue {
        let place = self.pool.place(CONTEXT.into()).unwrap();
        let (avail, used, size) = (place.avail, place.used, SIZES.shadow);
        PolledQueue::new(Polling {
            context: CONTEXT,
            ticket: 1,
            avail,
            used,
            size,
            kick,
            event_idx,
            account: false,
        })
    }

    fn add(&mut self, kick: Option<EventFd>, event_idx: bool) {
        self.end.add(self.queue(kick, event_idx)).unwrap();
        assert!(self.poller.pass().is_idle());
        assert_eq!(self.poller.queues(), 1);
    }

    /// IO-Bond publishes up to `head`.
    fn publish(&self, head: u16) {
        match self.mode {
            PollMode::StatusPage => self.page(HEAD_WORD + usize::from(CONTEXT), head.into()),
            PollMode::Registers => self.register(HEAD, head.into()),
        }
    }

    fn register(&self, offset: u32, value: u32) {
        self.port.values.lock().unwrap().insert(offset, value);
    }

    fn page(&self, word: usize, value: u32) {
        self.pool.mapping().words32()[word].store(value, Ordering::Release);
    }

    /// The back end writes `offset` of the used ring.
    fn used(&self, offset: u64, value: u16) {
        let place = self.pool.place(CONTEXT.into()).unwrap();
        self.pool.mapping().words16()[((place.used + offset) / 2) as usize].store(value, Ordering::Release);
    }

    fn avail_event(&self, value: u16) {
        self.used(iobond_spec::ring::split::avail_event_offset(SIZES.shadow), value);
    }

    /// One pass, and how often the back end was kicked in it.
    fn pass(&mut self) -> (Progress, u64) {
        let progress = self.poller.pass();
        (progress, self.kick.read().unwrap_or(0))
    }

    fn tails(&self) -> Vec<u32> {
        let written = std::mem::take(&mut *self.port.written.lock().unwrap());
        assert!(written.iter().all(|(offset, _)| *offset == TAIL), "{written:x?}");
        written.into_iter().map(|(_, value)| value).collect()
    }
}

const MODES: [PollMode; 2] = [PollMode::StatusPage, PollMode::Registers];

#[test]
fn a_head_that_moves_kicks_unless_the_flag_forbids() {
    for mode in MODES {
        let mut bench = Bench::with_queue(mode, false);
        assert_eq!(bench.pass(), (Progress::default(), 0));
        bench.publish(1);
        assert_eq!(bench.pass(), (Progress { published: 1, kicked: 1, ..Progress::default() }, 1));
        assert_eq!(bench.pass(), (Progress::default(), 0));
        bench.used(iobond_spec::ring::split::FLAGS, USED_NO_NOTIFY);
        bench.publish(9);
        assert_eq!(bench.pass(), (Progress { published: 1, ..Progress::default() }, 0));
    }
}

#[test]
fn with_event_indices_only_passing_the_event_kicks() {
    for mode in MODES {
        let mut bench = Bench::with_queue(mode, true);
        // (avail_event, head, kicks): the back end asks to be kicked when the entry avail_event becomes
        // available.
        for (event, head, kicks) in [(0, 1, 1), (0, 2, 0), (4, 4, 0), (4, 5, 1), (9, 30, 1), (9, 31, 0)] {
            bench.avail_event(event);
            // The flag means nothing then (virtio 1.3, 2.7.10).
            bench.used(iobond_spec::ring::split::FLAGS, USED_NO_NOTIFY);
            bench.publish(head);
            assert_eq!(bench.pass().1, kicks, "event {event}, head {head}");
        }
    }
}

#[test]
fn a_back_end_that_polls_is_never_kicked() {
    let mut bench = Bench::new(PollMode::StatusPage);
    bench.add(None, false);
    bench.publish(1);
    assert_eq!(bench.pass(), (Progress { published: 1, ..Progress::default() }, 0));
}

#[test]
fn used_buffers_move_tail_once_per_batch() {
    for mode in MODES {
        let mut bench = Bench::with_queue(mode, false);
        for used in [1, 5, 69, 69] {
            bench.used(iobond_spec::ring::split::IDX, used);
            bench.pass();
        }
        assert_eq!(bench.tails(), [1, 5, 69]);
    }
}

#[test]
fn a_used_index_that_jumps_is_reported_once_and_not_passed_on() {
    let mut bench = Bench::with_queue(PollMode::StatusPage, false);
    bench.used(iobond_spec::ring::split::IDX, SIZES.shadow + 1);
    bench.pass();
    bench.used(iobond_spec::ring::split::IDX, 1);
    bench.pass();
    assert_eq!(bench.tails(), [0; 0]);
    let jump = Event::UsedJump { context: CONTEXT, ticket: 1, from: 0, to: SIZES.shadow + 1 };
    assert_eq!((bench.end.next_event(), bench.end.next_event()), (Some(jump), None));
    bench.publish(3);
    assert_eq!(bench.pass().1, 0, "a broken ring is left alone");
}

#[test]
fn a_mailbox_request_is_handed_over_once_with_its_body() {
    for mode in MODES {
        let mut bench = Bench::new(mode);
        for sequence in [1, 2] {
            let request = Request { word: sequence << 8 | 1 << 2 | 1, offset: 0x14, data: sequence };
            bench.page(0, request.offset);
            bench.page(1, request.data);
            bench.page(2, request.word);
            for (at, value) in [
                (mailbox::OFFSET, request.offset),
                (mailbox::DATA, request.data),
                (mailbox::REQUEST, request.word),
            ] {
                bench.register(mailbox::BASE + at, value);
            }
            assert_eq!(bench.pass().0.requests, 1);
            assert_eq!(bench.pass().0.requests, 0);
            assert_eq!(bench.end.next_event(), Some(Event::Request(request)));
            assert_eq!(bench.end.wake().read().unwrap(), 1, "the control thread is woken");
        }
        bench.page(2, 0);
        bench.register(mailbox::BASE + mailbox::REQUEST, 0);
        assert!(bench.pass().0.is_idle());
        assert_eq!(bench.end.next_event(), None);
    }
}

#[test]
fn registers_that_read_all_ones_are_a_device_that_is_gone() {
    let mut bench = Bench::with_queue(PollMode::Registers, false);
    bench.register(mailbox::BASE + mailbox::REQUEST, ALL_ONES);
    bench.register(HEAD, ALL_ONES);
    // Nothing was published, and no back end is kicked.
    assert_eq!((bench.pass().0.published, bench.pass().1), (0, 0));
    assert_eq!((bench.end.next_event(), bench.end.next_event()), (Some(Event::Gone), None));
}

#[test]
fn error_bits_are_told_when_they_change() {
    let mut bench = Bench::new(PollMode::StatusPage);
    for (bits, told) in [(4, Some(Event::QueueErrors)), (4, None), (0, Some(Event::QueueErrors))] {
        bench.page(ERROR_WORD, bits);
        bench.pass();
        assert_eq!(bench.end.next_event(), told);
    }
    let mut bench = Bench::new(PollMode::Registers);
    bench.register(board::BASE + board::STATE, 2);
    for _ in 0..ERROR_INTERVAL {
        assert_eq!(bench.end.next_event(), None);
        bench.pass();
    }
    assert_eq!(bench.end.next_event(), Some(Event::QueueErrors));
}

#[test]
fn what_finds_the_channel_full_is_told_later() {
    let mut bench = Bench::new(PollMode::StatusPage);
    let mut told = 0;
    while bench.poller.polled.end.tell(Event::QueueErrors) {
        told += 1;
    }
    assert_eq!(told, 2 * MAX_QUEUES);
    bench.page(2, 1 << 8 | 1);
    assert!(bench.pass().0.is_idle());
    bench.end.next_event();
    assert_eq!(bench.pass().0.requests, 1);
}

#[test]
fn a_queue_comes_back_while_passes_are_made() {
    let Bench { end, mut poller, kick, pool, port, mode } = Bench::with_queue(PollMode::StatusPage, false);
    let polling = std::thread::spawn(move || {
        while poller.queues() > 0 {
            poller.pass();
        }
        poller
    });
    assert!(end.remove(1).is_ok());
    let poller = polling.join().unwrap();
    let mut bench = Bench { port, pool, end, poller, kick, mode };
    bench.publish(5);
    bench.used(iobond_spec::ring::split::IDX, 5);
    assert_eq!(bench.pass(), (Progress::default(), 0));
    assert_eq!(bench.tails(), [0; 0]);
}

#[test]
fn a_poller_that_is_gone_is_not_waited_for() {
    let Bench { end, poller, .. } = Bench::with_queue(PollMode::StatusPage, false);
    drop(poller);
    assert!(end.remove(1).is_ok());
}

proptest! {
    #[test]
    fn tail_follows_every_used_index_that_is_possible(steps in prop::collection::vec(0u16..=SIZES.shadow, 1..200)) {
        let mut bench = Bench::with_queue(PollMode::StatusPage, false);
        let mut used = 0u16;
        let mut tails = vec![];
        for step in steps {
            used = used.wrapping_add(step);
            if step > 0 {
                tails.push(u32::from(used));
            }
            bench.used(iobond_spec::ring::split::IDX, used);
            bench.pass();
        }
        prop_assert_eq!(bench.tails(), tails);
    }
}
