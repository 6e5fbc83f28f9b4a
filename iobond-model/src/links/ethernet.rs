//! An Ethernet link: what a frame takes on the wire, and how long.

use serde::{Deserialize, Serialize};

use crate::time::Span;

/// Preamble and start of frame (IEEE 802.3-2018, 3.1.1).
const PREAMBLE: u64 = 8;
/// Frame check sequence (IEEE 802.3-2018, 3.2.9); frames of virtio-net have none.
const FCS: u64 = 4;
/// Shortest frame, its check sequence included (IEEE 802.3-2018, 4.4.2, minFrameSize).
const SHORTEST: u64 = 64;
/// What lies between two frames at least (IEEE 802.3-2018, 4.4.2, interPacketGap: 96 bits).
const GAP: u64 = 12;

/// One link, the same in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Ethernet {
    /// Bits in a second, as the link is called: encoding is on top of it.
    pub rate: u64,
}

impl Ethernet {
    /// Bytes of the wire that a frame takes, from its preamble to the earliest one of the next. `frame` is
    /// from destination address to payload, without a check sequence, as virtio-net has it; a short one is
    /// padded.
    #[must_use]
    pub const fn wire_bytes(&self, frame: u32) -> u64 {
        let frame = frame as u64 + FCS;
        PREAMBLE + if frame < SHORTEST { SHORTEST } else { frame } + GAP
    }

    /// How long so many bytes take, rounded up. For ever on a link of no rate.
    #[must_use]
    pub fn serialization(&self, wire_bytes: u64) -> Span {
        Span::at_rate(wire_bytes.saturating_mul(8), self.rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The shortest frame takes 8 + 64 + 12 = 84 bytes: 6.72 ns at 100 Gbit/s, the well-known 148.8 million
    /// in a second. The longest one without jumbo frames, 14 + 1500, takes 8 + 1518 + 12 = 1538: 123.04 ns.
    #[test]
    fn frames_on_the_wire() {
        let link = Ethernet { rate: 100_000_000_000 };
        for (frame, bytes, ps) in
            [(0, 84, 6720), (60, 84, 6720), (61, 85, 6800), (64, 88, 7040), (1514, 1538, 123_040)]
        {
            assert_eq!(link.wire_bytes(frame), bytes);
            assert_eq!(link.serialization(bytes), Span::from_ps(ps));
        }
        assert_eq!(1_000_000_000_000 / link.serialization(link.wire_bytes(60)).ps(), 148_809_523);
    }

    #[test]
    fn the_ends_of_the_range() {
        let link = Ethernet { rate: 3_000_000_000 };
        assert_eq!(link.serialization(1), Span::from_ps(2667), "rounded up");
        assert_eq!(link.wire_bytes(u32::MAX), u64::from(u32::MAX) + 24);
        assert_eq!(Ethernet { rate: 0 }.serialization(1), Span::from_ps(u64::MAX));
        assert_eq!(Ethernet { rate: 1 }.serialization(u64::MAX), Span::from_ps(u64::MAX));
    }
}
