//! How long bytes take on a link.

use super::{Generation, Pcie};
use crate::time::Span;

/// What of a link DLLPs and SKP ordered sets take from TLPs, in millionths.
///
/// * A receiver answers with an Ack and an UpdateFC DLLP within a limit that is a time, whatever the size of
///   TLPs: at 8 GT/s, x4, MPS 256, 214 symbol times for either (PCIe 5.0, tables 2-48 and 3-9), in which the
///   link carries 856 bytes. A DLLP takes 8 (4.2.2.3.1: SDP 2, DLLP 4, CRC 2): 2 * 8 / 856 = 1.87 %.
/// * A SKP ordered set is a block after every 370 to 375 others (PCIe 5.0, 4.2.7): 0.27 %.
///
/// That is for one link, with the other direction full. The tables give other links with MPS 256 from 0.6 %
/// (x16) to 3.1 % (x1) in place of the 1.87 %, and a direction without TLPs costs the other one nothing.
const OVERHEAD: u128 = 21_400;
const MILLION: u128 = 1_000_000;
/// Binary digits behind the point of [`Link::per_byte`]: a whole second of Gen5 x32 is wrong by less than 1
/// ps.
const FRACTION: u32 = 40;

impl Generation {
    /// Transfers of one lane in a second.
    #[must_use]
    pub const fn transfers(self) -> u64 {
        match self {
            Self::Gen1 => 2_500_000_000,
            Self::Gen2 => 5_000_000_000,
            Self::Gen3 => 8_000_000_000,
            Self::Gen4 => 16_000_000_000,
            Self::Gen5 => 32_000_000_000,
        }
    }

    /// Bits of data, and the bits that they are sent as (PCIe 5.0, 4.2.1 and 4.2.2).
    const fn encoding(self) -> (u64, u64) {
        match self {
            Self::Gen1 | Self::Gen2 => (8, 10),
            Self::Gen3 | Self::Gen4 | Self::Gen5 => (128, 130),
        }
    }
}

/// One direction of a link, ready to reckon with: no division for each TLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Picoseconds that a byte takes, times 2^[`FRACTION`], rounded up.
    per_byte: u64,
}

impl Link {
    /// How long so many bytes of TLPs take, with their share of DLLPs and SKP ordered sets; rounded up.
    #[must_use]
    #[inline]
    pub fn serialization(self, wire_bytes: u64) -> Span {
        let fine = u128::from(wire_bytes) * u128::from(self.per_byte) + ((1 << FRACTION) - 1);
        Span::from_ps(u64::try_from(fine >> FRACTION).unwrap_or(u64::MAX))
    }
}

impl Pcie {
    /// One direction of this link, ready to reckon with.
    #[must_use]
    pub fn link(&self) -> Link {
        let (data, sent) = self.generation.encoding();
        let lanes = u128::from(self.lanes.max(1));
        let for_a_byte = (8 * 1_000_000_000_000 * MILLION * u128::from(sent)) << FRACTION;
        let rate = u128::from(self.generation.transfers() * data) * lanes * (MILLION - OVERHEAD);
        // 4088 ps at most, at 2.5 GT/s and x1.
        Link { per_byte: for_a_byte.div_ceil(rate) as u64 }
    }

    /// [`Link::serialization`] for a single use.
    #[must_use]
    pub fn serialization(&self, wire_bytes: u64) -> Span {
        self.link().serialization(wire_bytes)
    }

    /// Bits in a second, after encoding: what a link is called by.
    #[must_use]
    pub const fn bandwidth(&self) -> u64 {
        let (data, sent) = self.generation.encoding();
        self.generation.transfers() * data * self.lanes as u64 / sent
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Tlp, WIDTHS},
        *,
    };

    const ALL: [Generation; 5] =
        [Generation::Gen1, Generation::Gen2, Generation::Gen3, Generation::Gen4, Generation::Gen5];

    #[test]
    fn bandwidths_that_links_are_called_by() {
        let known = [
            (Generation::Gen1, 1, 2_000_000_000),
            (Generation::Gen2, 8, 32_000_000_000),
            (Generation::Gen3, 4, 31_507_692_307),
            (Generation::Gen3, 8, 63_015_384_615),
            (Generation::Gen4, 4, 63_015_384_615),
            (Generation::Gen5, 16, 504_123_076_923),
        ];
        for (generation, lanes, bits) in known {
            assert_eq!(Pcie::new(generation, lanes).bandwidth(), bits);
        }
    }

    /// 8 GT/s * 4 * 128/130 = 31.5077 Gbit/s: 253.90625 ps a byte.
    /// The write: 8 frame + 16 header + 64 = 88 bytes; 88 * 253.90625 = 22343.75 ps; / 0.9786 = 22832.4 ps.
    #[test]
    fn a_write_of_64_bytes_on_gen3_x4() {
        let link = Pcie::new(Generation::Gen3, 4);
        let bytes = link.wire_bytes(Tlp::MemoryWrite { data: 64 });
        assert_eq!(link.serialization(bytes.into()), Span::from_ps(22_833));
    }

    /// 5 GT/s * 8 * 8/10 = 32 Gbit/s: 250 ps a byte.
    /// The write: 8 + 16 + 256 = 280 bytes; 280 * 250 = 70000 ps; / 0.9786 = 71530.8 ps.
    #[test]
    fn a_write_of_256_bytes_on_gen2_x8() {
        let link = Pcie::new(Generation::Gen2, 8);
        let bytes = link.wire_bytes(Tlp::MemoryWrite { data: 256 });
        assert_eq!(link.serialization(bytes.into()), Span::from_ps(71_531));
    }

    /// Gen3 x4, MRRS 512, RCB 64, MPS 256, all aligned. There: 4096 / 512 = 8 requests of 8 + 16 = 24 bytes:
    /// 192; * 253.90625 = 48750 ps; / 0.9786 = 49816.1 ps. Back: 8 * 512 / 256 = 16 completions of 8 + 12 +
    /// 256 = 276 bytes: 4416; * 253.90625 = 1121250 ps; / 0.9786 = 1145769.5 ps. So reads move 4096 * 8 /
    /// 1145.77 ns = 28.6 Gbit/s.
    #[test]
    fn a_read_of_4_kib_on_gen3_x4() {
        let link = Pcie::new(Generation::Gen3, 4);
        let requests: Vec<_> = link.read_requests(0x7000, 4096).collect();
        assert_eq!(requests.len(), 8);
        let there = requests.len() as u64 * u64::from(link.wire_bytes(Tlp::MemoryRead));
        assert_eq!(there, 192);
        assert_eq!(link.serialization(there), Span::from_ps(49_817));
        let completions: Vec<_> =
            requests.into_iter().flat_map(|(at, len)| link.completions(at, len)).collect();
        assert_eq!(completions, [256; 16]);
        let back: u32 = completions.into_iter().map(|data| link.wire_bytes(Tlp::Completion { data })).sum();
        assert_eq!(back, 4416);
        assert_eq!(link.serialization(back.into()), Span::from_ps(1_145_770));
    }

    /// Against the quotient itself: never early, and never late by more than the picosecond of rounding up.
    #[test]
    fn fixed_point_is_close_enough() {
        for generation in ALL {
            for lanes in WIDTHS {
                let link = Pcie::new(generation, lanes);
                for bytes in [0, 1, 24, 276, 4120, 1 << 20, 1 << 32] {
                    let (data, sent) = generation.encoding();
                    let bits = u128::from(generation.transfers() * data) * u128::from(lanes);
                    let exact = (u128::from(bytes) * 8 * u128::from(sent) * 1_000_000_000_000 * MILLION)
                        .div_ceil(bits * (MILLION - OVERHEAD));
                    let late = u128::from(link.serialization(bytes).ps()) - exact;
                    assert!(late <= 1, "{generation:?} x{lanes}, {bytes} bytes: {late} ps late");
                }
            }
        }
    }

    #[test]
    fn no_link_and_no_length_panics() {
        let mut link = Pcie::new(Generation::Gen1, 0);
        assert_eq!(link.bandwidth(), 0);
        assert_eq!(link.serialization(u64::MAX), Span::from_ps(u64::MAX));
        link.lanes = u8::MAX;
        link.generation = Generation::Gen5;
        assert!(link.serialization(1) > Span::ZERO);
        assert_eq!(link.serialization(0), Span::ZERO);
    }
}
