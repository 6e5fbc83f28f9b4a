//! What one function reaches of its board's memory: ranges that come and go while the board runs.
//!
//! A range is either mapped here, from a file that the board's host shares, or remote: then every access is a message to the
//! host. Firmware maps and unmaps the same addresses again and again, and behind an I/O MMU ranges are single pages; so
//! nothing is remembered of a range between two passes, and an access may span several.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fs::File,
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    sync::{
        Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use iobond_spec::address::{Address, BoardAddr};
use rustix::fs::{SealFlags, fcntl_get_seals};
use vm_memory::{
    FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap,
    MmapRegion, VolatileSlice, mmap::MmapRegionBuilder,
};

use crate::fabric::Fault;

/// Board memory that is not mapped here. Every call may wait, though not without a bound.
pub trait RemoteMemory: Send + Sync {
    /// Reads `into.len()` bytes at `at`.
    ///
    /// # Errors
    /// A [`Fault`] when the host refuses, is gone, or does not answer in time.
    fn read(&self, at: BoardAddr, into: &mut [u8]) -> Result<(), Fault>;

    /// Writes `from` at `at`.
    ///
    /// # Errors
    /// A [`Fault`] when the host refuses, is gone, or does not answer in time.
    fn write(&self, at: BoardAddr, from: &[u8]) -> Result<(), Fault>;
}

/// What a function may do with a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permission {
    /// It may read.
    pub read: bool,
    /// It may write.
    pub write: bool,
}

impl Permission {
    /// Both.
    pub const ALL: Self = Self { read: true, write: true };

    fn allows(self, write: bool) -> bool {
        if write { self.write } else { self.read }
    }
}

/// Where the bytes of a range are.
#[derive(Clone)]
pub enum Backing {
    /// In a mapping, from this offset on. Whoever maps it has seen to it that every page of the range exists.
    Mapped(Arc<GuestRegionMmap>, u64),
    /// With the board's host.
    Remote(Arc<dyn RemoteMemory>),
}

/// Why a range was not mapped or unmapped.
#[derive(Debug, thiserror::Error)]
pub enum BoardMapError {
    /// It is empty, wraps, or is larger than what is to back it.
    #[error("{length:#x} bytes at {at} are no range, or more than what backs them")]
    Range {
        /// Its start.
        at: BoardAddr,
        /// Its length in bytes.
        length: u64,
    },
    /// Part of it is mapped already.
    #[error("{length:#x} bytes at {at} overlap board memory that is mapped already")]
    Overlap {
        /// Its start.
        at: BoardAddr,
        /// Its length in bytes.
        length: u64,
    },
    /// No range that starts there is that long.
    #[error("no {length:#x} bytes of board memory were mapped at {at}")]
    NotMapped {
        /// Start of what was to go.
        at: BoardAddr,
        /// Its length in bytes.
        length: u64,
    },
}

#[derive(Clone)]
struct Range {
    length: u64,
    permission: Permission,
    backing: Backing,
}

/// Ranges by their first address. None overlap.
type Ranges = BTreeMap<u64, Range>;

/// The range that holds `at`, and its first address.
fn range_at(ranges: &Ranges, at: u64) -> Option<(u64, &Range)> {
    let (&start, range) = ranges.range(..=at).next_back()?;
    (at - start < range.length).then_some((start, range))
}

/// For how long after a range went away memory that is missing counts as on its way. A host that cuts a range in two, as QEMU
/// does when firmware shadows ROM, takes it away whole and gives back the pieces within a millisecond or so.
const REMAP_TIME: Duration = Duration::from_millis(50);

/// The memory that one function reaches.
#[derive(Default)]
pub struct BoardMemory {
    ranges: RwLock<Arc<Ranges>>,
    /// When a range last went away, for as long as that matters; and whether there is such a time, for who looks often.
    last_unmap: Mutex<Option<Instant>>,
    unmapped: AtomicBool,
}

impl BoardMemory {
    /// Adds every region of `memory`.
    ///
    /// # Errors
    /// [`BoardMapError::Overlap`] with what was there; earlier regions stay mapped.
    pub fn map_all(&self, memory: &GuestMemoryMmap) -> Result<(), BoardMapError> {
        for region in memory.iter() {
            let (at, length) = (BoardAddr(region.start_addr().0), region.len());
            // The only way to a region's own handle.
            let taken = memory.remove_region(region.start_addr(), length);
            let (_, region) = taken.map_err(|_| BoardMapError::Range { at, length })?;
            self.map(at, length, Permission::ALL, Backing::Mapped(region, 0))?;
        }
        Ok(())
    }

    /// Lets the function reach `length` bytes at `at`.
    ///
    /// # Errors
    /// [`BoardMapError`]; nothing has changed then.
    pub fn map(
        &self,
        at: BoardAddr,
        length: u64,
        permission: Permission,
        backing: Backing,
    ) -> Result<(), BoardMapError> {
        let backed = match &backing {
            Backing::Mapped(region, offset) => {
                offset.checked_add(length).is_some_and(|end| end <= region.len())
            }
            Backing::Remote(_) => true,
        };
        // A range may end with the address space, so it is its last byte that must not wrap.
        let last = length.checked_sub(1).and_then(|more| at.0.checked_add(more));
        let Some(last) = last.filter(|_| backed) else { return Err(BoardMapError::Range { at, length }) };
        let mut ranges = self.write();
        if ranges.range(..=last).next_back().is_some_and(|(start, range)| start + (range.length - 1) >= at.0)
        {
            return Err(BoardMapError::Overlap { at, length });
        }
        Arc::make_mut(&mut ranges).insert(at.0, Range { length, permission, backing });
        Ok(())
    }

    /// Takes away the ranges that make up exactly `length` bytes from `at` on. When this returns, nothing of the IO-Bond
    /// touches that memory any more.
    ///
    /// # Errors
    /// [`BoardMapError::NotMapped`] when `at` begins no range, or the last one ends elsewhere; nothing has changed then.
    pub fn unmap(&self, at: BoardAddr, length: u64) -> Result<(), BoardMapError> {
        let missing = BoardMapError::NotMapped { at, length };
        let Some(last) = length.checked_sub(1).and_then(|more| at.0.checked_add(more)) else {
            return Err(missing);
        };
        let mut ranges = self.write();
        let inside: Vec<u64> = ranges.range(at.0..=last).map(|(&start, _)| start).collect();
        let ends = |(start, range): (u64, &Range)| start + (range.length - 1) == last;
        if inside.first() != Some(&at.0) || !range_at(&ranges, last).is_some_and(ends) {
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

    /// How many ranges there are.
    pub fn ranges(&self) -> usize {
        self.read().len()
    }

    /// Holds what is mapped now, for as long as a pass takes.
    pub fn lease(&self) -> Lease<'_> {
        let held = self.read();
        let ranges = Arc::clone(&held);
        Lease { memory: self, ranges, held: RefCell::new(Some(held)), stale: Cell::new(false) }
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

    fn read(&self) -> RwLockReadGuard<'_, Arc<Ranges>> {
        self.ranges.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Arc<Ranges>> {
        self.ranges.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A [`BoardMemory`] from which nothing can be taken meanwhile; except while a remote access waits, since the host that has to
/// answer may itself be waiting for ranges to go.
pub struct Lease<'a> {
    memory: &'a BoardMemory,
    /// What was mapped when the lease began.
    ranges: Arc<Ranges>,
    held: RefCell<Option<RwLockReadGuard<'a, Arc<Ranges>>>>,
    /// Something changed during a remote access: only what is held now counts.
    stale: Cell<bool>,
}

impl Lease<'_> {
    /// Whether the ring index at `at` can be reached.
    pub(super) fn holds_index(&self, at: BoardAddr) -> bool {
        // It is aligned, and ranges that a device may use are of whole pages.
        range_at(&self.ranges, at.0).is_some()
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
    fn now(&self) -> Arc<Ranges> {
        self.held.borrow().as_ref().map_or_else(|| Arc::clone(&self.ranges), |held| Arc::clone(held))
    }
}

/// A lease with the range that was used last at hand: rings and buffers of one pass mostly share it.
pub struct View<'l, 'm> {
    lease: &'l Lease<'m>,
    last: Cell<Last<'l>>,
}

#[derive(Clone, Copy)]
struct Last<'l> {
    start: u64,
    permission: Permission,
    bytes: VolatileSlice<'l>,
}

/// One piece of an access: what lies in one range.
pub(super) enum Piece<'a> {
    /// It is mapped.
    Here(VolatileSlice<'a>),
    /// So many bytes at this address are to be had from the host.
    There(&'a dyn RemoteMemory, BoardAddr, usize),
}

impl<'l, 'm> View<'l, 'm> {
    /// A view of what `lease` holds.
    pub fn new(lease: &'l Lease<'m>) -> Self {
        let nothing = VolatileSlice::from(&mut [][..]);
        Self { lease, last: Cell::new(Last { start: 0, permission: Permission::ALL, bytes: nothing }) }
    }

    /// The `len` bytes at `at`, if one mapped range holds them all and allows the access.
    #[inline]
    pub(super) fn slice(&self, at: u64, len: usize, write: bool) -> Option<VolatileSlice<'l>> {
        let last = self.last.get();
        match last.bytes.subslice(at.wrapping_sub(last.start) as usize, len) {
            Ok(slice) if last.permission.allows(write) && !self.lease.stale.get() => Some(slice),
            _ => self.find(at, len, write),
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
        self.last.set(Last { start, permission: range.permission, bytes });
        bytes.subslice((at - start) as usize, len).ok().filter(|_| range.permission.allows(write))
    }

    /// Does something with the pieces of `len` bytes at `at`, in order; `act` is also told where in the whole a piece begins.
    /// Only called with ranges that [`View::slice`] does not know.
    #[cold]
    pub(super) fn pieces(
        &self,
        at: u64,
        len: usize,
        write: bool,
        mut act: impl FnMut(usize, Piece<'_>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let fault = || Fault::at(Address::Board(BoardAddr(at)), len as u64);
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
                    let first = GuestAddress(offset + inside).0 as usize;
                    let bytes = region.as_volatile_slice().ok();
                    let bytes =
                        bytes.and_then(|bytes| bytes.subslice(first, length).ok()).ok_or_else(fault)?;
                    act(done, Piece::Here(bytes))?;
                }
                Backing::Remote(host) => {
                    let piece = Piece::There(host.as_ref(), BoardAddr(position), length);
                    self.lease.apart(|| act(done, piece))?;
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

/// Files that a board's host shares, each mapped once and whole, whichever pieces of it become board memory for whichever
/// functions: behind an I/O MMU there are thousands of pieces.
#[derive(Debug, Default)]
pub struct SharedFiles(Mutex<Vec<SharedFile>>);

#[derive(Debug)]
struct SharedFile {
    device: u64,
    inode: u64,
    writable: bool,
    region: Weak<GuestRegionMmap>,
}

/// Why a file cannot be board memory.
#[derive(Debug, thiserror::Error)]
pub enum ShareError {
    /// Its owner could cut it off, and then touching it would end the whole process (SIGBUS, mmap(2)).
    #[error("the file is not sealed against shrinking (F_SEAL_SHRINK), as a memfd can be")]
    Unsealed,
    /// The range is not in it.
    #[error("the file has {size:#x} bytes, but {length:#x} at {offset:#x} were to be mapped")]
    Short {
        /// What the file has.
        size: u64,
        /// Where the range begins.
        offset: u64,
        /// How long it is.
        length: u64,
    },
    /// The system refused.
    #[error("cannot map the file: {0}")]
    System(std::io::Error),
}

impl SharedFiles {
    /// `length` bytes at `offset` of `file`, to be read or also written.
    ///
    /// # Errors
    /// [`ShareError`].
    pub fn share(&self, file: OwnedFd, offset: u64, length: u64, write: bool) -> Result<Backing, ShareError> {
        let sealed = fcntl_get_seals(&file).is_ok_and(|seals| seals.contains(SealFlags::SHRINK));
        if !sealed {
            return Err(ShareError::Unsealed);
        }
        let file = File::from(file);
        let found = file.metadata().map_err(ShareError::System)?;
        let size = found.len();
        if offset.checked_add(length).is_none_or(|end| end > size) {
            return Err(ShareError::Short { size, offset, length });
        }
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        files.retain(|file| file.region.strong_count() > 0);
        let same = |file: &&SharedFile| {
            (file.device, file.inode) == (found.dev(), found.ino()) && file.writable == write
        };
        let known = files.iter().find(same).and_then(|file| file.region.upgrade());
        // A file that has grown since it was mapped is mapped anew.
        if let Some(region) = known.filter(|region| offset + length <= region.len()) {
            return Ok(Backing::Mapped(region, offset));
        }
        let region = Arc::new(map_file(file, size, write)?);
        let (device, inode) = (found.dev(), found.ino());
        files.push(SharedFile { device, inode, writable: write, region: Arc::downgrade(&region) });
        Ok(Backing::Mapped(region, offset))
    }
}

fn map_file(file: File, size: u64, write: bool) -> Result<GuestRegionMmap, ShareError> {
    let refused = |error: String| ShareError::System(std::io::Error::other(error));
    let length = usize::try_from(size).map_err(|error| refused(error.to_string()))?;
    let protection = rustix::mm::ProtFlags::READ
        | if write { rustix::mm::ProtFlags::WRITE } else { rustix::mm::ProtFlags::empty() };
    let builder = MmapRegionBuilder::new(length)
        .with_file_offset(FileOffset::new(file, 0))
        .with_mmap_prot(protection.bits().cast_signed())
        .with_mmap_flags(
            rustix::mm::MapFlags::SHARED.union(rustix::mm::MapFlags::NORESERVE).bits().cast_signed(),
        );
    let region: MmapRegion = builder.build().map_err(|error| refused(error.to_string()))?;
    GuestRegionMmap::new(region, GuestAddress(0)).ok_or_else(|| refused("it is too large".into()))
}
