//! The fabric of the `live` world: both memories are mapped here and a DMA is a memcpy.

use std::{
    pin::pin,
    sync::atomic::{self, Ordering},
    task::{Context, Poll, Waker},
};

use iobond_spec::address::{Address, FunctionId};
use vm_memory::{Bytes, GuestMemoryBackend, GuestMemoryMmap, VolatileSlice};

use crate::fabric::{Fabric, Fault};

/// Where interrupts go: the board's interrupt controller.
pub trait Interrupts {
    /// Raises `vector` of `function`.
    fn raise(&self, function: FunctionId, vector: u16);
}

/// Board memory and base memory, mapped into this process.
#[derive(Debug)]
pub struct Memory<'a, I> {
    /// Board memory, by board address.
    pub board: &'a GuestMemoryMmap,
    /// Base memory, by I/O virtual address.
    pub base: &'a GuestMemoryMmap,
    /// Where interrupts go.
    pub interrupts: &'a I,
}

impl<I> Memory<'_, I> {
    #[inline]
    fn slice(&self, at: Address, len: usize) -> Result<VolatileSlice<'_>, Fault> {
        let (memory, address) = match at {
            Address::Board(at) => (self.board, at.0),
            Address::Base(at) => (self.base, at.0),
        };
        memory.get_slice(vm_memory::GuestAddress(address), len).map_err(|_| Fault::at(at, len as u64))
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
