//! What a board lends to one of its functions while it does something with it.

use iobond_spec::{queue_context::QueueContext, registers::components::queue_error_e::QueueErrorE};

use super::{counters::Tallies, registers::Registers};
use crate::{poll::channel::ControlEnd, pool::Pool, port::Port};

/// The parts of a board that all of its functions use.
pub(super) struct Resources<'a, P> {
    pub(super) registers: &'a Registers<P>,
    pub(super) tallies: &'a mut Tallies,
    pub(super) pool: &'a Pool,
    pub(super) end: &'a ControlEnd,
    pub(super) tickets: &'a mut u32,
}

impl<P: Port> Resources<'_, P> {
    /// A number that no queue had lately.
    pub(super) fn next_ticket(&mut self) -> u32 {
        *self.tickets = self.tickets.wrapping_add(1);
        *self.tickets
    }

    /// Starts a queue in context `number`, whose counters begin at zero with it.
    ///
    /// # Errors
    /// The state's error field, if IO-Bond did not take it.
    pub(super) fn start_queue(&mut self, number: u8, context: &QueueContext) -> Result<(), QueueErrorE> {
        self.tallies.restart(number);
        self.registers.start_queue(number, context)
    }

    /// Stops the queue in context `number`, after a last look at its counters.
    pub(super) fn stop_queue(&mut self, number: u8) {
        self.tallies.fold(self.registers, number);
        self.registers.stop_queue(number);
    }
}
