//! Frames for tests, and an independent judge of them.

use super::segment::Ip;

/// Where TCP starts in an untagged frame with IPv4, with IPv6.
pub(crate) const TCP_START: [usize; 2] = [34, 54];

/// An Ethernet frame of `len` bytes with TCP in it, its checksum left partial. Payload bytes count up.
pub(crate) fn tcp(ip: Ip, len: usize) -> Vec<u8> {
    let start = TCP_START[usize::from(ip == Ip::V6)];
    let mut frame: Vec<u8> = (0..len.max(start + 20)).map(|index| index as u8).collect();
    let tcp_len = frame.len() - start;
    frame[..12].copy_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1]);
    match ip {
        Ip::V4 => {
            frame[12..14].copy_from_slice(&[0x08, 0x00]);
            frame[14] = 0x45;
            frame[16..18].copy_from_slice(&((20 + tcp_len) as u16).to_be_bytes());
            frame[23] = 6;
        }
        Ip::V6 => {
            frame[12..14].copy_from_slice(&[0x86, 0xdd]);
            frame[14] = 0x60;
            frame[18..20].copy_from_slice(&(tcp_len as u16).to_be_bytes());
            frame[20] = 6;
        }
    }
    frame[start + 12..start + 14].copy_from_slice(&[0x50, 0x10]);
    let sum = pseudo_header(ip, &frame[14..], tcp_len);
    frame[start + 16..start + 18].copy_from_slice(&sum.to_be_bytes());
    frame.truncate(len);
    frame
}

/// The frame with `count` VLAN tags.
pub(crate) fn tagged(frame: &[u8], count: usize) -> Vec<u8> {
    let tags = [0x88, 0xa8, 0, 7, 0x81, 0, 0, 9];
    [&frame[..12], &tags[8 - 4 * count..], &frame[12..]].concat()
}

/// A `virtio_net_hdr` that asks for segments of `size` bytes.
pub(crate) fn tso_header(ip: Ip, size: u16) -> [u8; 12] {
    let start = TCP_START[usize::from(ip == Ip::V6)] as u8;
    let [low, high] = size.to_le_bytes();
    let gso_type = if ip == Ip::V4 { 1 } else { 4 };
    [1, gso_type, start + 20, 0, low, high, start, 0, 16, 0, 0, 0]
}

/// Whether lengths and checksums of a TCP frame with `tags` VLAN tags are right: what a receiver looks at.
pub(crate) fn tcp_is_intact(frame: &[u8], ip: Ip, tags: usize) -> bool {
    let (header, tcp) = frame[14 + 4 * tags..].split_at(if ip == Ip::V4 { 20 } else { 40 });
    let lengths = match ip {
        Ip::V4 => {
            usize::from(u16::from_be_bytes([header[2], header[3]])) == 20 + tcp.len()
                && fold(words(header)) == 0xffff
        }
        Ip::V6 => usize::from(u16::from_be_bytes([header[4], header[5]])) == tcp.len(),
    };
    let sum = u32::from(pseudo_header(ip, header, tcp.len())) + u32::from(fold(words(tcp)));
    lengths && fold(sum) == 0xffff
}

fn pseudo_header(ip: Ip, header: &[u8], tcp_len: usize) -> u16 {
    let addresses = if ip == Ip::V4 { &header[12..20] } else { &header[8..40] };
    fold(words(addresses) + 6 + tcp_len as u32)
}

fn words(bytes: &[u8]) -> u32 {
    bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum()
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
