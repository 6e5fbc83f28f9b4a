//! What a PCI function consists of, as VFIO describes one: regions and vectors of interrupts.

/// A region of a PCI function. The discriminants are the indices of `<linux/vfio.h>`
/// (`VFIO_PCI_BAR0_REGION_INDEX` and so on).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
#[allow(missing_docs, reason = "the names are those of PCI")]
pub enum Region {
    Bar0,
    Bar1,
    Bar2,
    Bar3,
    Bar4,
    Bar5,
    Rom,
    Config,
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
    /// Indexed by [`Region`].
    pub regions: [RegionDescription; Region::ALL.len()],
    /// Number of vectors by [`Irq`]: at most 1 for INTx, 32 for MSI, 2048 for MSI-X.
    pub vectors: [u16; Irq::ALL.len()],
}

impl Description {
    /// What `region` offers; a size of 0 when the function does not have it.
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
