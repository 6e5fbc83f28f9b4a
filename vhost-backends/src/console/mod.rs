//! A console: a virtio-console device of one port (virtio 1.3, 5.3) whose screen and keyboard are Unix
//! sockets.
//!
//! * `output`: what the driver printed of late, and what of it each terminal has yet to see (pure)
//! * `typed`: what was typed and waits for the driver (pure)
//! * `queues`: both of them against the rings
//! * `terminals`: the clients of the terminal socket; `log`: the file
//! * `worker`: the one thread that moves all of it
//!
//! A terminal that connects to the socket sees what the driver printed, beginning with the last 64 KiB, and
//! may type. A terminal never slows the driver down: one that is 4 MiB behind is disconnected. The driver may
//! slow typing down: beyond 64 KiB that it has not taken, no terminal is read.
//!
//! Terminals, the replay and what was typed outlive a reset of the driver and its front end.

mod log;
mod output;
mod queues;
mod terminals;
mod typed;
mod worker;

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};

use self::log::Log;
use self::terminals::Terminals;
use self::worker::Worker;
use crate::link::{Connection, Event, Line, Offer};
use crate::ring::Memory;
use crate::server::{self, Device, announce};
use crate::{Error, Peering};

/// 5.3.3: the configuration fields `cols` and `rows` are valid.
const VIRTIO_CONSOLE_F_SIZE: u32 = 0;

/// What to serve, and where.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Unix socket of the console, for the front end
    #[arg(long, value_name = "PATH")]
    pub socket: PathBuf,
    /// Unix socket for terminals, up to 8 at a time
    #[arg(long, value_name = "PATH")]
    pub terminal: PathBuf,
    /// File that everything the driver prints is appended to
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Columns and rows that the driver is told, e.g. 80x25
    #[arg(long, value_name = "COLSxROWS")]
    pub size: Option<Size>,
    /// How long to poll after the last byte before sleeping, in microseconds; 0 never polls
    #[arg(long, value_name = "US", default_value_t = 50, value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    pub poll_us: u32,
    /// Which side connects, and how often.
    #[command(flatten)]
    pub peering: Peering,
}

/// The size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Characters in a row, not zero.
    pub columns: u16,
    /// Rows on the screen, not zero.
    pub rows: u16,
}

impl std::str::FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse::<u16>().ok().filter(|&number| number > 0);
        let (columns, rows) = text.split_once('x').unwrap_or_default();
        match (number(columns), number(rows)) {
            (Some(columns), Some(rows)) => Ok(Self { columns, rows }),
            _ => Err("must be columns and rows from 1 to 65535, e.g. 80x25".into()),
        }
    }
}

/// Serves the console until SIGTERM or SIGINT or, with `--once`, until the first front end has gone.
///
/// # Errors
///
/// A socket or the log cannot be had, or the process is out of resources. Nothing that a front end or a
/// terminal does is an error.
pub fn serve(options: Options) -> Result<(), Error> {
    let log = options.log.as_deref().map(Log::open).transpose()?;
    let listener = server::listen(&options.terminal)?;
    let no_event =
        |errno: rustix::io::Errno| Error::Resources { action: "make an event", source: errno.into() };
    let waker = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).map_err(no_event)?;
    let waker = Arc::new(waker);
    let (events, inbox) = channel();
    let terminals = Terminals::new(listener);
    let worker =
        Worker::new(inbox, Arc::clone(&waker), terminals, log, Duration::from_micros(options.poll_us.into()));
    let thread = thread::Builder::new()
        .name("console".into())
        .spawn(|| worker.run())
        .map_err(|source| Error::Resources { action: "start a thread", source })?;
    let server = Server {
        line: Line::new(events, move || wake(&waker)),
        offer: offer(options.size),
        terminal: options.terminal,
    };
    let result = server::serve(&server, &[options.socket], &options.peering);
    server.line.send(Event::Quit);
    // It has nothing to report; a panic was reported when it happened.
    let _ = thread.join();
    result
}

/// Wakes the thread that polls `waker`.
fn wake(waker: &OwnedFd) {
    // A counter that is full has been readable for long.
    let _ = rustix::io::write(waker, &1u64.to_ne_bytes());
}

struct Server {
    line: Line,
    offer: Offer,
    terminal: PathBuf,
}

impl Device for Server {
    type Backend = Connection;

    fn announce(&self) {
        announce(format_args!("listening on {}", self.terminal.display()));
    }

    fn open(&self, port: usize, memory: Memory) -> Connection {
        Connection::new(port, self.offer.clone(), self.line.clone(), memory)
    }

    fn close(&self, _port: usize, connection: &Connection) {
        connection.close();
    }
}

/// One port without MULTIPORT has receiveq and transmitq only (5.3.2).
fn offer(size: Option<Size>) -> Offer {
    let base = [VIRTIO_F_VERSION_1, VIRTIO_RING_F_INDIRECT_DESC, VIRTIO_RING_F_EVENT_IDX];
    let features = base.into_iter().chain(size.map(|_| VIRTIO_CONSOLE_F_SIZE));
    // 5.3.4: le16 cols, le16 rows; what follows belongs to features that are not offered.
    let config = size
        .map_or_else(Vec::new, |Size { columns, rows }| [columns.to_le_bytes(), rows.to_le_bytes()].concat());
    Offer {
        queues: queues::COUNT,
        features: features.fold(0, |features, bit| features | 1 << bit),
        config: Some(config),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_two_numbers_above_zero() {
        assert_eq!("80x25".parse(), Ok(Size { columns: 80, rows: 25 }));
        for wrong in ["", "80", "80x", "x25", "0x25", "80x0", "80x65536", "80x25x1", "-1x25"] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_size_is_offered_only_if_there_is_one() {
        let with = offer(Some(Size { columns: 80, rows: 25 }));
        let without = offer(None);
        assert_eq!(with.features ^ without.features, 1 << VIRTIO_CONSOLE_F_SIZE);
        assert_eq!((with.config, without.config), (Some(vec![80, 0, 25, 0]), Some(vec![])));
    }
}
