//! A virtio PCI function as the board sees it: where its capabilities stand in configuration space and what
//! lies where in its BAR. The base writes a configuration image that says so; IO-Bond decodes by the same
//! constants, as hardware would.

/// Bytes of configuration space that the image covers; reads beyond return zero, so there is no extended
/// capability.
pub const CONFIG_SIZE: u16 = 256;

/// The BAR with everything in it, 64-bit memory, not prefetchable; it takes BAR registers 0 and 1.
pub const BAR: u8 = 0;
/// Size of that BAR in bytes.
pub const BAR_SIZE: u32 = 0x8000;

/// Common configuration (virtio 1.3, 4.1.4.3): forwarded.
pub const COMMON: u32 = 0x0000;
/// Bytes of the common configuration structure up to and including `queue_reset`.
pub const COMMON_SIZE: u32 = 64;
/// ISR status (virtio 1.3, 4.1.4.5): answered by IO-Bond, read clears.
pub const ISR: u32 = 0x1000;
/// Device configuration (virtio 1.3, 4.1.4.6): forwarded.
pub const DEVICE: u32 = 0x2000;
/// Bytes of device configuration that are decoded.
pub const DEVICE_SIZE: u32 = 0x1000;
/// Notifications (virtio 1.3, 4.1.4.4): answered by IO-Bond.
pub const NOTIFY: u32 = 0x3000;
/// Bytes of the notification area.
pub const NOTIFY_SIZE: u32 = 0x1000;
/// `notify_off_multiplier`: bytes between the doorbells of neighbouring queues. Four, so that
/// NOTIFICATION_DATA fits.
pub const NOTIFY_MULTIPLIER: u32 = 4;
/// MSI-X table (PCIe 5.0, 7.7.2): answered by IO-Bond.
pub const MSIX_TABLE: u32 = 0x4000;
/// MSI-X pending bits: answered by IO-Bond, read only.
pub const MSIX_PBA: u32 = 0x5000;
/// MSI-X vectors of every function.
pub const MSIX_VECTORS: u16 = 64;
/// Bytes of an MSI-X table entry.
pub const MSIX_ENTRY_SIZE: u32 = 16;

/// `VIRTIO_MSI_NO_VECTOR` (virtio 1.3, 4.1.5.1.2).
pub const NO_VECTOR: u16 = 0xFFFF;

/// Offset of the MSI-X capability in configuration space (12 bytes).
pub const MSIX_CAP: u16 = 0x40;
/// Offset of the PCI Express capability (60 bytes).
pub const PCIE_CAP: u16 = 0x50;
/// Offset of the virtio capability for common configuration (16 bytes).
pub const COMMON_CAP: u16 = 0x8C;
/// Offset of the virtio capability for notifications (20 bytes).
pub const NOTIFY_CAP: u16 = 0x9C;
/// Offset of the virtio capability for the ISR (16 bytes).
pub const ISR_CAP: u16 = 0xB0;
/// Offset of the virtio capability for device configuration (16 bytes).
pub const DEVICE_CAP: u16 = 0xC0;
/// Offset of the virtio capability for access through configuration space (virtio 1.3, 4.1.4.9; 20 bytes).
pub const PCI_ACCESS_CAP: u16 = 0xD0;

/// Offset inside [`PCI_ACCESS_CAP`] of the BAR number.
pub const PCI_ACCESS_BAR: u16 = 4;
/// Offset inside [`PCI_ACCESS_CAP`] of the offset in the BAR.
pub const PCI_ACCESS_OFFSET: u16 = 8;
/// Offset inside [`PCI_ACCESS_CAP`] of the length of the access.
pub const PCI_ACCESS_LENGTH: u16 = 12;
/// Offset inside [`PCI_ACCESS_CAP`] of the data window.
pub const PCI_ACCESS_DATA: u16 = 16;

const _: () = {
    assert!(MSIX_CAP + 12 <= PCIE_CAP && PCIE_CAP + 60 <= COMMON_CAP && COMMON_CAP + 16 <= NOTIFY_CAP);
    assert!(NOTIFY_CAP + 20 <= ISR_CAP && ISR_CAP + 16 <= DEVICE_CAP && DEVICE_CAP + 16 <= PCI_ACCESS_CAP);
    assert!(PCI_ACCESS_CAP + 20 <= CONFIG_SIZE && BAR_SIZE.is_power_of_two());
    assert!(MSIX_TABLE + MSIX_VECTORS as u32 * MSIX_ENTRY_SIZE <= MSIX_PBA && MSIX_PBA + 8 <= BAR_SIZE);
};
