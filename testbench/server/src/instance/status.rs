//! What an instance says of itself: what `bmhive status --json` prints.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::guest::Accelerator;

/// A running instance: its base, its boards and its back ends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The instance's name, as `--name` gives it.
    pub instance: String,
    /// The process that is the base.
    pub pid: u32,
    /// The scenario's file, or the name of one that is built in.
    pub scenario: String,
    /// Seconds since it was up.
    pub uptime: f64,
    /// What runs the guests' instructions.
    pub accelerator: Accelerator,
    /// Why this one, in half a sentence.
    pub accelerator_reason: String,
    /// The boards, in the scenario's order.
    pub boards: Vec<BoardStatus>,
    /// The back ends, in the order of `Scenario::back_ends`.
    pub back_ends: Vec<BackEndStatus>,
}

/// A board: its machine, and its functions as the base sees them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BoardStatus {
    /// Its name in the scenario.
    pub name: String,
    /// Whether its machine is on.
    pub power: Power,
    /// Why the base has ended the board, if it has: a machine on it reaches no function any more.
    pub failure: Option<String>,
    /// The QEMU process, while it runs.
    pub pid: Option<u32>,
    /// Seconds since the machine was switched on, while it is.
    pub uptime: Option<f64>,
    /// Seconds that it took from there until the drivers of all functions were up, once they have been.
    pub drivers_up_after: Option<f64>,
    /// The socket of the board's console, if it has one.
    pub terminal: Option<PathBuf>,
    /// The socket of its serial port, while it runs.
    pub serial: Option<PathBuf>,
    /// What the serial port said.
    pub serial_log: Option<PathBuf>,
    /// Its functions, in order.
    pub functions: Vec<FunctionStatus>,
}

/// Whether a board's machine is on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "state")]
pub enum Power {
    /// The scenario has no guest for it.
    None,
    /// Off: it was not switched on yet, or it ended in order.
    Off,
    /// On, and not all functions have a driver yet.
    Starting,
    /// On, every function has a driver, or had one.
    Running,
    /// On, and told to end.
    Stopping,
    /// It was killed on request.
    Killed,
    /// QEMU ended without order.
    Crashed {
        /// How, and its last words.
        reason: String,
    },
}

impl Power {
    /// Whether there is a process.
    #[must_use]
    pub fn is_on(&self) -> bool {
        matches!(self, Self::Starting | Self::Running | Self::Stopping)
    }

    /// One word for it.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::None => "no guest",
            Self::Off => "off",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Killed => "killed",
            Self::Crashed { .. } => "crashed",
        }
    }
}

/// A PCI function: its driver, its queues and its back end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FunctionStatus {
    /// `console`, `blk` or `net`.
    pub device: String,
    /// The vfio-user socket that QEMU connects to.
    pub socket: PathBuf,
    /// The vhost-user socket of its back end.
    pub back_end_socket: PathBuf,
    /// `device_status` as the driver reads it (virtio 1.3, 2.1).
    pub status: u8,
    /// Features that the driver accepted.
    pub features: u64,
    /// Queues that the driver has enabled and that run.
    pub queues: u16,
    /// Interrupts sent; wraps at 2^32.
    pub interrupts: u64,
    /// Requests, frames or buffers that were returned to the driver since it enabled its queues; wraps at
    /// 2^32 for each queue.
    pub requests: u64,
    /// Bytes of payload from board to base since then.
    pub bytes_up: u64,
    /// And from base to board.
    pub bytes_down: u64,
    /// Why IO-Bond stopped one of its queues, if it did.
    pub queue_error: Option<String>,
    /// What is wrong with its back end, if anything is: the function then asks its driver for a reset, and
    /// the board's others go on.
    pub failure: Option<String>,
}

impl FunctionStatus {
    /// How far the function's driver is, in a few words, from the device status.
    #[must_use]
    pub const fn driver(&self) -> &'static str {
        const ACKNOWLEDGE: u8 = 1;
        const DRIVER_OK: u8 = 4;
        const DEVICE_NEEDS_RESET: u8 = 64;
        const FAILED: u8 = 128;
        match self.status {
            0 => "none",
            status if status & FAILED != 0 => "failed",
            status if status & DEVICE_NEEDS_RESET != 0 => "needs reset",
            status if status & DRIVER_OK != 0 => "ready",
            status if status & ACKNOWLEDGE != 0 => "negotiating",
            _ => "unknown",
        }
    }
}

/// A back end: its process, and the functions that it serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackEndStatus {
    /// Its name in the scenario.
    pub name: String,
    /// Its process, while it runs.
    pub pid: Option<u32>,
    /// How it ended, if it has and was not started again.
    pub ended: Option<String>,
    /// The vhost-user socket of each function that it serves.
    pub sockets: Vec<PathBuf>,
}
