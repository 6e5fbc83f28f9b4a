//! What surrounds a simulated IO-Bond.

use iobond_spec::address::{BaseAddr, BoardAddr, FunctionId};

use super::Time;
use crate::{front_end::Message, shadow::QueueError};

/// Callbacks of the board and base around a simulated IO-Bond, each made at the moment of the arrival. What
/// is done about it is done by tasks that this wakes.
pub trait Environment {
    /// An index of a shadow vring, a HEAD, or the mailbox changed in base memory.
    fn base_written(&self, at: BaseAddr);
    /// An index of a guest ring changed in board memory.
    fn board_written(&self, at: BoardAddr) {
        let _ = at;
    }
    /// An MSI-X message arrives at the board.
    fn message(&self, message: Message);
    /// INTx of a function is asserted.
    fn intx(&self, function: FunctionId) {
        let _ = function;
    }
    /// Something happened inside the IO-Bond; for measurements.
    fn observe(&self, event: Event) {
        let _ = event;
    }
}

/// What an IO-Bond does; `queue` is the number of a queue context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are those of the queue context")]
pub enum Event {
    /// A notification arrived at a doorbell.
    Doorbell { queue: usize },
    /// TAIL arrived, with this value.
    Tail { queue: usize, index: u16 },
    /// An engine forwarded `chains`, from this time on; HEAD is on its way.
    Forwarded { queue: usize, from: Time, chains: u16, head: u16 },
    /// An engine returned `chains`, from this time on; the guest's used index is on its way.
    Returned { queue: usize, from: Time, chains: u16 },
    /// A queue was stopped for an error.
    Failed { queue: usize, error: QueueError },
}
