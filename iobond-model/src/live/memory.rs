//! The fabric of the `live` world: both memories are mapped here and a DMA is a memcpy.

use std::{
    cell::Cell,
    pin::pin,
    sync::atomic::{self, Ordering},
    task::{Context, Poll, Waker},
};

use iobond_spec::address::{Address, FunctionId};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, VolatileSlice};

use super::board_memory::{Lease, Piece, View};
use crate::fabric::{Fabric, Fault};

/// Where interrupts go: the board's interrupt controller.
pub trait Interrupts {
    /// Raises `vector` of `function`.
    fn raise(&self, function: FunctionId, vector: u16);
}

/// Base memory, with the region that was used last at hand: rings, slots and buffers of one pass mostly share it.
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

/// Board memory and base memory, mapped into this process; what is not mapped of the board's is asked for.
pub struct Memory<'a, 'm, I> {
    board: View<'a, 'm>,
    base: Side<'a>,
    interrupts: &'a I,
}

impl<'a, 'm, I> Memory<'a, 'm, I> {
    /// Board memory by board address, base memory by I/O virtual address, and where interrupts go.
    pub fn new(board: &'a Lease<'m>, base: &'a GuestMemoryMmap, interrupts: &'a I) -> Self {
        Self { board: View::new(board), base: Side::new(base), interrupts }
    }

    /// The `len` bytes at `at`, if they lie in one piece here.
    #[inline]
    fn slice(&self, at: Address, len: usize, write: bool) -> Option<VolatileSlice<'a>> {
        match at {
            Address::Board(at) => self.board.slice(at.0, len, write),
            Address::Base(at) => self.base.slice(at.0, len),
        }
    }

    /// Reads what does not lie in one piece here.
    #[cold]
    fn gather(&self, at: Address, into: &mut [u8]) -> Result<(), Fault> {
        let Address::Board(start) = at else { return Err(Fault::at(at, into.len() as u64)) };
        self.board.pieces(start.0, into.len(), false, |done, piece| match piece {
            Piece::Here(bytes) => {
                bytes.copy_to(&mut into[done..done + bytes.len()]);
                Ok(())
            }
            Piece::There(host, at, len) => host.read(at, &mut into[done..done + len]),
        })
    }

    /// Writes what does not lie in one piece here.
    #[cold]
    fn scatter(&self, at: Address, from: &[u8]) -> Result<(), Fault> {
        let Address::Board(start) = at else { return Err(Fault::at(at, from.len() as u64)) };
        self.board.pieces(start.0, from.len(), true, |done, piece| match piece {
            Piece::Here(bytes) => {
                bytes.copy_from(&from[done..done + bytes.len()]);
                Ok(())
            }
            Piece::There(host, at, len) => host.write(at, &from[done..done + len]),
        })
    }

    /// Copies where either range does not lie in one piece here, by way of a buffer.
    #[cold]
    fn carry(&self, from: Address, to: Address, len: u32) -> Result<(), Fault> {
        let mut bytes = vec![0; len as usize];
        match self.slice(from, bytes.len(), false) {
            Some(slice) => {
                slice.copy_to(&mut bytes);
            }
            None => self.gather(from, &mut bytes)?,
        }
        match self.slice(to, bytes.len(), true) {
            Some(slice) => {
                slice.copy_from(&bytes);
                Ok(())
            }
            None => self.scatter(to, &bytes),
        }
    }
}

impl<I: Interrupts> Fabric for Memory<'_, '_, I> {
    #[inline]
    async fn read(&self, at: Address, into: &mut [u8]) -> Result<(), Fault> {
        match self.slice(at, into.len(), false) {
            Some(slice) => {
                slice.copy_to(into);
                Ok(())
            }
            None => self.gather(at, into),
        }
    }

    #[inline]
    async fn write(&self, at: Address, from: &[u8]) -> Result<(), Fault> {
        match self.slice(at, from.len(), true) {
            Some(slice) => {
                slice.copy_from(from);
                Ok(())
            }
            None => self.scatter(at, from),
        }
    }

    #[inline]
    async fn copy(&self, from: Address, to: Address, len: u32) -> Result<(), Fault> {
        match (self.slice(from, len as usize, false), self.slice(to, len as usize, true)) {
            (Some(from), Some(to)) => {
                from.copy_to_volatile_slice(to);
                Ok(())
            }
            _ => self.carry(from, to, len),
        }
    }

    #[inline]
    async fn load(&self, at: Address) -> Result<u16, Fault> {
        match self.slice(at, 2, false) {
            Some(slice) => slice.load(0, Ordering::Acquire).map_err(|_| Fault::at(at, 2)),
            None => {
                let mut bytes = [0; 2];
                self.gather(at, &mut bytes)?;
                Ok(u16::from_le_bytes(bytes))
            }
        }
    }

    #[inline]
    async fn store(&self, at: Address, value: u16) -> Result<(), Fault> {
        match self.slice(at, 2, true) {
            Some(slice) => slice.store(value, 0, Ordering::Release).map_err(|_| Fault::at(at, 2)),
            None => self.scatter(at, &value.to_le_bytes()),
        }
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
