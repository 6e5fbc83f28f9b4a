//! Whether a machine can serve a board, and what to do where it cannot: `bm-hypervisor check`.
//!
//! [`survey`] reads, [`judge()`] only thinks. Left out: back ends, which [`crate::probe`] asks.

mod judge;

use std::{fmt, path::Path};

pub use self::judge::judge;
use crate::{
    config::{BoardConfig, PortConfig},
    machine::Machine,
    placement::{Placement, PlacementError},
    port::vfio::{
        VfioError,
        discovery::{Discovered, discover},
    },
};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, and could be better.
    Warning,
    /// It does not work.
    Error,
}

/// Something that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What was looked at.
    pub subject: &'static str,
    /// What was found, and what to do.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Error => "error",
        };
        write!(f, "{level:7}  {:10}  {}", self.subject, self.text)
    }
}

/// What there is to judge.
#[derive(Debug)]
pub struct Survey {
    /// CPUs, memory and limits of the machine.
    pub machine: Machine,
    /// The board's device, if it has one in this machine.
    pub device: Option<Result<Discovered, VfioError>>,
    /// Whether the socket of its port is there, if it has one.
    pub socket: Option<bool>,
    /// Its cores, if it names any and no other board has them.
    pub placement: Option<Result<Placement, PlacementError>>,
}

/// Looks at the machine below `root`, which is `/` but in tests. Nothing is taken or changed.
pub fn survey(config: &BoardConfig, root: &Path) -> Survey {
    let machine = Machine::read(root);
    let placement = config.cores.as_ref().map(|cores| {
        let placement = Placement::plan(cores, &machine.cores)?;
        placement.check_free()?;
        Ok(placement)
    });
    let (device, socket) = match &config.port {
        Some(PortConfig::Vfio(address)) => (Some(discover(root, *address)), None),
        Some(PortConfig::VfioUser(path)) => (None, Some(path.exists())),
        None => (None, None),
    };
    Survey { machine, device, socket, placement }
}

#[cfg(test)]
mod tests;
