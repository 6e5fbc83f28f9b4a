//! Slots: equal buffers in base memory, each the shadow of a piece of a guest buffer while its chain is in
//! flight.

use iobond_spec::address::BoardAddr;

use super::free_list::FreeStack;

/// "No slot", "no next piece". A pool has at most 65535 slots, so this number is never one.
pub(super) const NONE: u16 = u16::MAX;

/// The piece of a guest buffer that a slot shadows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Piece {
    /// Where its bytes are in board memory.
    pub(super) guest: BoardAddr,
    /// How many there are; the top bit says that the device writes them.
    len_and_write: u32,
    /// The chain's next piece, or [`NONE`].
    pub(super) next: u16,
    /// The shadow descriptor that names the slot, or [`NONE`] when an indirect table does.
    pub(super) descriptor: u16,
}

const _: () = assert!(size_of::<Piece>() == 16);

const WRITE: u32 = 1 << 31;

impl Piece {
    /// A piece of `len` bytes, at most a slot. Slots are at most 2^30 bytes (see `Context`), so the top bit
    /// is free.
    pub(super) fn new(guest: BoardAddr, len: u32, write: bool, descriptor: u16) -> Self {
        Self { guest, len_and_write: len | if write { WRITE } else { 0 }, next: NONE, descriptor }
    }

    pub(super) fn len(&self) -> u32 {
        self.len_and_write & !WRITE
    }

    pub(super) fn is_write(&self) -> bool {
        self.len_and_write & WRITE != 0
    }
}

/// The slot pool of one queue.
#[derive(Debug)]
pub(super) struct Slots {
    free: FreeStack,
    pieces: Box<[Piece]>,
}

impl Slots {
    pub(super) fn new(count: u16) -> Self {
        Self { free: FreeStack::new(count), pieces: vec![Piece::default(); usize::from(count)].into() }
    }

    /// How many slots are free.
    #[inline]
    pub(super) fn available(&self) -> usize {
        self.free.len()
    }

    /// Takes a slot for a chain that was checked to find enough of them free.
    #[inline]
    pub(super) fn take(&mut self) -> u16 {
        self.free.take()
    }

    /// Gives a slot back.
    #[inline]
    pub(super) fn give(&mut self, slot: u16) {
        self.free.give(slot);
    }

    /// The piece that `slot` shadows.
    #[inline]
    pub(super) fn piece(&mut self, slot: u16) -> &mut Piece {
        &mut self.pieces[usize::from(slot)]
    }

    /// Bytes on the heap.
    pub(super) fn footprint(&self) -> usize {
        self.free.footprint() + size_of_val(&*self.pieces)
    }
}
