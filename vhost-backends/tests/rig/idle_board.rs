//! A board that does next to nothing, with a back end of each kind.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use vm_memory::{Bytes, GuestAddress};

use crate::front_end::{DATA, FrontEnd, Part, Place, Server, Setup};

/// What an idle Linux does: a few frames, now and then a disk write, a key.
const PERIOD: Duration = Duration::from_millis(100);

/// A disk, a switch with two ports and a console, with their options' defaults, each with a front end.
pub struct Board {
    pub names: [&'static str; 3],
    pub servers: [Server; 3],
    pub disk: FrontEnd,
    pub ports: [FrontEnd; 2],
    pub console: FrontEnd,
    pub terminal: UnixStream,
    _place: Place,
}

impl Board {
    pub fn new() -> Self {
        let place = Place::new();
        fs::write(place.path("image"), vec![0; 1 << 20]).unwrap();
        let [image, blk, a, b, socket, terminal] =
            ["image", "blk", "port0", "port1", "console", "terminal"].map(|name| place.text(name));
        let servers = [
            Server::start(env!("CARGO_BIN_EXE_vhost-blk"), &["--socket", &blk, "--image", &image], 1),
            Server::start(env!("CARGO_BIN_EXE_vhost-net"), &["--port", &a, "--port", &b], 2),
            Server::start(
                env!("CARGO_BIN_EXE_vhost-console"),
                &["--socket", &socket, "--terminal", &terminal],
                2,
            ),
        ];
        let setup = |rings| Setup { rings, ..Setup::default() };
        let mut board = Self {
            names: ["vhost-blk", "vhost-net, 2 ports", "vhost-console"],
            servers,
            disk: FrontEnd::connect(&place.path("blk"), &setup(1)),
            ports: ["port0", "port1"].map(|name| FrontEnd::connect(&place.path(name), &setup(2))),
            console: FrontEnd::connect(&place.path("console"), &setup(2)),
            terminal: UnixStream::connect(place.path("terminal")).unwrap(),
            _place: place,
        };
        for front_end in board.ports.iter_mut().chain([&mut board.console]) {
            provide(front_end);
        }
        // A frame that a port sends to itself reaches no other port, and is taken when the port is in use. A
        // broadcast before that would be lost: the switch floods to the ports that it has.
        for (port, station) in board.ports.iter_mut().enumerate() {
            let address = station_address(port);
            transmit(station, address, address);
        }
        // Each device has seen its rings.
        board.stir();
        board
    }

    /// One request to the disk, a frame from each port to the other, a character in each direction.
    pub fn stir(&mut self) {
        self.disk.memory.write_slice(&[0; 16], GuestAddress(DATA)).unwrap();
        exchange(&mut self.disk, 0, &[Part::readable(DATA, 16), Part::writable(DATA + 0x1000, 513)]);
        for (port, station) in self.ports.iter_mut().enumerate() {
            transmit(station, [0xff; 6], station_address(port));
        }
        for station in &mut self.ports {
            assert_eq!(station.rings[0].wait_used().1, 72);
            provide(station);
        }
        exchange(&mut self.console, 1, &[Part::readable(DATA, 1)]);
        self.terminal.read_exact(&mut [0]).unwrap();
        self.terminal.write_all(b"x").unwrap();
        assert_eq!(self.console.rings[0].wait_used().1, 1);
        provide(&mut self.console);
    }

    /// Runs `action` and returns the share of a core that each server had meanwhile.
    pub fn shares(&mut self, action: impl FnOnce(&mut Self)) -> [f64; 3] {
        let cpu_times = |board: &Self| board.servers.each_ref().map(Server::cpu_time);
        let (start, before) = (Instant::now(), cpu_times(self));
        action(self);
        let (after, wall) = (cpu_times(self), start.elapsed());
        std::array::from_fn(|index| (after[index] - before[index]).as_secs_f64() / wall.as_secs_f64())
    }

    /// Waits until every thread of the servers sleeps. Returns how often the threads of each have gone to
    /// sleep.
    pub fn sleeps(&self) -> [u64; 3] {
        self.servers.each_ref().map(|server| server.sleeps().values().sum())
    }

    pub fn stir_for(&mut self, time: Duration) {
        let start = Instant::now();
        while start.elapsed() < time {
            self.stir();
            thread::sleep(PERIOD);
        }
    }
}

fn station_address(port: usize) -> [u8; 6] {
    [2, 0, 0, 0, 0, port as u8]
}

/// Sends a frame of 60 bytes, and waits until the switch has taken it.
fn transmit(station: &mut FrontEnd, destination: [u8; 6], source: [u8; 6]) {
    let mut frame = [0; 12 + 60];
    frame[12..18].copy_from_slice(&destination);
    frame[18..24].copy_from_slice(&source);
    station.memory.write_slice(&frame, GuestAddress(DATA)).unwrap();
    exchange(station, 1, &[Part::readable(DATA, 72)]);
}

fn provide(front_end: &mut FrontEnd) {
    front_end.rings[0].add(&[Part::writable(DATA + 0x10_0000, 2048)]);
    front_end.rings[0].notify(1);
}

fn exchange(front_end: &mut FrontEnd, ring: usize, parts: &[Part]) {
    front_end.rings[ring].add(parts);
    front_end.rings[ring].notify(1);
    front_end.rings[ring].wait_used();
}
