//! Memory that is shared with a device: its registers, and the base memory that it reaches by DMA.

// It maps files, and reads and writes registers through raw pointers; no reference to what is mapped exists.
#![allow(unsafe_code)]

use std::{
    io,
    os::fd::BorrowedFd,
    ptr::{self, NonNull},
    sync::atomic::{Ordering, fence},
};

use iobond_spec::ALL_ONES;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// A shared, writable mapping of a piece of a file.
#[derive(Debug)]
pub(super) struct Mapped {
    base: NonNull<u8>,
    length: usize,
}

// SAFETY: the mapping belongs to no thread, and is only reached by volatile accesses through raw pointers.
unsafe impl Send for Mapped {}
// SAFETY: as above; two threads that access a register at once are as two bus masters that do.
unsafe impl Sync for Mapped {}

impl Mapped {
    /// Maps `length` bytes of `file` from `offset`, a multiple of the page size.
    pub(super) fn new(file: BorrowedFd<'_>, offset: u64, length: u64) -> io::Result<Self> {
        let length = usize::try_from(length).map_err(io::Error::other)?;
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing; it is undone in
        // `drop`.
        let base = unsafe {
            mmap(ptr::null_mut(), length, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, file, offset)?
        };
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { base, length })
    }

    /// Where it begins in this process.
    pub(super) fn host_address(&self) -> u64 {
        self.base.as_ptr().addr() as u64
    }

    /// Its length in bytes.
    pub(super) fn length(&self) -> u64 {
        self.length as u64
    }

    /// Reads the little-endian word at `offset`; all ones where there is none, as a bus answers. What the
    /// device wrote to memory before it answered is seen afterwards.
    #[inline]
    pub(super) fn read32(&self, offset: u32) -> u32 {
        // SAFETY: `word` gives aligned pointers into the mapping, which is valid as long as `self`. Any bits
        // are a `u32`.
        let value = self.word(offset).map_or(ALL_ONES, |word| u32::from_le(unsafe { word.read_volatile() }));
        // For the compiler: the processor (x86-64) keeps loads in order, and uncached ones with all others.
        fence(Ordering::Acquire);
        value
    }

    /// Writes the little-endian word at `offset`; where there is none nothing happens. What this process
    /// wrote to memory before is there when the write reaches the device.
    #[inline]
    pub(super) fn write32(&self, offset: u32, value: u32) {
        // As in `read32`, for stores.
        fence(Ordering::Release);
        if let Some(word) = self.word(offset) {
            // SAFETY: as in `read32`; the mapping is writable.
            unsafe { word.write_volatile(value.to_le()) }
        }
    }

    /// A pointer to the whole, naturally aligned word at `offset`.
    #[inline]
    fn word(&self, offset: u32) -> Option<NonNull<u32>> {
        let at = offset as usize;
        let fits = at.is_multiple_of(4) && at.checked_add(4).is_some_and(|end| end <= self.length);
        // SAFETY: the offset lies inside of the mapping.
        fits.then(|| unsafe { self.base.byte_add(at) }.cast())
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: `base` and `length` are those of the mapping made in `new`, and no pointer into it outlives
        // `self`.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.length) };
        debug_assert!(unmapped.is_ok());
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

    use super::*;

    #[test]
    fn words_lie_inside_and_are_little_endian() {
        let file = memfd_create("registers", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, 8192).unwrap();
        let mapped = Mapped::new(file.as_fd(), 4096, 4096).unwrap();
        mapped.write32(8, 0x0102_0304);
        let mut bytes = [0; 4];
        rustix::io::pread(&file, &mut bytes, 4096 + 8).unwrap();
        assert_eq!((bytes, mapped.read32(8)), ([4, 3, 2, 1], 0x0102_0304));
        for outside in [9, 4093, 4096, !3, u32::MAX] {
            mapped.write32(outside, 0);
            assert_eq!(mapped.read32(outside), ALL_ONES, "{outside:#x}");
        }
        assert_eq!((mapped.read32(8), mapped.read32(4092)), (0x0102_0304, 0));
    }
}
