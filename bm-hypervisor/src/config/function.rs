//! PCI functions: which devices there are, and what each of them takes.

use serde::{Deserialize, Serialize};

use super::{
    BackEndConfig, BlkLimits, ConfigError, LimitsConfig, MacAddress, NetLimits, RingConfig, RingSizes, within,
};

/// One PCI function, by the name of its device.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FunctionConfig {
    /// A network device (virtio 1.3, 5.1).
    Net(NetConfig),
    /// A block device (virtio 1.3, 5.2).
    Blk(BlkConfig),
    /// A console (virtio 1.3, 5.3).
    Console(ConsoleConfig),
}

/// A network function, with its address and its back end.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct NetConfig {
    /// The function's unicast Ethernet address.
    pub mac: MacAddress,
    /// The largest payload of a frame that the driver is told, in bytes, 68 to 65535; none by default.
    #[serde(default)]
    pub mtu: Option<u16>,
    /// Pairs of receive and transmit queues, 1 to 16. More than one needs a back end with protocol feature
    /// MQ.
    #[serde(default = "one")]
    pub queue_pairs: u16,
    /// The back end that forwards its packets.
    pub backend: BackEndConfig,
    /// How much it may send and receive; whatever it can by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<NetLimits>,
    /// Sizes of its rings and slot pools.
    #[serde(default)]
    pub ring: RingConfig,
}

/// A block function. Capacity, block size and serial number are the back end's.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BlkConfig {
    /// The back end that keeps its sectors.
    pub backend: BackEndConfig,
    /// Request queues, 1 to 32. More than one needs a back end with protocol feature MQ.
    #[serde(default = "one")]
    pub queues: u16,
    /// Insists on a disk that the back end itself serves read-only; starting fails otherwise. A read-only
    /// back end makes the function read-only whatever stands here.
    #[serde(default)]
    pub read_only: bool,
    /// How much it may read and write; whatever it can by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<BlkLimits>,
    /// Sizes of its rings and slot pools.
    #[serde(default)]
    pub ring: RingConfig,
}

/// A console function of one port. Its size, if it has one, is the back end's.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ConsoleConfig {
    /// The back end that shows what the board prints, and types.
    pub backend: BackEndConfig,
    /// Sizes of its rings and slot pools.
    #[serde(default)]
    pub ring: RingConfig,
}

fn one() -> u16 {
    1
}

impl NetConfig {
    /// Slots of `slot_size` bytes that a queue has to have: enough for a frame of 65 562 bytes (virtio 1.3,
    /// 5.1.6.3.1), which Linux hands over in up to 18 pieces, at least a slot for each.
    pub const fn least_slots(slot_size: u32) -> u32 {
        65_562_u32.div_ceil(slot_size) + 18
    }

    /// A network function with one queue pair and default rings.
    pub fn new(mac: MacAddress, backend: BackEndConfig) -> Self {
        Self { mac, mtu: None, queue_pairs: 1, backend, limits: None, ring: RingConfig::default() }
    }

    /// The sizes that its rings and slot pools have.
    pub fn ring_sizes(&self) -> RingSizes {
        self.ring.resolve(RingSizes::NET)
    }
}

impl BlkConfig {
    /// Slots of `slot_size` bytes that a queue has to have: enough for a page, the least that a driver can
    /// ask for, with header and status.
    pub const fn least_slots(slot_size: u32) -> u32 {
        4096_u32.div_ceil(slot_size) + 2
    }

    /// A block function with one queue and default rings.
    pub fn new(backend: BackEndConfig) -> Self {
        Self { backend, queues: 1, read_only: false, limits: None, ring: RingConfig::default() }
    }

    /// The sizes that its rings and slot pools have.
    pub fn ring_sizes(&self) -> RingSizes {
        self.ring.resolve(RingSizes::BLK)
    }
}

impl ConsoleConfig {
    /// Queues of a device without MULTIPORT: receiveq and transmitq of port 0 (virtio 1.3, 5.3.2).
    pub const QUEUES: u16 = 2;

    /// Slots of `slot_size` bytes that a queue has to have: enough for a page, which is what Linux posts.
    pub const fn least_slots(slot_size: u32) -> u32 {
        4096_u32.div_ceil(slot_size)
    }

    /// A console function with default rings.
    pub fn new(backend: BackEndConfig) -> Self {
        Self { backend, ring: RingConfig::default() }
    }

    /// The sizes that its rings and slot pools have.
    pub fn ring_sizes(&self) -> RingSizes {
        self.ring.resolve(RingSizes::CONSOLE)
    }
}

impl FunctionConfig {
    /// The back end of the function, of whichever device.
    pub fn backend(&self) -> &BackEndConfig {
        match self {
            Self::Net(net) => &net.backend,
            Self::Blk(blk) => &blk.backend,
            Self::Console(console) => &console.backend,
        }
    }

    /// The sizes of its rings and slot pools.
    pub fn ring_sizes(&self) -> RingSizes {
        match self {
            Self::Net(net) => net.ring_sizes(),
            Self::Blk(blk) => blk.ring_sizes(),
            Self::Console(console) => console.ring_sizes(),
        }
    }

    /// Virtqueues that the function may come to have: a network function with several pairs has a control
    /// queue, too.
    pub fn queues(&self) -> u16 {
        match self {
            Self::Net(net) => 2 * net.queue_pairs + u16::from(net.queue_pairs > 1),
            Self::Blk(blk) => blk.queues,
            Self::Console(_) => ConsoleConfig::QUEUES,
        }
    }

    /// What it is limited to, if it is.
    pub fn limits(&self) -> Option<LimitsConfig> {
        match self {
            Self::Net(net) => net.limits.map(LimitsConfig::Net),
            Self::Blk(blk) => blk.limits.map(LimitsConfig::Blk),
            Self::Console(_) => None,
        }
    }

    /// The sizes of queue `index`'s rings and slots: a control queue is the last of several, and small.
    pub(crate) fn queue_sizes(&self, index: u16) -> RingSizes {
        let is_control = matches!(self, Self::Net(net) if index >= 2 * net.queue_pairs);
        if is_control { RingSizes::CONTROL } else { self.ring_sizes() }
    }

    /// The device's name in a configuration file.
    pub fn device_name(&self) -> &'static str {
        match self {
            Self::Net(_) => "net",
            Self::Blk(_) => "blk",
            Self::Console(_) => "console",
        }
    }

    /// Whether every value is in its range; `at` is where it stands.
    pub(crate) fn check(&self, at: &str) -> Result<(), ConfigError> {
        within(&format!("{at}.backend.timeout_ms"), self.backend().timeout_ms, 1, 60_000)?;
        match self {
            Self::Net(net) => {
                within(&format!("{at}.queue_pairs"), net.queue_pairs, 1, 16)?;
                // virtio 1.3, 5.1.4.1: "the device MUST set mtu to between 68 and 65535 inclusive".
                within(&format!("{at}.mtu"), net.mtu.unwrap_or(68), 68, u16::MAX)?;
            }
            Self::Blk(blk) => within(&format!("{at}.queues"), blk.queues, 1, 32)?,
            Self::Console(_) => {}
        }
        if let Some(limits) = self.limits() {
            limits.check(&format!("{at}.limits"))?;
        }
        let sizes = self.ring_sizes();
        sizes.check(&format!("{at}.ring"))?;
        let least = match self {
            Self::Net(_) => NetConfig::least_slots(sizes.slot_size),
            Self::Blk(_) => BlkConfig::least_slots(sizes.slot_size),
            Self::Console(_) => ConsoleConfig::least_slots(sizes.slot_size),
        };
        within(&format!("{at}.ring.slots"), u32::from(sizes.slots), least, u16::MAX.into())
    }
}
