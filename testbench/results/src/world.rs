//! The worlds: what carries requests through an IO-Bond.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A world. Results of all of them have one schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "World::about says what each is")]
pub enum World {
    Live,
    Cycle,
    Rtl,
    Vfio,
}

/// A text that names no world.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no world is called {0:?}; choose live, cycle, rtl or vfio")]
pub struct UnknownWorld(pub String);

impl World {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Cycle, Self::Live, Self::Rtl, Self::Vfio];

    /// Its name in results and on command lines.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Cycle => "cycle",
            Self::Rtl => "rtl",
            Self::Vfio => "vfio",
        }
    }

    /// What it is, in one line without a full stop.
    #[must_use]
    pub const fn about(self) -> &'static str {
        match self {
            Self::Live => "The wall clock: the same IO-Bond as a program, as fast as this machine",
            Self::Cycle => {
                "Virtual time: every latency and width is a number of the scenario, and equal runs have equal results"
            }
            Self::Rtl => "The IO-Bond in SystemVerilog, simulated",
            Self::Vfio => "An IO-Bond in hardware",
        }
    }

    /// Why no plan of requests runs in it, and what to do instead; none where one does.
    #[must_use]
    pub const fn missing(self) -> Option<&'static str> {
        match self {
            Self::Live | Self::Cycle => None,
            Self::Rtl => Some(
                "this tree has no IO-Bond in SystemVerilog, so there is nothing to measure; `--world cycle` calculates \
                 what its timing would be, `--world live` measures the model",
            ),
            Self::Vfio => Some(
                "this bench drives a board's rings itself, and behind VFIO that is done by the board; with an IO-Bond \
                 behind VFIO, `bm-hypervisor selftest CONFIG` tries it and `bm-hypervisor --config CONFIG` serves its \
                 board, where fio or a ping measures (docs/vfio.md)",
            ),
        }
    }
}

impl fmt::Display for World {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.name())
    }
}

impl FromStr for World {
    type Err = UnknownWorld;

    fn from_str(text: &str) -> Result<Self, UnknownWorld> {
        let named = Self::ALL.into_iter().find(|world| world.name() == text);
        named.ok_or_else(|| UnknownWorld(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_world_has_one_name_everywhere() {
        for world in World::ALL {
            assert_eq!(world.name().parse(), Ok(world));
            assert_eq!(serde_json::to_value(world).unwrap(), world.name());
        }
        assert_eq!("Live".parse::<World>(), Err(UnknownWorld("Live".to_owned())));
    }
}
