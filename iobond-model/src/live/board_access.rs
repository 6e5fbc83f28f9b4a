//! The board's accesses to a [`Bond`]: each is taken to its end, which the mailbox's deadline bounds.

use iobond_spec::address::FunctionId;

use super::{Bond, bond::lock};
use crate::{
    device::{Access, Outcome},
    mailbox::Ticket,
};

impl Bond {
    /// The board makes an access; of a read, its value. `relax` is called while the base owes an answer, or
    /// the mailbox is full.
    pub fn access(&self, access: Access, relax: &mut dyn FnMut()) -> u32 {
        loop {
            match self.attempt(access) {
                Outcome::Done(value) => return value,
                Outcome::Doorbell { .. } => return 0,
                Outcome::Waiting(ticket) => return self.await_answer(ticket, relax),
                Outcome::Full => relax(),
            }
        }
    }

    fn attempt(&self, access: Access) -> Outcome {
        let mut effects = Vec::new();
        let mut device = lock(&self.device);
        let outcome = device.access(|| self.now(), access, &mut effects);
        if let Outcome::Doorbell { queue, data } = outcome {
            // Under the lock: until it is released, the queue is still the one that was notified.
            self.notify_queue(&device, queue, data);
            // Drivers send one per batch, and it changes nothing that `settle` would have to look at.
            if effects.is_empty() {
                return outcome;
            }
        }
        self.settle(&device, effects);
        outcome
    }

    /// The board resets `function` from outside of it: a conventional reset (PCIe 5.0, 6.6.1).
    pub fn reset(&self, function: FunctionId) {
        self.with_device(|device, now, effects| device.reset_function(now, function, effects));
    }

    /// Whether INTx of `function` is asserted.
    pub fn intx_asserted(&self, function: FunctionId) -> bool {
        lock(&self.device).intx(function)
    }

    fn await_answer(&self, ticket: Ticket, relax: &mut dyn FnMut()) -> u32 {
        loop {
            relax();
            if let Some(value) = self.with_device(|device, now, effects| device.collect(now, ticket, effects))
            {
                return value;
            }
        }
    }
}
