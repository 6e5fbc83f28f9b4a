//! What a board is made of: its functions, their rings, and the back ends that serve them. Read from TOML, where a typo is
//! answered with line, column and what was expected; or built in code by an embedder.
//!
//! ```toml
//! name = "board0"
//! poll = "status-page"                    # or "registers", as the paper does
//!
//! [[functions]]
//! [functions.blk]
//! backend = { socket = "/run/disk.sock", notify = "kick" }
//! queues = 2
//!
//! [[functions]]
//! [functions.net]
//! mac = "52:54:00:00:00:01"
//! mtu = 1500
//! backend = { socket = "/run/switch.sock", role = "listen" }
//!
//! [[functions]]
//! [functions.console]
//! backend = { socket = "/run/console.sock" }
//! ```

mod mac;
mod ring;

use std::{path::PathBuf, time::Duration};

use iobond_spec::{MAX_FUNCTIONS, MAX_QUEUES};
use serde::{Deserialize, Serialize};

pub use self::{
    mac::MacAddress,
    ring::{RingConfig, RingSizes},
};

/// One compute board, as bm-hypervisor serves it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BoardConfig {
    /// What messages and threads call the board.
    pub name: String,
    /// Where the poll pass looks for HEADs and mailbox requests.
    #[serde(default)]
    pub poll: PollMode,
    /// Microseconds that a forwarded board access may take before IO-Bond completes it without an answer
    /// (`mailbox.deadline`); 1 000 to 60 000 000. Default 50 000, the register's own reset value. An access that waits behind a
    /// queue being started or stopped waits for the back end, so a slow one may want more.
    #[serde(default = "default_mailbox_deadline")]
    pub mailbox_deadline_us: u32,
    /// Whether base memory comes from 2 MiB huge pages, which must have been reserved.
    #[serde(default)]
    pub hugepages: bool,
    /// The PCI functions in order, 1 to 8.
    pub functions: Vec<FunctionConfig>,
}

/// Where the poll pass looks for HEADs and mailbox requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PollMode {
    /// In the status page that IO-Bond writes into base memory: a cache hit each.
    #[default]
    StatusPage,
    /// In IO-Bond's registers, as the BM-Hive paper does: a PCIe read each.
    Registers,
}

/// One PCI function.
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

/// A network function.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct NetConfig {
    /// Its address.
    pub mac: MacAddress,
    /// The largest payload of a frame that the driver is told, in bytes, 68 to 65535; none by default.
    #[serde(default)]
    pub mtu: Option<u16>,
    /// Pairs of receive and transmit queues, 1 to 16. More than one needs a back end with protocol feature MQ.
    #[serde(default = "one")]
    pub queue_pairs: u16,
    /// Who forwards its packets.
    pub backend: BackEndConfig,
    /// Sizes of its rings and slot pools.
    #[serde(default)]
    pub ring: RingConfig,
}

/// A block function. Capacity, block size and serial number are the back end's.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BlkConfig {
    /// Who keeps its sectors.
    pub backend: BackEndConfig,
    /// Request queues, 1 to 32. More than one needs a back end with protocol feature MQ.
    #[serde(default = "one")]
    pub queues: u16,
    /// Insists on a disk that the back end itself serves read-only; starting fails otherwise. A read-only back end makes the
    /// function read-only whatever stands here.
    #[serde(default)]
    pub read_only: bool,
    /// Sizes of its rings and slot pools.
    #[serde(default)]
    pub ring: RingConfig,
}

/// A console function of one port. Its size, if it has one, is the back end's.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ConsoleConfig {
    /// Who shows what the board prints, and types.
    pub backend: BackEndConfig,
    /// Sizes of its rings and slot pools.
    #[serde(default)]
    pub ring: RingConfig,
}

/// A vhost-user back end.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BackEndConfig {
    /// Path of the Unix socket.
    pub socket: PathBuf,
    /// Who listens there.
    #[serde(default)]
    pub role: Role,
    /// Whether the back end wants to be told of new buffers.
    #[serde(default)]
    pub notify: Notify,
    /// Milliseconds to wait for the back end: for a connection, and for each of its answers; 1 to 60 000. Default 2 000.
    #[serde(default = "default_timeout")]
    pub timeout_ms: u32,
}

/// Who listens on the socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The back end; bm-hypervisor connects, and tries again until the time-out.
    #[default]
    Connect,
    /// bm-hypervisor; it waits for the back end until the time-out.
    Listen,
}

/// How a back end learns of new buffers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Notify {
    /// By a kick, unless it suppresses that (virtio 1.3, 2.7.10).
    #[default]
    Kick,
    /// It polls the rings; it is never kicked.
    Poll,
}

fn default_mailbox_deadline() -> u32 {
    50_000
}

fn default_timeout() -> u32 {
    2_000
}

fn one() -> u16 {
    1
}

impl BackEndConfig {
    /// A back end that listens at `socket` and is kicked.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
            role: Role::default(),
            notify: Notify::default(),
            timeout_ms: default_timeout(),
        }
    }

    /// [`BackEndConfig::timeout_ms`] as a duration.
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms.into())
    }
}

impl NetConfig {
    /// A network function with one queue pair and default rings.
    pub fn new(mac: MacAddress, backend: BackEndConfig) -> Self {
        Self { mac, mtu: None, queue_pairs: 1, backend, ring: RingConfig::default() }
    }

    /// The sizes that its rings and slot pools have.
    pub fn ring_sizes(&self) -> RingSizes {
        self.ring.resolve(RingSizes::NET)
    }
}

impl BlkConfig {
    /// A block function with one queue and default rings.
    pub fn new(backend: BackEndConfig) -> Self {
        Self { backend, queues: 1, read_only: false, ring: RingConfig::default() }
    }

    /// The sizes that its rings and slot pools have.
    pub fn ring_sizes(&self) -> RingSizes {
        self.ring.resolve(RingSizes::BLK)
    }
}

impl ConsoleConfig {
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
    /// Its back end.
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

    /// Virtqueues that the function may come to have: a network function with several pairs has a control queue, too.
    pub fn queues(&self) -> u16 {
        match self {
            Self::Net(net) => 2 * net.queue_pairs + u16::from(net.queue_pairs > 1),
            Self::Blk(blk) => blk.queues,
            Self::Console(_) => crate::device::console::QUEUES,
        }
    }

    /// The device's name in a configuration file.
    pub fn device_name(&self) -> &'static str {
        match self {
            Self::Net(_) => "net",
            Self::Blk(_) => "blk",
            Self::Console(_) => "console",
        }
    }
}

impl BoardConfig {
    /// A board with default polling and deadline.
    pub fn new(name: impl Into<String>, functions: Vec<FunctionConfig>) -> Self {
        Self {
            name: name.into(),
            poll: PollMode::default(),
            mailbox_deadline_us: default_mailbox_deadline(),
            hugepages: false,
            functions,
        }
    }

    /// Reads a board from TOML and checks it.
    ///
    /// # Errors
    /// [`ConfigError::Toml`] with line, column, the offending text and the expected keys; or what [`BoardConfig::check`] says.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text)?;
        config.check()?;
        Ok(config)
    }

    /// Whether every value is in its range.
    ///
    /// # Errors
    /// [`ConfigError::Value`] for the first that is not.
    pub fn check(&self) -> Result<(), ConfigError> {
        within("name.len()", self.name.len(), 1, 64)?;
        within("mailbox_deadline_us", self.mailbox_deadline_us, 1_000, 60_000_000)?;
        within("functions.len()", self.functions.len(), 1, MAX_FUNCTIONS)?;
        for (index, function) in self.functions.iter().enumerate() {
            function.check(&format!("functions[{index}].{}", function.device_name()))?;
        }
        let queues: usize = self.functions.iter().map(|function| usize::from(function.queues())).sum();
        within("queues of all functions", queues, 1, MAX_QUEUES)
    }
}

impl FunctionConfig {
    fn check(&self, at: &str) -> Result<(), ConfigError> {
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
        self.ring_sizes().check(&format!("{at}.ring"))
    }
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It is not TOML, a key is unknown or missing, or a value has the wrong type.
    #[error("{0}")]
    Toml(#[from] toml::de::Error),
    /// A value is out of its range.
    #[error("{key} is {value}; expected {expected}")]
    Value {
        /// The key with the tables it stands in.
        key: String,
        /// Its value.
        value: u64,
        /// What would do.
        expected: String,
    },
}

impl ConfigError {
    /// Where in the text the error is, if it is in one place.
    pub fn span(&self) -> Option<std::ops::Range<usize>> {
        match self {
            Self::Toml(error) => error.span(),
            Self::Value { .. } => None,
        }
    }
}

/// Whether `value` lies in `low..=high`.
fn within<T: TryInto<u64>>(key: &str, value: T, low: T, high: T) -> Result<(), ConfigError> {
    let [value, low, high] = [value, low, high].map(|n| n.try_into().unwrap_or(u64::MAX));
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(ConfigError::Value { key: key.into(), value, expected: format!("{low} to {high}") })
}

#[cfg(test)]
mod tests;
