//! What a TLP takes: bytes of the wire, credits of its receiver.

use super::Pcie;

/// What frames a TLP, in bytes. At 2.5 and 5 GT/s: STP 1, sequence number 2, LCRC 4, END 1 (PCIe 5.0,
/// 3.6.2.1, 4.2.1.2). From 8 GT/s on: STP token with the sequence number 4, LCRC 4 (4.2.2.3.1). So it is 8 at
/// every speed.
const FRAME: u32 = 1 + 2 + 4 + 1;
/// Header of a memory request with a 64-bit address: 4 DW (PCIe 5.0, 2.2.4.1).
const REQUEST_HEADER: u32 = 16;
/// Header of a completion: 3 DW (PCIe 5.0, 2.2.9).
const COMPLETION_HEADER: u32 = 12;
/// Bytes of a DW, of which data is a whole number (PCIe 5.0, 2.2.2).
pub(super) const DW: u32 = 4;
/// Bytes of data that one credit stands for (PCIe 5.0, 2.6.1).
const CREDIT: u32 = 16;

/// A TLP, as far as a link cares. A message of MSI-X is a memory write of 4 bytes.
///
/// Data is in bytes. On the wire it is whole DWs: data that neither begins nor ends at one takes up to one DW
/// more than is reckoned with here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the requests and the bytes that they carry")]
pub enum Tlp {
    MemoryRead,
    MemoryWrite { data: u32 },
    Completion { data: u32 },
}

impl Tlp {
    /// How many bytes of data it carries.
    #[must_use]
    pub const fn data(self) -> u32 {
        match self {
            Self::MemoryRead => 0,
            Self::MemoryWrite { data } | Self::Completion { data } => data,
        }
    }
}

impl Pcie {
    /// Bytes that a TLP takes on the wire: frame, header, data padded to DWs.
    #[must_use]
    pub const fn wire_bytes(&self, tlp: Tlp) -> u32 {
        let header = match tlp {
            Tlp::MemoryRead | Tlp::MemoryWrite { .. } => REQUEST_HEADER,
            Tlp::Completion { .. } => COMPLETION_HEADER,
        };
        let padded = tlp.data().saturating_add(DW - 1) & !(DW - 1);
        padded.saturating_add(FRAME + header)
    }

    /// Credits that a TLP takes: headers, and units of data.
    #[must_use]
    pub const fn credits_of(tlp: Tlp) -> (u16, u16) {
        let units = tlp.data().div_ceil(CREDIT);
        (1, if units > u16::MAX as u32 { u16::MAX } else { units as u16 })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Generation, *};

    #[test]
    fn tlps_on_the_wire() {
        let sizes = [
            (Tlp::MemoryRead, 8 + 16),
            (Tlp::MemoryWrite { data: 4 }, 8 + 16 + 4),
            (Tlp::MemoryWrite { data: 64 }, 8 + 16 + 64),
            (Tlp::MemoryWrite { data: 65 }, 8 + 16 + 68),
            (Tlp::Completion { data: 0 }, 8 + 12),
            (Tlp::Completion { data: 4 }, 8 + 12 + 4),
            (Tlp::Completion { data: 256 }, 8 + 12 + 256),
            (Tlp::MemoryWrite { data: u32::MAX }, u32::MAX),
        ];
        for generation in [Generation::Gen1, Generation::Gen3, Generation::Gen5] {
            for (tlp, bytes) in sizes {
                assert_eq!(Pcie::new(generation, 4).wire_bytes(tlp), bytes, "{tlp:?}");
            }
        }
    }

    #[test]
    fn credits_are_units_of_16_bytes() {
        assert_eq!(Pcie::credits_of(Tlp::MemoryRead), (1, 0));
        assert_eq!(Pcie::credits_of(Tlp::MemoryWrite { data: 4 }), (1, 1));
        assert_eq!(Pcie::credits_of(Tlp::MemoryWrite { data: 16 }), (1, 1));
        assert_eq!(Pcie::credits_of(Tlp::Completion { data: 17 }), (1, 2));
        assert_eq!(Pcie::credits_of(Tlp::Completion { data: 4096 }), (1, 256));
        assert_eq!(Pcie::credits_of(Tlp::MemoryWrite { data: u32::MAX }), (1, u16::MAX));
    }
}
