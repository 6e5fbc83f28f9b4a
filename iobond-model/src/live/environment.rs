//! What surrounds a live IO-Bond.

use iobond_spec::address::FunctionId;

use crate::front_end::Message;

/// Callbacks of the board and base around an IO-Bond. All are made with locks held: none may wait, or call
/// back into it.
///
/// The defaults are those of a board whose drivers poll, and a base that polls and never sleeps.
pub trait Environment: Send + Sync {
    /// An MSI-X message arrives at the board's interrupt controller.
    fn message(&self, message: Message) {
        let _ = message;
    }

    /// INTx of a function was asserted.
    fn intx(&self, function: FunctionId) {
        let _ = function;
    }

    /// There is something to do for [`Bond::pass`](super::Bond::pass), or in the status page. Called often,
    /// also while the poll thread is awake.
    fn wake_poller(&self) {}

    /// Whether the base has an interrupt. Asked once, by [`Bond::new`](super::Bond::new): without one, a pass
    /// need not order what it wrote before it looks whether the base sleeps.
    fn has_base_interrupt(&self) -> bool {
        false
    }

    /// Something changed that the base polls, and it had asked to be interrupted (`board.wake`).
    fn interrupt_base(&self) {}

    /// A pass published chains of queue context `queue` in its shadow vring; once per batch, for
    /// measurements.
    fn published(&self, queue: usize) {
        let _ = queue;
    }

    /// A pass returned chains of queue context `queue` to the guest; once per batch, for measurements.
    fn returned(&self, queue: usize) {
        let _ = queue;
    }
}

/// A board and a base that poll.
impl Environment for () {}
