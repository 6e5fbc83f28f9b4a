//! A function's configuration space as the board finds it after reset, and which of its bits the board may
//! write. IO-Bond answers configuration accesses from both; capabilities stand where
//! [`iobond_spec::function`] says.

use iobond_spec::{address::FunctionId, function::*};

use crate::device::{Device, Kind};

/// PCI vendor ID of virtio devices (virtio 1.3, 4.1.2).
pub const VENDOR_ID: u16 = 0x1AF4;
/// PCI device ID of a non-transitional device is this plus the virtio device ID (virtio 1.3, 4.1.2).
pub const DEVICE_ID_BASE: u16 = 0x1040;
/// Lowest subsystem ID of a non-transitional device (virtio 1.3, 4.1.2.1).
const SUBSYSTEM_ID_BASE: u16 = 0x40;

/// Registers of a type 0 header (PCIe 5.0, 7.5.1).
mod header {
    pub const COMMAND: usize = 0x04;
    pub const STATUS: usize = 0x06;
    pub const REVISION: usize = 0x08;
    pub const HEADER_TYPE: usize = 0x0E;
    pub const BAR0: usize = 0x10;
    pub const SUBSYSTEM_VENDOR: usize = 0x2C;
    pub const SUBSYSTEM: usize = 0x2E;
    pub const CAPABILITIES: usize = 0x34;
    pub const INTERRUPT_LINE: usize = 0x3C;
    pub const INTERRUPT_PIN: usize = 0x3D;
}

/// Writable bits of the command register: Memory Space, Bus Master, Parity Error Response, SERR# and
/// Interrupt Disable.
const COMMAND_MASK: u16 = 1 << 1 | 1 << 2 | 1 << 6 | 1 << 8 | 1 << 10;
/// Status register: there is a capabilities list.
const STATUS_CAPABILITIES: u16 = 1 << 4;
/// Header type: the device has more than one function.
const MULTI_FUNCTION: u8 = 0x80;
/// A memory BAR of 64 bits, not prefetchable (PCIe 5.0, 7.5.1.2.1).
const BAR_64: u32 = 0b100;

/// Capability IDs (PCI Code and ID Assignment Specification 1.11, 2).
mod capability {
    pub const VENDOR: u8 = 0x09;
    pub const PCIE: u8 = 0x10;
    pub const MSIX: u8 = 0x11;
}

/// `cfg_type` of a virtio capability (virtio 1.3, 4.1.4).
#[derive(Clone, Copy)]
enum Structure {
    Common = 1,
    Notify = 2,
    Isr = 3,
    Device = 4,
    PciAccess = 5,
}

/// Configuration space and the mask of its writable bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigImage {
    /// What the board reads after reset.
    pub image: [u8; CONFIG_SIZE as usize],
    /// Which bits it may write.
    pub mask: [u8; CONFIG_SIZE as usize],
}

impl ConfigImage {
    /// The configuration space of `device` as function `id` of a board with `functions` functions.
    pub fn new(device: &Device, id: FunctionId, functions: usize) -> Self {
        let mut space = Self { image: [0; CONFIG_SIZE as usize], mask: [0; CONFIG_SIZE as usize] };
        space.header(device.kind, id.index() == 0 && functions > 1);
        space.msix();
        space.pcie();
        space.structure(COMMON_CAP, NOTIFY_CAP, 16, Structure::Common, COMMON, COMMON_SIZE);
        space.structure(
            NOTIFY_CAP,
            ISR_CAP,
            20,
            Structure::Notify,
            NOTIFY,
            u32::from(device.queues()) * NOTIFY_MULTIPLIER,
        );
        space.set(usize::from(NOTIFY_CAP) + 16, NOTIFY_MULTIPLIER);
        space.structure(ISR_CAP, DEVICE_CAP, 16, Structure::Isr, ISR, 1);
        space.structure(
            DEVICE_CAP,
            PCI_ACCESS_CAP,
            16,
            Structure::Device,
            DEVICE,
            device.config.len() as u32,
        );
        space.structure(PCI_ACCESS_CAP, 0, 20, Structure::PciAccess, 0, 0);
        let access = usize::from(PCI_ACCESS_CAP);
        space.allow(access + usize::from(PCI_ACCESS_BAR), u8::MAX);
        space.allow(access + usize::from(PCI_ACCESS_OFFSET), u32::MAX);
        space.allow(access + usize::from(PCI_ACCESS_LENGTH), u32::MAX);
        space.allow(access + usize::from(PCI_ACCESS_DATA), u32::MAX);
        space
    }

    fn header(&mut self, kind: Kind, multi_function: bool) {
        self.set(0, VENDOR_ID);
        self.set(2, DEVICE_ID_BASE + kind.id());
        self.allow(header::COMMAND, COMMAND_MASK);
        self.set(header::STATUS, STATUS_CAPABILITIES);
        // Revision ID 1 in the low byte, class code above: "the device MUST have a Revision ID of 1 or
        // higher" (4.1.2.1).
        self.set(header::REVISION, kind.class_code() << 8 | 1);
        self.set(header::HEADER_TYPE, if multi_function { MULTI_FUNCTION } else { 0 });
        self.set(header::BAR0, BAR_64);
        self.allow(header::BAR0, !(BAR_SIZE - 1));
        self.allow(header::BAR0 + 4, u32::MAX);
        self.set(header::SUBSYSTEM_VENDOR, VENDOR_ID);
        self.set(header::SUBSYSTEM, SUBSYSTEM_ID_BASE + kind.id());
        self.set(header::CAPABILITIES, MSIX_CAP as u8);
        self.allow(header::INTERRUPT_LINE, u8::MAX);
        self.set(header::INTERRUPT_PIN, 1u8);
    }

    /// MSI-X capability (PCIe 5.0, 7.7.2). Message Control: table size less one; Function Mask and Enable are
    /// the board's.
    fn msix(&mut self) {
        let at = self.capability(MSIX_CAP, capability::MSIX, PCIE_CAP);
        self.set(at + 2, MSIX_VECTORS - 1);
        self.allow(at + 2, 0b11u16 << 14);
        self.set(at + 4, MSIX_TABLE | u32::from(BAR));
        self.set(at + 8, MSIX_PBA | u32::from(BAR));
    }

    /// PCI Express capability, version 2, of an endpoint (PCIe 5.0, 7.5.3). The link is the x4 at 8 GT/s on
    /// which the BM-Hive paper bases its 32 Gbit/s.
    fn pcie(&mut self) {
        /// Speed 8.0 GT/s, width x4.
        const LINK: u16 = 3 | 4 << 4;
        let at = self.capability(PCIE_CAP, capability::PCIE, COMMON_CAP);
        self.set(at + 2, 2u16);
        // Device Capabilities: Max_Payload_Size 256 bytes, Role-Based Error Reporting, Function Level Reset.
        self.set(at + 0x04, 1u32 | 1 << 15 | 1 << 28);
        // Device Control: Relaxed Ordering, No Snoop, Max_Read_Request_Size 512 bytes (the values after
        // reset). Initiate Function Level Reset, bit 15, always reads zero, so it is not writable here:
        // IO-Bond watches for the write.
        self.set(at + 0x08, 1u16 << 4 | 1 << 11 | 2 << 12);
        self.allow(at + 0x08, 0x7FFFu16);
        self.set(at + 0x0C, u32::from(LINK));
        self.set(at + 0x12, LINK);
        // Link Capabilities 2: 2.5, 5.0 and 8.0 GT/s; Link Control 2: target 8.0 GT/s.
        self.set(at + 0x2C, 0b111u32 << 1);
        self.set(at + 0x30, 3u16);
    }

    /// `struct virtio_pci_cap` (virtio 1.3, 4.1.4).
    fn structure(&mut self, at: u16, next: u16, size: u8, structure: Structure, offset: u32, length: u32) {
        let at = self.capability(at, capability::VENDOR, next);
        self.set(at + 2, size);
        self.set(at + 3, structure as u8);
        self.set(at + 4, BAR);
        self.set(at + 8, offset);
        self.set(at + 12, length);
    }

    fn capability(&mut self, at: u16, id: u8, next: u16) -> usize {
        let at = usize::from(at);
        self.set(at, id);
        self.set(at + 1, next as u8);
        at
    }

    fn set<const N: usize>(&mut self, at: usize, value: impl LittleEndian<N>) {
        self.image[at..at + N].copy_from_slice(&value.bytes());
    }

    fn allow<const N: usize>(&mut self, at: usize, value: impl LittleEndian<N>) {
        self.mask[at..at + N].copy_from_slice(&value.bytes());
    }
}

/// A register's value as its bytes in configuration space.
trait LittleEndian<const N: usize> {
    fn bytes(self) -> [u8; N];
}

impl LittleEndian<1> for u8 {
    fn bytes(self) -> [u8; 1] {
        self.to_le_bytes()
    }
}

impl LittleEndian<2> for u16 {
    fn bytes(self) -> [u8; 2] {
        self.to_le_bytes()
    }
}

impl LittleEndian<4> for u32 {
    fn bytes(self) -> [u8; 4] {
        self.to_le_bytes()
    }
}
