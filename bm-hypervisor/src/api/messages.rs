//! What requests and answers look like; the same for server and client.

use serde::{Deserialize, Serialize};

use crate::{
    BoardState, FreePlace, FunctionStatistics, MailboxStatistics, PollStatistics, Rings, Statistics,
    config::{FunctionConfig, LimitsConfig, Rates},
    pool::PoolUsage,
};

pub use crate::{DeviceLimits, FunctionDescription, QueueStatistics, Resized};

/// Parameters of a method that takes none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct NoParams {}

/// Parameters of `board_power`, which switches a board.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PowerParams {
    /// Whether the board is to have power.
    pub on: bool,
}

/// Parameters of `function_add`, which adds a function to a board.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AddParams {
    /// The function, as in a board's configuration.
    pub function: FunctionConfig,
}

/// Parameters of `function_remove`, and answer of `function_add`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FunctionNumber {
    /// Number of the function.
    pub function: u8,
}

/// Parameters of `disk_resize`, which tells a driver the size of its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ResizeParams {
    /// Number of the function.
    pub function: u8,
    /// How large the disk is to be, in bytes, if that is to be checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// Parameters of `link_set`, which takes a network's link up or down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LinkParams {
    /// Number of the function.
    pub function: u8,
    /// Whether the link is to be up.
    pub up: bool,
}

/// Parameters of `limits_set`, which bounds what a function does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsParams {
    /// Number of the function.
    pub function: u8,
    /// Its limits, as in a board's configuration; without them there are none any more.
    #[serde(default)]
    pub limits: Option<LimitsConfig>,
}

/// Parameters of `log_set_level`, which changes how much is logged.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LogParams {
    /// A level, or directives as in `RUST_LOG`.
    pub level: String,
}

/// Answer of `log_set_level`: the level that was replaced.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct LogAnswer {
    /// What it was before.
    pub before: String,
}

/// Answer of `board_get`: how the board is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Board {
    /// The board's name, as in its configuration.
    pub name: String,
    /// Its state in its lifecycle.
    pub state: BoardState,
    /// The first failure, if there was any.
    pub failure: Option<String>,
    /// Functions that are there.
    pub functions: usize,
    /// Functions of which a driver has set DRIVER_OK.
    pub drivers: usize,
    /// Version of the program that serves the board.
    pub version: String,
}

/// Answer of `board_power` and `board_reset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct StateAnswer {
    /// The board's state after the command.
    pub state: BoardState,
}

/// Answer of `limits_get`: what bounds the board, by its hardware, by the sizes of its rings, and by limits
/// on its functions.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Limits {
    /// What its IO-Bond has.
    pub device: DeviceLimits,
    /// What each function has of it.
    pub functions: Vec<FunctionLimits>,
    /// Places that are free for functions.
    pub free: Vec<FreePlace>,
}

/// What a function has.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct FunctionLimits {
    /// Number of the function.
    pub function: u8,
    /// `net`, `blk` or `console`.
    pub device: String,
    /// How many virtqueues it has.
    pub queues: u16,
    /// The sizes of their rings and slot pools.
    pub rings: Rings,
    /// What it may do in a second, if that is limited.
    #[serde(default)]
    pub limits: Option<Rates>,
    /// Times that a queue of it had to wait for that; wraps at 2^32.
    #[serde(default)]
    pub delays: u32,
}

/// Answer of `statistics_get`: what was counted of the board.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct BoardStatistics {
    /// The board's name, as in its configuration.
    pub board: String,
    /// Its state in its lifecycle.
    pub state: BoardState,
    /// Forwarded accesses by kind, and those that were not answered.
    pub mailbox: MailboxStatistics,
    /// What the poll passes did.
    pub poll: PollStatistics,
    /// Base memory that the board takes.
    pub memory: PoolUsage,
    /// What was counted of each function.
    pub functions: Vec<FunctionCounters>,
}

/// What was counted of a function.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct FunctionCounters {
    /// Number of the function.
    pub function: u8,
    /// `net`, `blk` or `console`.
    pub device: String,
    /// `device_status` as its driver reads it.
    pub status: u8,
    /// Queues that IO-Bond serves.
    pub running_queues: u16,
    /// Accesses that no field decodes, or that came out of order.
    pub refused_accesses: u64,
    /// Times that its driver was asked for a reset.
    pub needs_reset: u64,
    /// Queues that IO-Bond stopped.
    pub queue_errors: u64,
    /// The last of them since the driver last reset the function.
    pub last_queue_error: Option<QueueFault>,
}

/// A queue that IO-Bond stopped.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct QueueFault {
    /// Index of the queue in its function.
    pub queue: u16,
    /// The name of `queues[n].state.error`, such as `bad_context`.
    pub error: String,
}

/// Answer of `metrics_get`: all metrics at once.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Metrics {
    /// Metrics in Prometheus's text format.
    pub text: String,
}

/// One entry of `rpc_describe_methods`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct MethodDescription {
    /// What it is called by.
    pub name: String,
    /// The names and types of its parameters.
    pub params: String,
    /// What the method does and answers.
    pub description: String,
}

impl From<Statistics> for BoardStatistics {
    fn from(statistics: Statistics) -> Self {
        let Statistics { board, state, mailbox, poll, memory, functions } = statistics;
        let functions = functions.into_iter().map(FunctionCounters::from).collect();
        Self { board, state, mailbox, poll, memory, functions }
    }
}

impl From<FunctionStatistics> for FunctionCounters {
    fn from(counted: FunctionStatistics) -> Self {
        Self {
            function: counted.index,
            device: counted.device.into(),
            status: counted.status,
            running_queues: counted.running_queues,
            refused_accesses: counted.refused_accesses,
            needs_reset: counted.needs_reset,
            queue_errors: counted.queue_errors,
            last_queue_error: counted.last_queue_error.map(|(queue, error)| QueueFault { queue, error }),
        }
    }
}

impl From<FunctionDescription> for FunctionLimits {
    fn from(function: FunctionDescription) -> Self {
        let FunctionDescription { index, device, queues, rings, limits, delays, .. } = function;
        Self { function: index, device, queues, rings, limits, delays }
    }
}
