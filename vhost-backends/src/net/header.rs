//! `struct virtio_net_hdr` (virtio 1.3, 5.1.6): what a sender left undone, and which port takes such a frame
//! as it is. Pure.

use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_CSUM, VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6,
    VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_HDR_F_NEEDS_CSUM,
    VIRTIO_NET_HDR_GSO_NONE, VIRTIO_NET_HDR_GSO_TCPV4, VIRTIO_NET_HDR_GSO_TCPV6,
};

use super::checksum::PartialChecksum;
use super::segment::{Ip, Layout};

/// Length of the header in bytes, `num_buffers` included.
pub(crate) const HEADER: usize = 12;

/// Length without `num_buffers`: what a driver of virtio 0.9.5 uses without MRG_RXBUF (5.1.6.1).
const SHORT_HEADER: usize = 10;

/// Shortest frame in bytes: an Ethernet header.
pub(crate) const MIN_FRAME: usize = 14;

/// Longest frame in bytes (5.1.6.3.1: buffers of 65562 bytes, less the header).
pub(crate) const MAX_FRAME: usize = 65_550;

/// What a port negotiated, as far as frames are concerned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Negotiated(pub(crate) u64);

impl Negotiated {
    fn has(self, feature: u32) -> bool {
        self.0 & (1 << feature) != 0
    }

    /// Length of the header before each frame, in bytes.
    pub(crate) fn header(self) -> usize {
        match self.has(VIRTIO_F_VERSION_1) || self.mergeable() {
            true => HEADER,
            false => SHORT_HEADER,
        }
    }

    /// A frame may be spread over several receive buffers.
    pub(crate) fn mergeable(self) -> bool {
        self.has(VIRTIO_NET_F_MRG_RXBUF)
    }

    fn may_send(self, ip: Ip) -> bool {
        self.has(match ip {
            Ip::V4 => VIRTIO_NET_F_HOST_TSO4,
            Ip::V6 => VIRTIO_NET_F_HOST_TSO6,
        })
    }

    fn may_receive(self, ip: Ip) -> bool {
        self.has(match ip {
            Ip::V4 => VIRTIO_NET_F_GUEST_TSO4,
            Ip::V6 => VIRTIO_NET_F_GUEST_TSO6,
        })
    }
}

/// Work that the sender left to the device that puts the frame on a wire.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Offload {
    /// NEEDS_CSUM: sum from `start` to the end of the frame belongs `offset` bytes behind `start`.
    pub(crate) checksum: Option<PartialChecksum>,
    /// The frame is a TCP segment that is longer than the path allows. Only with `checksum`.
    pub(crate) segmentation: Option<Segmentation>,
}

/// `gso_type`, `gso_size` and `hdr_len`. The frame was checked to have a [`Layout`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segmentation {
    pub(crate) ip: Ip,
    /// TCP payload per segment in bytes, not zero.
    pub(crate) size: u16,
    /// The sender's hint at the length of all headers.
    pub(crate) headers: u16,
}

/// How a frame gets to a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Treatment {
    /// As it is, work left undone.
    Keep,
    /// With its checksum completed.
    Complete,
    /// Cut into segments, each with its own headers and checksum.
    Segment,
}

/// The header asks for something that was not negotiated, or that the frame does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadHeader;

impl Offload {
    /// Reads the header of a `frame` from a port that negotiated `from`.
    pub(crate) fn parse(header: &[u8; HEADER], frame: &[u8], from: Negotiated) -> Result<Self, BadHeader> {
        let [flags, gso_type, h0, h1, g0, g1, s0, s1, o0, o1, ..] = *header;
        let checksum = if u32::from(flags) & VIRTIO_NET_HDR_F_NEEDS_CSUM != 0 {
            let start = u16::from_le_bytes([s0, s1]);
            let offset = u16::from_le_bytes([o0, o1]);
            let end = usize::from(start) + usize::from(offset) + 2;
            if !from.has(VIRTIO_NET_F_CSUM) || usize::from(start) < MIN_FRAME || end > frame.len() {
                return Err(BadHeader);
            }
            Some(PartialChecksum { start, offset })
        } else {
            None
        };
        let ip = match u32::from(gso_type) {
            VIRTIO_NET_HDR_GSO_NONE => return Ok(Self { checksum, segmentation: None }),
            VIRTIO_NET_HDR_GSO_TCPV4 => Ip::V4,
            VIRTIO_NET_HDR_GSO_TCPV6 => Ip::V6,
            // UDP and ECN are not offered.
            _ => return Err(BadHeader),
        };
        let size = u16::from_le_bytes([g0, g1]);
        let headers = u16::from_le_bytes([h0, h1]);
        // 5.1.6.2: with a gso_type, NEEDS_CSUM is set too.
        let layout = checksum.and_then(|checksum| Layout::of(frame, ip, checksum));
        match layout {
            Some(layout) if from.may_send(ip) && layout.is_segmentable(size) => {
                Ok(Self { checksum, segmentation: Some(Segmentation { ip, size, headers }) })
            }
            _ => Err(BadHeader),
        }
    }

    /// The header of the frame for a driver, spread over `buffers` receive buffers.
    pub(crate) fn encode(&self, buffers: u16) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        if let Some(checksum) = self.checksum {
            header[0] = VIRTIO_NET_HDR_F_NEEDS_CSUM as u8;
            header[6..8].copy_from_slice(&checksum.start.to_le_bytes());
            header[8..10].copy_from_slice(&checksum.offset.to_le_bytes());
        }
        if let Some(segmentation) = self.segmentation {
            header[1] = match segmentation.ip {
                Ip::V4 => VIRTIO_NET_HDR_GSO_TCPV4,
                Ip::V6 => VIRTIO_NET_HDR_GSO_TCPV6,
            } as u8;
            header[2..4].copy_from_slice(&segmentation.headers.to_le_bytes());
            header[4..6].copy_from_slice(&segmentation.size.to_le_bytes());
        }
        header[10..12].copy_from_slice(&buffers.to_le_bytes());
        header
    }

    /// What has to be done for a port that negotiated `to`.
    pub(crate) fn treatment(&self, to: Negotiated) -> Treatment {
        let checks = to.has(VIRTIO_NET_F_GUEST_CSUM);
        match (self.checksum, self.segmentation) {
            (_, Some(segmentation)) if !(checks && to.may_receive(segmentation.ip)) => Treatment::Segment,
            (Some(_), None) if !checks => Treatment::Complete,
            _ => Treatment::Keep,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::frames::{tcp, tso_header};
    use proptest::prelude::*;

    fn features(bits: &[u32]) -> Negotiated {
        Negotiated(bits.iter().fold(0, |features, bit| features | 1 << bit))
    }

    #[test]
    fn the_header_is_twelve_bytes_except_for_virtio_0_9_5() {
        assert_eq!(features(&[VIRTIO_F_VERSION_1]).header(), 12);
        assert_eq!(features(&[VIRTIO_NET_F_MRG_RXBUF]).header(), 12);
        assert_eq!(features(&[]).header(), 10);
    }

    #[test]
    fn only_what_was_negotiated_may_be_left_undone() {
        let frame = tcp(Ip::V4, 3000);
        let all = features(&[VIRTIO_NET_F_CSUM, VIRTIO_NET_F_HOST_TSO4]);
        let header = tso_header(Ip::V4, 1000);
        assert!(Offload::parse(&header, &frame, all).unwrap().segmentation.is_some());
        assert_eq!(Offload::parse(&header, &frame, features(&[VIRTIO_NET_F_CSUM])), Err(BadHeader));
        assert_eq!(Offload::parse(&header, &frame, features(&[VIRTIO_NET_F_HOST_TSO4])), Err(BadHeader));
        let with = |at: usize, value: u8| {
            let mut header = header;
            header[at] = value;
            Offload::parse(&header, &frame, all)
        };
        assert_eq!(with(0, 0), Err(BadHeader), "gso_type without NEEDS_CSUM");
        assert_eq!(with(1, 3), Err(BadHeader), "UFO");
        assert_eq!(with(1, 0x81), Err(BadHeader), "ECN");
        assert_eq!(with(1, 4), Err(BadHeader), "TCPv6 in an IPv4 frame");
        let zero_size = tso_header(Ip::V4, 0);
        assert_eq!(Offload::parse(&zero_size, &frame, all), Err(BadHeader));
    }

    #[test]
    fn a_frame_is_kept_completed_or_cut() {
        let [csum, tso4, tso6] = [VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6];
        let checksum = Some(PartialChecksum { start: 34, offset: 16 });
        let plain = Offload::default();
        let partial = Offload { checksum, segmentation: None };
        let long =
            Offload { checksum, segmentation: Some(Segmentation { ip: Ip::V4, size: 1460, headers: 54 }) };
        assert_eq!(plain.treatment(features(&[])), Treatment::Keep);
        assert_eq!(partial.treatment(features(&[])), Treatment::Complete);
        assert_eq!(partial.treatment(features(&[csum])), Treatment::Keep);
        assert_eq!(long.treatment(features(&[csum, tso4])), Treatment::Keep);
        assert_eq!(long.treatment(features(&[csum, tso6])), Treatment::Segment);
        assert_eq!(long.treatment(features(&[csum])), Treatment::Segment);
        assert_eq!(long.treatment(features(&[])), Treatment::Segment);
    }

    proptest! {
        /// What parses comes back from its own encoding, and its checksum lies in the frame.
        #[test]
        fn parse_and_encode_agree(
            mut header: [u8; HEADER], len in MIN_FRAME..2000, ip in prop::sample::select(vec![Ip::V4, Ip::V6]),
        ) {
            header[6] %= 80; // mostly inside of the frame
            header[7] = 0;
            header[9] = 0;
            let all = Negotiated(u64::MAX);
            let frame = tcp(ip, len);
            if let Ok(offload) = Offload::parse(&header, &frame, all) {
                if let Some(PartialChecksum { start, offset }) = offload.checksum {
                    prop_assert!(usize::from(start) + usize::from(offset) + 2 <= frame.len());
                }
                prop_assert_eq!(Offload::parse(&offload.encode(1), &frame, all), Ok(offload));
            }
        }
    }
}
