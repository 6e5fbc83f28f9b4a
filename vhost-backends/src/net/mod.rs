//! A learning Ethernet switch whose ports are virtio-net devices (virtio 1.3, 5.1).
//!
//! * `switch`, `mac_table`: where a frame goes (pure)
//! * `header`, `checksum`, `segment`: what a sender left undone, and doing it for a port that wants it done
//!   (pure)
//! * `transmit`, `receive`: frames off a ring and into one
//! * `port`: the rings of one board, and frames that wait for its buffers
//! * `worker`: the one thread that looks at all rings; `features`: what is offered to the front ends
//! * `capture`: what passed a port, for Wireshark
//!
//! A frame that is not finished (NEEDS_CSUM, TSO) goes as it is to a port that accepts such frames, and
//! finished to any other. A port without receive buffers lets frames wait, up to 1024 of them and 4 MiB, and
//! drops what comes after: a TCP window fits, so that a stream is not throttled by losses whenever its
//! receiver is briefly busy, and no port ever waits for another.

mod capture;
mod checksum;
mod counters;
mod features;
#[cfg(test)]
mod frames;
mod header;
mod mac_table;
mod port;
mod receive;
mod segment;
mod switch;
mod transmit;
mod worker;

use std::path::PathBuf;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use self::capture::Capture;
use self::port::Port;
use self::switch::MAX_PORTS;
use self::worker::Worker;
use crate::link::{Connection, Event, Line, Offer};
use crate::ring::Memory;
use crate::server::{self, Device};
use crate::{Error, Peering};

/// Which ports to switch between.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Unix socket of a port; give it once for each port, up to 16 times
    #[arg(long = "port", value_name = "PATH", required = true, num_args = 1)]
    pub ports: Vec<PathBuf>,
    /// Directory for captures: port0.pcap has what passes the first port, in both directions, and so on
    #[arg(long, value_name = "DIR")]
    pub pcap_dir: Option<PathBuf>,
    /// Number of queue pairs of each port
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=8))]
    pub queues: u16,
    /// How long to poll all virtqueues after the last frame before sleeping, in microseconds; 0 never polls
    #[arg(long, value_name = "US", default_value_t = 50, value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    pub poll_us: u32,
    /// Which side connects, and how often.
    #[command(flatten)]
    pub peering: Peering,
}

/// Switches until SIGTERM or SIGINT or, with `--once`, until the first front end of each port has gone.
///
/// # Errors
///
/// A socket or a capture file cannot be had, or the process is out of resources. Nothing that a front end
/// does is an error.
pub fn serve(options: Options) -> Result<(), Error> {
    let Options { ports: paths, pcap_dir, queues, poll_us, peering } = options;
    if paths.len() > MAX_PORTS {
        return Err(Error::TooManyPorts { ports: paths.len(), most: MAX_PORTS });
    }
    if let Some((_, path)) = paths.iter().enumerate().find(|(index, path)| paths[..*index].contains(path)) {
        return Err(Error::DuplicatePort { path: path.clone() });
    }
    let pairs = usize::from(queues);
    let ports = (0..paths.len())
        .map(|number| {
            let path = pcap_dir.as_ref().map(|directory| directory.join(format!("port{number}.pcap")));
            let capture = path.map(|path| Capture::create(&path)).transpose()?;
            Ok(Port::new(pairs, capture))
        })
        .collect::<Result<Vec<_>, Error>>()?;

    let (events, inbox) = channel();
    let worker = Worker::new(ports, pairs, Duration::from_micros(poll_us.into()), inbox);
    let thread = thread::Builder::new()
        .name("switch".into())
        .spawn(|| worker.run())
        .map_err(|source| Error::Resources { action: "start a thread", source })?;
    let worker = thread.thread().clone();
    let server = Server { line: Line::new(events, move || worker.unpark()), pairs };
    let result = server::serve(&server, &paths, &peering);
    server.line.send(Event::Quit);
    // It has nothing to report; a panic was reported when it happened.
    let _ = thread.join();
    result
}

struct Server {
    line: Line,
    pairs: usize,
}

impl Device for Server {
    type Backend = Connection;

    fn open(&self, port: usize, memory: Memory) -> Connection {
        // The configuration space belongs to the front end.
        let offer = Offer { queues: 2 * self.pairs, features: features::offered(), config: None };
        Connection::new(port, offer, self.line.clone(), memory)
    }

    fn close(&self, _port: usize, connection: &Connection) {
        connection.close();
    }
}
