//! Configuration space of the base function: a header, MSI-X, and PCI Express with function-level reset.

use iobond_spec::{
    base_function::{BAR, BAR_SIZE, CLASS, DEVICE, MSIX_PBA, MSIX_TABLE, MSIX_VECTORS, VENDOR},
    function::{CONFIG_SIZE, MSIX_CAP, PCIE_CAP},
};

use crate::front_end::ConfigSpace;

/// Registers of a type 0 header (PCIe 5.0, 7.5.1).
const COMMAND: u16 = 0x04;
const STATUS: u16 = 0x06;
const CLASS_CODE: u16 = 0x0B;
const BAR0: u16 = 0x10;
const CAPABILITIES: u16 = 0x34;

/// Memory Space and Bus Master, and Interrupt Disable, of the command register.
const COMMAND_MASK: [u8; 2] = [1 << 1 | 1 << 2, 1 << 2];
/// Status register: there is a capabilities list.
const STATUS_CAPABILITIES: u8 = 1 << 4;
/// A memory BAR of 64 bits, not prefetchable (PCIe 5.0, 7.5.1.2.1).
const BAR_64: u8 = 0b100;
/// Capability IDs (PCI Code and ID Assignment Specification 1.11, 2).
const ID_PCIE: u8 = 0x10;
const ID_MSIX: u8 = 0x11;
/// PCI Express capabilities register: version 2, an endpoint (PCIe 5.0, 7.5.3.2).
const PCIE_ENDPOINT: u8 = 2;
/// Byte 3 of device capabilities: Function Level Reset (PCIe 5.0, 7.5.3.3).
const CAPABLE_OF_FLR: u8 = 1 << 4;

/// The space of IO-Bond's own function on the base.
#[must_use]
pub fn base_config() -> ConfigSpace {
    let (mut image, mut mask) = ([0; CONFIG_SIZE as usize], [0; CONFIG_SIZE as usize]);
    let mut set = |at: u16, bytes: &[u8]| image[usize::from(at)..][..bytes.len()].copy_from_slice(bytes);
    set(0, &VENDOR.to_le_bytes());
    set(2, &DEVICE.to_le_bytes());
    set(STATUS, &[STATUS_CAPABILITIES]);
    set(CLASS_CODE, &[CLASS]);
    set(BAR0, &[BAR_64]);
    set(CAPABILITIES, &[MSIX_CAP as u8]);
    set(MSIX_CAP, &[ID_MSIX, PCIE_CAP as u8]);
    set(MSIX_CAP + 2, &(MSIX_VECTORS - 1).to_le_bytes());
    set(MSIX_CAP + 4, &(MSIX_TABLE | u32::from(BAR)).to_le_bytes());
    set(MSIX_CAP + 8, &(MSIX_PBA | u32::from(BAR)).to_le_bytes());
    set(PCIE_CAP, &[ID_PCIE, 0, PCIE_ENDPOINT]);
    set(PCIE_CAP + 7, &[CAPABLE_OF_FLR]);
    let mut allow = |at: u16, bytes: &[u8]| mask[usize::from(at)..][..bytes.len()].copy_from_slice(bytes);
    allow(COMMAND, &COMMAND_MASK);
    allow(BAR0, &(!u64::from(BAR_SIZE - 1)).to_le_bytes());
    // Function Mask and MSI-X Enable.
    allow(MSIX_CAP + 3, &[0xC0]);
    ConfigSpace::new(image, mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_found_sized_and_reset_as_pci_would() {
        let mut space = base_config();
        assert_eq!(space.read(0, 4), u32::from(DEVICE) << 16 | u32::from(VENDOR));
        space.write(BAR0, 4, u32::MAX);
        space.write(BAR0 + 4, 4, u32::MAX);
        let size = !(u64::from(space.read(BAR0 + 4, 4)) << 32 | u64::from(space.read(BAR0, 4) & !0xF)) + 1;
        assert_eq!(size, u64::from(BAR_SIZE));
        space.write(COMMAND, 2, 0x0006);
        assert!(space.memory_enable() && space.bus_master());
        assert!(space.write(PCIE_CAP + 8, 2, 1 << 15).reset, "an FLR");
        let mut at = space.read(CAPABILITIES, 1) as u16;
        let mut found = Vec::new();
        while at != 0 {
            found.push(space.read(at, 1) as u8);
            at = space.read(at + 1, 1) as u16;
        }
        assert_eq!(found, [ID_MSIX, ID_PCIE]);
    }
}
