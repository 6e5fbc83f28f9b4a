//! A function as `lspci -v` prints it, with the names that pci.ids has for it.

use std::fmt;

use super::{Bar, BarKind, Capability, Function, Msix, VirtioStructure, header};

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slot = self.id.index() + 1;
        write!(f, "00:{slot:02x}.0 {}: ", Class(self.class))?;
        device(f, self.vendor, self.device)?;
        writeln!(f, " (rev {:02x})", self.revision)?;
        let (vendor, subsystem) = self.subsystem;
        writeln!(f, "\tSubsystem: {} Device {subsystem:04x}", Vendor(vendor))?;
        let master = if self.command & header::COMMAND_BUS_MASTER != 0 { "bus master, " } else { "" };
        writeln!(f, "\tFlags: {master}fast devsel, latency 0")?;
        let decodes = self.command & header::COMMAND_MEMORY != 0;
        for bar in &self.bars {
            writeln!(f, "\t{}", BarLine { bar, decodes })?;
        }
        for (at, capability) in &self.capabilities {
            writeln!(f, "\tCapabilities: [{at:02x}] {}", CapabilityLine(capability))?;
        }
        Ok(())
    }
}

struct Class(u32);

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 >> 8 {
            0x0100 => f.write_str("SCSI storage controller"),
            0x0180 => f.write_str("Mass storage controller"),
            0x0200 => f.write_str("Ethernet controller"),
            0x0280 => f.write_str("Network controller"),
            0x0300 => f.write_str("VGA compatible controller"),
            0x0380 => f.write_str("Display controller"),
            0x0780 => f.write_str("Communication controller"),
            class => write!(f, "Class [{class:04x}]"),
        }
    }
}

struct Vendor(u16);

impl fmt::Display for Vendor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            header::VIRTIO_VENDOR => f.write_str("Red Hat, Inc."),
            vendor => write!(f, "Vendor {vendor:04x}"),
        }
    }
}

fn device(f: &mut fmt::Formatter<'_>, vendor: u16, device: u16) -> fmt::Result {
    let name = match (vendor, device) {
        (header::VIRTIO_VENDOR, 0x1000) => "Virtio network device",
        (header::VIRTIO_VENDOR, 0x1001) => "Virtio block device",
        (header::VIRTIO_VENDOR, 0x1003) => "Virtio console",
        (header::VIRTIO_VENDOR, 0x1041) => "Virtio 1.0 network device",
        (header::VIRTIO_VENDOR, 0x1042) => "Virtio 1.0 block device",
        (header::VIRTIO_VENDOR, 0x1043) => "Virtio 1.0 console",
        (header::VIRTIO_VENDOR, 0x1050) => "Virtio 1.0 GPU",
        _ => return write!(f, "{} Device {device:04x}", Vendor(vendor)),
    };
    write!(f, "{} {name}", Vendor(vendor))
}

struct BarLine<'a> {
    bar: &'a Bar,
    decodes: bool,
}

impl fmt::Display for BarLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.bar.address.0;
        let size = Size(self.bar.size);
        let disabled = if self.decodes { "" } else { "[disabled] " };
        let (width, prefetchable) = match self.bar.kind {
            BarKind::Io => return write!(f, "I/O ports at <unassigned> [disabled] [size={size}]"),
            BarKind::Memory32 { prefetchable } => (32, prefetchable),
            BarKind::Memory64 { prefetchable } => (64, prefetchable),
        };
        let prefetchable = if prefetchable { "prefetchable" } else { "non-prefetchable" };
        write!(f, "Memory at {address:08x} ({width}-bit, {prefetchable}) {disabled}[size={size}]")
    }
}

struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")];
        let fitting = units.into_iter().find(|(unit, _)| self.0.is_multiple_of(*unit));
        let (unit, letter) = fitting.unwrap_or((1, ""));
        write!(f, "{}{letter}", self.0 / unit)
    }
}

struct CapabilityLine<'a>(&'a Capability);

impl fmt::Display for CapabilityLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Capability::Msix(msix) => {
                let sign = |bit| if msix.control & bit != 0 { '+' } else { '-' };
                let (enable, masked) = (sign(Msix::ENABLE), sign(Msix::FUNCTION_MASK));
                write!(f, "MSI-X: Enable{enable} Count={} Masked{masked}", msix.vectors())
            }
            Capability::Express(capabilities) => {
                // Device/Port Type and Interrupt Message Number (PCIe 5.0, 7.5.3.2).
                let message = capabilities >> 9 & 0x1F;
                match capabilities >> 4 & 0xF {
                    0 => write!(f, "Express Endpoint, MSI {message:02x}"),
                    9 => write!(f, "Express Root Complex Integrated Endpoint, MSI {message:02x}"),
                    kind => write!(f, "Express type {kind:x}, MSI {message:02x}"),
                }
            }
            Capability::Virtio { structure, .. } => {
                let name = match structure {
                    VirtioStructure::Common => "CommonCfg",
                    VirtioStructure::Notify => "Notify",
                    VirtioStructure::Isr => "ISR",
                    VirtioStructure::Device => "DeviceCfg",
                    // lspci has no name for this one.
                    VirtioStructure::PciAccess => "<unknown>",
                };
                write!(f, "Vendor Specific Information: VirtIO: {name}")
            }
            Capability::Vendor(length) => write!(f, "Vendor Specific Information: Len={length:02x} <?>"),
            Capability::Other(id) => write!(f, "#{id:02x}"),
        }
    }
}
