//! What is reserved for functions that come later.

use serde::{Deserialize, Serialize};

use super::{ConfigError, RingConfig, RingSizes, within};

/// A place for one function that is added while the board runs: a function number, queue contexts, and base
/// memory, all of which are assigned when the board starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SpareConfig {
    /// Most virtqueues that the function may have, 1 to 33. Default 2: a disk with two queues, a network
    /// function with one pair, or a console.
    #[serde(default = "two")]
    pub queues: u16,
    /// Largest rings and slot pools that each of its queues may have. The defaults hold those of any device;
    /// memory of slots is taken only when buffers lie there, unless it is huge pages.
    #[serde(default)]
    pub ring: RingConfig,
}

fn two() -> u16 {
    2
}

/// 33: sixteen pairs and their control queue.
const MOST_QUEUES: u16 = 33;

impl Default for SpareConfig {
    fn default() -> Self {
        Self { queues: two(), ring: RingConfig::default() }
    }
}

impl SpareConfig {
    /// The sizes for which memory is reserved.
    pub fn ring_sizes(&self) -> RingSizes {
        self.ring.resolve(RingSizes::SPARE)
    }

    /// Whether every value is in its range.
    pub(super) fn check(&self, at: &str) -> Result<(), ConfigError> {
        within(&format!("{at}.queues"), self.queues, 1, MOST_QUEUES)?;
        self.ring_sizes().check(&format!("{at}.ring"))
    }
}
