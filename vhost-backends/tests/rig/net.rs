//! `vhost-net`, and stations at its ports.

use vm_memory::{Bytes, GuestAddress};

use crate::front_end::{DATA, FrontEnd, Part, Place, Server, Setup, VERSION_1};

pub const NET: &str = env!("CARGO_BIN_EXE_vhost-net");

pub const BROADCAST: [u8; 6] = [0xff; 6];
pub const PLAIN: [u8; 12] = [0; 12];

pub fn mac(station: u8) -> [u8; 6] {
    [2, 0, 0, 0, 0, station]
}

/// An Ethernet frame of `len` bytes that is nothing in particular.
pub fn frame(to: [u8; 6], from: [u8; 6], len: usize) -> Vec<u8> {
    let mut frame: Vec<u8> = (0..len).map(|index| index as u8).collect();
    frame[..6].copy_from_slice(&to);
    frame[6..12].copy_from_slice(&from);
    frame[12..14].copy_from_slice(&[0x88, 0xb5]); // IEEE 802: for experiments
    frame
}

/// A switch with its ports.
pub struct Rig {
    pub place: Place,
    pub server: Server,
}

impl Rig {
    pub fn new(ports: usize, arguments: &[&str]) -> Self {
        let place = Place::new();
        let captures = place.text("");
        let paths: Vec<String> = (0..ports).map(|port| place.text(&format!("port{port}"))).collect();
        let mut all: Vec<&str> = paths.iter().flat_map(|path| ["--port", path]).collect();
        all.extend(arguments.iter().map(|&argument| if argument == "HERE" { &captures } else { argument }));
        let server = Server::start(NET, &all, ports);
        Self { place, server }
    }

    /// A station at `port` that accepts `features` beside VERSION_1, with 32 receive buffers of `size` bytes.
    pub fn station(&self, port: usize, features: u64, size: u32) -> Station {
        let mut station = self.silent_station(port, features, 1);
        (0..32).for_each(|_| station.provide(0, size));
        station.refills = true;
        station
    }

    /// A station with `pairs` of queues and no receive buffers, nor does it provide again what it has
    /// received.
    pub fn silent_station(&self, port: usize, features: u64, pairs: usize) -> Station {
        self.station_with(port, features, pairs, true)
    }

    /// Such a station, with call descriptors or without.
    pub fn station_with(&self, port: usize, features: u64, pairs: usize, call: bool) -> Station {
        let setup = Setup { rings: 2 * pairs, features: VERSION_1 | features, call, ..Setup::default() };
        let front_end = FrontEnd::connect(&self.place.path(&format!("port{port}")), &setup);
        let buffers = vec![[0; 256]; 2 * pairs];
        let mut station = Station { front_end, buffers, provided: 0, size: 0, refills: false };
        // A station that sends to itself reaches no other port. Its frame is taken when the port is in use.
        let probe = mac(200 + port as u8);
        station.send_on(pairs - 1, PLAIN, &frame(probe, probe, 60));
        station
    }
}

/// A board at a port.
pub struct Station {
    pub front_end: FrontEnd,
    /// Address of the buffer at each descriptor of each ring.
    pub buffers: Vec<[u64; 256]>,
    pub provided: u64,
    pub size: u32,
    pub refills: bool,
}

impl Station {
    /// Provides a receive buffer in queue pair `pair`.
    pub fn provide(&mut self, pair: usize, size: u32) {
        self.size = size;
        let at = DATA + 0x20_0000 + self.provided % 64 * 0x1_2000;
        self.provided += 1;
        let head = self.front_end.rings[2 * pair].add(&[Part::writable(at, size)]);
        self.buffers[2 * pair][usize::from(head)] = at;
        self.front_end.rings[2 * pair].notify(1);
    }

    /// Sends a frame on queue pair `pair`, and waits until the switch has taken it.
    pub fn send_on(&mut self, pair: usize, header: [u8; 12], frame: &[u8]) {
        let memory = &self.front_end.memory;
        memory.write_slice(&header, GuestAddress(DATA)).unwrap();
        memory.write_slice(frame, GuestAddress(DATA + 12)).unwrap();
        // Header and frame are split where no boundary is.
        let len = frame.len() as u32 + 12;
        let parts =
            [Part::readable(DATA, 5), Part::readable(DATA + 5, 20), Part::readable(DATA + 25, len - 25)];
        let ring = &mut self.front_end.rings[2 * pair + 1];
        let head = ring.add(&parts);
        ring.notify(1);
        assert_eq!(ring.wait_used(), (head, 0));
    }

    pub fn send(&mut self, frame: &[u8]) {
        self.send_on(0, PLAIN, frame);
    }

    /// Waits for a frame in queue pair `pair`: its header and itself.
    pub fn receive_on(&mut self, pair: usize) -> ([u8; 12], Vec<u8>) {
        let mut bytes = Vec::new();
        let mut left = 1;
        while left > 0 {
            let ring = &mut self.front_end.rings[2 * pair];
            // 5.1.6.4: all buffers of a frame are used at once. Only the first may be waited for.
            let (head, len) = if bytes.is_empty() { ring.wait_used() } else { ring.take_used().unwrap() };
            let mut part = vec![0; len as usize];
            let at = GuestAddress(self.buffers[2 * pair][usize::from(head)]);
            self.front_end.memory.read_slice(&mut part, at).unwrap();
            if bytes.is_empty() {
                left = u16::from_le_bytes([part[10], part[11]]);
                assert_ne!(left, 0, "num_buffers");
            }
            bytes.extend(part);
            left -= 1;
            if self.refills {
                self.provide(pair, self.size);
            }
        }
        (bytes[..12].try_into().unwrap(), bytes[12..].to_vec())
    }

    pub fn receive(&mut self) -> Vec<u8> {
        self.receive_on(0).1
    }
}
