//! `vhost-blk` with its image, and the requests of a driver.

use std::fs;

use vm_memory::{Bytes, GuestAddress};

use crate::front_end::{DATA, FrontEnd, Part, Place, Server, Setup};

pub const BLK: &str = env!("CARGO_BIN_EXE_vhost-blk");
pub const SECTORS: u64 = 2048;

pub const IN: u32 = 0;
pub const OUT: u32 = 1;
pub const FLUSH: u32 = 4;
pub const GET_ID: u32 = 8;
pub const DISCARD: u32 = 11;
pub const WRITE_ZEROES: u32 = 13;

pub const OK: u8 = 0;
pub const IOERR: u8 = 1;
pub const UNSUPP: u8 = 2;

pub const F_RO: u64 = 1 << 5;
pub const F_FLUSH: u64 = 1 << 9;

/// Byte `index` of the image at the start of a test.
pub fn pattern(index: usize) -> u8 {
    (index / 512 + index) as u8
}

/// A disk with its image, and one front end.
pub struct Rig {
    pub place: Place,
    pub server: Server,
    pub front_end: FrontEnd,
}

impl Rig {
    pub fn new(arguments: &[&str], setup: &Setup) -> Self {
        let place = Place::new();
        let image: Vec<u8> = (0..SECTORS as usize * 512).map(pattern).collect();
        fs::write(place.path("image"), image).unwrap();
        let server = start(&place, arguments);
        let front_end = FrontEnd::connect(&place.path("socket"), setup);
        Self { place, server, front_end }
    }

    pub fn image(&self) -> Vec<u8> {
        fs::read(self.place.path("image")).unwrap()
    }

    /// Sends a request with `out` as its payload, or `into` writable bytes, on ring 0. Returns status and
    /// data.
    pub fn request(&mut self, kind: u32, sector: u64, out: &[u8], into: u32) -> (u8, Vec<u8>) {
        request(&mut self.front_end, 0, kind, sector, out, into)
    }

    /// The front end goes without a word, and another one comes.
    pub fn reconnect(&mut self, setup: &Setup) {
        // A server hears the next one when this one has hung up.
        self.front_end.hang_up();
        self.front_end = FrontEnd::connect(&self.place.path("socket"), setup);
    }
}

pub fn start(place: &Place, arguments: &[&str]) -> Server {
    let (socket, image) = (place.text("socket"), place.text("image"));
    let fixed = ["--socket", &socket, "--image", &image];
    Server::start(BLK, &[&fixed, arguments].concat(), 1)
}

/// Where ring `ring` has its header; payload and status follow.
pub fn buffers(ring: usize) -> (u64, u64) {
    let at = DATA + ring as u64 * 0x10_0000;
    (at, at + 0x1000)
}

pub fn write_header(front_end: &FrontEnd, ring: usize, kind: u32, sector: u64) {
    let mut header = [0; 16];
    header[..4].copy_from_slice(&kind.to_le_bytes());
    header[8..].copy_from_slice(&sector.to_le_bytes());
    front_end.memory.write_slice(&header, GuestAddress(buffers(ring).0)).unwrap();
}

pub fn request(
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

pub fn extent(sector: u64, sectors: u32, flags: u32) -> Vec<u8> {
    [&sector.to_le_bytes()[..], &sectors.to_le_bytes(), &flags.to_le_bytes()].concat()
}

/// A request of `count` segments of `len` bytes each in an indirect table. Neighbours in the request are none
/// in memory, as in slots that were given back in any order.
pub fn scattered(kind: u32, count: u64, len: u32) -> Vec<Part> {
    let (header, data) = buffers(0);
    let writable = kind == IN;
    let segment = |index: u64| {
        let place = index * 5 % count;
        Part { addr: data + place * u64::from(len), len, writable }
    };
    let status = Part::writable(header + 16, 1);
    [Part::readable(header, 16)].into_iter().chain((0..count).map(segment)).chain([status]).collect()
}
