//! A scenario: which boards a server holds, what functions they see, what is done with them and what breaks.
//! One TOML file.
//!
//! ```toml
//! [server]
//! name = "two boards"            # free text, 1 to 80 characters
//! execution = "inline"           # "inline" (default): a thread that waits on a board runs IO-Bonds and
//!                                # hypervisors meanwhile, best on few cores; "threads": they have a
//!                                # thread of their own that polls
//! poll = "adaptive"              # what the base core does between requests of Linux guests: "adaptive"
//!                                # (default) looks for `poll_us`, then sleeps until it is woken; "busy"
//!                                # never sleeps
//! poll_us = 200                  # 0 to 1000000
//! restart = false                # whether `bmhive up` starts a back end again that ended; boards wait for
//!                                # it then, and otherwise the functions that it served end with it
//!
//! [switch]                       # optional; connects every net function
//! capture = false                # write one pcap file per port
//!
//! [[board]]                      # 1 to 16
//! name = "board0"                # lower case letters, digits, '-'; unique
//! memory_mib = 128               # 16 to 2048; to 65536 for a board with a guest
//!
//! [board.guest]                  # optional: `bmhive up` runs Linux on this board
//! cpus = 1                       # 1 to 16
//! kernel = "vmlinux"             # relative to this file; default: the guest files' own, as for initrd
//! initrd = "initrd.cpio.gz"
//! cmdline = "loglevel=7"         # words to append to the kernel's command line, up to 1024 printable
//!                                # ASCII characters
//! autostart = true               # whether `bmhive up` starts it, or waits for `bmhive board BOARD start`
//!
//! [[board.function]]             # 1 to 8 per board, in the order of their PCI device numbers
//! kind = "blk"
//! image = "disk.img"             # a raw image, relative to this file; or
//! size_mib = 256                 # an empty scratch disk of that size, 1 to 1048576
//! serial = "disk-0"              # up to 20 ASCII characters
//! read_only = false
//! queues = 1                     # 1 to 16
//!
//! [[board.function]]
//! kind = "net"
//! mac = "52:54:00:10:0b:00"      # unicast, unique
//! queue_pairs = 1                # 1 to 8; at most 16 net functions in all
//!
//! [[board.function]]
//! kind = "console"               # one port, whose other end is a terminal: `bmhive console BOARD`
//! # and for each kind:
//! queue_size = 256               # largest ring offered (`guest` in bm-hypervisor's configuration), a power
//!                                # of two to 1024, from 256 (console: 64); default: blk 512, net 256,
//!                                # console 64
//! slot_size = 4096               # bytes in a slot, a power of two, 64 to 65536; default: blk 32768, others
//!                                # 4096
//! slots = 1024                   # slots per queue, 16 to 65535, and enough for a page (net: for 64 KiB in
//!                                # 18 pieces); default: blk 512, net 1024, console 64
//!
//! [workload]                     # optional, as is each of its parts
//! file = "payload.bin"           # what is written, read back and sent; default: the running executable
//! [workload.blk]
//! seconds = 2.0                  # per queue depth, 0.05 to 600; or `reads = 20000`
//! queue_depths = [1, 32]         # each 1 to 256
//! [workload.net]
//! round_trips = 20000            # of 64-byte frames; or `seconds = 2.0`
//!
//! [[fault]]                      # optional
//! kill = "switch"                # a back end: "switch", or "BOARD.N" for the disk or console behind
//!                                # function N of that board
//! after_ms = 500                 # from the start of the workload
//! restart_after_ms = 200         # from then on; the boards wait for it. Default: it is not started again,
//!                                # and its functions end. A back end that is started again is killed by
//!                                # one fault at most
//!
//! [timing]                       # optional, for the world of virtual time: latencies in ns, widths, rates
//! board_access = 800             # in bit/s. The default is the paper's, see `iobond_model::timing::Timing`
//! [timing.board]                 # a link is said as a whole: generation and lanes
//! generation = "gen3"
//! lanes = 4
//!
//! [design]                       # optional, for `bmhive bench latency`: see `Design`
//! notice = "ring"                # how back ends learn of buffers: "ring" (default), "status_page",
//!                                # "registers"
//! notification_data = true
//! event_idx = false
//! interrupts = true
//! ```
//!
//! A file that deviates is refused with file, line, column, key and what was expected. Left out: what the
//! file's devices do; that is the world's part.

mod check;
mod design;
mod document;
mod error;
mod locate;
mod problem;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use bm_hypervisor::config::{LimitsConfig, MacAddress, RingSizes};
use iobond_model::timing::Timing;

pub use design::{Design, Notice};
pub use document::{Execution, Poll};
pub use error::{Invalid, ScenarioError};

/// Board slots of a base server (BM-Hive, ASPLOS 2020, section 3.2).
pub const MAX_BOARDS: u8 = 16;

/// What the demonstration runs when no file is named.
const DEMONSTRATION: &str = include_str!("../../scenarios/demo.toml");
/// What `bmhive up` starts when no file is named.
const LINUX: &str = include_str!("../../scenarios/linux.toml");

/// One scenario, checked: every limit in the [module's description](self) holds.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The file it came from, or a name for a text that has none.
    pub file: String,
    /// The TOML as given.
    pub text: String,
    /// What it calls itself.
    pub name: String,
    /// How boards and hypervisors are given processor time.
    pub execution: Execution,
    /// What the base core does between requests of guests.
    pub poll: Poll,
    /// Microseconds for which [`Poll::Adaptive`] looks again before it sleeps, 0 to 1 000 000.
    pub poll_us: u32,
    /// Whether `bmhive up` starts back ends again that ended, and boards wait for them.
    pub restart: bool,
    /// Whether the switch writes one pcap file per port.
    pub capture: bool,
    /// The compute boards, 1 to [`MAX_BOARDS`].
    pub boards: Vec<Board>,
    /// What is done with them.
    pub workload: Workload,
    /// What breaks meanwhile, in the order of the file.
    pub faults: Vec<Fault>,
    /// Latencies and widths of the world of virtual time.
    pub timing: Timing,
    /// What is chosen of IO-Bond's design, where nothing but a bench drives it.
    pub design: Design,
}

/// A compute board and what it is made of.
#[derive(Clone, Debug)]
pub struct Board {
    /// Unique in the scenario; fit for a file name.
    pub name: String,
    /// Bytes of memory, a multiple of 1 MiB.
    pub memory_bytes: u64,
    /// Its PCI functions in the order of their device numbers, 1 to 8.
    pub functions: Vec<Function>,
    /// The machine that runs on it, if `bmhive up` is to run one.
    pub guest: Option<Guest>,
}

/// A machine that runs on a compute board, with the board's functions on its PCI bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guest {
    /// Processors, 1 to 16.
    pub cpus: u8,
    /// An uncompressed kernel with a PVH entry, if not that of the guest files.
    pub kernel: Option<PathBuf>,
    /// An initial RAM disk, if not that of the guest files.
    pub initrd: Option<PathBuf>,
    /// Words to append to the kernel's command line.
    pub cmdline: Option<String>,
    /// Whether it is started together with its base.
    pub autostart: bool,
}

/// One virtio PCI function.
#[derive(Clone, Debug)]
pub struct Function {
    /// The device that it is, with its own settings.
    pub device: Device,
    /// Rings and slots of each queue; the guest ring is the largest that it offers.
    pub rings: RingSizes,
    /// What it may do in a second, if that is limited.
    pub limits: Option<LimitsConfig>,
}

impl Function {
    /// Queues that carry requests: a disk's, a card's pairs, the one of a console.
    #[must_use]
    pub const fn request_queues(&self) -> u16 {
        match &self.device {
            Device::Blk(blk) => blk.queues,
            Device::Net(net) => net.queue_pairs,
            Device::Console(Console) => 1,
        }
    }

    /// Virtqueues of this function. A net function with more than one pair has a control queue besides
    /// (virtio 1.3, 5.1.2 and 5.1.3.1: VIRTIO_NET_F_MQ requires VIRTIO_NET_F_CTRL_VQ).
    #[must_use]
    pub const fn queues(&self) -> u16 {
        match &self.device {
            Device::Blk(blk) => blk.queues,
            Device::Net(Net { queue_pairs: 1, .. }) => 2,
            Device::Net(net) => 2 * net.queue_pairs + 1,
            // virtio 1.3, 5.3.2: without VIRTIO_CONSOLE_F_MULTIPORT there are port 0's receive and transmit
            // queue.
            Device::Console(Console) => 2,
        }
    }
}

/// The device behind a function.
#[derive(Clone, Debug)]
pub enum Device {
    /// A disk (virtio 1.3, 5.2).
    Blk(Blk),
    /// A network card (virtio 1.3, 5.1), connected to the switch.
    Net(Net),
    /// A console with one port (virtio 1.3, 5.3).
    Console(Console),
}

/// A disk (virtio 1.3, 5.2) and the back end's settings of it.
#[derive(Clone, Debug)]
pub struct Blk {
    /// What holds its sectors.
    pub backing: Backing,
    /// What GET_ID answers, at most 20 ASCII characters (virtio 1.3, 5.2.6).
    pub serial: String,
    /// Whether VIRTIO_BLK_F_RO is offered.
    pub read_only: bool,
    /// Request queues, 1 to 16.
    pub queues: u16,
}

/// What holds a disk's sectors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backing {
    /// A raw image that exists.
    Image(PathBuf),
    /// An empty file of this many bytes that is deleted after the run.
    Scratch(u64),
}

/// A network card (virtio 1.3, 5.1), which the switch connects.
#[derive(Clone, Debug)]
pub struct Net {
    /// Its address, unicast and unique in the scenario.
    pub mac: MacAddress,
    /// Receive and transmit queue pairs, 1 to 8.
    pub queue_pairs: u16,
}

/// A console. Its terminal is a socket, which has no size to offer to the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Console;

/// What is done with the boards.
#[derive(Clone, Debug, Default)]
pub struct Workload {
    /// The file that is written, read back and sent, if not the running executable.
    pub file: Option<PathBuf>,
    /// 4 KiB random reads.
    pub blk: Option<BlkWorkload>,
    /// A ping-pong of 64-byte frames between two boards.
    pub net: Option<NetWorkload>,
}

/// 4 KiB random reads of a disk.
#[derive(Clone, Debug)]
pub struct BlkWorkload {
    /// How long at each depth.
    pub extent: Extent,
    /// Requests in flight, one measurement each.
    pub queue_depths: Vec<u16>,
}

/// A 64-byte ping-pong between two boards.
#[derive(Clone, Debug)]
pub struct NetWorkload {
    /// How long the ping-pong takes.
    pub extent: Extent,
}

/// How long a measurement takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Until so many requests are done.
    Count(u64),
    /// Until so much time has passed.
    Time(Duration),
}

/// A back end process that is killed, and perhaps started again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The back end whose process is killed.
    pub kill: BackEnd,
    /// When, counted from the start of the workload.
    pub after: Duration,
    /// How long after that it is started again; the boards that it serves wait for it. Otherwise its
    /// functions end.
    pub restart_after: Option<Duration>,
}

/// A back end process of a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackEnd {
    /// The switch, which a scenario calls `switch`.
    Switch,
    /// The disk behind a function, `BOARD.FUNCTION`.
    Disk {
        /// Index of the board.
        board: usize,
        /// Index of the function on that board.
        function: usize,
    },
    /// The console behind a function, `BOARD.FUNCTION`.
    Console {
        /// Index of the board.
        board: usize,
        /// Index of the function on that board.
        function: usize,
    },
}

impl Scenario {
    /// Reads and checks the file at `path`. Images and the workload's file are found relative to it.
    ///
    /// # Errors
    /// [`ScenarioError::Read`] when the file cannot be read, [`ScenarioError::Invalid`] with the place and
    /// what was expected there when its contents are not a scenario.
    pub fn load(path: &Path) -> Result<Self, ScenarioError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ScenarioError::Read { path: path.to_owned(), source })?;
        Self::parse(&path.display().to_string(), &text, path.parent().unwrap_or(Path::new("")))
    }

    /// Checks a text. `file` is what errors call it; other files are found relative to `directory`.
    ///
    /// # Errors
    /// [`ScenarioError::Invalid`] with the place and what was expected there.
    pub fn parse(file: &str, text: &str, directory: &Path) -> Result<Self, ScenarioError> {
        let document = document::parse(text).map_err(|error| Invalid::from_toml(file, text, &error))?;
        let scenario = check::check(file, text, directory, document)
            .map_err(|problem| Invalid::from_problem(file, text, problem))?;
        Ok(scenario)
    }

    /// The demonstration: two boards with a disk and a network card each.
    ///
    /// # Errors
    /// None for the text that is built in, which a test checks.
    pub fn demonstration() -> Result<Self, ScenarioError> {
        Self::parse("demo.toml (built in)", DEMONSTRATION, Path::new(""))
    }

    /// Two boards that run Linux, with a console, a disk and a network card each.
    ///
    /// # Errors
    /// None for the text that is built in, which a test checks.
    pub fn linux() -> Result<Self, ScenarioError> {
        Self::parse("linux.toml (built in)", LINUX, Path::new(""))
    }

    /// The back end processes that this scenario needs, with the names that `[[fault]]` uses: each disk and
    /// console, and the switch when there is a net function.
    #[must_use]
    pub fn back_ends(&self) -> Vec<(String, BackEnd)> {
        check::back_ends(&self.boards)
    }
}

#[cfg(test)]
mod tests;
