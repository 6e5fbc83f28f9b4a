//! Which chains a back end has, for one that keeps no account of them itself (vhost-user protocol feature
//! INFLIGHT_SHMFD).
//!
//! The rings alone do not tell: a back end may use buffers in another order than they became available in
//! (virtio 1.3, 2.7.8), and of either ring only the last round is there to be read. So heads are noted as
//! they become available, and struck out as they are used, whenever the used index has moved. That misses
//! nothing: IO-Bond makes no descriptor available again before TAIL returned it, and TAIL moves after the
//! noting, so that neither ring ever wraps between two looks.

use std::sync::atomic::{AtomicU16, Ordering};

use iobond_spec::ring::split::{IDX, RING};

/// Entries of either ring begin here, and its index stands here, in units of 16 bits.
const ENTRIES: usize = RING as usize / 2;
const INDEX: usize = IDX as usize / 2;
/// Words of a used element, of which the first is the low half of `id`.
const ELEMENT: usize = 4;
/// A head that is not outstanding.
const RETURNED: u64 = u64::MAX;

/// The account of one shadow vring. Indices count without end, so that what is outstanding for long keeps its
/// place.
#[derive(Debug)]
pub(super) struct Outstanding {
    /// Where the available ring stands in the pool, in units of 16 bits.
    avail: usize,
    /// Where the used ring stands.
    used: usize,
    /// For every head, the place in the available ring at which it was last found, or [`RETURNED`].
    places: Box<[u64]>,
    available: u64,
    returned: u64,
}

/// What the rings hold does not go together: there are chains used that were not available, or available
/// twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Inconsistent;

impl Outstanding {
    /// The account of fresh rings at these words, for `size` descriptors.
    pub(super) fn new(avail: u32, used: u32, size: u16) -> Self {
        let places = vec![RETURNED; size.into()].into();
        Self { avail: avail as usize, used: used as usize, places, available: 0, returned: 0 }
    }

    /// Everything before index `used` is used, and nothing from it on.
    pub(super) fn begin_at(&mut self, used: u16) {
        (self.available, self.returned) = (used.into(), used.into());
    }

    /// Takes note of all that was made available by now, and used up to index `used`.
    ///
    /// The caller loaded `used` with acquire ordering: whatever the back end used, it had found in the
    /// available ring, so that the available index below covers it.
    pub(super) fn follow(&mut self, words: &[AtomicU16], used: u16) {
        let word = |at: usize| words.get(at).map_or(0, |word| word.load(Ordering::Relaxed));
        let available = words.get(self.avail + INDEX).map_or(0, |index| index.load(Ordering::Acquire));
        let size = self.places.len().max(1);
        for _ in 0..available.wrapping_sub(self.available as u16).min(size as u16) {
            let head = word(self.avail + ENTRIES + self.available as usize % size);
            if let Some(place) = self.places.get_mut(usize::from(head)) {
                *place = self.available;
            }
            self.available += 1;
        }
        for _ in 0..used.wrapping_sub(self.returned as u16).min(size as u16) {
            let head = word(self.used + ENTRIES + ELEMENT * (self.returned as usize % size));
            if let Some(place) = self.places.get_mut(usize::from(head)) {
                *place = RETURNED;
            }
            self.returned += 1;
        }
    }

    /// Makes the available ring from the used index on offer exactly what is outstanding, in the order in
    /// which it became available: a back end that begins there loses nothing, and does nothing that was
    /// returned.
    ///
    /// No other party uses these entries any more. IO-Bond writes each once, before it publishes it, and
    /// reads none; and it publishes no more chains than there are entries before TAIL returns some. The
    /// former back end is gone.
    ///
    /// # Errors
    /// [`Inconsistent`], and the ring is left alone.
    pub(super) fn offer_again(&mut self, words: &[AtomicU16]) -> Result<(), Inconsistent> {
        let mut heads: Vec<(u64, u16)> =
            self.places.iter().copied().zip(0..).filter(|(place, _)| *place != RETURNED).collect();
        heads.sort_unstable();
        if self.returned.checked_add(heads.len() as u64) != Some(self.available) {
            return Err(Inconsistent);
        }
        let size = self.places.len().max(1);
        for (place, (_, head)) in (self.returned..).zip(heads) {
            if let Some(entry) = words.get(self.avail + ENTRIES + place as usize % size) {
                entry.store(head, Ordering::Relaxed);
            }
            if let Some(known) = self.places.get_mut(usize::from(head)) {
                *known = place;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    const SIZE: u16 = 8;
    const AVAIL: usize = 0;
    const USED: usize = 32;

    /// Both rings, and IO-Bond's half of them.
    struct Rings {
        words: Vec<AtomicU16>,
        free: VecDeque<u16>,
        available: u16,
        used: u16,
        tail: u16,
    }

    impl Rings {
        fn new() -> Self {
            let words = (0..128).map(|_| AtomicU16::new(0)).collect();
            Self { words, free: (0..SIZE).collect(), available: 0, used: 0, tail: 0 }
        }

        fn entry(&self, index: u16) -> &AtomicU16 {
            &self.words[AVAIL + ENTRIES + usize::from(index % SIZE)]
        }

        fn publish(&mut self) {
            let Some(head) = self.free.pop_back() else { return };
            self.entry(self.available).store(head, Ordering::Relaxed);
            self.available = self.available.wrapping_add(1);
            self.words[AVAIL + INDEX].store(self.available, Ordering::Release);
        }

        fn give_back(&mut self, head: u16) {
            let at = USED + ENTRIES + ELEMENT * usize::from(self.used % SIZE);
            self.words[at].store(head, Ordering::Relaxed);
            self.used = self.used.wrapping_add(1);
            self.words[USED + INDEX].store(self.used, Ordering::Release);
        }

        /// TAIL: the descriptors are free again.
        fn retire(&mut self) {
            while self.tail != self.used {
                let at = USED + ENTRIES + ELEMENT * usize::from(self.tail % SIZE);
                self.free.push_back(self.words[at].load(Ordering::Relaxed));
                self.tail = self.tail.wrapping_add(1);
            }
        }
    }

    proptest! {
        /// Back ends that return in any order and end at any moment, each followed by another: every chain
        /// that was published is returned once. (A chain that is returned twice, or never, would be missing
        /// or found twice at the end.)
        #[test]
        fn the_next_back_end_finds_exactly_what_is_outstanding(
            steps in prop::collection::vec((0u8..5, any::<u8>()), 0..400),
        ) {
            let mut rings = Rings::new();
            let mut account = Outstanding::new(AVAIL as u32, USED as u32, SIZE);
            // What the back end of the moment has taken, and where it looks next.
            let (mut in_hand, mut next) = (Vec::new(), 0u16);
            let mut at_back_end: Vec<u16> = vec![];
            for (step, pick) in steps {
                match step {
                    0 => {
                        let free = rings.free.back().copied();
                        rings.publish();
                        at_back_end.extend(free);
                    }
                    1 if next != rings.available => {
                        let head = rings.entry(next).load(Ordering::Relaxed);
                        prop_assert!(at_back_end.contains(&head) && !in_hand.contains(&head));
                        in_hand.push(head);
                        next = next.wrapping_add(1);
                    }
                    2 if !in_hand.is_empty() => {
                        let head = in_hand.swap_remove(usize::from(pick) % in_hand.len());
                        at_back_end.retain(|other| *other != head);
                        rings.give_back(head);
                    }
                    3 => {
                        account.follow(&rings.words, rings.used);
                        rings.retire();
                    }
                    4 => {
                        account.follow(&rings.words, rings.used);
                        // IO-Bond publishes also while there is no back end.
                        if pick % 2 == 0 {
                            at_back_end.extend(rings.free.back().copied());
                            rings.publish();
                        }
                        prop_assert_eq!(account.offer_again(&rings.words), Ok(()));
                        (in_hand, next) = (vec![], rings.used);
                        let offered: Vec<u16> = (0..rings.available.wrapping_sub(rings.used))
                            .map(|n| rings.entry(rings.used.wrapping_add(n)).load(Ordering::Relaxed))
                            .collect();
                        let mut sorted = (offered.clone(), at_back_end.clone());
                        sorted.0.sort_unstable();
                        sorted.1.sort_unstable();
                        prop_assert_eq!(&sorted.0, &sorted.1);
                        prop_assert_eq!(offered, at_back_end.clone(), "in the order in which they became available");
                    }
                    _ => {}
                }
            }
        }

        /// Whatever a back end writes into its ring, the account stays inside of what there is.
        #[test]
        fn no_used_ring_is_too_wild(garbage in prop::collection::vec(any::<u16>(), 128), used: u16) {
            let words: Vec<AtomicU16> = garbage.into_iter().map(AtomicU16::new).collect();
            let mut account = Outstanding::new(AVAIL as u32, USED as u32, SIZE);
            account.follow(&words, used);
            let _ = account.offer_again(&words);
        }
    }
}
