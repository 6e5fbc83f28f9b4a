//! The fabric of the `live` world: both memories are mapped here and a DMA is a memcpy.

use std::sync::atomic::{self, Ordering};

use iobond_spec::address::{Address, BaseAddr, BoardAddr, FunctionId};
use vm_memory::{Bytes, VolatileSlice};

use super::dma_memory::{Lease, View};
use crate::fabric::{Copy, Direction, Fabric, Fault};

/// Where interrupts go: the board's interrupt controller.
pub trait Interrupts {
    /// Raises `vector` of `function`.
    fn raise(&self, function: FunctionId, vector: u16);
}

/// None are wanted from memory.
impl Interrupts for () {
    fn raise(&self, _: FunctionId, _: u16) {}
}

/// Board memory and base memory, mapped into this process; what is not mapped is asked for.
pub struct Memory<'a, 'm, I> {
    board: View<'a, 'm, BoardAddr>,
    base: View<'a, 'm, BaseAddr>,
    interrupts: &'a I,
}

impl<'a, 'm, I> Memory<'a, 'm, I> {
    /// Board memory by board address, base memory by I/O virtual address, and where interrupts go.
    pub fn new(board: &'a Lease<'m, BoardAddr>, base: &'a Lease<'m, BaseAddr>, interrupts: &'a I) -> Self {
        Self { board: View::new(board), base: View::new(base), interrupts }
    }

    /// The `len` bytes at `at`, if they lie in one piece here.
    #[inline]
    fn slice(&self, at: Address, len: usize, write: bool) -> Option<VolatileSlice<'a>> {
        match at {
            Address::Board(at) => self.board.slice(at.0, len, write),
            Address::Base(at) => self.base.slice(at.0, len, write),
        }
    }

    /// Reads what does not lie in one piece here.
    #[cold]
    fn gather(&self, at: Address, into: &mut [u8]) -> Result<(), Fault> {
        match at {
            Address::Board(at) => self.board.gather(at.0, into),
            Address::Base(at) => self.base.gather(at.0, into),
        }
    }

    /// Writes what does not lie in one piece here.
    #[cold]
    fn scatter(&self, at: Address, from: &[u8]) -> Result<(), Fault> {
        match at {
            Address::Board(at) => self.board.scatter(at.0, from),
            Address::Base(at) => self.base.scatter(at.0, from),
        }
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
    async fn copy_all(&self, direction: Direction, copies: &[Copy]) -> Result<(), Fault> {
        for &copy in copies {
            let ((from, to), len) = (copy.ends(direction), copy.len as usize);
            match (self.slice(from, len, false), self.slice(to, len, true)) {
                (Some(from), Some(to)) => from.copy_to_volatile_slice(to),
                _ => self.carry(from, to, copy.len)?,
            }
        }
        Ok(())
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
