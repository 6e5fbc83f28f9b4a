//! The MSI-X table of a function (PCIe 5.0, 7.7.2): one message per vector, all told apart by their data.

use iobond_spec::address::FunctionId;

use crate::{
    bus::Bus,
    pci::{Function, Msix, PciError},
};

/// Registers of an MSI-X table entry (PCIe 5.0, 7.7.2.5 to 7.7.2.8), and the bytes of one.
mod entry {
    pub const ADDRESS: u64 = 0;
    pub const ADDRESS_HIGH: u64 = 4;
    pub const DATA: u64 = 8;
    pub const CONTROL: u64 = 12;
    pub const SIZE: u64 = 16;
}

/// Where the board's interrupt controller takes messages (the local APIC of x86, Intel SDM 3A, 11.11.1).
const MESSAGE_ADDRESS: u32 = 0xFEE0_0000;
/// The MSI-X data that the function's `vector` is programmed with; unique on a board.
pub const fn message_data(function: FunctionId, vector: u16) -> u32 {
    (function.index() as u32) << 16 | vector as u32
}

/// Programs the first `wanted` vectors, as far as the table reaches, and enables MSI-X. Returns how many
/// there are: 0 for a function without MSI-X.
pub(super) fn enable(
    bus: &(impl Bus + ?Sized),
    function: &mut Function,
    wanted: u16,
) -> Result<u16, PciError> {
    let Some((_, msix)) = function.msix() else { return Ok(0) };
    let vectors = wanted.min(msix.vectors());
    let length = u64::from(vectors) * entry::SIZE;
    let table = function.region("the MSI-X table", msix.table_bar, u64::from(msix.table_offset), length)?;
    let control = msix.control | Msix::ENABLE;
    function.set_msix_control(bus, control | Msix::FUNCTION_MASK);
    for vector in 0..vectors {
        let at = |register| table.address.wrapping_add(u64::from(vector) * entry::SIZE + register);
        bus.mmio_write(at(entry::ADDRESS), 4, MESSAGE_ADDRESS);
        bus.mmio_write(at(entry::ADDRESS_HIGH), 4, 0);
        bus.mmio_write(at(entry::DATA), 4, message_data(function.id, vector));
        bus.mmio_write(at(entry::CONTROL), 4, 0);
    }
    function.set_msix_control(bus, control & !Msix::FUNCTION_MASK);
    Ok(vectors)
}
