//! The disk in a process of its own, driven over its socket.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)] // Helpers of tests fail loudly.

mod front_end;
mod rig;

use std::fs;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use front_end::{EVENT_IDX, FrontEnd, Part, Place, Ring, Server, Setup, VERSION_1, eventually};
use rig::blk::{
    BLK, DISCARD, F_FLUSH, F_RO, FLUSH, GET_ID, IN, IOERR, OK, OUT, Rig, SECTORS, UNSUPP, WRITE_ZEROES,
    buffers, extent, pattern, request, scattered, start, write_header,
};
use rustix::process::Signal;
use vhost::VhostBackend;
use vhost::vhost_user::message::VhostUserInflight;
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vm_memory::{Bytes, GuestAddress};

#[test]
fn what_is_written_is_read_back_and_is_in_the_image() {
    let mut rig = Rig::new(&[], &Setup::default());
    let (status, data) = rig.request(IN, 3, &[], 4096);
    assert_eq!(status, OK);
    assert!(data.iter().enumerate().all(|(index, &byte)| byte == pattern(3 * 512 + index)));

    let text: Vec<u8> = (0..64 * 512).map(|index| (index * 7) as u8).collect();
    assert_eq!(rig.request(OUT, 100, &text, 0).0, OK);
    assert_eq!(rig.request(FLUSH, 0, &[], 0).0, OK);
    assert_eq!(rig.request(IN, 100, &[], text.len() as u32), (OK, text.clone()));
    assert_eq!(rig.image()[100 * 512..164 * 512], text);
}

#[test]
fn the_layout_of_a_request_is_the_drivers_choice() {
    let mut rig = Rig::new(&[], &Setup::default());
    write_header(&rig.front_end, 0, IN, 5);
    let (header, data) = buffers(0);
    // The header in three, the data in three, the status behind the last of them; direct, then through a
    // table.
    let parts = [
        Part::readable(header, 1),
        Part::readable(header + 1, 7),
        Part::readable(header + 8, 8),
        Part::writable(data, 500),
        Part::writable(data + 500, 12),
        Part::writable(data + 512, 513),
    ];
    let ring = &mut rig.front_end.rings[0];
    for add in [Ring::add, Ring::add_indirect] {
        rig.front_end.memory.write_slice(&[0xff; 1025], GuestAddress(data)).unwrap();
        let head = add(ring, &parts);
        ring.notify(1);
        assert_eq!(ring.wait_used(), (head, 1025));
        let mut bytes = vec![0; 1025];
        rig.front_end.memory.read_slice(&mut bytes, GuestAddress(data)).unwrap();
        assert!(bytes[..1024].iter().enumerate().all(|(index, &byte)| byte == pattern(5 * 512 + index)));
        assert_eq!(bytes[1024], OK);
    }
}

#[test]
fn a_request_may_have_a_thousand_segments() {
    let mut rig = Rig::new(&[], &Setup::default());
    let whole: Vec<u8> = (0..SECTORS as usize * 512).map(pattern).collect();
    for len in [512, 1024] {
        let parts = scattered(IN, 1024, len);
        write_header(&rig.front_end, 0, IN, 0);
        let ring = &mut rig.front_end.rings[0];
        let head = ring.add_indirect(&parts);
        ring.notify(1);
        assert_eq!(ring.wait_used(), (head, 1024 * len + 1));
        let memory = &rig.front_end.memory;
        for (index, part) in parts[1..=1024].iter().enumerate() {
            let mut bytes = vec![0; len as usize];
            memory.read_slice(&mut bytes, GuestAddress(part.addr)).unwrap();
            assert!(bytes == whole[index * len as usize..][..len as usize], "segment {index}");
        }

        // Back, the other way around.
        let parts: Vec<Part> = parts.iter().map(|part| Part { writable: part.len == 1, ..*part }).collect();
        fs::write(rig.place.path("image"), vec![0; whole.len()]).unwrap();
        write_header(&rig.front_end, 0, OUT, 0);
        let ring = &mut rig.front_end.rings[0];
        let head = ring.add_indirect(&parts);
        ring.notify(1);
        assert_eq!(ring.wait_used(), (head, 1));
        assert!(rig.image()[..1024 * len as usize] == whole[..1024 * len as usize]);
        fs::write(rig.place.path("image"), &whole).unwrap();
    }
}

#[test]
fn discarded_and_zeroed_ranges() {
    let mut rig = Rig::new(&[], &Setup::default());
    let allocated = |rig: &Rig| fs::metadata(rig.place.path("image")).unwrap().blocks();
    let before = allocated(&rig);

    let (kept, given_up) = (extent(0, 8, 0), extent(64, 64, 1));
    assert_eq!(rig.request(WRITE_ZEROES, 0, &[kept, given_up].concat(), 0).0, OK);
    assert!(rig.image()[..8 * 512].iter().all(|&byte| byte == 0));
    assert!(rig.image()[64 * 512..128 * 512].iter().all(|&byte| byte == 0));
    assert_eq!(rig.image()[8 * 512], pattern(8 * 512), "the neighbour stays");

    assert_eq!(rig.request(DISCARD, 0, &extent(1024, 1024, 0), 0).0, OK);
    assert!(allocated(&rig) < before, "the image gave blocks back");
    assert_eq!(rig.image().len() as u64, SECTORS * 512, "and kept its size");
    assert_eq!(rig.request(DISCARD, 0, &extent(SECTORS, 1, 0), 0).0, IOERR);
    assert_eq!(rig.request(DISCARD, 0, &extent(0, 1, 1), 0).0, UNSUPP);
}

#[test]
fn what_the_disk_refuses() {
    let mut rig = Rig::new(&[], &Setup::default());
    assert_eq!(rig.request(IN, SECTORS, &[], 512).0, IOERR);
    assert_eq!(rig.request(IN, u64::MAX, &[], 512), (IOERR, vec![0; 512]));
    assert_eq!(rig.request(OUT, SECTORS - 1, &[0; 1024], 0).0, IOERR);
    assert_eq!(rig.request(OUT, 0, &[0; 100], 0).0, IOERR, "no whole sector");
    assert_eq!(rig.request(99, 0, &[], 0).0, UNSUPP);
    let original: Vec<u8> = (0..SECTORS as usize * 512).map(pattern).collect();
    assert!(rig.image() == original);
}

#[test]
fn the_serial_is_twenty_bytes() {
    let mut rig = Rig::new(&["--serial", "disk-0"], &Setup::default());
    let (status, id) = rig.request(GET_ID, 0, &[], 20);
    assert_eq!((status, &id[..]), (OK, &b"disk-0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"[..]));
}

#[test]
fn a_disk_that_is_read_only() {
    let mut rig = Rig::new(&["--read-only"], &Setup::default());
    assert_ne!(rig.front_end.features & F_RO, 0);
    assert_eq!(rig.request(IN, 0, &[], 512).0, OK);
    assert_eq!(rig.request(OUT, 0, &[0; 512], 0).0, IOERR);
    assert_eq!(rig.request(FLUSH, 0, &[], 0).0, OK);
    assert_eq!(rig.image()[0], pattern(0));
}

#[test]
fn the_configuration_space() {
    let mut rig = Rig::new(&["--queues", "3", "--queue-size", "64"], &Setup { size: 64, ..Setup::default() });
    assert_eq!(rig.front_end.config(0, 8), SECTORS.to_le_bytes());
    assert_eq!(rig.front_end.config(12, 4), 62u32.to_le_bytes());
    assert_eq!(rig.front_end.config(34, 2), 3u16.to_le_bytes());
    assert_eq!(rig.front_end.config(32, 1), [1]);
    rig.front_end.set_config(32, &[0]);
    assert_eq!(rig.front_end.config(32, 1), [0]);
    // A guest may write anywhere. It must not cost the connection.
    rig.front_end.set_config(0, &[9; 8]);
    assert_eq!(rig.front_end.config(0, 8), SECTORS.to_le_bytes());
    assert_eq!(rig.request(OUT, 0, &[7; 512], 0).0, OK, "write-through");
}

#[test]
fn every_way_to_notify() {
    // Features, a call descriptor or none, and polling or none: a request is answered in each.
    for features in [VERSION_1, VERSION_1 | EVENT_IDX, VERSION_1 | F_FLUSH] {
        for poll in ["0", "200"] {
            let setup = Setup { features, ..Setup::default() };
            let mut rig = Rig::new(&["--poll-us", poll], &setup);
            write_header(&rig.front_end, 0, IN, 0);
            let (header, data) = buffers(0);
            for _ in 0..50 {
                let ring = &mut rig.front_end.rings[0];
                let head = ring.add(&[Part::readable(header, 16), Part::writable(data, 513)]);
                ring.notify(1);
                // A driver that takes what is used before may not be interrupted for it any more.
                ring.wait_call();
                assert_eq!(ring.take_used(), Some((head, 513)));
            }
            let silent = Setup { call: false, memory_slots: true, ..setup };
            rig.reconnect(&silent);
            assert_eq!(rig.request(IN, 0, &[], 512).0, OK);
        }
    }
}

#[test]
fn polling_makes_kicks_vanish() {
    for features in [VERSION_1, VERSION_1 | EVENT_IDX] {
        let mut rig = Rig::new(&["--poll-us", "1000000"], &Setup { features, ..Setup::default() });
        for _ in 0..500 {
            assert_eq!(rig.request(IN, 0, &[], 512).0, OK);
        }
        let kicks = rig.front_end.rings[0].kicks;
        assert!(kicks < 50, "{kicks} kicks for 500 requests");
    }
}

#[test]
fn several_queues_work_side_by_side() {
    let mut rig = Rig::new(&["--queues", "4"], &Setup { rings: 4, ..Setup::default() });
    // One request on every ring before the first answer is taken.
    for ring in 0..4 {
        let (header, data) = buffers(ring);
        write_header(&rig.front_end, ring, IN, ring as u64 * 10);
        let parts = [Part::readable(header, 16), Part::writable(data, 513)];
        rig.front_end.rings[ring].add(&parts);
        rig.front_end.rings[ring].notify(1);
    }
    for ring in 0..4 {
        assert_eq!(rig.front_end.rings[ring].wait_used().1, 513);
        let first: u8 = rig.front_end.memory.read_obj(GuestAddress(buffers(ring).1)).unwrap();
        assert_eq!(first, pattern(ring * 10 * 512));
    }
}

#[test]
fn a_ring_goes_on_where_it_was_stopped() {
    let mut rig = Rig::new(&[], &Setup::default());
    for round in 1..=20 {
        assert_eq!(rig.request(IN, 0, &[], 512).0, OK);
        let base = rig.front_end.frontend.get_vring_base(0).unwrap();
        assert_eq!(base, round);
        rig.front_end.start_ring(0, true, base as u16);
    }
}

#[test]
fn what_is_in_flight_keeps_its_place_while_a_ring_runs() {
    let mut rig = Rig::new(&[], &Setup::default());
    let wanted = VhostUserInflight::new(0, 0, 1, 256);
    rig.front_end.frontend.get_vring_base(0).unwrap();
    let (given, file) = rig.front_end.frontend.get_inflight_fd(&wanted).unwrap();
    rig.front_end.frontend.set_inflight_fd(&given, file.as_raw_fd()).unwrap();
    rig.front_end.start_ring(0, true, 0);
    assert_eq!(rig.request(IN, 0, &[], 512).0, OK);
    assert!(rig.front_end.frontend.set_inflight_fd(&given, file.as_raw_fd()).is_err());
    rig.reconnect(&Setup::default());
    assert!(rig.front_end.frontend.get_inflight_fd(&wanted).is_err());
    rig.reconnect(&Setup::default());
    assert_eq!(rig.request(IN, 0, &[], 512).0, OK);
}

#[test]
fn front_ends_come_and_go_and_leave_nothing_behind() {
    let mut rig = Rig::new(&["--queues", "2"], &Setup { rings: 2, ..Setup::default() });
    let setup = Setup { rings: 2, ..Setup::default() };
    assert_eq!(rig.request(IN, 0, &[], 512).0, OK);
    let descriptors = rig.server.descriptors();
    for _ in 0..30 {
        // The old one goes without a word, and with a request on its way.
        write_header(&rig.front_end, 0, IN, 0);
        let (header, data) = buffers(0);
        rig.front_end.rings[0].add(&[Part::readable(header, 16), Part::writable(data, 513)]);
        rig.front_end.rings[0].notify(1);
        rig.reconnect(&setup);
        assert_eq!(rig.request(IN, 0, &[], 512).0, OK);
    }
    eventually("descriptors are closed", || rig.server.descriptors() <= descriptors);
}

#[test]
fn a_server_may_also_connect_and_serve_once() {
    let place = Place::new();
    fs::write(place.path("image"), vec![1; 512]).unwrap();
    let server = start(&place, &["--connect", "--once"]);
    // The back end is early. It waits for its front end.
    std::thread::sleep(Duration::from_millis(50));
    let listener = UnixListener::bind(place.path("socket")).unwrap();
    let stream = listener.accept().unwrap().0;
    let mut front_end = FrontEnd::new(Frontend::from_stream(stream, 1), &Setup::default());
    assert_eq!(request(&mut front_end, 0, IN, 0, &[], 512), (OK, vec![1; 512]));
    drop(front_end);
    let (status, _) = server.wait();
    assert!(status.success());
    assert!(place.path("socket").exists(), "the socket is the front end's");
}

#[test]
fn garbage_stops_a_ring_and_the_server_survives() {
    let mut rig = Rig::new(&[], &Setup::default());
    let idle = Duration::from_millis(30);
    let (header, data) = buffers(0);

    // A chain that is not a request goes back with nothing written.
    let ring = &mut rig.front_end.rings[0];
    for parts in [
        vec![Part::readable(header, 15), Part::writable(data, 513)],
        vec![Part::readable(header, 16)],
        vec![Part::writable(data, 513), Part::readable(header, 16)],
        vec![Part::readable(0xffff_0000_0000, 16), Part::writable(data, 513)],
        vec![Part::readable(u64::MAX - 3, 16), Part::writable(data, 513)],
    ] {
        let head = ring.add(&parts);
        ring.notify(1);
        assert_eq!(ring.wait_used(), (head, 0), "{parts:?}");
    }
    // A loop, too.
    ring.describe(ring.desc, 200, header, 16, 1, 200);
    ring.offer(200);
    ring.notify(1);
    assert_eq!(ring.wait_used(), (200, 0));

    // A head that does not exist stops the ring; a new start heals it.
    ring.offer(256);
    ring.notify(1);
    assert!(ring.stays_idle(idle));
    rig.front_end.frontend.get_vring_base(0).unwrap();
    let base = rig.front_end.rings[0].next_avail;
    rig.front_end.start_ring(0, true, base);
    assert_eq!(rig.request(IN, 0, &[], 512).0, OK);

    // So does an index that jumps.
    let ring = &mut rig.front_end.rings[0];
    ring.next_avail = ring.next_avail.wrapping_add(300);
    ring.offer(0);
    ring.kick.write(1).unwrap();
    assert!(ring.stays_idle(idle));
    rig.reconnect(&Setup::default());
    assert_eq!(rig.request(IN, 0, &[], 512).0, OK);
    assert!(rig.server.is_running());
}

#[test]
fn a_front_end_that_talks_nonsense_is_dropped_and_does_not_count() {
    let place = Place::new();
    fs::write(place.path("image"), vec![1; 512]).unwrap();
    let server = start(&place, &["--once"]);
    for nonsense in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 4096], b"x", b""] {
        let mut stream = UnixStream::connect(place.path("socket")).unwrap();
        let _ = stream.write_all(nonsense);
    }
    let mut front_end = FrontEnd::connect(&place.path("socket"), &Setup::default());
    assert_eq!(request(&mut front_end, 0, IN, 0, &[], 512).0, OK);
    drop(front_end);
    assert!(server.wait().0.success());
}

#[test]
fn a_signal_ends_the_server_although_it_is_busy_and_takes_the_socket_away() {
    for (signal, talking) in [(Signal::TERM, true), (Signal::INT, false)] {
        let place = Place::new();
        fs::write(place.path("image"), vec![1; 512]).unwrap();
        let mut server = start(&place, &["--poll-us", "1000000"]);
        let mut front_end = talking.then(|| FrontEnd::connect(&place.path("socket"), &Setup::default()));
        let (header, data) = buffers(0);
        let mut ask = || {
            if let Some(front_end) = &mut front_end {
                write_header(front_end, 0, IN, 0);
                front_end.rings[0].add(&[Part::readable(header, 16), Part::writable(data, 513)]);
                front_end.rings[0].notify(1);
            }
        };
        ask();
        server.signal(signal);
        // A request each millisecond: the polling time of a second is never over by itself.
        eventually("the server ends", || {
            ask();
            !server.is_running()
        });
        let (status, text) = server.wait();
        assert!(status.success(), "{text}");
        assert!(!place.path("socket").exists());
    }
}

#[test]
fn what_is_wrong_at_the_start_is_one_clear_line() {
    let place = Place::new();
    fs::write(place.path("image"), vec![1; 512]).unwrap();
    fs::write(place.path("odd"), vec![1; 513]).unwrap();
    fs::write(place.path("plain"), "x").unwrap();
    let refused = |image: &str, socket: &Path| {
        let socket = socket.to_str().unwrap();
        let arguments = ["--image", &place.text(image), "--socket", socket];
        let (status, text) = Server::start(BLK, &arguments, 0).wait();
        assert_eq!(status.code(), Some(1));
        assert_eq!(text.lines().count(), 1, "{text}");
        text
    };
    let socket = place.path("socket");
    assert!(refused("missing", &socket).contains("cannot open image"));
    assert!(refused("odd", &socket).contains("513 bytes"));
    assert!(refused("image", &place.path("plain")).contains("not a socket"));
    assert!(refused("image", &place.path("missing/socket")).contains("cannot listen"));

    let _server = start(&place, &["--read-only"]);
    assert!(refused("image", &place.path("other")).contains("served by another process"));
    fs::write(place.path("another"), vec![1; 512]).unwrap();
    assert!(refused("another", &socket).contains("belongs to a server that is running"));
    let mut front_end = FrontEnd::connect(&socket, &Setup::default());
    assert_eq!(request(&mut front_end, 0, IN, 0, &[], 512).0, OK, "the server noticed nothing");
}
