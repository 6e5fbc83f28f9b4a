//! The switch in a process of its own, driven over the sockets of its ports.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)] // Helpers of tests fail loudly.

mod front_end;
mod rig;

use std::fs::{self, File};
use std::time::{Duration, SystemTime};

use front_end::{DATA, EVENT_IDX, Part, Place, Server, eventually};
use pcap_file::pcap::PcapReader;
use pcap_file::{DataLink, TsResolution};
use rig::net::{BROADCAST, NET, PLAIN, Rig, Station, frame, mac};
use rustix::process::Signal;
use vhost::VhostBackend;

const CSUM: u64 = 1 << 0;
const GUEST_CSUM: u64 = 1 << 1;
const GUEST_TSO4: u64 = 1 << 7;
const HOST_TSO4: u64 = 1 << 11;
const MRG_RXBUF: u64 = 1 << 15;

/// Where TCP starts in an untagged IPv4 frame.
const TCP: usize = 34;

/// A TCP frame with `payload` bytes whose checksum covers the pseudo header only.
fn tcp(to: [u8; 6], from: [u8; 6], payload: usize) -> Vec<u8> {
    let mut frame = frame(to, from, TCP + 20 + payload);
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    frame[14] = 0x45;
    frame[16..18].copy_from_slice(&((40 + payload) as u16).to_be_bytes());
    frame[23] = 6;
    frame[TCP + 12..TCP + 14].copy_from_slice(&[0x50, 0x10]);
    let sum = pseudo_header(&frame);
    frame[TCP + 16..TCP + 18].copy_from_slice(&fold(sum).to_be_bytes());
    frame
}

/// A header that leaves the checksum of a [`tcp`] frame undone, and its segmentation if `size` is not zero.
fn undone(size: u16) -> [u8; 12] {
    let [low, high] = size.to_le_bytes();
    [1, (size > 0).into(), TCP as u8 + 20, 0, low, high, TCP as u8, 0, 16, 0, 0, 0]
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

fn pseudo_header(frame: &[u8]) -> u32 {
    words(&frame[26..34]) + 6 + (frame.len() - TCP) as u32
}

/// Whether a receiver would accept both checksums of a TCP frame.
fn is_intact(frame: &[u8]) -> bool {
    fold(words(&frame[14..TCP])) == 0xffff && fold(pseudo_header(frame) + words(&frame[TCP..])) == 0xffff
}

#[test]
fn frames_are_flooded_until_the_switch_has_learned() {
    let rig = Rig::new(3, &[]);
    let [mut a, mut b, mut c] = [0, 1, 2].map(|port| rig.station(port, 0, 2048));

    // The switch does not know b yet: every port but a gets it. c stays silent.
    let first = frame(mac(2), mac(1), 60);
    a.send(&first);
    assert_eq!([b.receive(), c.receive()], [first.clone(), first]);
    let answer = frame(mac(1), mac(2), 61);
    b.send(&answer);
    assert_eq!(a.receive(), answer);
    let private = frame(mac(2), mac(1), 62);
    a.send(&private);
    assert_eq!(b.receive(), private);
    // What c hears next is the next broadcast, so that it heard nothing in between. Nor does a hear itself.
    let public = frame(BROADCAST, mac(2), 63);
    b.send(&public);
    assert_eq!([a.receive(), c.receive()], [public.clone(), public]);
}

#[test]
fn every_way_to_notify() {
    for features in [0, EVENT_IDX] {
        for poll in ["0", "200"] {
            let rig = Rig::new(2, &["--poll-us", poll]);
            let (mut a, mut b) = (rig.station(0, features, 2048), rig.station(1, features, 2048));
            for len in 60..160 {
                a.send(&frame(mac(2), mac(1), len));
                b.front_end.rings[0].wait_call();
                assert_eq!(b.receive().len(), len);
                b.send(&frame(mac(1), mac(2), len));
                assert_eq!(a.receive().len(), len);
            }
        }
    }
}

#[test]
fn polling_makes_kicks_vanish() {
    let rig = Rig::new(2, &["--poll-us", "1000000"]);
    let (mut a, mut b) = (rig.station(0, EVENT_IDX, 2048), rig.station(1, 0, 2048));
    for _ in 0..300 {
        a.send(&frame(mac(2), mac(1), 60));
        b.receive();
        b.send(&frame(mac(1), mac(2), 60));
        a.receive();
    }
    let kicks = |station: &Station| station.front_end.rings[0].kicks + station.front_end.rings[1].kicks;
    assert!(kicks(&a) + kicks(&b) < 150, "{} and {} kicks for 600 frames", kicks(&a), kicks(&b));
}

#[test]
fn a_long_frame_is_merged_from_short_buffers() {
    let rig = Rig::new(2, &[]);
    let (mut a, mut b) = (rig.station(0, 0, 2048), rig.station(1, MRG_RXBUF, 300));
    for len in [14, 288, 289, 1514, 9000] {
        let sent = frame(mac(2), mac(1), len);
        a.send(&sent);
        let (header, received) = b.receive_on(0);
        assert_eq!(received, sent);
        assert_eq!(usize::from(header[10]), (len + 12).div_ceil(300));
    }
}

#[test]
fn a_frame_that_no_buffer_holds_is_dropped() {
    let rig = Rig::new(2, &[]);
    let (mut a, mut b) = (rig.station(0, 0, 2048), rig.station(1, 0, 512));
    a.send(&frame(mac(2), mac(1), 501));
    let fits = frame(mac(2), mac(1), 500);
    a.send(&fits);
    assert_eq!(b.receive(), fits);
}

#[test]
fn a_checksum_is_completed_where_it_is_needed() {
    let rig = Rig::new(3, &[]);
    let mut a = rig.station(0, CSUM, 2048);
    let (mut knows, mut old) = (rig.station(1, GUEST_CSUM, 2048), rig.station(2, 0, 2048));
    let sent = tcp(BROADCAST, mac(1), 99);
    a.send_on(0, undone(0), &sent);

    let (header, kept) = knows.receive_on(0);
    assert_eq!((header[0], &header[6..10], &kept), (1, &undone(0)[6..10], &sent));
    let (header, completed) = old.receive_on(0);
    assert_eq!(header[..10], [0; 10]);
    assert!(is_intact(&completed) || fold(words(&completed[14..TCP])) != 0xffff);
    assert_eq!(fold(pseudo_header(&completed) + words(&completed[TCP..])), 0xffff);
}

#[test]
fn a_long_segment_is_cut_where_it_is_needed() {
    let rig = Rig::new(3, &[]);
    let mut a = rig.station(0, CSUM | HOST_TSO4, 2048);
    let takes_all = GUEST_CSUM | GUEST_TSO4 | MRG_RXBUF;
    let (mut knows, mut old) = (rig.station(1, takes_all, 2048), rig.station(2, 0, 2048));
    let sent = tcp(BROADCAST, mac(1), 30_000);
    a.send_on(0, undone(1460), &sent);

    let (header, kept) = knows.receive_on(0);
    assert_eq!(header[..10], undone(1460)[..10]);
    assert!(kept == sent);

    let mut payload = Vec::new();
    while payload.len() < 30_000 {
        let (header, segment) = old.receive_on(0);
        assert_eq!(header[..10], [0; 10]);
        assert!(is_intact(&segment) && segment.len() <= TCP + 20 + 1460);
        payload.extend_from_slice(&segment[TCP + 20..]);
    }
    assert!(payload == sent[TCP + 20..]);
}

#[test]
fn each_queue_pair_keeps_its_frames() {
    let rig = Rig::new(2, &["--queues", "2"]);
    let (mut a, mut b) = (rig.silent_station(0, 0, 2), rig.silent_station(1, 0, 2));
    for pair in [0, 1] {
        (0..8).for_each(|_| b.provide(pair, 2048));
    }
    for pair in [1, 0] {
        let sent = frame(mac(2), mac(1), 70 + pair);
        a.send_on(pair, PLAIN, &sent);
        assert_eq!(b.receive_on(pair).1, sent);
    }
    // A queue that is not enabled gets nothing; its frames take the first.
    use vhost::vhost_user::VhostUserFrontend;
    b.front_end.frontend.set_vring_enable(2, false).unwrap();
    let sent = frame(mac(2), mac(1), 80);
    a.send_on(1, PLAIN, &sent);
    assert_eq!(b.receive_on(0).1, sent);
}

#[test]
fn frames_wait_for_buffers_in_order_and_within_bounds() {
    for (poll, features) in [("0", EVENT_IDX), ("0", 0), ("50", EVENT_IDX)] {
        let rig = Rig::new(2, &["--poll-us", poll]);
        let (mut a, mut b) = (rig.station(0, 0, 2048), rig.silent_station(1, MRG_RXBUF | features, 1));
        for number in 0..1100u32 {
            let mut sent = frame(mac(2), mac(1), 100);
            sent[14..18].copy_from_slice(&number.to_be_bytes());
            a.send(&sent);
        }
        // A frame and its header take 112 bytes. Buffers that do not suffice come first.
        (0..3).for_each(|_| b.provide(0, 30));
        assert!(b.front_end.rings[0].stays_idle(Duration::from_millis(10)));
        for number in 0..1024u32 {
            (0..2).for_each(|_| b.provide(0, 60));
            let (_, received) = b.receive_on(0);
            assert_eq!(received[14..18], number.to_be_bytes());
            if number == 0 {
                assert!(b.front_end.rings[0].stays_idle(Duration::from_millis(10)));
            }
        }
        // What came after the first 1024 is lost, and the next one is not.
        let sent = frame(mac(2), mac(1), 90);
        a.send(&sent);
        (0..2).for_each(|_| b.provide(0, 60));
        assert_eq!(b.receive(), sent);
    }
}

#[test]
fn a_capture_has_both_directions_and_opens_at_any_moment() {
    let rig = Rig::new(2, &["--pcap-dir", "HERE"]);
    let path = rig.place.path("port0.pcap");
    let read = || {
        let mut reader = PcapReader::new(File::open(&path).unwrap()).unwrap();
        let header = reader.header();
        assert_eq!((header.datalink, header.ts_resolution), (DataLink::ETHERNET, TsResolution::NanoSecond));
        let mut packets = Vec::new();
        while let Some(packet) = reader.next_packet() {
            let packet = packet.unwrap();
            packets.push((packet.timestamp, packet.data.into_owned()));
        }
        packets
    };
    assert_eq!(read(), []);

    // Before anything else the file has what `a` says to itself.
    let (mut a, mut b) = (rig.station(0, 0, 2048), rig.station(1, 0, 2048));
    let (there, back) = (frame(mac(2), mac(1), 60), frame(mac(1), mac(2), 1514));
    a.send(&there);
    assert_eq!(b.receive(), there);
    b.send(&back);
    assert_eq!(a.receive(), back);
    eventually("both are in the file", || read().len() == 3);
    let packets = read();
    assert_eq!([&packets[1].1, &packets[2].1], [&there, &back]);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    assert!(packets[0].0 <= packets[1].0 && now - packets[0].0 < Duration::from_secs(60));
}

#[test]
fn a_port_is_free_again_when_its_front_end_has_gone() {
    let rig = Rig::new(3, &[]);
    let (mut a, mut c) = (rig.station(0, 0, 2048), rig.station(2, 0, 2048));
    let mut b = rig.station(1, 0, 2048);
    let descriptors = rig.server.descriptors();
    for _ in 0..20 {
        b.send(&frame(mac(1), mac(2), 60));
        let _ = (a.receive(), c.receive());
        c.send(&frame(mac(1), mac(3), 60));
        let _ = (a.receive(), b.receive());
        b.front_end.hang_up();
        b = rig.station(1, 0, 2048);
        // The switch has forgotten where station 2 is, and a and c are still there.
        let sent = frame(mac(2), mac(1), 60);
        a.send(&sent);
        assert_eq!([b.receive(), c.receive()], [sent.clone(), sent]);
        // Forget a: its address goes back to being unknown.
        a.front_end.hang_up();
        a = rig.station(0, 0, 2048);
    }
    eventually("descriptors are closed", || rig.server.descriptors() <= descriptors);
}

#[test]
fn garbage_at_one_port_is_not_noticed_at_the_others() {
    let mut rig = Rig::new(3, &["--poll-us", "0"]);
    let [mut evil, mut b, mut c] = [0, 1, 2].map(|port| rig.station(port, CSUM, 2048));
    let mut all_is_well = |len: usize| {
        let sent = frame(mac(3), mac(2), len);
        b.send(&sent);
        assert_eq!(c.receive(), sent);
        c.send(&frame(mac(2), mac(3), len));
        b.receive();
    };
    all_is_well(60);

    let ring = &mut evil.front_end.rings[1];
    for parts in [
        vec![Part::readable(DATA, 12)],
        vec![Part::readable(DATA, 25)],
        vec![Part::readable(DATA, 100), Part::writable(DATA, 100)],
        vec![Part::writable(DATA, 100)],
        vec![Part::readable(u64::MAX, 100)],
        vec![Part::readable(DATA, u32::MAX)],
        vec![Part::readable(DATA, 70_000)],
    ] {
        let head = ring.add(&parts);
        ring.notify(1);
        assert_eq!(ring.wait_used(), (head, 0), "{parts:?}");
    }
    // A checksum behind the end of the frame; a source that is a group.
    evil.send_on(0, undone(0), &frame(BROADCAST, mac(1), 40));
    evil.send(&frame(BROADCAST, BROADCAST, 60));
    all_is_well(61);

    // A receive buffer that cannot be written, then a ring that makes no sense: both queues stop.
    let ring = &mut evil.front_end.rings[0];
    ring.describe(ring.desc, 0, DATA, 100, 0, 0);
    ring.kick.write(1).unwrap();
    let ring = &mut evil.front_end.rings[1];
    ring.next_avail = ring.next_avail.wrapping_add(1000);
    ring.offer(0);
    ring.kick.write(1).unwrap();
    assert!(ring.stays_idle(Duration::from_millis(20)));
    for len in 62..80 {
        all_is_well(len);
    }
    // A new start heals both.
    evil.front_end.hang_up();
    evil = rig.station(0, 0, 2048);
    let sent = frame(BROADCAST, mac(1), 60);
    evil.send(&sent);
    assert_eq!(b.receive(), sent);
    assert!(rig.server.is_running());
}

#[test]
fn a_signal_ends_the_switch_and_takes_the_sockets_away() {
    let rig = Rig::new(3, &["--poll-us", "1000000"]);
    let mut a = rig.station(0, 0, 2048);
    a.send(&frame(BROADCAST, mac(1), 60));
    rig.server.signal(Signal::TERM);
    let (status, text) = rig.server.wait();
    assert!(status.success(), "{text}");
    for port in ["port0", "port1", "port2"] {
        assert!(!rig.place.path(port).exists());
    }
    assert!(a.front_end.frontend.get_features().is_err(), "the connection is closed");
}

#[test]
fn what_is_wrong_at_the_start_is_one_clear_line() {
    let place = Place::new();
    fs::write(place.path("plain"), "x").unwrap();
    let refused = |arguments: &[&str]| {
        let (status, text) = Server::start(NET, arguments, 0).wait();
        assert_eq!((status.code(), text.lines().count()), (Some(1), 1), "{text}");
        text
    };
    let (a, b, plain, missing) = (place.text("a"), place.text("b"), place.text("plain"), place.text("no"));
    assert!(refused(&["--port", &a, "--port", &b, "--port", &a]).contains("given twice"));
    assert!(refused(&["--port", &a, "--port", &plain]).contains("not a socket"));
    assert!(!place.path("a").exists(), "the first socket is gone again");
    assert!(refused(&["--port", &a, "--pcap-dir", &missing]).contains("capture file"));
    let many: Vec<String> = (0..17).map(|port| place.text(&format!("{port}"))).collect();
    let many: Vec<&str> = many.iter().flat_map(|path| ["--port", path]).collect();
    assert!(refused(&many).contains("at most 16 ports"));
}
