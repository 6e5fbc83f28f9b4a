//! A polled queue: what a pass remembers of it, when its back end wants a kick, and when it is to interrupt.

use std::sync::atomic::{AtomicU16, Ordering, fence};

use iobond_spec::{
    offsets::queues,
    ring::split::{
        AVAIL_NO_INTERRUPT, FLAGS, IDX, USED_NO_NOTIFY, avail_event_offset, need_event, used_event_offset,
    },
};
use vmm_sys_util::eventfd::EventFd;

use super::{
    HEAD_WORD,
    outstanding::{Inconsistent, Outstanding},
};

/// A queue that is polled: all that a pass needs of it, in less than a cache line.
#[derive(Debug)]
pub(crate) struct PolledQueue {
    /// Where its HEAD stands in the status page, in units of 32 bits.
    pub(super) head_word: u32,
    /// Where its used index stands in the pool, in units of 16 bits; the ring's flags are right before it.
    pub(super) used_word: u32,
    /// Where `avail_event` and `used_event` stand in the pool, in units of 16 bits, if notifications are
    /// suppressed by index.
    event_words: Option<[u32; 2]>,
    /// Where the available ring's flags stand in the pool, in units of 16 bits.
    avail_word: u32,
    /// Offset of its TAIL register.
    pub(super) tail: u32,
    /// The back end's kick event; none if it polls.
    pub(super) kick: Option<EventFd>,
    /// Which chains the back end has, unless it knows that itself.
    pub(super) outstanding: Option<Box<Outstanding>>,
    /// Tells this run of the queue, from its start to its stop, from others.
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
    /// Tells this run of the queue from others.
    pub(crate) ticket: u32,
    /// Offset of the available ring in the pool.
    pub(crate) avail: u64,
    /// Offset of the used ring in the pool.
    pub(crate) used: u64,
    /// Size of the shadow vring.
    pub(crate) size: u16,
    /// The back end's kick event; none if it polls.
    pub(crate) kick: Option<EventFd>,
    /// Whether notifications are suppressed by index, in either direction.
    pub(crate) event_idx: bool,
    /// Whether to keep account of what is outstanding.
    pub(crate) account: bool,
}

/// A used index that moved further than its ring is long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UsedJump {
    /// The last one that was possible.
    pub(crate) from: u16,
    pub(crate) to: u16,
    /// Size of the shadow vring.
    pub(crate) size: u16,
}

impl PolledQueue {
    /// A queue with indices of zero. Rings lie at the front of the pool, so that their offsets fit in 32 bits
    /// with ease: 64 of the largest take 60 MiB.
    pub(crate) fn new(polling: Polling) -> Self {
        let word16 = |offset: u64| u32::try_from(offset / 2).unwrap_or(u32::MAX);
        let events = [
            polling.used + avail_event_offset(polling.size),
            polling.avail + used_event_offset(polling.size),
        ];
        let (avail_word, used_word) = (word16(polling.avail + FLAGS), word16(polling.used + IDX));
        let account = || Box::new(Outstanding::new(avail_word, used_word - 1, polling.size));
        Self {
            head_word: HEAD_WORD as u32 + u32::from(polling.context),
            used_word,
            event_words: polling.event_idx.then(|| events.map(word16)),
            avail_word,
            tail: queues::BASE + u32::from(polling.context) * queues::STRIDE + queues::TAIL,
            kick: polling.kick,
            outstanding: polling.account.then(account),
            ticket: polling.ticket,
            size: polling.size,
            last_head: 0,
            last_used: 0,
            context: polling.context,
            broken: false,
        }
    }

    /// A queue that a previous process polled, of which IO-Bond was last told `tail`. In the rings everything
    /// up to the used index is done, and nothing after it: what a back end without INFLIGHT_SHMFD had used in
    /// another order than it was made available in is not known any more.
    pub(crate) fn resumed(polling: Polling, tail: u16, words16: &[AtomicU16]) -> Self {
        let mut queue = Self { last_used: tail, last_head: tail, ..Self::new(polling) };
        let used = queue.used(words16);
        if let Some(outstanding) = &mut queue.outstanding {
            outstanding.begin_at(used);
        }
        queue
    }

    /// Whether the back end wants to be kicked now that HEAD has moved from `last_head` to `head` (virtio
    /// 1.3, 2.7.10).
    ///
    /// The available index was published by IO-Bond before HEAD, and HEAD was loaded with acquire ordering.
    /// The fence makes the load below see what a back end wrote before it last found the available index
    /// unmoved, if it has a full fence between the two itself, as 2.7.10.1 asks of drivers and 2.7.7.1 of
    /// devices: one of the two sees the other's write.
    pub(super) fn wants_kick(&self, words16: &[AtomicU16], head: u16) -> bool {
        fence(Ordering::SeqCst);
        let word = |index: u32| words16.get(index as usize).map_or(0, |word| word.load(Ordering::Relaxed));
        match self.event_words {
            Some([event, _]) => need_event(word(event), head, self.last_head),
            None => word(self.used_word - 1) & USED_NO_NOTIFY == 0,
        }
    }

    /// The used index, as the back end wrote it.
    #[inline]
    pub(super) fn used(&self, words16: &[AtomicU16]) -> u16 {
        words16.get(self.used_word as usize).map_or(0, |used| used.load(Ordering::Acquire))
    }

    /// Takes up what a back end used before it was lost: the index to be told to IO-Bond, or none if that
    /// knows it.
    ///
    /// # Errors
    /// The index moved further than the ring is long.
    pub(crate) fn catch_up(&mut self, words16: &[AtomicU16]) -> Result<Option<u16>, UsedJump> {
        let used = self.used(words16);
        if used == self.last_used {
            return Ok(None);
        }
        if self.broken || used.wrapping_sub(self.last_used) > self.size {
            return Err(UsedJump { from: self.last_used, to: used, size: self.size });
        }
        self.last_used = used;
        self.account(words16, used);
        Ok(Some(used))
    }

    /// Keeps account of what was used up to index `used`, if that is wanted. Before IO-Bond is told.
    #[inline]
    pub(super) fn account(&mut self, words16: &[AtomicU16], used: u16) {
        if let Some(outstanding) = &mut self.outstanding {
            outstanding.follow(words16, used);
        }
    }

    /// Chains that are available and not used, as far as the indices tell.
    pub(crate) fn outstanding(&self, words16: &[AtomicU16]) -> u16 {
        let available =
            words16.get(self.avail_word as usize + 1).map_or(0, |index| index.load(Ordering::Acquire));
        available.wrapping_sub(self.last_used)
    }

    /// Prepares the rings for the next back end, which takes them up at the index returned. Where there is no
    /// account, the last one noted what is in flight, and the available ring stays as it was.
    ///
    /// Chains that were noted and are in the account, too, come first in it, as they were taken first: a back
    /// end that does them again and continues behind them finds the others.
    ///
    /// # Errors
    /// [`Inconsistent`]: the last back end spoiled its used ring.
    pub(crate) fn offer_again(&mut self, words16: &[AtomicU16]) -> Result<u16, Inconsistent> {
        let used = self.last_used;
        self.account(words16, used);
        if let Some(outstanding) = &mut self.outstanding {
            outstanding.offer_again(words16)?;
        }
        // It may have been lost while the poll thread slept.
        self.want_silence(words16);
        Ok(used)
    }

    /// Has the next back end kicked, at once and from now on: what became available meanwhile was kicked for
    /// in vain.
    pub(crate) fn kick_by(&mut self, kick: Option<EventFd>) {
        if let Some(kick) = &kick {
            // Fails only when 2^64 - 2 kicks are pending.
            let _ = kick.write(1);
        }
        self.kick = kick;
    }

    /// Asks the back end to interrupt when it uses the next buffer (virtio 1.3, 2.7.7.1). IO-Bond never
    /// writes these words.
    pub(super) fn want_interrupt(&self, words16: &[AtomicU16]) {
        self.ask(words16, self.last_used, 0);
    }

    /// Asks the back end not to interrupt: by the flag, or by an index that it has just passed, so that it is
    /// a whole round of indices away.
    pub(super) fn want_silence(&self, words16: &[AtomicU16]) {
        self.ask(words16, self.last_used.wrapping_sub(1), AVAIL_NO_INTERRUPT);
    }

    /// With events by index the flag "MUST" be zero (virtio 1.3, 2.7.7.1).
    fn ask(&self, words16: &[AtomicU16], used_event: u16, flags: u16) {
        let (word, value) = match self.event_words {
            Some([_, event]) => (event, used_event),
            None => (self.avail_word, flags),
        };
        if let Some(word) = words16.get(word as usize) {
            word.store(value, Ordering::Relaxed);
        }
    }
}
