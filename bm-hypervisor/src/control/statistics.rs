//! What a board's hypervisor counts.

use std::time::Instant;

use iobond_spec::registers::components::queue_error_e::QueueErrorE;
use serde::{Deserialize, Serialize};

use crate::{lifecycle::BoardState, poll::channel::PollStatistics, pool::PoolUsage};

/// What a board's hypervisor counted since its start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// The board's name, as in its configuration.
    pub board: String,
    /// The state that its lifecycle has reached.
    pub state: BoardState,
    /// Accesses that IO-Bond forwarded, and what became of them.
    pub mailbox: MailboxStatistics,
    /// What its poll passes did.
    pub poll: PollStatistics,
    /// Base memory that the board takes.
    pub memory: PoolUsage,
    /// Its functions in order of their numbers, which have gaps where functions were removed.
    pub functions: Vec<FunctionStatistics>,
}

/// Forwarded accesses, by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct MailboxStatistics {
    /// Reads, each of which the board waited for.
    pub reads: u64,
    /// Posted writes, for which it did not wait.
    pub writes: u64,
    /// Resets of a function, by its driver or by its bus.
    pub resets: u64,
    /// Accesses that IO-Bond ended at their deadline: reads, with all ones, and posted writes, which were
    /// dropped. Looked at every second. One that was handled too late is among the others, too.
    pub expired: u64,
    /// Requests that named a function which the board does not have.
    pub misdirected: u64,
}

/// Whether a function has its back end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackEndState {
    /// It is connected.
    #[default]
    Connected,
    /// It is lost, and searched for.
    Away {
        /// When it was lost.
        since: Instant,
    },
    /// It is lost for good.
    Lost,
}

/// What was counted of a function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FunctionStatistics {
    /// Its number, below 8.
    pub index: u8,
    /// `net`, `blk` or `console`.
    pub device: &'static str,
    /// `device_status` as the driver reads it.
    pub status: u8,
    /// Features that the driver accepted.
    pub negotiated: u64,
    /// How many of its queues run.
    pub running_queues: u16,
    /// Accesses that no field decodes, or that came out of order.
    pub refused_accesses: u64,
    /// Whether it has its back end.
    pub back_end: BackEndState,
    /// Times that its back end was lost and came back.
    pub reconnects: u64,
    /// Times that the driver was asked for a reset.
    pub needs_reset: u64,
    /// Queues that IO-Bond stopped.
    pub queue_errors: u64,
    /// The last of them since the driver last reset the function: index of the queue, and
    /// `queues[n].state.error`.
    pub last_queue_error: Option<(u16, String)>,
}

/// One virtqueue of a function, as IO-Bond's registers have it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct QueueStatistics {
    /// Number of its queue context.
    pub context: u8,
    /// Number of its function.
    pub function: u8,
    /// Its index among the function's virtqueues.
    pub index: u16,
    /// What IO-Bond does with it.
    pub state: QueueState,
    /// Why IO-Bond stopped it (`queues[n].state.error`), if it did.
    pub error: Option<String>,
    /// Descriptors of the guest ring; 0 if the queue is disabled, as are the two indices.
    pub guest_size: u16,
    /// Descriptors of the shadow vring.
    pub shadow_size: u16,
    /// Shadow available index: how far IO-Bond has published.
    pub head: u16,
    /// Shadow used index: how far the base says that used buffers may be returned.
    pub tail: u16,
    /// What IO-Bond counted of it.
    pub counted: QueueCounters,
}

/// What IO-Bond does with a queue (`queues[n].state.state`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum QueueState {
    /// Nothing: its driver has not enabled it.
    Disabled,
    /// Forwards and returns buffers.
    Running,
    /// Stopped it, and tells why.
    Error,
}

/// What IO-Bond counted of a queue since its function is there, in 64 bits. Its own registers have 32, and
/// begin anew whenever the queue is enabled; they are looked at every second, and before bm-hypervisor stops
/// a queue. What a function level reset cuts off, or the end of a guest, is lost as far as it came after the
/// last look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct QueueCounters {
    /// Chains published into the shadow vring.
    pub forwarded: u64,
    /// Chains returned to the guest.
    pub retired: u64,
    /// Bytes of payload copied from board to base.
    pub bytes_up: u64,
    /// Bytes of payload copied from base to board.
    pub bytes_down: u64,
    /// Times that fetching stopped for want of slots or shadow descriptors.
    pub stalls: u64,
    /// Notifications from the board.
    pub doorbells: u64,
    /// Interrupts for used buffers.
    pub interrupts: u64,
}

/// What messages, the API and `bmctl` call an error of a queue. Scripts match on these names, so that they do
/// not follow those of the generated type.
pub(super) const fn error_name(error: QueueErrorE) -> &'static str {
    match error {
        QueueErrorE::None => "None",
        QueueErrorE::BadContext => "BadContext",
        QueueErrorE::AvailJump => "AvailJump",
        QueueErrorE::BadHead => "BadHead",
        QueueErrorE::BadNext => "BadNext",
        QueueErrorE::ChainTooLong => "ChainTooLong",
        QueueErrorE::ZeroLength => "ZeroLength",
        QueueErrorE::BadIndirect => "BadIndirect",
        QueueErrorE::BadOrder => "BadOrder",
        QueueErrorE::BoardFault => "BoardFault",
        QueueErrorE::BaseFault => "BaseFault",
        QueueErrorE::BadUsed => "BadUsed",
        QueueErrorE::BadUsedLength => "BadUsedLength",
        QueueErrorE::BadDoorbell => "BadDoorbell",
    }
}
