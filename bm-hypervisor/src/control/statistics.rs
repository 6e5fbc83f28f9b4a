//! What a board's hypervisor counts.

use crate::{lifecycle::BoardState, poll::channel::PollStatistics, pool::PoolUsage};

/// What a board's hypervisor counted since its start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// The board's name.
    pub board: String,
    /// Where it stands.
    pub state: BoardState,
    /// Forwarded accesses.
    pub mailbox: MailboxStatistics,
    /// What the poll passes did.
    pub poll: PollStatistics,
    /// Base memory that the board takes.
    pub memory: PoolUsage,
    /// Its functions in order.
    pub functions: Vec<FunctionStatistics>,
}

/// Forwarded accesses that were answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MailboxStatistics {
    /// Reads.
    pub reads: u64,
    /// Posted writes.
    pub writes: u64,
    /// Resets of a function.
    pub resets: u64,
    /// Posted writes that had expired before they were taken up, and were not carried out.
    pub expired: u64,
    /// Requests that named a function which is not there.
    pub misdirected: u64,
}

/// One function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FunctionStatistics {
    /// `net`, `blk` or `console`.
    pub device: &'static str,
    /// `device_status` as the driver reads it.
    pub status: u8,
    /// Features that the driver accepted.
    pub negotiated: u64,
    /// Queues that run.
    pub running_queues: u16,
    /// Accesses that no field decodes, or that came out of order.
    pub refused_accesses: u64,
    /// Times that the driver was asked for a reset.
    pub needs_reset: u64,
    /// Queues that IO-Bond stopped.
    pub queue_errors: u64,
    /// The last of them since the driver last reset the function: index of the queue, and `queues[n].state.error`.
    pub last_queue_error: Option<(u16, String)>,
}
