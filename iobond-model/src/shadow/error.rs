//! Why a queue stopped.

use iobond_spec::registers::components::queue_error_e::QueueErrorE;

use crate::fabric::Fault;

/// Something that a well-behaved guest, base or back end never does. It stops the queue that met it and
/// nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are those of the message")]
pub enum QueueError {
    /// The context written by the base is impossible.
    #[error("the queue context is impossible: {0}")]
    BadContext(&'static str),
    /// The available index moved further than the ring is long.
    #[error("available index {avail} is more than {size} ahead of {next}")]
    AvailJump { avail: u16, next: u16, size: u16 },
    /// NOTIFICATION_DATA named an index further ahead, or further behind, than the ring is long.
    #[error("doorbell names available index {avail}, more than {size} away from {next}")]
    BadDoorbell { avail: u16, next: u16, size: u16 },
    /// An available entry names a descriptor outside of the table.
    #[error("available entry names descriptor {head} of {size}")]
    BadHead { head: u16, size: u16 },
    /// A `next` lies outside of the table.
    #[error("descriptor chain continues at {next} of {size}")]
    BadNext { next: u16, size: u32 },
    /// A chain is longer than can be: a loop, or more than slots and shadow table hold.
    #[error("descriptor chain at {head} has more than {limit} parts")]
    ChainTooLong { head: u16, limit: u32 },
    /// A descriptor or an indirect table of no bytes.
    #[error("descriptor chain at {head} has a buffer of no bytes")]
    ZeroLength { head: u16 },
    /// An indirect table that may not be.
    #[error("descriptor chain at {head} has an indirect table of {len} bytes with flags {flags:#x}")]
    BadIndirect { head: u16, len: u32, flags: u16 },
    /// A device-readable buffer after a device-writable one (virtio 1.3, 2.7.4.2).
    #[error("descriptor chain at {head} has a readable buffer after a writable one")]
    BadOrder { head: u16 },
    /// The back end used something that is not in flight, or TAIL jumped.
    #[error("back end used chain {id} of {size}, which is not in flight")]
    BadUsed { id: u32, size: u16 },
    /// TAIL moved further than the shadow vring is long.
    #[error("TAIL {tail} is more than {size} ahead of {next}")]
    TailJump { tail: u16, next: u16, size: u16 },
    /// The back end claims more bytes than it was given to write.
    #[error("back end says it wrote {len} bytes into chain {id}, which has {writable} writable bytes")]
    BadUsedLength { id: u32, len: u32, writable: u64 },
    /// An access went nowhere.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl QueueError {
    /// The value of `queues[n].state.error`.
    pub fn code(&self) -> QueueErrorE {
        match self {
            Self::BadContext(_) => QueueErrorE::BadContext,
            Self::AvailJump { .. } => QueueErrorE::AvailJump,
            Self::BadDoorbell { .. } => QueueErrorE::BadDoorbell,
            Self::BadHead { .. } => QueueErrorE::BadHead,
            Self::BadNext { .. } => QueueErrorE::BadNext,
            Self::ChainTooLong { .. } => QueueErrorE::ChainTooLong,
            Self::ZeroLength { .. } => QueueErrorE::ZeroLength,
            Self::BadIndirect { .. } => QueueErrorE::BadIndirect,
            Self::BadOrder { .. } => QueueErrorE::BadOrder,
            Self::BadUsed { .. } | Self::TailJump { .. } => QueueErrorE::BadUsed,
            Self::BadUsedLength { .. } => QueueErrorE::BadUsedLength,
            Self::Fault(Fault::Board { .. }) => QueueErrorE::BoardFault,
            Self::Fault(Fault::Base { .. }) => QueueErrorE::BaseFault,
        }
    }

    /// Whether the cause is an access that went nowhere.
    pub fn is_fault(&self) -> bool {
        matches!(self, Self::Fault(_))
    }
}
