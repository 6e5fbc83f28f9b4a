//! What a board is made of: its functions, their rings, and the back ends that serve them. Read from TOML,
//! where a typo is answered with line, column and what was expected; or built in code by an embedder.
//!
//! ```toml
//! name = "board0"
//! poll = "status-page"                    # or "registers", as the paper does
//! port = { vfio = "0000:01:00.0" }        # or vfio-user = "/run/iobond.sock"
//! cores = { poll = 2, control = [0] }
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
//!
//! [[spares]]                              # reserves a place for one more function
//!
//! [control]
//! socket = "/run/board0.sock"             # JSON-RPC, for bmctl
//! mode = 0o660
//! metrics = "127.0.0.1:9100"
//! ```

mod back_end;
mod control;
mod cores;
mod function;
mod limits;
mod mac;
mod pci_address;
mod port;
mod ring;
mod spare;

use std::iter;

use iobond_spec::{MAX_FUNCTIONS, MAX_QUEUES};
use serde::{Deserialize, Serialize};

pub use self::{
    back_end::{BackEndConfig, Notify, OnLoss, Role},
    control::{ControlConfig, MetricsAddress, MetricsAddressError},
    cores::CoresConfig,
    function::{BlkConfig, ConsoleConfig, FunctionConfig, NetConfig},
    limits::{BlkLimits, LimitsConfig, NetLimits, Rates},
    mac::MacAddress,
    pci_address::{PciAddress, PciAddressError},
    port::PortConfig,
    ring::{RingConfig, RingSizes},
    spare::SpareConfig,
};

/// One compute board, as bm-hypervisor serves it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BoardConfig {
    /// What messages and threads call the board.
    pub name: String,
    /// How its IO-Bond is reached. An embedder of the library opens the port itself and need not say so here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<PortConfig>,
    /// Which cores work for it. An embedder of the library places its own threads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cores: Option<CoresConfig>,
    /// Where the poll pass looks for HEADs and mailbox requests.
    #[serde(default)]
    pub poll: PollMode,
    /// Microseconds that a forwarded board access may take before IO-Bond completes it without an answer
    /// (`mailbox.deadline`); 1 000 to 60 000 000. Default 50 000, the register's own reset value. An access
    /// that waits behind a queue being started or stopped waits for the back end, so a slow one may want
    /// more.
    #[serde(default = "default_mailbox_deadline")]
    pub mailbox_deadline_us: u32,
    /// Whether base memory comes from 2 MiB huge pages, which must have been reserved.
    #[serde(default)]
    pub hugepages: bool,
    /// The socket of its API, and where metrics are served. Read by the program that starts the API
    /// ([`api::Server`](crate::api::Server)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<ControlConfig>,
    /// Places for functions that are added while the board runs, numbered behind those that are there from
    /// the start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spares: Vec<SpareConfig>,
    /// The PCI functions in order, 1 to 8, spare ones counted.
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

fn default_mailbox_deadline() -> u32 {
    50_000
}

impl BoardConfig {
    /// A board with default polling and deadline.
    pub fn new(name: impl Into<String>, functions: Vec<FunctionConfig>) -> Self {
        Self {
            name: name.into(),
            port: None,
            cores: None,
            poll: PollMode::default(),
            mailbox_deadline_us: default_mailbox_deadline(),
            hugepages: false,
            control: None,
            spares: Vec::new(),
            functions,
        }
    }

    /// Reads a board from TOML and checks it.
    ///
    /// # Errors
    /// [`ConfigError::Toml`] with line, column, the offending text and the expected keys; or what
    /// [`BoardConfig::check`] says.
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
        if let Some(cores) = &self.cores {
            cores.check()?;
        }
        within("functions.len()", self.functions.len(), 1, MAX_FUNCTIONS)?;
        for (index, function) in self.functions.iter().enumerate() {
            function.check(&format!("functions[{index}].{}", function.device_name()))?;
        }
        for (index, spare) in self.spares.iter().enumerate() {
            spare.check(&format!("spares[{index}]"))?;
        }
        within("functions and spares", self.functions.len() + self.spares.len(), 1, MAX_FUNCTIONS)?;
        within("queues of all functions and spares", self.queues(), 1, MAX_QUEUES)?;
        self.control.as_ref().map_or(Ok(()), |control| control.check("control"))
    }

    /// The sizes of every queue context that the board takes, in order of their numbers: those of functions,
    /// then of spare ones.
    pub(crate) fn queue_sizes(&self) -> Vec<RingSizes> {
        let functions = self.functions.iter();
        let functions =
            functions.flat_map(|function| (0..function.queues()).map(|index| function.queue_sizes(index)));
        let spares = self.spares.iter();
        let spares = spares.flat_map(|spare| iter::repeat_n(spare.ring_sizes(), spare.queues.into()));
        functions.chain(spares).collect()
    }

    /// Queue contexts that the board takes, those of spare functions counted.
    pub(crate) fn queues(&self) -> usize {
        self.queue_sizes().len()
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
        /// The key with the tables that it stands in.
        key: String,
        /// The value that it has.
        value: u64,
        /// The range or kind of value that it has to have.
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
