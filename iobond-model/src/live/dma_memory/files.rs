//! Files that hold a machine's memory.

use std::{
    fs::File,
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use rustix::{
    fs::{SealFlags, fcntl_get_seals},
    mm::{MapFlags, ProtFlags},
};
use vm_memory::{
    FileOffset, GuestAddress, GuestMemoryRegion, GuestRegionMmap, MmapRegion, mmap::MmapRegionBuilder,
};

use super::Backing;

/// Files that a machine's host shares, each mapped once and whole, whichever pieces of it become memory of whichever
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

/// Why a file cannot be mapped.
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
    pub fn share<A>(
        &self,
        file: OwnedFd,
        offset: u64,
        length: u64,
        write: bool,
    ) -> Result<Backing<A>, ShareError> {
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
    let protection = ProtFlags::READ | if write { ProtFlags::WRITE } else { ProtFlags::empty() };
    let builder = MmapRegionBuilder::new(length)
        .with_file_offset(FileOffset::new(file, 0))
        .with_mmap_prot(protection.bits().cast_signed())
        .with_mmap_flags(MapFlags::SHARED.union(MapFlags::NORESERVE).bits().cast_signed());
    let region: MmapRegion = builder.build().map_err(|error| refused(error.to_string()))?;
    GuestRegionMmap::new(region, GuestAddress(0)).ok_or_else(|| refused("it is too large".into()))
}
