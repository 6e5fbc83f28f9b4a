//! Limits on what a function may do, which its IO-Bond holds it to.

use serde::{Deserialize, Serialize};

use super::{ConfigError, within};

/// The largest packet: a frame with segmentation offload and its header (virtio 1.3, 5.1.6.3.1).
const LARGEST_PACKET: u64 = 65_562;
/// The largest request that counts as usual: what Linux makes of a sequential read or write.
const LARGEST_REQUEST: u64 = 1 << 20;
/// Rates beyond this are typing errors: a million millions of anything per second.
const MOST: u64 = 1_000_000_000_000;

/// Limits on a network function, both directions together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct NetLimits {
    /// Packets a second, 1 to 10^12; no limit by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packets_per_second: Option<u64>,
    /// Bits a second, headers of the virtio device counted, 8 to 10^12; no limit by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bits_per_second: Option<u64>,
    /// How many milliseconds' worth may come at once after a rest, 1 to 10 000; at least the largest packet.
    /// Default 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst_ms: Option<u32>,
}

/// Limits on a block function, reads and writes together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BlkLimits {
    /// Requests a second, 1 to 10^12; no limit by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iops: Option<u64>,
    /// Bytes a second, 1 to 10^12; no limit by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u64>,
    /// How many milliseconds' worth may come at once after a rest, 1 to 10 000; at least a request of 1 MiB.
    /// Default 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst_ms: Option<u32>,
}

/// Limits on a function, by the name of its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LimitsConfig {
    /// Of a network function.
    Net(NetLimits),
    /// Of a block function.
    Blk(BlkLimits),
}

/// Limits as IO-Bond has them (`qos` in its registers).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Rates {
    /// Packets or requests a second; none: no limit.
    pub operations_per_second: Option<u64>,
    /// Packets or requests at once.
    pub operations_burst: u32,
    /// Payload bytes a second; none: no limit.
    pub bytes_per_second: Option<u64>,
    /// Payload bytes at once.
    pub bytes_burst: u32,
}

impl NetLimits {
    fn rates(&self) -> Rates {
        let bytes = self.bits_per_second.map(|bits| bits / 8);
        rates(self.packets_per_second, bytes, self.burst_ms, LARGEST_PACKET)
    }
}

impl BlkLimits {
    fn rates(&self) -> Rates {
        rates(self.iops, self.bytes_per_second, self.burst_ms, LARGEST_REQUEST)
    }
}

fn rates(operations: Option<u64>, bytes: Option<u64>, burst_ms: Option<u32>, largest: u64) -> Rates {
    let worth = |rate: Option<u64>| rate.unwrap_or(0).saturating_mul(burst_ms.unwrap_or(10).into()) / 1000;
    let burst = |units: u64| u32::try_from(units).unwrap_or(u32::MAX);
    Rates {
        operations_per_second: operations,
        operations_burst: burst(worth(operations).max(1)),
        bytes_per_second: bytes,
        bytes_burst: burst(worth(bytes).max(largest)),
    }
}

impl LimitsConfig {
    /// The limits as IO-Bond is told them; none if there are none.
    pub fn rates(&self) -> Option<Rates> {
        let rates = match self {
            Self::Net(net) => net.rates(),
            Self::Blk(blk) => blk.rates(),
        };
        (rates.operations_per_second.is_some() || rates.bytes_per_second.is_some()).then_some(rates)
    }

    /// Whether every value is in its range; `at` is where it stands.
    ///
    /// # Errors
    /// [`ConfigError::Value`] for the first that is not.
    pub fn check(&self, at: &str) -> Result<(), ConfigError> {
        let (operations, bytes, burst_ms) = match self {
            Self::Net(net) => (
                ("packets_per_second", net.packets_per_second),
                ("bits_per_second", net.bits_per_second, 8),
                net.burst_ms,
            ),
            Self::Blk(blk) => {
                (("iops", blk.iops), ("bytes_per_second", blk.bytes_per_second, 1), blk.burst_ms)
            }
        };
        within(&format!("{at}.{}", operations.0), operations.1.unwrap_or(1), 1, MOST)?;
        within(&format!("{at}.{}", bytes.0), bytes.1.unwrap_or(MOST), bytes.2, MOST)?;
        within(&format!("{at}.burst_ms"), burst_ms.unwrap_or(1), 1, 10_000)
    }
}
