//! Requests in flight, noted in memory that outlives this process (vhost-user, *Inflight I/O tracking*).
//!
//! The front end keeps a region of shared memory and gives it to the server that takes the rings next. Each
//! request is noted there before anything is done for it, and struck out after it is in the used ring, so
//! that the next server finds out what was taken and not returned. The stores go in the order that the
//! protocol names; a process may end between any two of them.

mod region;
mod replay;

use std::mem::offset_of;

use vm_memory::AtomicAccess;

pub(crate) use self::region::{Part, Region};
pub(crate) use self::replay::Replay;
use crate::ring::RingError;

/// `QueueRegionSplit`: what precedes the descriptor states of a split ring.
#[repr(C)]
#[allow(dead_code, reason = "a layout: it is only reached by offset")]
struct Header {
    features: u64,
    version: u16,
    desc_num: u16,
    last_batch_head: u16,
    used_idx: u16,
}

/// `DescStateSplit`: what is known of one descriptor, which counts if it is the head of a chain.
#[repr(C)]
#[allow(dead_code, reason = "a layout: it is only reached by offset")]
struct State {
    inflight: u8,
    padding: [u8; 5],
    next: u16,
    counter: u64,
}

const _: () = assert!(size_of::<Header>() == 16 && offset_of!(Header, used_idx) == 14);
const _: () = assert!(size_of::<State>() == 16 && offset_of!(State, next) == 6);
const _: () = assert!(offset_of!(State, counter) == 8);

/// The version of this layout. Zero is a region that no server has begun.
const VERSION: u16 = 1;

/// Bytes that a ring of `size` descriptors takes.
const fn bytes(size: u16) -> usize {
    size_of::<Header>() + size as usize * size_of::<State>()
}

/// One ring's part of a region. Accesses are atomic; stores are seen by others in the order in which they
/// were made. What lies outside reads as zero and cannot be written.
pub(crate) trait Words {
    /// The value at offset `at`.
    fn load<T: AtomicAccess + Default>(&self, at: usize) -> T;
    /// Replaces the value at offset `at`.
    fn store<T: AtomicAccess>(&self, at: usize, value: T);
}

/// Notes what is in flight on one ring.
#[derive(Debug)]
pub(crate) struct Tracker<W> {
    words: W,
    size: u16,
    /// The number of the next request: those in flight are done again in the order in which they were taken.
    counter: u64,
}

impl<W: Words> Tracker<W> {
    /// Takes up the notes of a ring of `size` descriptors whose used index is `used`, and the heads that are
    /// to be done again, in order. They were taken right after the `used` ones that were returned: the
    /// available index to continue at is as far ahead as there are heads.
    pub(crate) fn recover(words: W, size: u16, used: u16) -> Result<(Self, Vec<u16>), RingError> {
        let mut tracker = Self { words, size, counter: 0 };
        match tracker.words.load::<u16>(offset_of!(Header, version)) {
            0 => {
                tracker.begin(used);
                Ok((tracker, Vec::new()))
            }
            VERSION => {
                tracker.finish_last_batch(used);
                let heads = tracker.heads();
                tracker.counter = heads.last().map_or(0, |(counter, _)| counter.wrapping_add(1));
                let heads = heads.into_iter().map(|(_, head)| head).collect();
                Ok((tracker, heads))
            }
            other => Err(RingError::InFlightVersion(other)),
        }
    }

    /// Nothing is in flight yet. The version comes last: until it is there, all of this is done anew.
    fn begin(&self, used: u16) {
        (0..self.size).for_each(|head| self.set_in_flight(head, false));
        self.words.store(offset_of!(Header, features), 0u64);
        self.words.store(offset_of!(Header, desc_num), self.size);
        self.words.store(offset_of!(Header, last_batch_head), 0u16);
        self.words.store(offset_of!(Header, used_idx), used);
        self.words.store(offset_of!(Header, version), VERSION);
    }

    /// Strikes out what was returned right before the end. "If the value of used_idx does not match the idx
    /// value of used ring (means the inflight field of DescStateSplit entries in last batch may be
    /// incorrect)".
    fn finish_last_batch(&self, used: u16) {
        let known: u16 = self.words.load(offset_of!(Header, used_idx));
        let batch = used.wrapping_sub(known).min(self.size);
        let mut head: u16 = self.words.load(offset_of!(Header, last_batch_head));
        for _ in 0..batch {
            if head >= self.size {
                break;
            }
            self.set_in_flight(head, false);
            head = self.words.load(self.at(head) + offset_of!(State, next));
        }
        if batch > 0 {
            self.words.store(offset_of!(Header, used_idx), used);
        }
    }

    /// What is in flight, in the order in which it was taken.
    fn heads(&self) -> Vec<(u64, u16)> {
        let in_flight = |head: &u16| self.words.load::<u8>(self.at(*head) + offset_of!(State, inflight)) == 1;
        let counted = |head| (self.words.load::<u64>(self.at(head) + offset_of!(State, counter)), head);
        let mut heads: Vec<_> = (0..self.size).filter(in_flight).map(counted).collect();
        heads.sort_unstable();
        heads
    }

    /// A chain was taken off the available ring; nothing was done for it yet.
    pub(crate) fn taken(&mut self, head: u16) {
        self.words.store(self.at(head) + offset_of!(State, counter), self.counter);
        self.counter = self.counter.wrapping_add(1);
        self.set_in_flight(head, true);
    }

    /// A chain is done, and about to be put into the used ring.
    pub(crate) fn returning(&self, head: u16) {
        let last: u16 = self.words.load(offset_of!(Header, last_batch_head));
        self.words.store(self.at(head) + offset_of!(State, next), last);
        self.words.store(offset_of!(Header, last_batch_head), head);
    }

    /// It is in the used ring, whose index is now `used`.
    pub(crate) fn returned(&self, head: u16, used: u16) {
        self.set_in_flight(head, false);
        self.words.store(offset_of!(Header, used_idx), used);
    }

    fn set_in_flight(&self, head: u16, is: bool) {
        self.words.store(self.at(head) + offset_of!(State, inflight), u8::from(is));
    }

    fn at(&self, head: u16) -> usize {
        size_of::<Header>() + usize::from(head) * size_of::<State>()
    }
}

#[cfg(test)]
mod tests;
