//! Files that hold memory: those that a machine's host shares, and that of a base in the same process.

use std::{
    fs::File,
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    sync::{Arc, Mutex, PoisonError, Weak},
};

use iobond_spec::address::BaseAddr;
use rustix::{
    fs::{SealFlags, fcntl_get_seals},
    mm::{MapFlags, ProtFlags},
};
use vm_memory::{
    FileOffset, GuestAddress, GuestMemoryRegion, GuestRegionMmap, MmapRegion, mmap::MmapRegionBuilder,
};

use super::Backing;

/// Files that a machine's host shares, each mapped once and whole, whichever pieces of it become memory of
/// whichever functions: behind an I/O MMU there are thousands of pieces.
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
#[allow(missing_docs, reason = "the fields are those of the message")]
pub enum ShareError {
    /// Its owner could cut it off, and then touching it would end the whole process (SIGBUS, mmap(2)).
    #[error("the file is not sealed against shrinking (F_SEAL_SHRINK), as a memfd can be")]
    Unsealed,
    /// The range is not in it.
    #[error("the file has {size:#x} bytes, but {length:#x} at {offset:#x} were to be mapped")]
    Short { size: u64, offset: u64, length: u64 },
    /// The system refuses to map it.
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
        let region = Arc::new(map_whole(file, size, write)?);
        let (device, inode) = (found.dev(), found.ino());
        files.push(SharedFile { device, inode, writable: write, region: Arc::downgrade(&region) });
        Ok(Backing::Mapped(region, offset))
    }
}

fn map_whole(file: File, size: u64, write: bool) -> Result<GuestRegionMmap, ShareError> {
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

/// Memory that is to become base memory.
#[derive(Clone, Copy, Debug)]
pub struct Mapping<'a> {
    /// A file that can be mapped shared.
    pub file: BorrowedFd<'a>,
    /// Where in the file, a multiple of the page size.
    pub file_offset: u64,
    /// Length in bytes, more than 0.
    pub length: usize,
    /// Where the IO-Bond is to see it.
    pub iova: BaseAddr,
}

/// Why memory could not be mapped or unmapped.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are those of the message")]
pub enum MapError {
    /// The system refuses to map it, or the file is too short.
    #[error("cannot map base memory for {iova}: {source}")]
    System { iova: BaseAddr, source: std::io::Error },
    /// Something is mapped there already, or the range wraps.
    #[error("{length:#x} bytes at {iova} overlap base memory that is mapped already")]
    Overlap { iova: BaseAddr, length: usize },
    /// Nothing is mapped there.
    #[error("no base memory is mapped at {iova}")]
    NotMapped { iova: BaseAddr },
}

impl Mapping<'_> {
    /// Maps all of it, for a [`Backing`].
    pub(in crate::live) fn region(&self) -> Result<GuestRegionMmap, MapError> {
        let &Self { file, file_offset, length, iova } = self;
        let system = |source| MapError::System { iova, source };
        let file = File::from(file.try_clone_to_owned().map_err(system)?);
        let held = file.metadata().map_err(system)?.len();
        // Touching a page that the file does not have would end the whole process (SIGBUS, mmap(2)).
        if file_offset.checked_add(length as u64).is_none_or(|end| end > held) {
            let short = std::io::Error::other(format!("its file has {held:#x} bytes, which is too few"));
            return Err(system(short));
        }
        let region = MmapRegion::from_file(FileOffset::new(file, file_offset), length)
            .map_err(|error| system(std::io::Error::other(error)))?;
        GuestRegionMmap::new(region, GuestAddress(iova.0)).ok_or(MapError::Overlap { iova, length })
    }
}
