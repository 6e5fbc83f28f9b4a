//! The fabric of the `live` world: both memories are mapped here and a DMA is a memcpy.

use std::{
    cell::Cell,
    pin::pin,
    sync::atomic::{self, Ordering},
    task::{Context, Poll, Waker},
};

use iobond_spec::address::{Address, FunctionId};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, VolatileSlice};

use crate::fabric::{Fabric, Fault};

/// Where interrupts go: the board's interrupt controller.
pub trait Interrupts {
    /// Raises `vector` of `function`.
    fn raise(&self, function: FunctionId, vector: u16);
}

/// One of the two memories, with the region that was used last at hand: rings, slots and buffers of one pass mostly share it.
#[derive(Debug)]
struct Side<'a> {
    memory: &'a GuestMemoryMmap,
    last: Cell<(u64, VolatileSlice<'a>)>,
}

impl<'a> Side<'a> {
    fn new(memory: &'a GuestMemoryMmap) -> Self {
        let nothing = VolatileSlice::from(&mut [][..]);
        Self { memory, last: Cell::new((0, nothing)) }
    }

    /// The `len` bytes at `at`, if one region holds them all.
    #[inline]
    fn slice(&self, at: u64, len: usize) -> Option<VolatileSlice<'a>> {
        let (start, region) = self.last.get();
        match region.subslice(at.wrapping_sub(start) as usize, len) {
            Ok(slice) => Some(slice),
            Err(_) => self.find(at)?.subslice((at - self.last.get().0) as usize, len).ok(),
        }
    }

    /// The region that holds `at`, which is now the one that was used last.
    #[cold]
    fn find(&self, at: u64) -> Option<VolatileSlice<'a>> {
        let region = self.memory.find_region(GuestAddress(at))?;
        let slice = region.as_volatile_slice().ok()?;
        self.last.set((region.start_addr().0, slice));
        Some(slice)
    }
}

/// Board memory and base memory, mapped into this process.
#[derive(Debug)]
pub struct Memory<'a, I> {
    board: Side<'a>,
    base: Side<'a>,
    interrupts: &'a I,
}

impl<'a, I> Memory<'a, I> {
    /// Board memory by board address, base memory by I/O virtual address, and where interrupts go.
    pub fn new(board: &'a GuestMemoryMmap, base: &'a GuestMemoryMmap, interrupts: &'a I) -> Self {
        Self { board: Side::new(board), base: Side::new(base), interrupts }
    }

    #[inline]
    fn slice(&self, at: Address, len: usize) -> Result<VolatileSlice<'a>, Fault> {
        let slice = match at {
            Address::Board(at) => self.board.slice(at.0, len),
            Address::Base(at) => self.base.slice(at.0, len),
        };
        slice.ok_or_else(|| Fault::at(at, len as u64))
    }
}

impl<I: Interrupts> Fabric for Memory<'_, I> {
    #[inline]
    async fn read(&self, at: Address, into: &mut [u8]) -> Result<(), Fault> {
        self.slice(at, into.len())?.copy_to(into);
        Ok(())
    }

    #[inline]
    async fn write(&self, at: Address, from: &[u8]) -> Result<(), Fault> {
        self.slice(at, from.len())?.copy_from(from);
        Ok(())
    }

    #[inline]
    async fn copy(&self, from: Address, to: Address, len: u32) -> Result<(), Fault> {
        let from = self.slice(from, len as usize)?;
        from.copy_to_volatile_slice(self.slice(to, len as usize)?);
        Ok(())
    }

    #[inline]
    async fn load(&self, at: Address) -> Result<u16, Fault> {
        self.slice(at, 2)?.load(0, Ordering::Acquire).map_err(|_| Fault::at(at, 2))
    }

    #[inline]
    async fn store(&self, at: Address, value: u16) -> Result<(), Fault> {
        self.slice(at, 2)?.store(value, 0, Ordering::Release).map_err(|_| Fault::at(at, 2))
    }

    #[inline]
    fn fence(&self) {
        atomic::fence(Ordering::SeqCst);
    }

    fn interrupt(&self, function: FunctionId, vector: u16) {
        self.interrupts.raise(function, vector);
    }
}

/// The value of a future that never waits, as none does over [`Memory`].
#[inline]
pub fn ready<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => unreachable!("a live fabric never waits"),
    }
}
