//! A disk: serves a raw image file as a virtio-blk device (virtio 1.3, 5.2).
//!
//! * `request`: what a request asks for and whether it may (pure)
//! * `config`: features and configuration space (pure)
//! * `disk`: carries one chain out, between guest memory and `image`
//! * `backend`: takes chains off the rings of one front end
//!
//! Data goes between page cache and guest memory without a buffer in between. A write that completed survives
//! the server; it survives the machine once a FLUSH has completed, or at once if the driver cannot FLUSH or
//! has set `writeback` to 0.

mod backend;
mod config;
mod disk;
mod image;
mod request;
mod vectored;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use self::backend::Connection;
use self::config::Shape;
use self::disk::{Disk, SERIAL};
use self::image::Image;
use crate::ring::Memory;
use crate::server::{self, Device};
use crate::{Error, Peering};

/// What to serve, and where.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Unix socket of the disk
    #[arg(long, value_name = "PATH")]
    pub socket: PathBuf,
    /// Raw image file or block device; its size has to be a multiple of 512
    #[arg(long, value_name = "PATH")]
    pub image: PathBuf,
    /// Offer VIRTIO_BLK_F_RO and refuse whatever would change the image
    #[arg(long)]
    pub read_only: bool,
    /// What GET_ID answers, at most 20 bytes of ASCII
    #[arg(long, default_value = "iobond", value_parser = serial)]
    pub serial: String,
    /// Number of virtqueues, each with a thread of its own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=16))]
    pub queues: u16,
    /// Longest virtqueue, a power of two
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = queue_size)]
    pub queue_size: u16,
    /// How long to poll a virtqueue after its last request before sleeping, in microseconds; 0 never polls
    #[arg(long, value_name = "US", default_value_t = 50, value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    pub poll_us: u32,
    /// Which side connects, and how often.
    #[command(flatten)]
    pub peering: Peering,
}

/// Serves the disk until SIGTERM or SIGINT or, with `--once`, until the first front end has gone.
///
/// # Errors
///
/// The image or the socket cannot be had, or the process is out of resources. Nothing that a front end does
/// is an error.
pub fn serve(options: Options) -> Result<(), Error> {
    let image = Image::open(&options.image, options.read_only)?;
    let disk = Disk::new(image, &options.serial);
    let server = Server {
        shape: Shape { read_only: options.read_only, queues: options.queues, queue_size: options.queue_size },
        disk: Arc::new(disk),
        poll: Duration::from_micros(options.poll_us.into()),
    };
    server::serve(&server, &[options.socket], &options.peering)
}

struct Server {
    disk: Arc<Disk>,
    shape: Shape,
    poll: Duration,
}

impl Device for Server {
    type Backend = Connection;

    fn open(&self, _port: usize, memory: Memory) -> Connection {
        Connection::new(Arc::clone(&self.disk), self.shape, self.poll, memory)
    }

    fn close(&self, _port: usize, connection: &Connection) {
        connection.close();
    }
}

fn serial(text: &str) -> Result<String, String> {
    if text.len() <= SERIAL && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(text.into())
    } else {
        Err(format!("must be at most {SERIAL} printable ASCII characters without spaces"))
    }
}

fn queue_size(text: &str) -> Result<u16, String> {
    match text.parse::<u16>() {
        // 2.7: the Queue Size is a power of two up to 32768.
        Ok(size) if size.is_power_of_two() && size >= 2 => Ok(size),
        _ => Err("must be a power of two from 2 to 32768".into()),
    }
}
