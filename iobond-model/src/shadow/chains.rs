//! Chains in flight: published in the shadow vring and not yet returned, found by their shadow head.

use super::{free_list::FreeList, slots::NONE};

/// One chain in flight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain {
    /// Slot of the first piece; [`NONE`] when this head is not in flight.
    pub(super) first: u16,
    /// Head of the chain in the guest's table.
    pub(super) guest_head: u16,
    /// Slot that holds the indirect table, or [`NONE`].
    pub(super) table: u16,
    /// Bytes that the back end may write; at most so many go back to the guest.
    pub(super) writable: u64,
}

impl Chain {
    const NOT_IN_FLIGHT: Self = Self { first: NONE, guest_head: 0, table: NONE, writable: 0 };
}

/// The shadow descriptor table: which descriptors are free, and the chain at every head.
#[derive(Debug)]
pub(super) struct Chains {
    free: FreeList,
    by_head: Box<[Chain]>,
    /// Writable bytes of all chains in flight.
    writable: u64,
}

impl Chains {
    pub(super) fn new(size: u16) -> Self {
        Self {
            free: FreeList::new(size),
            by_head: vec![Chain::NOT_IN_FLIGHT; usize::from(size)].into(),
            writable: 0,
        }
    }

    /// How many shadow descriptors are free.
    #[inline]
    pub(super) fn descriptors(&self) -> usize {
        self.free.len()
    }

    /// Takes a shadow descriptor.
    #[inline]
    pub(super) fn take_descriptor(&mut self) -> u16 {
        self.free.take()
    }

    /// Gives a shadow descriptor back.
    #[inline]
    pub(super) fn give_descriptor(&mut self, descriptor: u16) {
        self.free.give(descriptor);
    }

    /// Notes that the chain at `head` is in flight.
    #[inline]
    pub(super) fn start(&mut self, head: u16, chain: Chain) {
        self.by_head[usize::from(head)] = chain;
        self.writable += chain.writable;
    }

    /// The chain at `head` if one is in flight; `head` is whatever the back end wrote.
    #[inline]
    pub(super) fn get(&self, head: u32) -> Option<Chain> {
        self.by_head.get(head as usize).copied().filter(|chain| chain.first != NONE)
    }

    /// Forgets the chain at `head`, which [`Chains::get`] found.
    #[inline]
    pub(super) fn finish(&mut self, head: u32) {
        let chain = &mut self.by_head[head as usize];
        chain.first = NONE;
        self.writable -= chain.writable;
    }

    /// Writable bytes of the chains in flight.
    pub(super) fn writable(&self) -> u64 {
        self.writable
    }

    /// Bytes on the heap.
    pub(super) fn footprint(&self) -> usize {
        self.free.footprint() + size_of_val(&*self.by_head)
    }
}
