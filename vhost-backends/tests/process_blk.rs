//! The disk in a process of its own, driven over its socket.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)] // Helpers of tests fail loudly.

mod front_end;

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use front_end::{
    DATA, EVENT_IDX, FrontEnd, Part, Place, Ring, Server, Setup, VERSION_1, eventually, on_the_other_core,
};
use rustix::process::Signal;
use vhost::VhostBackend;
use vhost::vhost_user::Frontend;
use vm_memory::{Bytes, GuestAddress};

const BLK: &str = env!("CARGO_BIN_EXE_vhost-blk");
const SECTORS: u64 = 2048;

const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
const DISCARD: u32 = 11;
const WRITE_ZEROES: u32 = 13;

const OK: u8 = 0;
const IOERR: u8 = 1;
const UNSUPP: u8 = 2;

const F_RO: u64 = 1 << 5;
const F_FLUSH: u64 = 1 << 9;

/// Byte `index` of the image at the start of a test.
fn pattern(index: usize) -> u8 {
    (index / 512 + index) as u8
}

/// A disk with its image, and one front end.
struct Rig {
    place: Place,
    server: Server,
    front_end: FrontEnd,
}

impl Rig {
    fn new(arguments: &[&str], setup: &Setup) -> Self {
        let place = Place::new();
        let image: Vec<u8> = (0..SECTORS as usize * 512).map(pattern).collect();
        fs::write(place.path("image"), image).unwrap();
        let server = start(&place, arguments);
        let front_end = FrontEnd::connect(&place.path("socket"), setup);
        Self { place, server, front_end }
    }

    fn image(&self) -> Vec<u8> {
        fs::read(self.place.path("image")).unwrap()
    }

    /// Sends a request with `out` as its payload, or room for `into` bytes, on ring 0. Returns status and
    /// data.
    fn request(&mut self, kind: u32, sector: u64, out: &[u8], into: u32) -> (u8, Vec<u8>) {
        request(&mut self.front_end, 0, kind, sector, out, into)
    }

    /// The front end goes without a word, and another one comes.
    fn reconnect(&mut self, setup: &Setup) {
        // A server hears the next one when this one has hung up.
        self.front_end.hang_up();
        self.front_end = FrontEnd::connect(&self.place.path("socket"), setup);
    }
}

fn start(place: &Place, arguments: &[&str]) -> Server {
    let (socket, image) = (place.text("socket"), place.text("image"));
    let fixed = ["--socket", &socket, "--image", &image];
    Server::start(BLK, &[&fixed, arguments].concat(), 1)
}

/// Where ring `ring` has its header; payload and status follow.
fn buffers(ring: usize) -> (u64, u64) {
    let at = DATA + ring as u64 * 0x10_0000;
    (at, at + 0x1000)
}

fn write_header(front_end: &FrontEnd, ring: usize, kind: u32, sector: u64) {
    let mut header = [0; 16];
    header[..4].copy_from_slice(&kind.to_le_bytes());
    header[8..].copy_from_slice(&sector.to_le_bytes());
    front_end.memory.write_slice(&header, GuestAddress(buffers(ring).0)).unwrap();
}

fn request(
    front_end: &mut FrontEnd,
    ring: usize,
    kind: u32,
    sector: u64,
    out: &[u8],
    into: u32,
) -> (u8, Vec<u8>) {
    let (header, payload) = buffers(ring);
    write_header(front_end, ring, kind, sector);
    front_end.memory.write_slice(out, GuestAddress(payload)).unwrap();
    let status = payload + out.len() as u64 + u64::from(into);
    front_end.memory.write_obj(0xffu8, GuestAddress(status)).unwrap();

    let mut parts = vec![Part::readable(header, 16)];
    if !out.is_empty() {
        parts.push(Part::readable(payload, out.len() as u32));
    }
    if into > 0 {
        parts.push(Part::writable(payload, into));
    }
    parts.push(Part::writable(status, 1));
    let head = front_end.rings[ring].add(&parts);
    front_end.rings[ring].notify(1);
    assert_eq!(front_end.rings[ring].wait_used(), (head, into + 1), "used length of type {kind}");

    let mut data = vec![0; into as usize];
    front_end.memory.read_slice(&mut data, GuestAddress(payload)).unwrap();
    (front_end.memory.read_obj(GuestAddress(status)).unwrap(), data)
}

fn extent(sector: u64, sectors: u32, flags: u32) -> Vec<u8> {
    [&sector.to_le_bytes()[..], &sectors.to_le_bytes(), &flags.to_le_bytes()].concat()
}

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

/// A request of `count` segments of `len` bytes each in an indirect table. Neighbours in the request are none in
/// memory, as in slots that were given back in any order.
fn scattered(kind: u32, count: u64, len: u32) -> Vec<Part> {
    let (header, data) = buffers(0);
    let writable = kind == IN;
    let segment = |index: u64| {
        let place = index * 5 % count;
        Part { addr: data + place * u64::from(len), len, writable }
    };
    let status = Part::writable(header + 16, 1);
    [Part::readable(header, 16)].into_iter().chain((0..count).map(segment)).chain([status]).collect()
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
                // Whoever takes what is used before may not be interrupted for it any more.
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
        let mut rig = Rig::new(&["--poll-us", "100000"], &Setup { features, ..Setup::default() });
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
fn garbage_stops_a_ring_and_the_server_lives() {
    let mut rig = Rig::new(&[], &Setup::default());
    let idle = Duration::from_millis(30);
    let (header, data) = buffers(0);

    // A chain that is no request goes back with nothing written.
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
fn a_signal_ends_the_server_promptly_and_takes_the_socket_away() {
    for (signal, talking) in [(Signal::TERM, true), (Signal::INT, false)] {
        let place = Place::new();
        fs::write(place.path("image"), vec![1; 512]).unwrap();
        let server = start(&place, &["--poll-us", "1000000"]);
        let front_end = talking.then(|| {
            let mut front_end = FrontEnd::connect(&place.path("socket"), &Setup::default());
            assert_eq!(request(&mut front_end, 0, IN, 0, &[], 512).0, OK);
            front_end
        });
        let start = Instant::now();
        server.signal(signal);
        let (status, text) = server.wait();
        assert!(status.success(), "{text}");
        assert!(start.elapsed() < Duration::from_secs(2), "although it is polling");
        assert!(!place.path("socket").exists());
        drop(front_end);
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

/// Figures, not a test: `cargo nextest run --release -p vhost-backends --run-ignored only --no-capture
/// latency`.
#[test]
#[ignore = "prints figures"]
fn read_latency_at_queue_depth_one() {
    for poll in ["50", "0"] {
        let setup = Setup { call: false, ..Setup::default() };
        let mut rig = on_the_other_core(|| Rig::new(&["--poll-us", poll], &setup));
        let mut times: Vec<Duration> = (0..20_000)
            .map(|turn| {
                let start = Instant::now();
                assert_eq!(rig.request(IN, turn * 8 % SECTORS, &[], 4096).0, OK);
                start.elapsed()
            })
            .collect();
        times.sort();
        let kicks = rig.front_end.rings[0].kicks;
        println!("--poll-us {poll}: p50 {:?}, p99 {:?}, {kicks} kicks", times[10_000], times[19_800]);
    }
}

/// Figures, not a test: `cargo nextest run --release -p vhost-backends --run-ignored only --no-capture
/// sequential`.
///
/// Requests of 1 MiB in slots of 4 KiB, one at a time, beside `pread` and `pwrite` of the same image. The
/// rounds alternate, so that a noisy neighbour meets both.
#[test]
#[ignore = "prints figures"]
fn sequential_throughput_of_a_mebibyte() {
    const MIB: usize = 1 << 20;
    const IMAGE: usize = 256 * MIB;
    const ROUNDS: usize = 64;
    let place = Place::new();
    fs::write(place.path("image"), vec![1; IMAGE]).unwrap();
    let server = on_the_other_core(|| start(&place, &[]));
    let setup = Setup { call: false, ..Setup::default() };
    let mut front_end = FrontEnd::connect(&place.path("socket"), &setup);
    let file = fs::OpenOptions::new().read(true).write(true).open(place.path("image")).unwrap();
    let mut plain = vec![1; MIB];
    for (name, kind) in [("read", IN), ("write", OUT)] {
        let mut rates = [Vec::new(), Vec::new()];
        let mut share = 0.0;
        // Described once: what it costs to describe a request is the driver's affair.
        let head = front_end.rings[0].add_indirect(&scattered(kind, 256, 4096));
        front_end.rings[0].notify(1);
        front_end.rings[0].wait_used();
        for _ in 0..ROUNDS {
            let begin = Instant::now();
            for at in (0..IMAGE).step_by(MIB) {
                match kind {
                    IN => file.read_exact_at(&mut plain, at as u64).unwrap(),
                    _ => file.write_all_at(&plain, at as u64).unwrap(),
                }
            }
            rates[0].push(IMAGE as f64 / begin.elapsed().as_secs_f64());

            let (begin, cpu) = (Instant::now(), server.cpu_time());
            for at in (0..IMAGE).step_by(MIB) {
                write_header(&front_end, 0, kind, at as u64 / 512);
                let ring = &mut front_end.rings[0];
                ring.offer(head);
                ring.notify(1);
                ring.wait_used();
                assert_eq!(front_end.memory.read_obj::<u8>(GuestAddress(buffers(0).0 + 16)).unwrap(), OK);
            }
            rates[1].push(IMAGE as f64 / begin.elapsed().as_secs_f64());
            share = (server.cpu_time() - cpu).as_secs_f64() / begin.elapsed().as_secs_f64();
        }
        let [plain, disk] = rates.map(|mut rates| {
            rates.sort_by(f64::total_cmp);
            rates[ROUNDS / 2] / 1e9
        });
        let kicks = front_end.rings[0].kicks;
        println!(
            "{name}: {disk:.2} GB/s, plain {plain:.2} GB/s, ratio {:.2}, the server had {share:.2} of a core, {kicks} kicks",
            disk / plain
        );
    }
}
