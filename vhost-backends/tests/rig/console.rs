//! `vhost-console`, a board's driver and terminals.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use vm_memory::{Bytes, GuestAddress};

use crate::front_end::{DATA, DEADLINE, FrontEnd, Part, Place, Server, Setup};

pub const CONSOLE: &str = env!("CARGO_BIN_EXE_vhost-console");

pub const F_SIZE: u64 = 1 << 0;
pub const REPLAY: usize = 64 << 10;
/// Most typed bytes that wait in the server.
pub const TYPED: usize = 64 << 10;

pub const RECEIVEQ: usize = 0;
pub const TRANSMITQ: usize = 1;

/// Where the driver's receive buffers are.
pub const INPUT: u64 = DATA + 0x40_0000;

pub fn setup() -> Setup {
    Setup { rings: 2, ..Setup::default() }
}

/// A console as a process, with the paths of its sockets.
pub struct Rig {
    pub place: Place,
    pub server: Server,
}

impl Rig {
    pub fn new(arguments: &[&str]) -> Self {
        let place = Place::new();
        let paths = ["console", "terminal", "log"].map(|name| place.text(name));
        let fixed = ["--socket", &paths[0], "--terminal", &paths[1], "--log", &paths[2]];
        let server = Server::start(CONSOLE, &[&fixed, arguments].concat(), 2);
        assert_eq!(
            server.announced,
            paths[..2].iter().map(|path| format!("listening on {path}")).collect::<Vec<_>>()
        );
        Self { place, server }
    }

    pub fn driver(&self, setup: &Setup) -> Driver {
        Driver {
            front_end: FrontEnd::connect(&self.place.path("console"), setup),
            buffers: [0; 256],
            provided: 0,
        }
    }

    pub fn terminal(&self) -> Terminal {
        let stream = UnixStream::connect(self.place.path("terminal")).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        Terminal(stream)
    }

    pub fn log(&self) -> Vec<u8> {
        fs::read(self.place.path("log")).unwrap()
    }
}

/// The driver of a board, at the console's socket.
pub struct Driver {
    pub front_end: FrontEnd,
    /// Address of the receive buffer at each descriptor.
    pub buffers: [u64; 256],
    pub provided: u64,
}

impl Driver {
    /// Prints, and waits until the console has it.
    pub fn print(&mut self, bytes: &[u8]) {
        self.front_end.memory.write_slice(bytes, GuestAddress(DATA)).unwrap();
        // Split where no boundary is.
        let first = bytes.len() as u32 / 3;
        let rest = Part::readable(DATA + u64::from(first), bytes.len() as u32 - first);
        let ring = &mut self.front_end.rings[TRANSMITQ];
        let head = ring.add(&[Part::readable(DATA, first), rest]);
        ring.notify(1);
        assert_eq!(ring.wait_used(), (head, 0));
    }

    /// Provides `count` receive buffers of `size` bytes.
    pub fn provide(&mut self, count: u16, size: u32) {
        for _ in 0..count {
            let at = INPUT + self.provided % 256 * 0x1000;
            self.provided += 1;
            let head = self.front_end.rings[RECEIVEQ].add(&[Part::writable(at, size)]);
            self.buffers[usize::from(head)] = at;
        }
        self.front_end.rings[RECEIVEQ].notify(count);
    }

    /// Waits for a buffer with something typed.
    pub fn receive(&mut self) -> Vec<u8> {
        let (head, len) = self.front_end.rings[RECEIVEQ].wait_used();
        let mut bytes = vec![0; len as usize];
        self.front_end.memory.read_slice(&mut bytes, GuestAddress(self.buffers[usize::from(head)])).unwrap();
        bytes
    }

    /// Receives `len` bytes, providing a new buffer of `size` bytes for each that was used.
    pub fn receive_all(&mut self, len: usize, size: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < len {
            bytes.extend(self.receive());
            self.provide(1, size);
        }
        bytes
    }
}

/// A client of the terminal socket.
pub struct Terminal(pub UnixStream);

impl Terminal {
    pub fn see(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }

    pub fn type_in(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    /// Everything up to the end of the connection.
    pub fn rest(mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.0.read_to_end(&mut bytes).unwrap();
        bytes
    }
}
