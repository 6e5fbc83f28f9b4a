//! A polled queue: what a pass remembers of it, and when its back end wants a kick.

use std::sync::atomic::{AtomicU16, Ordering, fence};

use iobond_spec::{
    offsets::queues,
    ring::split::{IDX, USED_NO_NOTIFY, avail_event_offset, need_event},
};
use vmm_sys_util::eventfd::EventFd;

use super::HEAD_WORD;

/// A queue that is polled: all that a pass needs of it, in less than a cache line.
#[derive(Debug)]
pub(crate) struct PolledQueue {
    /// Where its HEAD stands in the status page, in units of 32 bits.
    pub(super) head_word: u32,
    /// Where its used index stands in the pool, in units of 16 bits; the ring's flags are right before it.
    pub(super) used_word: u32,
    /// Where `avail_event` stands in the pool, in units of 16 bits, if the back end suppresses kicks by index.
    event_word: Option<u32>,
    /// Offset of its TAIL register.
    pub(super) tail: u32,
    /// What to kick; a back end that polls is not.
    pub(super) kick: Option<EventFd>,
    /// Distinguishes this life of the queue from others.
    pub(crate) ticket: u32,
    pub(super) size: u16,
    pub(super) last_head: u16,
    pub(super) last_used: u16,
    /// Number of its context.
    pub(crate) context: u8,
    /// The back end broke the ring; it is left alone until the control thread takes it back.
    pub(super) broken: bool,
}

const _: () = assert!(size_of::<PolledQueue>() <= 64);

/// Where a queue to be polled lies, and how its back end is notified.
#[derive(Debug)]
pub(crate) struct Polling {
    /// Number of its context.
    pub(crate) context: u8,
    /// Which life of the queue this is.
    pub(crate) ticket: u32,
    /// Offset of the used ring in the pool.
    pub(crate) used: u64,
    /// Size of the shadow vring.
    pub(crate) size: u16,
    /// What to kick.
    pub(crate) kick: Option<EventFd>,
    /// Whether the back end suppresses kicks by index.
    pub(crate) event_idx: bool,
}

impl PolledQueue {
    /// A queue whose indices are zero. Rings lie at the front of the pool, so that their offsets fit in 32 bits with ease: 64 of
    /// the largest take 60 MiB.
    pub(crate) fn new(polling: Polling) -> Self {
        let word16 = |offset: u64| u32::try_from(offset / 2).unwrap_or(u32::MAX);
        let event = polling.used + avail_event_offset(polling.size);
        Self {
            head_word: HEAD_WORD as u32 + u32::from(polling.context),
            used_word: word16(polling.used + IDX),
            event_word: polling.event_idx.then(|| word16(event)),
            tail: queues::BASE + u32::from(polling.context) * queues::STRIDE + queues::TAIL,
            kick: polling.kick,
            ticket: polling.ticket,
            size: polling.size,
            last_head: 0,
            last_used: 0,
            context: polling.context,
            broken: false,
        }
    }

    /// Whether the back end wants to be kicked now that HEAD has moved from `last_head` to `head` (virtio 1.3, 2.7.10).
    ///
    /// The available index was published by IO-Bond before HEAD, and HEAD was loaded with acquire ordering. The fence makes the
    /// load below see what a back end wrote before it last found the available index unmoved, if it has a full fence between
    /// the two itself, as 2.7.10.1 asks of drivers and 2.7.7.1 of devices: one of the two sees the other's write.
    pub(super) fn wants_kick(&self, words16: &[AtomicU16], head: u16) -> bool {
        fence(Ordering::SeqCst);
        let word = |index: u32| words16.get(index as usize).map_or(0, |word| word.load(Ordering::Relaxed));
        match self.event_word {
            Some(event) => need_event(word(event), head, self.last_head),
            None => word(self.used_word - 1) & USED_NO_NOTIFY == 0,
        }
    }
}
