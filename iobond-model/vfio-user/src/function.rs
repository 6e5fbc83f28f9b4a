//! The interface to what is served: a PCI function.

use std::{fmt, os::fd::OwnedFd, sync::Arc};

use rustix::io::Errno;

use crate::{Client, Description, Region};

/// A range of the client's memory that the function may access (`VFIO_USER_DMA_MAP`).
///
/// `size` is not 0 and `address + size` is at most 2^64 (the last byte has an address). Nothing else is
/// known: ranges need not be aligned to pages, the file may be none that can be mapped, and it may end before
/// `offset + size`, now or later. Who touches a map beyond the end of its file gets `SIGBUS`, so hold the
/// file's size against the range and take only files that cannot shrink (`F_SEAL_SHRINK`, which QEMU's
/// `memory-backend-memfd` sets) when the client is not trusted.
pub struct DmaMapping {
    /// Its first byte in the address space of the function's DMA.
    pub address: u64,
    /// Bytes, not 0.
    pub size: u64,
    /// Whether the function may read it.
    pub readable: bool,
    /// Whether the function may write it.
    pub writable: bool,
    /// The file that holds it and where it begins in that; map it and let the descriptor go, for there may be
    /// 65,535 mappings. Without a file it is reached by [`Client::dma_read`] and [`Client::dma_write`] only.
    pub file: Option<(OwnedFd, u64)>,
}

impl DmaMapping {
    /// The address of its last byte.
    pub fn last(&self) -> u64 {
        self.address + (self.size - 1)
    }
}

impl fmt::Debug for DmaMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let access = [if self.readable { "r" } else { "-" }, if self.writable { "w" } else { "-" }].concat();
        write!(f, "{:#x}..={:#x} {access}", self.address, self.last())?;
        match &self.file {
            Some((_, offset)) => write!(f, " of a file from {offset:#x}"),
            None => write!(f, " without a file"),
        }
    }
}

/// A PCI function that is served.
///
/// All methods are called from the socket's thread, one at a time. `attach` comes first and `detach` last, in
/// turn: a function serves one client after the other and keeps its state in between, as the protocol wants
/// it.
pub trait Function: Send + Sync + 'static {
    /// What the function consists of. Asked once, when the server starts.
    fn description(&self) -> Description;

    /// A client has negotiated a version. `client` raises interrupts and reaches memory that came without a
    /// file, from any thread, until `detach`; afterwards it is dead, and harmless.
    fn attach(&self, client: Arc<Client>);

    /// The client is gone. Everything it gave must be let go, maps too, before this returns.
    fn detach(&self);

    /// Reads `data.len()` bytes at `offset` of `region`, which lie inside of it.
    ///
    /// A function that has to wait for its answer calls `wait` in a loop. That sleeps at most some 50 us and
    /// takes the client's answers to [`Client::dma_read`] and [`Client::dma_write`] meanwhile, so that
    /// another thread that waits for them gets on. The client's other requests wait until this returns.
    ///
    /// # Errors
    /// Are sent to the client; what it makes of them is its business (QEMU reads all ones).
    fn read(&self, region: Region, offset: u64, data: &mut [u8], wait: &mut dyn FnMut())
    -> Result<(), Errno>;

    /// Writes `data` at `offset` of `region`; as [`read`](Self::read).
    ///
    /// # Errors
    /// Are sent to the client unless it posted the write.
    fn write(&self, region: Region, offset: u64, data: &[u8], wait: &mut dyn FnMut()) -> Result<(), Errno>;

    /// The client grants memory. It overlaps nothing that is mapped.
    ///
    /// # Errors
    /// Refuse the mapping; the client is told.
    fn map(&self, mapping: DmaMapping) -> Result<(), Errno>;

    /// The client takes memory back, exactly what one `map` granted. When this returns no thread touches that
    /// memory any more.
    ///
    /// # Errors
    /// Are sent to the client, and the range stays mapped.
    fn unmap(&self, address: u64, size: u64) -> Result<(), Errno>;

    /// The client takes all its memory back; as [`unmap`](Self::unmap).
    fn unmap_all(&self);

    /// Resets the function (`VFIO_USER_DEVICE_RESET`). Mappings and the client's interrupt set-up stay.
    fn reset(&self);

    /// Whether the function asserts INTx. VFIO masks INTx when it fires; asked when the client unmasks it, to
    /// fire again.
    fn intx_asserted(&self) -> bool;
}
