//! The TOML as it is typed: shapes and defaults only. Limits, and what belongs to which kind, are
//! [`super::check`]'s.

use std::path::PathBuf;

use bm_hypervisor::config::MacAddress;
use iobond_model::timing::Timing;
use serde::Deserialize;

use super::Design;

/// Where IO-Bonds and hypervisors get their processor time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Execution {
    /// From the thread that waits on a board: everything but the back ends runs in turns on the thread of the
    /// boards' software.
    #[default]
    Inline,
    /// From a thread of their own, which polls every board as one base core does.
    Threads,
}

/// What the base core of a world with guests does that finds nothing to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Poll {
    /// Looks again for `poll_us` microseconds, then sleeps until a board or a back end notifies.
    #[default]
    Adaptive,
    /// Looks again, always: a processor for the lowest latency.
    Busy,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    pub server: Server,
    #[serde(default)]
    pub switch: Switch,
    #[serde(default, rename = "board")]
    pub boards: Vec<Board>,
    #[serde(default)]
    pub workload: Workload,
    #[serde(default, rename = "fault")]
    pub faults: Vec<Fault>,
    #[serde(default)]
    pub timing: Timing,
    #[serde(default)]
    pub design: Design,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Server {
    pub name: String,
    #[serde(default)]
    pub execution: Execution,
    #[serde(default)]
    pub poll: Poll,
    #[serde(default = "default_poll_us")]
    pub poll_us: u32,
    #[serde(default)]
    pub restart: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Switch {
    #[serde(default)]
    pub capture: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Board {
    pub name: String,
    pub memory_mib: u32,
    #[serde(default, rename = "function")]
    pub functions: Vec<Function>,
    pub guest: Option<Guest>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Guest {
    #[serde(default = "default_cpus")]
    pub cpus: u8,
    pub kernel: Option<PathBuf>,
    pub initrd: Option<PathBuf>,
    pub cmdline: Option<String>,
    #[serde(default = "default_autostart")]
    pub autostart: bool,
}

/// Flat, with the keys of all kinds: an error inside a tagged enum would lose the place it happened at.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Function {
    pub kind: Kind,
    pub image: Option<PathBuf>,
    pub size_mib: Option<u32>,
    pub serial: Option<String>,
    pub read_only: Option<bool>,
    pub queues: Option<u16>,
    pub mac: Option<MacAddress>,
    pub queue_pairs: Option<u16>,
    pub queue_size: Option<u16>,
    pub slot_size: Option<u32>,
    pub slots: Option<u16>,
    pub limits: Option<Limits>,
}

/// Flat for the same reason.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    pub packets_per_second: Option<u64>,
    pub bits_per_second: Option<u64>,
    pub iops: Option<u64>,
    pub bytes_per_second: Option<u64>,
    pub burst_ms: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Blk,
    Net,
    Console,
}

impl Kind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Blk => "blk",
            Self::Net => "net",
            Self::Console => "console",
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Workload {
    pub file: Option<PathBuf>,
    pub blk: Option<BlkWorkload>,
    pub net: Option<NetWorkload>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BlkWorkload {
    pub reads: Option<u64>,
    pub seconds: Option<f64>,
    pub queue_depths: Vec<u16>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NetWorkload {
    pub round_trips: Option<u64>,
    pub seconds: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fault {
    pub kill: String,
    pub after_ms: u64,
    pub restart_after_ms: Option<u64>,
}

/// About a round trip of a guest in TCG (docs/decisions/0011).
const fn default_poll_us() -> u32 {
    200
}

const fn default_cpus() -> u8 {
    1
}

const fn default_autostart() -> bool {
    true
}

pub(super) fn parse(text: &str) -> Result<Document, toml::de::Error> {
    toml::from_str(text)
}
