//! The rings of a board as its driver and its back end use them, whatever moves between the two.

use std::sync::atomic::Ordering;

use iobond_spec::ring::split::{
    IDX, UsedElement, avail_entry_offset, avail_event_offset, used_element_offset, used_event_offset,
};
use vm_memory::{Bytes, GuestAddress};
use zerocopy::IntoBytes;

use super::board::Board;

impl Board {
    /// The driver makes the chain at `head` available as number `index`.
    pub(crate) fn offer(&self, queue: usize, index: u16, head: u16) {
        let ring = &self.contexts[queue].guest;
        self.set_word(ring.avail.0 + avail_entry_offset(index, ring.size), head);
    }

    /// The driver moves its available index to `index`.
    pub(crate) fn publish(&self, queue: usize, index: u16) {
        self.set_word(self.contexts[queue].guest.avail.0 + IDX, index);
    }

    /// The index at which IO-Bond asked for a doorbell last.
    pub(crate) fn avail_event(&self, queue: usize) -> u16 {
        let ring = &self.contexts[queue].guest;
        self.word(ring.used.0 + avail_event_offset(ring.size))
    }

    /// The driver asks for an interrupt at used index `index`.
    pub(crate) fn want_interrupt(&self, queue: usize, index: u16) {
        let ring = &self.contexts[queue].guest;
        self.set_word(ring.avail.0 + used_event_offset(ring.size), index);
    }

    /// The used index of the guest's ring.
    pub(crate) fn guest_used(&self, queue: usize) -> u16 {
        self.word(self.contexts[queue].guest.used.0 + IDX)
    }

    /// The head of the chain that the guest's ring has as used number `index`.
    pub(crate) fn guest_used_id(&self, queue: usize, index: u16) -> u16 {
        let ring = &self.contexts[queue].guest;
        self.word(ring.used.0 + used_element_offset(index, ring.size))
    }

    /// The head of the chain that the guest made available as number `index`.
    pub(super) fn guest_head(&self, queue: usize, index: u16) -> u16 {
        let ring = &self.contexts[queue].guest;
        self.word(ring.avail.0 + avail_entry_offset(index, ring.size))
    }

    /// A back end that has the guest's own ring uses a chain, as number `index`, and says that it wrote `len`
    /// bytes.
    pub(super) fn use_guest(&self, queue: usize, index: u16, head: u16, len: u32) {
        let ring = &self.contexts[queue].guest;
        let element = UsedElement { id: u32::from(head).into(), len: len.into() };
        let at = ring.used.0 + used_element_offset(index, ring.size);
        // The rings lie in board memory; they were put there.
        let _ = self.memory.write_slice(element.as_bytes(), GuestAddress(at));
        self.set_word(ring.used.0 + IDX, index.wrapping_add(1));
    }

    /// The shadow available index of a queue.
    pub(crate) fn shadow_available(&self, queue: usize) -> u16 {
        self.pool_word(self.places[queue].avail + IDX)
    }

    /// The head of the shadow chain that was made available as number `index`.
    pub(crate) fn shadow_head(&self, queue: usize, index: u16) -> u16 {
        let place = &self.places[queue];
        self.pool_word(place.avail + avail_entry_offset(index, place.sizes.shadow))
    }

    /// The back end uses a shadow chain, as number `index`, and says that it wrote `len` bytes.
    pub(crate) fn use_shadow(&self, queue: usize, index: u16, head: u16, len: u32) {
        let (place, mapping) = (&self.places[queue], self.pool.mapping());
        let element = UsedElement { id: u32::from(head).into(), len: len.into() };
        mapping.write(place.used + used_element_offset(index, place.sizes.shadow), element.as_bytes());
        if let Some(word) = mapping.words16().get(((place.used + IDX) / 2) as usize) {
            word.store(index.wrapping_add(1), Ordering::Release);
        }
    }

    fn pool_word(&self, offset: u64) -> u16 {
        let words = self.pool.mapping().words16();
        words.get((offset / 2) as usize).map_or(0, |word| word.load(Ordering::Acquire))
    }

    /// A 16-bit word of board memory; 0 where there is none.
    pub(super) fn word(&self, at: u64) -> u16 {
        self.memory.load(GuestAddress(at), Ordering::Acquire).unwrap_or(0)
    }

    fn set_word(&self, at: u64, value: u16) {
        // The rings lie in board memory; they were put there.
        let _ = self.memory.store(value, GuestAddress(at), Ordering::Release);
    }
}
