//! The shared memory that the notes are in.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fstat, memfd_create};
use vm_memory::{AtomicAccess, Bytes, FileOffset, MmapRegion, VolatileMemory};

use super::{Words, bytes};

/// Alignment of each ring's part: a cache line, as QEMU's and DPDK's back ends have it.
const ALIGNMENT: usize = 64;

/// A region with a part for each ring.
#[derive(Debug)]
pub(crate) struct Region {
    memory: MmapRegion,
    queues: u16,
    /// Bytes from one part to the next: "mmap_size / num_queues".
    stride: usize,
    /// Descriptors of the longest ring that fits a part.
    longest: u16,
}

impl Region {
    /// Bytes for `queues` rings of `size` descriptors.
    pub(crate) fn bytes(queues: u16, size: u16) -> u64 {
        u64::from(queues) * bytes(size).next_multiple_of(ALIGNMENT) as u64
    }

    /// A new region of zeroes, in a file that cannot be resized.
    pub(crate) fn create(queues: u16, size: u16) -> io::Result<(Self, File)> {
        let file =
            File::from(memfd_create("vhost-inflight", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
        let length = Self::bytes(queues, size);
        file.set_len(length)?;
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Ok((Self::map(file.try_clone()?, 0, length, queues, size)?, file))
    }

    /// Maps the region of `length` bytes at `offset` of `file`.
    pub(crate) fn map(file: File, offset: u64, length: u64, queues: u16, size: u16) -> io::Result<Self> {
        let too_small = || io::Error::other(format!("{length} bytes for {queues} rings of {size}"));
        let length = usize::try_from(length).map_err(|_| too_small())?;
        let stride = length.checked_div(queues.into()).unwrap_or(0);
        if stride < bytes(size) || !stride.is_multiple_of(align_of::<u64>()) {
            return Err(too_small());
        }
        // Beyond the end of its file a mapping is a trap.
        let there = u64::try_from(fstat(&file)?.st_size).unwrap_or(0);
        if offset.checked_add(length as u64).is_none_or(|end| end > there) {
            return Err(too_small());
        }
        let memory =
            MmapRegion::from_file(FileOffset::new(file, offset), length).map_err(io::Error::other)?;
        Ok(Self { memory, queues, stride, longest: size })
    }

    /// The part of ring `index`, if that is there and holds `size` descriptors.
    pub(crate) fn part(self: &Arc<Self>, index: usize, size: u16) -> Option<Part> {
        let is_there = index < usize::from(self.queues) && size <= self.longest;
        is_there.then(|| Part { region: Arc::clone(self), at: index * self.stride })
    }
}

/// One ring's part of a region.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    region: Arc<Region>,
    at: usize,
}

impl Words for Part {
    fn load<T: AtomicAccess + Default>(&self, at: usize) -> T {
        self.region.memory.as_volatile_slice().load(self.at + at, Ordering::Acquire).unwrap_or_default()
    }

    fn store<T: AtomicAccess>(&self, at: usize, value: T) {
        // Nothing is out of range: the part is as long as the ring needs.
        let _ = self.region.memory.as_volatile_slice().store(value, self.at + at, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_apart_and_a_region_that_is_too_small_is_refused() {
        let (region, file) = Region::create(2, 8).unwrap();
        let region = Arc::new(region);
        let (first, second) = (region.part(0, 8).unwrap(), region.part(1, 8).unwrap());
        first.store(0, 1u64);
        second.store(0, 2u64);
        assert_eq!((first.load::<u64>(0), second.load::<u64>(0)), (1, 2));
        assert!(region.part(2, 8).is_none() && region.part(0, 16).is_none());
        let again = Arc::new(Region::map(file.try_clone().unwrap(), 0, Region::bytes(2, 8), 2, 8).unwrap());
        assert_eq!(again.part(1, 8).unwrap().load::<u64>(0), 2);
        for (length, queues, size) in [(Region::bytes(2, 8), 2, 64), (Region::bytes(2, 8), 0, 8), (0, 1, 1)] {
            assert!(Region::map(file.try_clone().unwrap(), 0, length, queues, size).is_err());
        }
        assert!(Region::map(file, 4096, Region::bytes(2, 8), 2, 8).is_err(), "beyond the end of the file");
    }
}
