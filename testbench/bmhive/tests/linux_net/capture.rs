//! The TCP segments in a capture of the switch, and the streams that they make.

use std::{collections::BTreeMap, fs::File, io::BufReader, net::Ipv4Addr, path::Path};

use pcap_file::pcap::PcapReader;
use smoltcp::wire::{EthernetFrame, EthernetProtocol, IpAddress, IpProtocol, Ipv4Packet, TcpPacket};

/// One TCP segment, or what a card was to make several of.
pub struct Segment {
    pub from: Ipv4Addr,
    pub to_port: u16,
    /// Length of the Ethernet frame in bytes.
    pub frame: usize,
    /// The checksum is that of the whole segment.
    pub is_whole: bool,
    /// It is that of the pseudo-header, to be completed by a device (virtio 1.3, 5.1.6.2).
    pub is_partial: bool,
    synchronizes: bool,
    sequence: u32,
    payload: Vec<u8>,
}

/// Every TCP segment over IPv4 in the file, in its order. Their IPv4 headers' checksums must be right.
pub fn segments(path: &Path) -> Vec<Segment> {
    let mut reader = PcapReader::new(BufReader::new(File::open(path).unwrap())).unwrap();
    let mut segments = Vec::new();
    while let Some(record) = reader.next_packet() {
        let record = record.unwrap();
        assert_eq!(record.orig_len as usize, record.data.len(), "cut short");
        segments.extend(segment(&record.data));
    }
    segments
}

fn segment(bytes: &[u8]) -> Option<Segment> {
    let ethernet = EthernetFrame::new_checked(bytes).unwrap();
    if ethernet.ethertype() != EthernetProtocol::Ipv4 {
        return None;
    }
    let ip = Ipv4Packet::new_checked(ethernet.payload()).unwrap();
    assert!(ip.verify_checksum(), "{ip}");
    if ip.next_header() != IpProtocol::Tcp {
        return None;
    }
    let tcp = TcpPacket::new_checked(ip.payload()).unwrap();
    let (from, to) = (ip.src_addr(), ip.dst_addr());
    Some(Segment {
        from,
        to_port: tcp.dst_port(),
        frame: bytes.len(),
        is_whole: tcp.verify_checksum(&IpAddress::Ipv4(from), &IpAddress::Ipv4(to)),
        is_partial: tcp.checksum() == pseudo_header(from, to, ip.payload().len()),
        synchronizes: tcp.syn(),
        sequence: tcp.seq_number().0.cast_unsigned(),
        payload: tcp.payload().to_vec(),
    })
}

/// The sum of the pseudo-header (RFC 9293, 3.1), not complemented.
fn pseudo_header(from: Ipv4Addr, to: Ipv4Addr, length: usize) -> u16 {
    let mut bytes = [from.octets(), to.octets()].concat();
    bytes.extend([0, IpProtocol::Tcp.into()]);
    bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
    bytes.chunks(2).map(|word| u16::from_be_bytes([word[0], word[1]])).fold(0, |sum, word| {
        let (sum, carry) = sum.overflowing_add(word);
        sum + u16::from(carry)
    })
}

/// What one stream carried, from its first byte on, whatever was sent twice.
pub fn stream<'a>(segments: impl IntoIterator<Item = &'a Segment>) -> Vec<u8> {
    let mut pieces = BTreeMap::new();
    let mut first = None;
    for segment in segments {
        if segment.synchronizes {
            first = Some(segment.sequence.wrapping_add(1));
        }
        let first = first.unwrap_or_else(|| panic!("a stream begins with a SYN"));
        let longest: &mut &[u8] = pieces.entry(segment.sequence.wrapping_sub(first)).or_default();
        if segment.payload.len() > longest.len() && !segment.synchronizes {
            *longest = &segment.payload;
        }
    }
    let mut stream = Vec::new();
    for (at, piece) in pieces.into_iter().filter(|(_, piece)| !piece.is_empty()) {
        let known = stream.len().checked_sub(at as usize);
        let known = known.unwrap_or_else(|| panic!("bytes from {} to {at} are missing", stream.len()));
        stream.extend(piece.get(known..).unwrap_or_default());
    }
    stream
}
