//! How the base reaches an IO-Bond: its register page, and base memory that it may touch.
//!
//! A port is an interface and no more: it neither interprets registers nor owns memory. [`vfio`] is a device
//! in this machine; the in-process emulator is behind one of crate `model-port`, one in another process
//! behind [`vfio_user`].

pub mod conformance;
mod mappings;
pub mod open;
pub mod vfio;
pub mod vfio_user;

use std::os::fd::BorrowedFd;

use iobond_spec::{address::BaseAddr, register_access::RegisterIo};

/// A piece of memory that an IO-Bond is to reach by DMA. It is a file, so that a port can map it for the
/// kernel to pin, or hand it to the process that serves the IO-Bond.
#[derive(Clone, Copy, Debug)]
pub struct Region<'a> {
    /// The memfd, sealed against shrinking.
    pub file: BorrowedFd<'a>,
    /// Where the region begins in the file, a multiple of the page size.
    pub file_offset: u64,
    /// Length in bytes, a multiple of the page size.
    pub length: u64,
    /// The I/O virtual address under which the IO-Bond is to see it.
    pub iova: BaseAddr,
}

/// A mapping that a port could not make or undo.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// The region overlaps one that is mapped.
    #[error(
        "cannot map {length:#x} bytes at {iova} for DMA: overlaps an earlier mapping; unmap that one first"
    )]
    Overlap {
        /// Where the region was to go.
        iova: BaseAddr,
        /// Its length in bytes.
        length: u64,
    },
    /// Nothing is mapped there.
    #[error("cannot unmap {iova}: no region was mapped there")]
    NotMapped {
        /// The address that was named.
        iova: BaseAddr,
    },
    /// The device did not take a reset.
    #[error("cannot reset the IO-Bond: {0}")]
    Reset(std::io::Error),
    /// The system refused to map or unmap.
    #[error("cannot map or unmap {length:#x} bytes at {iova} for DMA: {source}")]
    System {
        /// Where the region was to go.
        iova: BaseAddr,
        /// Its length in bytes.
        length: u64,
        /// What the system said.
        source: std::io::Error,
    },
}

/// How the base reaches one IO-Bond.
///
/// Registers are reached through [`RegisterIo`]: reads may be slow (a PCIe round trip), writes are posted and
/// in order. Implementations are cheap to call and may be used from the poll thread and the control thread at
/// once.
pub trait Port: RegisterIo + Send + Sync {
    /// Makes `region` reachable for the device at `region.iova`. The device still refuses it until a DMA
    /// window grants it. The caller keeps the file as long as it is until [`Port::unmap_dma`].
    ///
    /// # Errors
    /// [`PortError::Overlap`] or [`PortError::System`]; nothing is mapped then.
    fn map_dma(&self, region: &Region<'_>) -> Result<(), PortError>;

    /// Undoes [`Port::map_dma`]. When it returns, the device no longer touches the region.
    ///
    /// # Errors
    /// [`PortError::NotMapped`] or [`PortError::System`].
    fn unmap_dma(&self, iova: BaseAddr) -> Result<(), PortError>;

    /// Takes the IO-Bond back to what it was at power-on, as a function-level reset of its base function
    /// does: no power for the board, no function, queue or DMA window. When it returns, the device touches no
    /// base memory. Mappings stay.
    ///
    /// # Errors
    /// [`PortError::Reset`].
    fn reset(&self) -> Result<(), PortError>;

    /// What becomes readable when the IO-Bond sends the interrupt that `board.wake` asks for: an eventfd,
    /// which the caller reads. `None` where nothing can wake a thread that sleeps, or something else does.
    fn wake_up(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}
