//! The baseline: the board's drivers on a vhost-user back end, with no IO-Bond between.
//!
//! The board's memory is the back end's memory table and the guest rings are its vrings, as a VMM would have
//! it. Every driver runs unchanged on it, so the two can be laid side by side.

mod transport;

use std::path::PathBuf;

pub use self::transport::DirectTransport;

/// Where the device configuration comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceConfig {
    /// From the back end, by GET_CONFIG.
    BackEnd,
    /// These bytes; what they do not cover is not there.
    Given(Vec<u8>),
}

/// A back end and how to talk to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackEnd {
    /// Socket that the back end listens on.
    pub socket: PathBuf,
    /// Which device it is.
    pub device: virtio_drivers::transport::DeviceType,
    /// Virtqueues that the driver may use.
    pub queues: u16,
    /// Entries that each of them may have.
    pub queue_size: u16,
    /// Feature bits that are offered to the driver beyond the back end's own, as a VMM does for those it
    /// answers itself (a network device's MAC).
    pub features: u64,
    /// Where the device configuration is read.
    pub config: DeviceConfig,
}
