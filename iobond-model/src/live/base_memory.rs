//! Base memory as an IO-Bond sees it: what was mapped, what was granted, and the status page in it.

use std::{
    fs::File,
    os::fd::BorrowedFd,
    sync::{Arc, atomic::Ordering},
};

use iobond_spec::{
    address::{Address, BaseAddr},
    status_page::{HEADS, MAILBOX, MAILBOX_WORD, MailboxRequest, QUEUE_ERRORS},
};
use vm_memory::{
    Bytes, FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap,
    MmapRegion,
};
use zerocopy::IntoBytes;

use crate::{fabric::Fault, windows::Windows};

/// Memory that is to become base memory.
#[derive(Clone, Copy, Debug)]
pub struct Mapping<'a> {
    /// A file that can be mapped shared.
    pub file: BorrowedFd<'a>,
    /// Where in the file, a multiple of the page size.
    pub file_offset: u64,
    /// How many bytes.
    pub length: usize,
    /// Where the IO-Bond is to see it.
    pub iova: BaseAddr,
}

/// Why memory could not be mapped or unmapped.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// The system refused.
    #[error("cannot map base memory for {iova}: {source}")]
    System {
        /// Where it was to be seen.
        iova: BaseAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// Something is mapped there already, or the range wraps.
    #[error("{length:#x} bytes at {iova} overlap base memory that is mapped already")]
    Overlap {
        /// Where it was to be seen.
        iova: BaseAddr,
        /// How many bytes.
        length: usize,
    },
    /// Nothing is mapped there.
    #[error("no base memory is mapped at {iova}")]
    NotMapped {
        /// The address that was named.
        iova: BaseAddr,
    },
}

/// Base memory.
#[derive(Debug, Default)]
pub(super) struct BaseMemory {
    memory: GuestMemoryMmap,
    windows: Windows,
    status_page: Option<BaseAddr>,
}

impl BaseMemory {
    pub(super) fn memory(&self) -> &GuestMemoryMmap {
        &self.memory
    }

    pub(super) fn windows(&self) -> &Windows {
        &self.windows
    }

    pub(super) fn set_windows(&mut self, windows: Windows) {
        self.windows = windows;
    }

    pub(super) fn set_status_page(&mut self, at: Option<BaseAddr>) {
        self.status_page = at;
    }

    pub(super) fn map(&mut self, mapping: &Mapping<'_>) -> Result<(), MapError> {
        let &Mapping { file, file_offset, length, iova } = mapping;
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
        let overlap = || MapError::Overlap { iova, length };
        let region = GuestRegionMmap::new(region, GuestAddress(iova.0)).ok_or_else(overlap)?;
        self.memory = self.memory.insert_region(Arc::new(region)).map_err(|_| overlap())?;
        Ok(())
    }

    pub(super) fn unmap(&mut self, iova: BaseAddr) -> Result<(), MapError> {
        let at = GuestAddress(iova.0);
        let region = self.memory.find_region(at).filter(|region| region.start_addr() == at);
        let length = region.ok_or(MapError::NotMapped { iova })?.len();
        let (memory, _) = self.memory.remove_region(at, length).map_err(|_| MapError::NotMapped { iova })?;
        self.memory = memory;
        Ok(())
    }

    /// Where HEAD of `queue` is mirrored.
    #[inline]
    pub(super) fn head_address(&self, queue: usize) -> Option<BaseAddr> {
        self.status_page.map(|page| page.wrapping_add(HEADS + 4 * queue as u64))
    }

    /// Mirrors a mailbox request, its word last.
    pub(super) fn write_mailbox(&self, request: &MailboxRequest) {
        self.on_page(MAILBOX, |memory, at| {
            memory.write_slice(&request.as_bytes()[..MAILBOX_WORD as usize], at)?;
            memory.store(request.request.get(), GuestAddress(at.0 + MAILBOX_WORD), Ordering::Release)
        });
    }

    /// Mirrors which queues are in the error state.
    pub(super) fn write_queue_errors(&self, errors: u64) {
        self.on_page(QUEUE_ERRORS, |memory, at| {
            memory.store(errors as u32, at, Ordering::Release)?;
            memory.store((errors >> 32) as u32, GuestAddress(at.0 + 4), Ordering::Release)
        });
    }

    /// Mirrors HEAD of `queue`.
    pub(super) fn write_head(&self, queue: usize, head: u16) {
        self.on_page(HEADS + 4 * queue as u64, |memory, at| {
            memory.store(u32::from(head), at, Ordering::Release)
        });
    }

    /// A page that was granted but is not mapped is the base's mistake; it finds out by reading the registers.
    fn on_page(
        &self,
        offset: u64,
        write: impl FnOnce(&GuestMemoryMmap, GuestAddress) -> Result<(), vm_memory::GuestMemoryError>,
    ) {
        if let Some(page) = self.status_page {
            let at = page.wrapping_add(offset);
            let _: Result<(), Fault> =
                write(&self.memory, GuestAddress(at.0)).map_err(|_| Fault::at(Address::Base(at), 4));
        }
    }
}
