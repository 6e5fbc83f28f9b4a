//! TCP segmentation in software, for a port that does not take long frames. Pure.

use super::checksum::{self, PartialChecksum};

/// Most segments that a frame is cut into. With segments of 64 bytes that is the longest frame there is; a
/// sender that asks for more wants work, not throughput.
const MAX_SEGMENTS: usize = 1024;

const ETHERNET: usize = 14;
const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
/// IEEE 802.1Q C-tag and S-tag.
const ETHERTYPE_VLAN: [[u8; 2]; 2] = [[0x81, 0x00], [0x88, 0xa8]];
const IPV6_HEADER: usize = 40;
const PROTOCOL_TCP: u8 = 6;
/// Offset of the checksum in a TCP header.
const TCP_CHECKSUM: u16 = 16;
/// Flags in byte 13 of a TCP header (RFC 9293, 3.1).
const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

/// Version of the Internet protocol under TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ip {
    V4,
    V6,
}

/// Where the headers of a TCP frame are, as offsets into it. All of them lie in the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    ip: Ip,
    network: usize,
    transport: usize,
    payload: usize,
    len: usize,
}

impl Layout {
    /// Finds the headers of `frame`, up to two VLAN tags before them, if the checksum is that of a TCP header
    /// there.
    pub(crate) fn of(frame: &[u8], ip: Ip, checksum: PartialChecksum) -> Option<Self> {
        let mut network = ETHERNET;
        for _ in 0..2 {
            if ETHERTYPE_VLAN.iter().any(|tag| frame.get(network - 2..network) == Some(tag.as_slice())) {
                network += 4;
            }
        }
        let transport = usize::from(checksum.start);
        let ethertype = frame.get(network - 2..network)?;
        let found = match ip {
            Ip::V4 => {
                let header = usize::from(frame.get(network)? & 0xf) * 4;
                ethertype == ETHERTYPE_IPV4
                    && header >= 20
                    && transport == network + header
                    && *frame.get(network + 9)? == PROTOCOL_TCP
            }
            // Extension headers may lie in between. The sender says where TCP starts.
            Ip::V6 => ethertype == ETHERTYPE_IPV6 && transport >= network + IPV6_HEADER,
        };
        let tcp_header = usize::from(frame.get(transport + 12)? >> 4) * 4;
        let payload = transport + tcp_header;
        let complete = found && checksum.offset == TCP_CHECKSUM && tcp_header >= 20 && payload <= frame.len();
        complete.then_some(Self { ip, network, transport, payload, len: frame.len() })
    }

    /// Whether the frame may be cut into segments of `size` bytes of payload.
    pub(crate) fn is_segmentable(&self, size: u16) -> bool {
        size > 0 && self.segments(size) <= MAX_SEGMENTS
    }

    /// Number of segments of at most `size` bytes of payload, at least one. `size` is not zero.
    pub(crate) fn segments(&self, size: u16) -> usize {
        (self.len - self.payload).div_ceil(size.max(1).into()).max(1)
    }

    /// Replaces `segment` by segment number `index` of `frame`, all checksums complete.
    pub(crate) fn cut(&self, frame: &[u8], size: u16, index: usize, segment: &mut Vec<u8>) {
        let from = (self.payload + index * usize::from(size)).min(frame.len());
        let to = (from + usize::from(size)).min(frame.len());
        segment.clear();
        segment.extend_from_slice(&frame[..self.payload]);
        segment.extend_from_slice(&frame[from..to]);

        let is_last = index + 1 == self.segments(size);
        let (network, tcp) = segment.split_at_mut(self.transport);
        let network = &mut network[self.network..];
        // RFC 9293, 3.8.1: the sequence number counts bytes. Control bits that end something go with the last
        // segment.
        let sequence = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
        tcp[4..8].copy_from_slice(&sequence.wrapping_add((from - self.payload) as u32).to_be_bytes());
        if !is_last {
            tcp[13] &= !(FIN | PSH);
        }
        if index > 0 {
            tcp[13] &= !CWR;
        }
        match self.ip {
            Ip::V4 => fix_ipv4(network, tcp.len(), index),
            Ip::V6 => fix_ipv6(network, tcp.len()),
        }
        let at = usize::from(TCP_CHECKSUM);
        tcp[at..at + 2].fill(0);
        let sum = checksum::finish(checksum::add(pseudo_header(self.ip, network, tcp.len()), tcp));
        tcp[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }
}

/// Total length, identification and checksum (RFC 791, 3.1).
fn fix_ipv4(header: &mut [u8], tcp: usize, index: usize) {
    let total = (header.len() + tcp) as u16;
    header[2..4].copy_from_slice(&total.to_be_bytes());
    let identification = u16::from_be_bytes([header[4], header[5]]).wrapping_add(index as u16);
    header[4..6].copy_from_slice(&identification.to_be_bytes());
    header[10..12].fill(0);
    let sum = checksum::finish(checksum::add(0, header));
    header[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// Payload length (RFC 8200, 3), extension headers included.
fn fix_ipv6(header: &mut [u8], tcp: usize) {
    let payload = (header.len() - IPV6_HEADER + tcp) as u16;
    header[4..6].copy_from_slice(&payload.to_be_bytes());
}

/// Sum of the pseudo header: addresses, protocol and length (RFC 9293, 3.1; RFC 8200, 8.1).
fn pseudo_header(ip: Ip, header: &[u8], tcp: usize) -> u64 {
    let addresses = match ip {
        Ip::V4 => &header[12..20],
        Ip::V6 => &header[8..40],
    };
    checksum::add(u64::from(PROTOCOL_TCP) + tcp as u64, addresses)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::frames::{TCP_START, tagged, tcp, tcp_is_intact};
    use proptest::prelude::*;

    fn checksum(start: usize) -> PartialChecksum {
        PartialChecksum { start: start as u16, offset: TCP_CHECKSUM }
    }

    fn any_ip() -> impl Strategy<Value = Ip> {
        prop::sample::select(vec![Ip::V4, Ip::V6])
    }

    #[test]
    fn control_bits_end_up_where_they_belong() {
        let mut frame = tcp(Ip::V4, TCP_START[0] + 20 + 250);
        frame[TCP_START[0] + 13] = FIN | PSH | CWR | 0x10;
        let layout = Layout::of(&frame, Ip::V4, checksum(TCP_START[0])).unwrap();
        let mut segment = Vec::new();
        let flags: Vec<u8> = (0..layout.segments(100))
            .map(|index| {
                layout.cut(&frame, 100, index, &mut segment);
                segment[TCP_START[0] + 13]
            })
            .collect();
        assert_eq!(flags, [CWR | 0x10, 0x10, FIN | PSH | 0x10]);
    }

    #[test]
    fn too_many_segments_are_refused() {
        let frame = tcp(Ip::V4, 60_000);
        let layout = Layout::of(&frame, Ip::V4, checksum(TCP_START[0])).unwrap();
        assert!(layout.is_segmentable(64));
        assert!(!layout.is_segmentable(1) && !layout.is_segmentable(0));
    }

    proptest! {
        /// The segments carry the payload in order, each a good TCP frame by itself and none too long.
        #[test]
        fn segments_are_the_frame(
            ip in any_ip(), tags in 0usize..3, payload in 0usize..9000, size in 64u16..3000,
        ) {
            let plain = tcp(ip, TCP_START[usize::from(ip == Ip::V6)] + 20 + payload);
            let frame = tagged(&plain, tags);
            let start = frame.len() - payload - 20;
            let layout = Layout::of(&frame, ip, checksum(start)).unwrap();
            let sequence = |frame: &[u8]| u32::from_be_bytes(frame[start + 4..start + 8].try_into().unwrap());

            let (mut joined, mut segment) = (Vec::new(), Vec::new());
            for index in 0..layout.segments(size) {
                layout.cut(&frame, size, index, &mut segment);
                prop_assert!(tcp_is_intact(&segment, ip, tags), "segment {index}");
                prop_assert_eq!(sequence(&segment), sequence(&frame).wrapping_add(joined.len() as u32));
                prop_assert!(segment.len() - start - 20 <= usize::from(size));
                joined.extend_from_slice(&segment[start + 20..]);
            }
            prop_assert_eq!(&joined[..], &frame[start + 20..]);
        }

        /// Garbage has no layout, or one that can be cut without a fault.
        #[test]
        fn garbage_is_cut_without_a_fault(
            ip in any_ip(), len in 14usize..400, start in 0u16..100, size in 1u16..200,
            holes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        ) {
            let mut frame = tcp(ip, len);
            for (at, value) in holes {
                let at = at.index(frame.len());
                frame[at] = value;
            }
            if let Some(layout) = Layout::of(&frame, ip, PartialChecksum { start, offset: 16 }) {
                let mut segment = Vec::new();
                for index in 0..layout.segments(size) {
                    layout.cut(&frame, size, index, &mut segment);
                }
            }
        }
    }
}
