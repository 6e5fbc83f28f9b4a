//! The door to what is served: a PCI function, as VFIO describes one.

use std::{fmt, os::fd::OwnedFd, sync::Arc};

use rustix::io::Errno;

use crate::Client;

/// A region of a PCI function. The discriminants are the indices of `<linux/vfio.h>`
/// (`VFIO_PCI_BAR0_REGION_INDEX` and so on).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Region {
    /// What base address register 0 maps.
    Bar0,
    /// What base address register 1 maps.
    Bar1,
    /// What base address register 2 maps.
    Bar2,
    /// What base address register 3 maps.
    Bar3,
    /// What base address register 4 maps.
    Bar4,
    /// What base address register 5 maps.
    Bar5,
    /// The expansion ROM.
    Rom,
    /// Configuration space.
    Config,
    /// The VGA ranges.
    Vga,
}

impl Region {
    /// Every region, in the order of their indices.
    pub const ALL: [Self; 9] = [
        Self::Bar0,
        Self::Bar1,
        Self::Bar2,
        Self::Bar3,
        Self::Bar4,
        Self::Bar5,
        Self::Rom,
        Self::Config,
        Self::Vga,
    ];

    /// The region with this index, if there is one.
    pub fn from_index(index: u32) -> Option<Self> {
        Self::ALL.get(index as usize).copied()
    }
}

/// A type of interrupt. The discriminants are the indices of `<linux/vfio.h>` (`VFIO_PCI_INTX_IRQ_INDEX` and
/// so on).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Irq {
    /// The interrupt line: level-triggered, masks itself when it fires.
    Intx,
    /// Message-signalled interrupts of the MSI capability.
    Msi,
    /// Message-signalled interrupts of the MSI-X capability.
    Msix,
    /// An uncorrectable error of the function.
    Err,
    /// The function asks to be given back.
    Req,
}

impl Irq {
    /// Every type, in the order of their indices.
    pub const ALL: [Self; 5] = [Self::Intx, Self::Msi, Self::Msix, Self::Err, Self::Req];

    /// The type with this index, if there is one.
    pub fn from_index(index: u32) -> Option<Self> {
        Self::ALL.get(index as usize).copied()
    }
}

/// What a region offers. Nothing by default: the function does not have it.
///
/// No region can be mapped by the client yet. One that can (a page of registers in a memfd) adds its file,
/// its offset in it and its areas here; [`crate::protocol::RegionInfo`] says how they travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RegionDescription {
    /// Bytes; 0 when there is no such region.
    pub size: u64,
    /// Whether the client may read it.
    pub readable: bool,
    /// Whether the client may write it.
    pub writable: bool,
}

/// What a function consists of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// By [`Region`].
    pub regions: [RegionDescription; Region::ALL.len()],
    /// Number of vectors by [`Irq`]: at most 1 for INTx, 32 for MSI, 2048 for MSI-X.
    pub vectors: [u16; Irq::ALL.len()],
}

impl Description {
    /// What `region` offers.
    pub fn region(&self, region: Region) -> RegionDescription {
        self.regions[region as usize]
    }

    /// How many vectors `irq` has.
    pub fn vectors(&self, irq: Irq) -> u16 {
        self.vectors[irq as usize]
    }

    /// The same with `region` as said.
    #[must_use]
    pub fn with_region(mut self, region: Region, description: RegionDescription) -> Self {
        self.regions[region as usize] = description;
        self
    }

    /// The same with `vectors` vectors of `irq`.
    #[must_use]
    pub fn with_vectors(mut self, irq: Irq, vectors: u16) -> Self {
        self.vectors[irq as usize] = vectors;
        self
    }
}

/// A range of the client's memory that the function may access (`VFIO_USER_DMA_MAP`).
///
/// `size` is not 0 and `address + size` is at most 2^64 (the last byte has an address). Nothing else is
/// known: ranges need not be aligned to pages, the file may be none that can be mapped, and it may end before
/// `offset + size`, now or later. Who touches a map beyond the end of its file gets `SIGBUS`, so hold the
/// file's size against the range and take only files that cannot shrink (`F_SEAL_SHRINK`, which QEMU's
/// `memory-backend-memfd` sets) when the client is not trusted.
pub struct DmaMapping {
    /// Where it begins in the address space of the function's DMA.
    pub address: u64,
    /// Bytes.
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

    /// The client takes memory back, exactly what one `map` granted. When this returns nobody touches that
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
