//! What a board's firmware and its kernel's PCI core do: find the functions, size and place their BARs, read
//! their capabilities, let them decode and master the bus.
//!
//! Functions stand at `00:01.0`, `00:02.0` and so on: the device number is the function's id plus one, as
//! slot 0 belongs to the root complex. Whatever a function says about itself is checked: it may be hostile or
//! half built.

mod bar;
mod capability;
mod lspci;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use iobond_spec::address::{BoardAddr, FunctionId};

pub use self::{
    bar::{Bar, BarKind, MMIO_WINDOW},
    capability::{Capability, Msix, VirtioStructure},
};
use super::bus::Bus;

/// Registers of a type 0 configuration header (PCIe 5.0, 7.5.1) and the bits of them that are used here.
pub(super) mod header {
    pub const VENDOR: u16 = 0x00;
    pub const DEVICE: u16 = 0x02;
    pub const COMMAND: u16 = 0x04;
    pub const STATUS: u16 = 0x06;
    pub const REVISION: u16 = 0x08;
    pub const CLASS: u16 = 0x09;
    pub const HEADER_TYPE: u16 = 0x0E;
    pub const BAR0: u16 = 0x10;
    pub const SUBSYSTEM_VENDOR: u16 = 0x2C;
    pub const SUBSYSTEM: u16 = 0x2E;
    pub const CAPABILITIES: u16 = 0x34;

    /// Vendor id of virtio devices (virtio 1.3, 4.1.2).
    pub const VIRTIO_VENDOR: u16 = 0x1AF4;
    /// Vendor id that an absent function reads as.
    pub const ABSENT: u16 = 0xFFFF;
    pub const COMMAND_IO: u16 = 1 << 0;
    pub const COMMAND_MEMORY: u16 = 1 << 1;
    pub const COMMAND_BUS_MASTER: u16 = 1 << 2;
    pub const STATUS_CAPABILITIES: u16 = 1 << 4;
}

/// Device Capabilities register of the PCI Express capability (PCIe 5.0, 7.5.3.3).
const DEVICE_CAPABILITIES: u16 = 0x04;
/// Device Control register (PCIe 5.0, 7.5.3.4).
const DEVICE_CONTROL: u16 = 0x08;
/// "Function Level Reset Capability".
const FLR_CAPABLE: u32 = 1 << 28;
/// "Initiate Function Level Reset".
const INITIATE_FLR: u16 = 1 << 15;
/// How long software leaves a function alone after an FLR (PCIe 5.0, 6.6.2).
const FLR_TIME: Duration = Duration::from_millis(100);

/// Why a function cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are those of the message")]
pub enum PciError {
    #[error("{function}: header type {found:#x} instead of 0; the board only drives endpoints")]
    HeaderType { function: FunctionId, found: u8 },
    #[error(
        "{function}: BAR {bar} answers {mask:#x} when sized, which is not a power of two from 16 bytes up"
    )]
    BarSize { function: FunctionId, bar: u8, mask: u64 },
    #[error("{function}: BAR {bar} is of a reserved type ({register:#x})")]
    BarType { function: FunctionId, bar: u8, register: u32 },
    #[error(
        "{function}: BAR {bar} of {size:#x} bytes does not fit below {end:#x}; give the board fewer or smaller functions"
    )]
    WindowFull { function: FunctionId, bar: u8, size: u64, end: u64 },
    #[error("{function}: the capability list comes back to {at:#x}; it must end")]
    CapabilityLoop { function: FunctionId, at: u16 },
    #[error("{function}: a capability at {at:#x} of {length} bytes does not lie in 0x40..0x100")]
    CapabilityBounds { function: FunctionId, at: u16, length: u16 },
    #[error("{function}: {what} at BAR {bar} + {offset:#x}, {length:#x} bytes, is not inside of that BAR")]
    OutsideBar { function: FunctionId, what: &'static str, bar: u8, offset: u64, length: u64 },
    #[error("{function}: {what} begins at {offset:#x}, which is not a multiple of {alignment}")]
    Misaligned { function: FunctionId, what: &'static str, offset: u64, alignment: u64 },
    #[error("{function}: no capability for {what}; a modern virtio function must have one")]
    Missing { function: FunctionId, what: &'static str },
    #[error("{function}: function level reset is not offered")]
    NoReset { function: FunctionId },
    #[error("{function}: still gone {waited:?} after a function level reset")]
    ResetLost { function: FunctionId, waited: Duration },
}

/// A stretch of memory-mapped registers, where the board has placed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Where it begins on the board's bus.
    pub address: BoardAddr,
    /// Its size in bytes.
    pub length: u64,
}

/// A PCI function that the board found, with its BARs placed. Displays as `lspci -v` would print it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Which function of the IO-Bond it is.
    pub id: FunctionId,
    /// Vendor id; 0x1AF4 for virtio (virtio 1.3, 4.1.2).
    pub vendor: u16,
    /// Device id; 0x1040 plus the virtio device type, or 0x1000 to 0x103F for a transitional device.
    pub device: u16,
    /// Revision ID (PCIe 5.0, 7.5.1.1.5).
    pub revision: u8,
    /// Class, subclass and programming interface, from the top byte of 24 bits down.
    pub class: u32,
    /// Subsystem vendor id and subsystem id.
    pub subsystem: (u16, u16),
    /// The command register as the board left it.
    pub command: u16,
    /// Its BARs that are implemented, by rising number.
    pub bars: Vec<Bar>,
    /// Capabilities in list order, each with its offset.
    pub capabilities: Vec<(u16, Capability)>,
}

/// Finds every function, places its BARs from [`MMIO_WINDOW`] up, and enables memory decoding and bus
/// mastering.
///
/// # Errors
/// The first [`PciError`]; what was found before it stays as it was set up.
pub fn enumerate(bus: &(impl Bus + ?Sized)) -> Result<Vec<Function>, PciError> {
    let mut window = MMIO_WINDOW;
    let mut functions = Vec::new();
    for id in FunctionId::all() {
        if read_u16(bus, id, header::VENDOR) == header::ABSENT {
            continue;
        }
        let mut function = Function::identify(bus, id)?;
        // A BAR that is being sized must not decode.
        function.set_command(
            bus,
            header::COMMAND_IO | header::COMMAND_MEMORY | header::COMMAND_BUS_MASTER,
            0,
        );
        function.bars = bar::size(bus, id)?;
        bar::place(bus, id, &mut function.bars, &mut window)?;
        function.capabilities = capability::walk(bus, id)?;
        function.set_command(bus, 0, header::COMMAND_MEMORY | header::COMMAND_BUS_MASTER);
        functions.push(function);
    }
    Ok(functions)
}

impl Function {
    fn identify(bus: &(impl Bus + ?Sized), id: FunctionId) -> Result<Self, PciError> {
        let class = |byte: u16| bus.config_read(id, header::CLASS + byte, 1) & 0xFF;
        // Bit 7 says "multi-function" (PCIe 5.0, 7.5.1.1.9).
        let header_type = bus.config_read(id, header::HEADER_TYPE, 1) as u8 & 0x7F;
        if header_type != 0 {
            return Err(PciError::HeaderType { function: id, found: header_type });
        }
        Ok(Self {
            id,
            vendor: read_u16(bus, id, header::VENDOR),
            device: read_u16(bus, id, header::DEVICE),
            revision: bus.config_read(id, header::REVISION, 1) as u8,
            class: class(0) | class(1) << 8 | class(2) << 16,
            subsystem: (read_u16(bus, id, header::SUBSYSTEM_VENDOR), read_u16(bus, id, header::SUBSYSTEM)),
            command: read_u16(bus, id, header::COMMAND),
            bars: Vec::new(),
            capabilities: Vec::new(),
        })
    }

    fn set_command(&mut self, bus: &(impl Bus + ?Sized), clear: u16, set: u16) {
        let command = (read_u16(bus, self.id, header::COMMAND) & !clear) | set;
        write_u16(bus, self.id, header::COMMAND, command);
        self.command = read_u16(bus, self.id, header::COMMAND);
    }

    /// Where `length` bytes at `offset` of BAR `bar` are on the bus; `what` names them in an error.
    ///
    /// # Errors
    /// [`PciError::OutsideBar`], also when that BAR is not a memory BAR.
    pub fn region(&self, what: &'static str, bar: u8, offset: u64, length: u64) -> Result<Region, PciError> {
        let outside = PciError::OutsideBar { function: self.id, what, bar, offset, length };
        let Some(found) = self.bars.iter().find(|found| found.index == bar && found.kind != BarKind::Io)
        else {
            return Err(outside);
        };
        match (offset.checked_add(length), found.address.checked_add(offset)) {
            (Some(end), Some(address)) if end <= found.size && length > 0 => Ok(Region { address, length }),
            _ => Err(outside),
        }
    }

    /// The first usable instance of a virtio structure (virtio 1.3, 4.1.4.1: "SHOULD use the first
    /// instance"), and for the notification structure its `notify_off_multiplier`.
    ///
    /// # Errors
    /// [`PciError::Missing`], [`PciError::OutsideBar`] or [`PciError::Misaligned`].
    pub fn virtio(&self, structure: VirtioStructure) -> Result<(Region, u32), PciError> {
        let what = structure.name();
        let found = self.capabilities.iter().find_map(|(_, capability)| match *capability {
            Capability::Virtio { structure: s, bar, offset, length, multiplier } if s == structure => {
                Some((bar, u64::from(offset), u64::from(length), multiplier))
            }
            _ => None,
        });
        let (bar, offset, length, multiplier) = found.ok_or(PciError::Missing { function: self.id, what })?;
        let alignment = structure.alignment();
        if offset % alignment != 0 {
            return Err(PciError::Misaligned { function: self.id, what, offset, alignment });
        }
        Ok((self.region(what, bar, offset, length)?, multiplier))
    }

    /// The MSI-X capability with its offset, if there is one.
    pub fn msix(&self) -> Option<(u16, Msix)> {
        self.capabilities.iter().find_map(|(at, capability)| match capability {
            Capability::Msix(msix) => Some((*at, *msix)),
            _ => None,
        })
    }

    /// Writes MSI-X Message Control (PCIe 5.0, 7.7.2.2) and notes what the function made of it.
    pub(super) fn set_msix_control(&mut self, bus: &(impl Bus + ?Sized), control: u16) {
        let id = self.id;
        for (at, capability) in &mut self.capabilities {
            if let Capability::Msix(msix) = capability {
                write_u16(bus, id, *at + capability::MSIX_CONTROL, control);
                msix.control = read_u16(bus, id, *at + capability::MSIX_CONTROL);
                return;
            }
        }
    }

    /// Resets the function through its PCI Express capability (PCIe 5.0, 6.6.2), then puts BARs and command
    /// register back. MSI-X is disabled and the virtio device reset afterwards.
    ///
    /// # Errors
    /// [`PciError::NoReset`] when the function does not offer it, [`PciError::ResetLost`] when it does not
    /// come back.
    pub fn reset(&mut self, bus: &(impl Bus + ?Sized)) -> Result<(), PciError> {
        let express =
            self.capabilities.iter().find(|(_, capability)| matches!(capability, Capability::Express(_)));
        let at = express.map(|(at, _)| *at).ok_or(PciError::NoReset { function: self.id })?;
        if bus.config_read(self.id, at + DEVICE_CAPABILITIES, 4) & FLR_CAPABLE == 0 {
            return Err(PciError::NoReset { function: self.id });
        }
        let control = read_u16(bus, self.id, at + DEVICE_CONTROL);
        write_u16(bus, self.id, at + DEVICE_CONTROL, control | INITIATE_FLR);
        let start = Instant::now();
        while start.elapsed() < FLR_TIME {
            bus.relax();
        }
        if read_u16(bus, self.id, header::VENDOR) != self.vendor {
            return Err(PciError::ResetLost { function: self.id, waited: start.elapsed() });
        }
        for bar in &self.bars {
            bar.write(bus, self.id);
        }
        self.set_command(bus, 0, header::COMMAND_MEMORY | header::COMMAND_BUS_MASTER);
        self.capabilities = capability::walk(bus, self.id)?;
        Ok(())
    }
}

fn read_u16(bus: &(impl Bus + ?Sized), function: FunctionId, offset: u16) -> u16 {
    bus.config_read(function, offset, 2) as u16
}

fn write_u16(bus: &(impl Bus + ?Sized), function: FunctionId, offset: u16, value: u16) {
    bus.config_write(function, offset, 2, u32::from(value));
}
