//! Memory as one pass sees it.

use std::{
    cell::{Cell, RefCell},
    sync::{Arc, RwLockReadGuard},
};

use vm_memory::{GuestMemoryRegion, VolatileSlice};

use super::{Backing, DmaAddress, DmaMemory, Ranges, RemoteMemory, range_at};
use crate::fabric::Fault;

/// A [`DmaMemory`] from which nothing can be taken meanwhile; except while a remote access waits, since the
/// host that has to answer may itself be waiting for ranges to go.
pub struct Lease<'a, A> {
    memory: &'a DmaMemory<A>,
    /// What was mapped when the lease began.
    ranges: Arc<Ranges<A>>,
    held: RefCell<Option<RwLockReadGuard<'a, Arc<Ranges<A>>>>>,
    /// Something changed during a remote access: only what is held now counts.
    stale: Cell<bool>,
}

impl<'a, A: DmaAddress> Lease<'a, A> {
    pub(super) fn new(memory: &'a DmaMemory<A>, held: RwLockReadGuard<'a, Arc<Ranges<A>>>) -> Self {
        let ranges = Arc::clone(&held);
        Self { memory, ranges, held: RefCell::new(Some(held)), stale: Cell::new(false) }
    }

    /// Whether the ring index at `at` can be reached.
    pub(in crate::live) fn holds_index(&self, at: A) -> bool {
        // It is aligned, and ranges that a device may use are of whole pages.
        range_at(&self.ranges, at.number()).is_some()
    }

    /// Does what may wait, with the memory let go.
    fn apart<T>(&self, work: impl FnOnce() -> T) -> T {
        self.held.take();
        let result = work();
        let held = self.memory.read();
        // The lease keeps its ranges alive, so a change has to have made a copy.
        self.stale.set(!Arc::ptr_eq(&held, &self.ranges));
        self.held.replace(Some(held));
        result
    }

    /// The ranges as they are now.
    fn now(&self) -> Arc<Ranges<A>> {
        self.held.borrow().as_ref().map_or_else(|| Arc::clone(&self.ranges), |held| Arc::clone(held))
    }
}

/// A lease with the range that was used last at hand: rings and buffers of one pass mostly share it. One view
/// per lease: it is the view that hears of a change.
pub struct View<'l, 'm, A> {
    lease: &'l Lease<'m, A>,
    last: Cell<Last<'l>>,
}

/// The range that was used last, as far as it may be read, and as far as it may be written.
#[derive(Clone, Copy)]
struct Last<'l> {
    start: u64,
    to_read: VolatileSlice<'l>,
    to_write: VolatileSlice<'l>,
}

impl Last<'_> {
    fn nothing() -> Self {
        let nothing = VolatileSlice::from(&mut [][..]);
        Self { start: 0, to_read: nothing, to_write: nothing }
    }
}

/// One piece of an access: what lies in one range.
enum Piece<'a, A> {
    /// Its bytes, mapped into this process.
    Here(VolatileSlice<'a>),
    /// So many bytes at this address are to be had from the host.
    There(&'a dyn RemoteMemory<A>, A, usize),
}

impl<'l, 'm, A: DmaAddress> View<'l, 'm, A> {
    /// A view of what `lease` holds.
    pub fn new(lease: &'l Lease<'m, A>) -> Self {
        Self { lease, last: Cell::new(Last::nothing()) }
    }

    /// The `len` bytes at `at`, if one mapped range holds them all and allows the access.
    #[inline]
    pub(in crate::live) fn slice(&self, at: u64, len: usize, write: bool) -> Option<VolatileSlice<'l>> {
        let last = self.last.get();
        let bytes = if write { last.to_write } else { last.to_read };
        match bytes.subslice(at.wrapping_sub(last.start) as usize, len) {
            Ok(slice) => Some(slice),
            Err(_) => self.find(at, len, write),
        }
    }

    /// The range that holds `at` becomes the one that was used last.
    #[cold]
    fn find(&self, at: u64, len: usize, write: bool) -> Option<VolatileSlice<'l>> {
        if self.lease.stale.get() {
            return None;
        }
        let (start, range) = range_at(&self.lease.ranges, at)?;
        let Backing::Mapped(region, offset) = &range.backing else { return None };
        let bytes = region.as_volatile_slice().ok()?;
        let bytes =
            bytes.subslice(usize::try_from(*offset).ok()?, usize::try_from(range.length).ok()?).ok()?;
        let nothing = Last::nothing();
        let allowed = |write, otherwise| if range.permission.allows(write) { bytes } else { otherwise };
        let last = Last {
            start,
            to_read: allowed(false, nothing.to_read),
            to_write: allowed(true, nothing.to_write),
        };
        self.last.set(last);
        let bytes = if write { last.to_write } else { last.to_read };
        bytes.subslice((at - start) as usize, len).ok()
    }

    /// Reads what does not lie in one mapped range.
    #[cold]
    pub(in crate::live) fn gather(&self, at: u64, into: &mut [u8]) -> Result<(), Fault> {
        self.pieces(at, into.len(), false, |done, piece| match piece {
            Piece::Here(bytes) => {
                bytes.copy_to(&mut into[done..done + bytes.len()]);
                Ok(())
            }
            Piece::There(host, at, len) => host.read(at, &mut into[done..done + len]),
        })
    }

    /// Writes what does not lie in one mapped range.
    #[cold]
    pub(in crate::live) fn scatter(&self, at: u64, from: &[u8]) -> Result<(), Fault> {
        self.pieces(at, from.len(), true, |done, piece| match piece {
            Piece::Here(bytes) => {
                bytes.copy_from(&from[done..done + bytes.len()]);
                Ok(())
            }
            Piece::There(host, at, len) => host.write(at, &from[done..done + len]),
        })
    }

    /// Does something with the pieces of `len` bytes at `at`, in order; `act` is also told where in the whole
    /// a piece begins. Only called with ranges that [`View::slice`] does not know.
    fn pieces(
        &self,
        at: u64,
        len: usize,
        write: bool,
        mut act: impl FnMut(usize, Piece<'_, A>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let fault = || Fault::at(A::new(at).into(), len as u64);
        self.check(at, len, write).ok_or_else(fault)?;
        let mut done = 0;
        while done < len {
            let position = at.wrapping_add(done as u64);
            // Looked up again for every piece: a remote one may have waited, and the map may be another.
            let ranges = self.lease.now();
            let (start, range) = range_at(&ranges, position).ok_or_else(fault)?;
            let inside = position - start;
            let length = usize::try_from(range.length - inside).unwrap_or(usize::MAX).min(len - done);
            match &range.backing {
                _ if !range.permission.allows(write) => return Err(fault()),
                Backing::Mapped(region, offset) => {
                    let first = usize::try_from(offset + inside).map_err(|_| fault())?;
                    let bytes = region.as_volatile_slice().ok();
                    let bytes =
                        bytes.and_then(|bytes| bytes.subslice(first, length).ok()).ok_or_else(fault)?;
                    act(done, Piece::Here(bytes))?;
                }
                Backing::Remote(host) => {
                    let piece = Piece::There(host.as_ref(), A::new(position), length);
                    let acted = self.lease.apart(|| act(done, piece));
                    if self.lease.stale.get() {
                        self.last.set(Last::nothing());
                    }
                    acted?;
                }
            }
            done += length;
        }
        Ok(())
    }

    /// Whether all of a range may be accessed: a failed access changes nothing.
    fn check(&self, at: u64, len: usize, write: bool) -> Option<()> {
        let last = (len as u64).checked_sub(1).map_or(Some(at), |more| at.checked_add(more))?;
        let ranges = self.lease.now();
        let mut position = at;
        loop {
            let (start, range) = range_at(&ranges, position).filter(|(_, r)| r.permission.allows(write))?;
            let end = start + (range.length - 1);
            if end >= last {
                return Some(());
            }
            position = end.checked_add(1)?;
        }
    }
}
