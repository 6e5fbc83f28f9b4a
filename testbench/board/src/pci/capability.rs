//! The capability list (PCIe 5.0, 7.5.1.1.11) and the capabilities that a virtio driver looks at.

use iobond_spec::address::FunctionId;

use super::{Bus, PciError, header, read_u16};

/// PCI Capability IDs (PCI Code and ID Assignment Specification, 2).
const ID_VENDOR: u8 = 0x09;
const ID_EXPRESS: u8 = 0x10;
const ID_MSIX: u8 = 0x11;

/// Where the first capability can be: behind the header.
const FIRST: u16 = 0x40;
/// Where configuration space of conventional PCI ends.
const END: u16 = 0x100;
/// Offset in a capability of the pointer to the next one; its low two bits are reserved.
const NEXT: u16 = 1;

/// Offset of Message Control in the MSI-X capability (PCIe 5.0, 7.7.2.2).
pub(super) const MSIX_CONTROL: u16 = 2;
const MSIX_TABLE: u16 = 4;
const MSIX_PBA: u16 = 8;
const MSIX_LENGTH: u16 = 12;
/// Up to and including Device Status; older Express capabilities have no more.
const EXPRESS_LENGTH: u16 = 12;

/// Offsets in `struct virtio_pci_cap` (virtio 1.3, 4.1.4).
mod virtio_cap {
    pub const LENGTH: u16 = 2;
    pub const TYPE: u16 = 3;
    pub const BAR: u16 = 4;
    pub const OFFSET: u16 = 8;
    pub const REGION_LENGTH: u16 = 12;
    /// `notify_off_multiplier` of the notification capability (virtio 1.3, 4.1.4.4).
    pub const MULTIPLIER: u16 = 16;
    pub const SIZE: u16 = 16;
    pub const NOTIFY_SIZE: u16 = 20;
    /// Larger values are reserved, and such a capability is to be ignored (virtio 1.3, 4.1.4).
    pub const LAST_BAR: u8 = 5;
}

/// Which structure a virtio capability points to: `cfg_type` (virtio 1.3, 4.1.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the specification")]
pub enum VirtioStructure {
    Common,
    Notify,
    Isr,
    Device,
    PciAccess,
}

impl VirtioStructure {
    fn from_type(cfg_type: u8) -> Option<Self> {
        [Self::Common, Self::Notify, Self::Isr, Self::Device, Self::PciAccess]
            .get(usize::from(cfg_type).checked_sub(1)?)
            .copied()
    }

    /// What the structure is called in an error.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Common => "the common configuration",
            Self::Notify => "the notification structure",
            Self::Isr => "the ISR status",
            Self::Device => "the device configuration",
            Self::PciAccess => "PCI configuration access",
        }
    }

    /// What its `offset` must be a multiple of (virtio 1.3, 4.1.4.3.1, 4.1.4.4.1, 4.1.4.6.1).
    pub(super) fn alignment(self) -> u64 {
        match self {
            Self::Common | Self::Device => 4,
            Self::Notify => 2,
            Self::Isr | Self::PciAccess => 1,
        }
    }
}

/// The MSI-X capability (PCIe 5.0, 7.7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Msix {
    /// Message Control, as last written.
    pub control: u16,
    /// BAR that holds the table.
    pub table_bar: u8,
    /// Offset of the table in that BAR.
    pub table_offset: u32,
    /// BAR and offset of the pending bit array.
    pub pending: (u8, u32),
}

impl Msix {
    /// Message Control: MSI-X Enable.
    pub const ENABLE: u16 = 1 << 15;
    /// Message Control: Function Mask.
    pub const FUNCTION_MASK: u16 = 1 << 14;

    /// Vectors in the table: Table Size is coded as N - 1.
    pub fn vectors(&self) -> u16 {
        (self.control & 0x7FF) + 1
    }
}

/// A capability, as far as a virtio driver reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// MSI-X (PCIe 5.0, 7.7.2).
    Msix(Msix),
    /// PCI Express, with the PCI Express Capabilities register (PCIe 5.0, 7.5.3.2).
    Express(u16),
    /// A virtio structure (virtio 1.3, 4.1.4).
    Virtio {
        /// Its `cfg_type`.
        structure: VirtioStructure,
        /// BAR it lies in.
        bar: u8,
        /// Offset in that BAR.
        offset: u32,
        /// Its size in bytes.
        length: u32,
        /// `notify_off_multiplier`; 0 for every other structure.
        multiplier: u32,
    },
    /// Vendor specific and not virtio, or of a kind to be ignored: its length in bytes.
    Vendor(u8),
    /// Anything else: its capability id.
    Other(u8),
}

/// Reads the whole list. However a function links it, the walk ends: an offset is visited at most once.
pub(super) fn walk(
    bus: &(impl Bus + ?Sized),
    function: FunctionId,
) -> Result<Vec<(u16, Capability)>, PciError> {
    let mut capabilities = Vec::new();
    if read_u16(bus, function, header::STATUS) & header::STATUS_CAPABILITIES == 0 {
        return Ok(capabilities);
    }
    let virtio = read_u16(bus, function, header::VENDOR) == header::VIRTIO_VENDOR;
    let mut visited = [false; END as usize / 4];
    let mut at = pointer(bus, function, header::CAPABILITIES);
    while at != 0 {
        within(function, at, 4)?;
        if std::mem::replace(&mut visited[usize::from(at / 4)], true) {
            return Err(PciError::CapabilityLoop { function, at });
        }
        let capability = match bus.config_read(function, at, 1) as u8 {
            ID_MSIX => msix(bus, function, at)?,
            ID_EXPRESS => {
                within(function, at, EXPRESS_LENGTH)?;
                Capability::Express(read_u16(bus, function, at + 2))
            }
            ID_VENDOR => vendor(bus, function, at, virtio)?,
            id => Capability::Other(id),
        };
        capabilities.push((at, capability));
        at = pointer(bus, function, at + NEXT);
    }
    Ok(capabilities)
}

fn pointer(bus: &(impl Bus + ?Sized), function: FunctionId, offset: u16) -> u16 {
    bus.config_read(function, offset, 1) as u16 & 0xFC
}

fn within(function: FunctionId, at: u16, length: u16) -> Result<(), PciError> {
    if at < FIRST || at + length > END {
        return Err(PciError::CapabilityBounds { function, at, length });
    }
    Ok(())
}

fn msix(bus: &(impl Bus + ?Sized), function: FunctionId, at: u16) -> Result<Capability, PciError> {
    within(function, at, MSIX_LENGTH)?;
    // Bits 2:0 are the BAR number ("BIR"), the rest is the offset.
    let split = |register: u32| ((register & 0b111) as u8, register & !0b111);
    let (table_bar, table_offset) = split(bus.config_read(function, at + MSIX_TABLE, 4));
    let pending = split(bus.config_read(function, at + MSIX_PBA, 4));
    let control = read_u16(bus, function, at + MSIX_CONTROL);
    Ok(Capability::Msix(Msix { control, table_bar, table_offset, pending }))
}

fn vendor(
    bus: &(impl Bus + ?Sized),
    function: FunctionId,
    at: u16,
    virtio: bool,
) -> Result<Capability, PciError> {
    let length = bus.config_read(function, at + virtio_cap::LENGTH, 1) as u8;
    within(function, at, u16::from(length))?;
    let structure = VirtioStructure::from_type(bus.config_read(function, at + virtio_cap::TYPE, 1) as u8);
    let (true, Some(structure)) = (virtio && u16::from(length) >= virtio_cap::SIZE, structure) else {
        return Ok(Capability::Vendor(length));
    };
    let bar = bus.config_read(function, at + virtio_cap::BAR, 1) as u8;
    let notify = structure == VirtioStructure::Notify;
    if bar > virtio_cap::LAST_BAR || (notify && u16::from(length) < virtio_cap::NOTIFY_SIZE) {
        return Ok(Capability::Vendor(length));
    }
    Ok(Capability::Virtio {
        structure,
        bar,
        offset: bus.config_read(function, at + virtio_cap::OFFSET, 4),
        length: bus.config_read(function, at + virtio_cap::REGION_LENGTH, 4),
        multiplier: if notify { bus.config_read(function, at + virtio_cap::MULTIPLIER, 4) } else { 0 },
    })
}
