//! Which cores of the base server work for a board.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{ConfigError, within};

/// CPUs that Linux has numbers for (`CONFIG_NR_CPUS` of MAXSMP).
const MOST_CPUS: u32 = 8192;

/// Where a board's threads run.
///
/// ```toml
/// cores = { poll = 2, control = [0] }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CoresConfig {
    /// The CPU that the poll thread is pinned to. The board takes the whole physical core: no other board's
    /// poller gets one of its SMT siblings.
    pub poll: u32,
    /// The CPUs that the control thread may run on; any, where none is named.
    #[serde(default)]
    pub control: Vec<u32>,
    /// The folder in which pollers lock physical cores, the same for every board of a server.
    #[serde(default = "default_locks")]
    pub locks: PathBuf,
}

fn default_locks() -> PathBuf {
    "/run/iobond/cores".into()
}

impl CoresConfig {
    /// A poll thread on CPU `poll`, and a control thread anywhere.
    pub fn new(poll: u32) -> Self {
        Self { poll, control: Vec::new(), locks: default_locks() }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        within("cores.poll", self.poll, 0, MOST_CPUS - 1)?;
        self.control.iter().try_for_each(|cpu| within("cores.control", *cpu, 0, MOST_CPUS - 1))
    }
}
