//! What one PCI function reaches by DMA: ranges that come and go while it works. A function of the board
//! reaches board memory, the base function base memory; each is addressed in its own kind of address.
//!
//! A range is either mapped here, from a file that the machine's host shares, or remote: then every access is
//! a message to the host. Firmware maps and unmaps the same addresses again and again, and behind an I/O MMU
//! ranges are single pages; so nothing is remembered of a range between two passes, and an access may span
//! several.

mod files;
mod lease;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use iobond_spec::address::{Address, BaseAddr, BoardAddr};
use vm_memory::{GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap};

pub(super) use self::lease::View;
pub use self::{
    files::{MapError, Mapping, ShareError, SharedFiles},
    lease::Lease,
};
use crate::fabric::Fault;

/// An address of one of the two memories.
pub trait DmaAddress: Copy + Into<Address> + Send + Sync + 'static {
    /// The address that is `number` in its own memory.
    fn new(number: u64) -> Self;
    /// The inverse of [`DmaAddress::new`].
    fn number(self) -> u64;
}

impl DmaAddress for BoardAddr {
    fn new(number: u64) -> Self {
        Self(number)
    }
    fn number(self) -> u64 {
        self.0
    }
}

impl DmaAddress for BaseAddr {
    fn new(number: u64) -> Self {
        Self(number)
    }
    fn number(self) -> u64 {
        self.0
    }
}

/// What a function of the board reaches.
pub type BoardMemory = DmaMemory<BoardAddr>;
/// What the base function reaches, inside of its DMA windows.
pub type BaseMemory = DmaMemory<BaseAddr>;

/// Memory that is not mapped here. Every call may wait, though not without a bound.
pub trait RemoteMemory<A>: Send + Sync {
    /// Reads `into.len()` bytes at `at`.
    ///
    /// # Errors
    /// A [`Fault`] when the host refuses, is gone, or does not answer in time.
    fn read(&self, at: A, into: &mut [u8]) -> Result<(), Fault>;

    /// Writes `from` at `at`.
    ///
    /// # Errors
    /// A [`Fault`] when the host refuses, is gone, or does not answer in time.
    fn write(&self, at: A, from: &[u8]) -> Result<(), Fault>;
}

/// What a function may do with a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are the two accesses")]
pub struct Permission {
    pub read: bool,
    pub write: bool,
}

impl Permission {
    /// To read and to write.
    pub const ALL: Self = Self { read: true, write: true };

    fn allows(self, write: bool) -> bool {
        if write { self.write } else { self.read }
    }
}

/// Where the bytes of a range are.
pub enum Backing<A> {
    /// In a mapping, from this offset on. Every page of the range exists, or touching it would end the
    /// process (SIGBUS).
    Mapped(Arc<GuestRegionMmap>, u64),
    /// With the machine's host.
    Remote(Arc<dyn RemoteMemory<A>>),
}

/// Why a range was not mapped or unmapped.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are those of the message")]
pub enum DmaMapError {
    /// It is empty, wraps, or is larger than what is to back it.
    #[error("{length:#x} bytes at {at} are not a range, or more than what backs them")]
    Range { at: Address, length: u64 },
    /// Part of it is mapped already.
    #[error("{length:#x} bytes at {at} overlap memory that is mapped already")]
    Overlap { at: Address, length: u64 },
    /// No range that starts there is that long.
    #[error("no {length:#x} bytes were mapped at {at}")]
    NotMapped { at: Address, length: u64 },
}

// Not derived: it would ask the same of the address.
impl<A> Clone for Backing<A> {
    fn clone(&self) -> Self {
        match self {
            Self::Mapped(region, offset) => Self::Mapped(Arc::clone(region), *offset),
            Self::Remote(memory) => Self::Remote(Arc::clone(memory)),
        }
    }
}

struct Range<A> {
    length: u64,
    permission: Permission,
    backing: Backing<A>,
}

impl<A> Clone for Range<A> {
    fn clone(&self) -> Self {
        Self { length: self.length, permission: self.permission, backing: self.backing.clone() }
    }
}

/// Ranges by their first address. None overlap.
type Ranges<A> = BTreeMap<u64, Range<A>>;

/// The range that holds `at`, and its first address.
fn range_at<A>(ranges: &Ranges<A>, at: u64) -> Option<(u64, &Range<A>)> {
    let (&start, range) = ranges.range(..=at).next_back()?;
    (at - start < range.length).then_some((start, range))
}

/// For how long after a range went away memory that is missing counts as on its way. A host that cuts a range
/// in two, as QEMU does when firmware shadows ROM, takes it away whole and gives back the pieces: within a
/// millisecond or so, or as soon as it gets a processor again.
const REMAP_TIME: Duration = Duration::from_millis(500);

/// The memory that one function reaches.
pub struct DmaMemory<A> {
    ranges: RwLock<Arc<Ranges<A>>>,
    /// When a range last went away, for as long as that matters; and whether there is such a time, which
    /// passes look at.
    last_unmap: Mutex<Option<Instant>>,
    unmapped: AtomicBool,
}

impl<A> Default for DmaMemory<A> {
    fn default() -> Self {
        Self { ranges: RwLock::default(), last_unmap: Mutex::default(), unmapped: AtomicBool::default() }
    }
}

impl<A: DmaAddress> DmaMemory<A> {
    /// Adds every region of `memory`.
    ///
    /// # Errors
    /// [`DmaMapError::Overlap`] with what was there; earlier regions stay mapped.
    pub fn map_all(&self, memory: &GuestMemoryMmap) -> Result<(), DmaMapError> {
        for region in memory.iter() {
            let (at, length) = (A::new(region.start_addr().0), region.len());
            // The only way to a region's own handle.
            let taken = memory.remove_region(region.start_addr(), length);
            let (_, region) = taken.map_err(|_| DmaMapError::Range { at: at.into(), length })?;
            self.map(at, length, Permission::ALL, Backing::Mapped(region, 0))?;
        }
        Ok(())
    }

    /// Lets the function reach `length` bytes at `at`.
    ///
    /// # Errors
    /// [`DmaMapError`]; nothing has changed then.
    pub fn map(
        &self,
        at: A,
        length: u64,
        permission: Permission,
        backing: Backing<A>,
    ) -> Result<(), DmaMapError> {
        let backed = match &backing {
            Backing::Mapped(region, offset) => {
                offset.checked_add(length).is_some_and(|end| end <= region.len())
            }
            Backing::Remote(_) => true,
        };
        // A range may end with the address space, so it is its last byte that must not wrap.
        let last = length.checked_sub(1).and_then(|more| at.number().checked_add(more));
        let named = at.into();
        let Some(last) = last.filter(|_| backed) else {
            return Err(DmaMapError::Range { at: named, length });
        };
        let mut ranges = self.write();
        if ranges
            .range(..=last)
            .next_back()
            .is_some_and(|(start, range)| start + (range.length - 1) >= at.number())
        {
            return Err(DmaMapError::Overlap { at: named, length });
        }
        Arc::make_mut(&mut ranges).insert(at.number(), Range { length, permission, backing });
        Ok(())
    }

    /// Takes away the ranges that make up exactly `length` bytes from `at` on. When this returns, nothing of
    /// the IO-Bond touches that memory any more.
    ///
    /// # Errors
    /// [`DmaMapError::NotMapped`] when `at` begins no range, or the last one ends elsewhere; nothing has
    /// changed then.
    pub fn unmap(&self, at: A, length: u64) -> Result<(), DmaMapError> {
        let missing = DmaMapError::NotMapped { at: at.into(), length };
        let first = at.number();
        let Some(last) = length.checked_sub(1).and_then(|more| first.checked_add(more)) else {
            return Err(missing);
        };
        let mut ranges = self.write();
        let inside: Vec<u64> = ranges.range(first..=last).map(|(&start, _)| start).collect();
        let ends = |(start, range): (u64, &Range<A>)| start + (range.length - 1) == last;
        if inside.first() != Some(&first) || !range_at(&ranges, last).is_some_and(ends) {
            return Err(missing);
        }
        self.note_unmap();
        let ranges = Arc::make_mut(&mut ranges);
        inside.iter().for_each(|start| drop(ranges.remove(start)));
        Ok(())
    }

    /// Takes everything away. When this returns, nothing of the IO-Bond touches any of it any more.
    pub fn unmap_all(&self) {
        let mut ranges = self.write();
        self.note_unmap();
        *ranges = Arc::default();
    }

    /// How long the range is that begins at `at`.
    pub fn length_at(&self, at: A) -> Option<u64> {
        self.read().get(&at.number()).map(|range| range.length)
    }

    /// Holds what is mapped now, for as long as a pass takes.
    pub fn lease(&self) -> Lease<'_, A> {
        Lease::new(self, self.read())
    }

    /// Whether memory that is missing may be on its way: the host took something away a moment ago.
    pub(super) fn is_being_remapped(&self) -> bool {
        if !self.unmapped.load(Ordering::Relaxed) {
            return false;
        }
        let last = self.last_unmap.lock().unwrap_or_else(PoisonError::into_inner);
        let recently = last.is_some_and(|last| last.elapsed() < REMAP_TIME);
        self.unmapped.store(recently, Ordering::Relaxed);
        recently
    }

    fn note_unmap(&self) {
        *self.last_unmap.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        self.unmapped.store(true, Ordering::Relaxed);
    }

    fn read(&self) -> RwLockReadGuard<'_, Arc<Ranges<A>>> {
        self.ranges.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Arc<Ranges<A>>> {
        self.ranges.write().unwrap_or_else(PoisonError::into_inner)
    }
}
