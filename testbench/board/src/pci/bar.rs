//! Base address registers: how large, what kind, and where the board puts them (PCIe 5.0, 7.5.1.2.1).

use std::ops::Range;

use iobond_spec::address::{BoardAddr, FunctionId};

use super::{Bus, PciError, header};

/// Board addresses that BARs are placed in: above all board RAM (which ends below it, see [`crate::memory`]),
/// below the interrupt controllers that x86 has from 0xFEC0_0000 on.
pub const MMIO_WINDOW: Range<u64> = 0xE000_0000..0xFEC0_0000;

/// BAR registers of a type 0 header.
const REGISTERS: u8 = 6;
/// Bit 0: the BAR decodes I/O space.
const SPACE_IO: u32 = 1 << 0;
/// Bits 2:1: width of a memory BAR.
const MEMORY_TYPE: u32 = 0b110;
const MEMORY_32: u32 = 0b000;
const MEMORY_64: u32 = 0b100;
/// Bit 3: reads have no side effects.
const PREFETCHABLE: u32 = 1 << 3;
/// Smallest memory BAR: the type bits take the low four of its register.
const SMALLEST: u64 = 16;

/// What a BAR decodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BarKind {
    /// I/O ports. The board has none to give; such a BAR stays unassigned.
    Io,
    /// Memory below 4 GiB.
    Memory32 {
        /// Whether reads have no side effects.
        prefetchable: bool,
    },
    /// Memory anywhere; it takes two BAR registers.
    Memory64 {
        /// Whether reads have no side effects.
        prefetchable: bool,
    },
}

/// An implemented base address register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    /// Number of its (first) register, 0 to 5.
    pub index: u8,
    /// Address space and width that it decodes.
    pub kind: BarKind,
    /// Where the board placed it; 0 for an unassigned one.
    pub address: BoardAddr,
    /// Bytes, a power of two.
    pub size: u64,
}

impl Bar {
    /// Writes the address into the register or registers.
    pub(super) fn write(&self, bus: &(impl Bus + ?Sized), function: FunctionId) {
        bus.config_write(function, register(self.index), 4, self.address.0 as u32);
        if matches!(self.kind, BarKind::Memory64 { .. }) {
            bus.config_write(function, register(self.index + 1), 4, (self.address.0 >> 32) as u32);
        }
    }
}

fn register(index: u8) -> u16 {
    header::BAR0 + 4 * u16::from(index)
}

/// Sizes every BAR of `function`: write all ones, read back, restore (PCIe 5.0, 7.5.1.2.1, implementation
/// note). Memory decoding must be off.
pub(super) fn size(bus: &(impl Bus + ?Sized), function: FunctionId) -> Result<Vec<Bar>, PciError> {
    let mut bars = Vec::new();
    let mut index = 0;
    while index < REGISTERS {
        let value = bus.config_read(function, register(index), 4);
        let prefetchable = value & PREFETCHABLE != 0;
        let (kind, mask) = if value & SPACE_IO != 0 {
            // I/O space has 64 KiB; a device may hardwire the upper half of the register to zero.
            let mask = probe(bus, function, index) & !0b11;
            (BarKind::Io, u64::from(mask) | if mask == 0 { 0 } else { !0xFFFF })
        } else {
            match value & MEMORY_TYPE {
                MEMORY_32 => {
                    let mask = probe(bus, function, index) & !0xF;
                    (
                        BarKind::Memory32 { prefetchable },
                        u64::from(mask) | if mask == 0 { 0 } else { !0xFFFF_FFFF },
                    )
                }
                MEMORY_64 if index + 1 < REGISTERS => {
                    let low = probe(bus, function, index) & !0xF;
                    let high = probe(bus, function, index + 1);
                    (BarKind::Memory64 { prefetchable }, u64::from(high) << 32 | u64::from(low))
                }
                _ => return Err(PciError::BarType { function, bar: index, register: value }),
            }
        };
        if mask != 0 {
            let size = mask.wrapping_neg();
            let least = if kind == BarKind::Io { 4 } else { SMALLEST };
            if !size.is_power_of_two() || size < least {
                return Err(PciError::BarSize { function, bar: index, mask });
            }
            bars.push(Bar { index, kind, address: BoardAddr(0), size });
        }
        index += if matches!(kind, BarKind::Memory64 { .. }) { 2 } else { 1 };
    }
    Ok(bars)
}

/// What a BAR register reads as after all ones were written; its value is restored.
fn probe(bus: &(impl Bus + ?Sized), function: FunctionId, index: u8) -> u32 {
    let value = bus.config_read(function, register(index), 4);
    bus.config_write(function, register(index), 4, u32::MAX);
    let mask = bus.config_read(function, register(index), 4);
    bus.config_write(function, register(index), 4, value);
    mask
}

/// Places the memory BARs of `function` at the start of `window`, each at a multiple of its size, and takes
/// them out of it.
pub(super) fn place(
    bus: &(impl Bus + ?Sized),
    function: FunctionId,
    bars: &mut [Bar],
    window: &mut Range<u64>,
) -> Result<(), PciError> {
    for bar in bars.iter_mut().filter(|bar| bar.kind != BarKind::Io) {
        let full = PciError::WindowFull { function, bar: bar.index, size: bar.size, end: window.end };
        let start = window.start.checked_next_multiple_of(bar.size).ok_or(full.clone())?;
        let end = start.checked_add(bar.size).filter(|end| *end <= window.end).ok_or(full)?;
        bar.address = BoardAddr(start);
        bar.write(bus, function);
        window.start = end;
    }
    Ok(())
}
