//! The pool as this process sees it: a shared mapping, reached only through atomics, since IO-Bond and the
//! back ends write to it at any time.

// It maps a file, and views the mapping as atomics; nothing else in this crate touches raw memory.
#![allow(unsafe_code)]

use std::{
    io,
    os::fd::BorrowedFd,
    ptr::{self, NonNull},
    slice,
    sync::atomic::{AtomicU8, AtomicU16, AtomicU32, Ordering},
};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// A shared mapping of a whole file.
///
/// What it shows is written by others; every value read is hostile. Accesses outside of it do nothing and
/// read nothing.
#[derive(Debug)]
pub struct Mapping {
    base: NonNull<u8>,
    length: usize,
}

// SAFETY: the mapping belongs to no thread, and is only reached through atomics.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `length` bytes of `file`, which must be that long and must stay so: its maker seals its
    /// size.
    pub(crate) fn new(file: BorrowedFd<'_>, length: usize) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing; it is undone in
        // `drop`.
        let base = unsafe {
            mmap(ptr::null_mut(), length, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, file, 0)?
        };
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { base, length })
    }

    /// Where the mapping begins in this process.
    pub fn host_address(&self) -> u64 {
        self.base.as_ptr().addr() as u64
    }

    /// Its length in bytes.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The mapping as bytes.
    #[inline]
    pub fn bytes(&self) -> &[AtomicU8] {
        // SAFETY: `base` is valid for `length` bytes as long as `self` is alive, and all accesses in this
        // process are atomic.
        unsafe { slice::from_raw_parts(self.base.as_ptr().cast(), self.length) }
    }

    /// The mapping as 16-bit words.
    #[inline]
    pub fn words16(&self) -> &[AtomicU16] {
        // SAFETY: as in `bytes`; a mapping is aligned to a page.
        unsafe { slice::from_raw_parts(self.base.as_ptr().cast(), self.length / 2) }
    }

    /// The mapping as 32-bit words.
    #[inline]
    pub fn words32(&self) -> &[AtomicU32] {
        // SAFETY: as in `bytes`; a mapping is aligned to a page.
        unsafe { slice::from_raw_parts(self.base.as_ptr().cast(), self.length / 4) }
    }

    /// Copies from `offset` into `into`; whether all of it lies in the mapping.
    pub fn read(&self, offset: u64, into: &mut [u8]) -> bool {
        let Some(from) = self.range(offset, into.len()) else { return false };
        for (to, from) in into.iter_mut().zip(from) {
            *to = from.load(Ordering::Relaxed);
        }
        true
    }

    /// Copies `from` to `offset`; whether all of it lies in the mapping.
    pub fn write(&self, offset: u64, from: &[u8]) -> bool {
        let Some(to) = self.range(offset, from.len()) else { return false };
        for (to, from) in to.iter().zip(from) {
            to.store(*from, Ordering::Relaxed);
        }
        true
    }

    /// Zeroes `length` bytes from `offset`, as far as they lie in the mapping; both are multiples of four.
    pub(super) fn zero(&self, offset: u64, length: u64) {
        let words = self.words32().iter().skip((offset / 4) as usize).take((length / 4) as usize);
        words.for_each(|word| word.store(0, Ordering::Relaxed));
    }

    fn range(&self, offset: u64, length: usize) -> Option<&[AtomicU8]> {
        let start = usize::try_from(offset).ok()?;
        self.bytes().get(start..start.checked_add(length)?)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `base` and `length` are those of the mapping made in `new`, and no view outlives `self`.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.length) };
        debug_assert!(unmapped.is_ok());
    }
}
