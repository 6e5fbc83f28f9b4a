//! When each request passed each stage, written by the thread that passes it on; and the board's interrupt
//! lines.
//!
//! A back end that touches no disk uses chains in the order in which they were made available, so that the
//! n-th of a queue is the n-th everywhere, and its stamps lie in row n of as many as can be under way.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering},
    },
    time::Instant,
};

use iobond_model::{
    cycle::{Span, Time},
    front_end::Message,
    live::Environment,
};
use results::measure::{MOMENTS, Stage};

use crate::{
    board::Board,
    moments::{Stamps, reach},
};

/// All queues of a board.
pub(super) struct Watch {
    board: Arc<Board>,
    epoch: Instant,
    lanes: Box<[Lane]>,
}

struct Lane {
    /// Picoseconds since the epoch, of which the clock knows the nanoseconds.
    stamps: Box<[[AtomicU64; MOMENTS]]>,
    /// How many were published in the shadow vring, and how many were told of and returned.
    shadowed: AtomicU64,
    told: AtomicU64,
    landed: AtomicU64,
    /// HEAD as bm-hypervisor has told the back end.
    head: AtomicU16,
}

impl Watch {
    pub(super) fn new(board: Arc<Board>, epoch: Instant) -> Self {
        let lane = |_| Lane {
            stamps: (0..board.capacity).map(|_| std::array::from_fn(|_| AtomicU64::new(0))).collect(),
            shadowed: AtomicU64::new(0),
            told: AtomicU64::new(0),
            landed: AtomicU64::new(0),
            head: AtomicU16::new(0),
        };
        let lanes = (0..board.contexts.len()).map(lane).collect();
        Self { board, epoch, lanes }
    }

    pub(super) fn now(&self) -> Time {
        let ns = u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX);
        Time::ZERO + Span::from_ns(ns)
    }

    /// Request `nth` of `queue` passes `stage` at `time`. As in [`results::measure::StageClock`], before
    /// whatever lets others go on.
    pub(super) fn stamp(&self, queue: usize, nth: u64, stage: Stage, time: Time) {
        let stamps = &self.lanes[queue].stamps;
        // Nothing is read through a stamp; `landed` says when they all are there.
        stamps[(nth % stamps.len() as u64) as usize][stage as usize].store(time.ps(), Ordering::Relaxed);
    }

    /// The moments of request `nth` of `queue`, which has landed.
    pub(super) fn stamps(&self, queue: usize, nth: u64) -> Stamps {
        let stamps = &self.lanes[queue].stamps;
        let row = &stamps[(nth % stamps.len() as u64) as usize];
        std::array::from_fn(|stage| Time::from_ps(row[stage].load(Ordering::Relaxed)))
    }

    /// How many requests of `queue` were returned to the guest.
    pub(super) fn landed(&self, queue: usize) -> u64 {
        self.lanes[queue].landed.load(Ordering::Acquire)
    }

    /// HEAD of `queue` as bm-hypervisor last told the back end.
    pub(super) fn head(&self, queue: usize) -> u16 {
        self.lanes[queue].head.load(Ordering::Relaxed)
    }

    /// Requests of `queue` up to `index` pass `stage` now; `counter` is how many have.
    fn advance(&self, queue: usize, stage: Stage, index: u16, counter: impl Fn(&Lane) -> &AtomicU64) {
        let Some(lane) = self.lanes.get(queue) else { return };
        let counter = counter(lane);
        let (now, from) = (self.now(), counter.load(Ordering::Relaxed));
        let to = reach(from, index);
        (from..to).for_each(|nth| self.stamp(queue, nth, stage, now));
        counter.store(to, Ordering::Release);
    }
}

/// What surrounds the IO-Bond of one board.
pub(super) struct Surroundings {
    pub(super) lines: Arc<Lines>,
    pub(super) watch: Arc<Watch>,
}

impl Environment for Surroundings {
    fn message(&self, message: Message) {
        if let Some(line) = self.lines.0.get(message.data as usize) {
            line.store(true, Ordering::Release);
        }
    }

    fn published(&self, queue: usize) {
        let index = self.watch.board.shadow_available(queue);
        self.watch.advance(queue, Stage::Shadow, index, |lane| &lane.shadowed);
    }

    fn returned(&self, queue: usize) {
        let index = self.watch.board.guest_used(queue);
        self.watch.advance(queue, Stage::Guest, index, |lane| &lane.landed);
    }
}

/// What bm-hypervisor's pass did.
pub(super) struct Heads(pub(super) Arc<Watch>);

impl bm_hypervisor::Observer for Heads {
    fn published(&mut self, queue: u8, head: u16, _: bool) {
        if let Some(lane) = self.0.lanes.get(usize::from(queue)) {
            lane.head.store(head, Ordering::Relaxed);
        }
    }

    fn returned(&mut self, queue: u8, tail: u16) {
        self.0.advance(queue.into(), Stage::Tail, tail, |lane| &lane.told);
    }
}

/// The board's interrupt controller: a line for each queue.
pub(super) struct Lines(Box<[AtomicBool]>);

impl Lines {
    pub(super) fn new(queues: u8) -> Self {
        Self((0..queues).map(|_| AtomicBool::new(false)).collect())
    }

    /// Whether there was an interrupt for `queue` since it was last asked.
    pub(super) fn take(&self, queue: usize) -> bool {
        self.0[queue].load(Ordering::Relaxed) && self.0[queue].swap(false, Ordering::Acquire)
    }
}
