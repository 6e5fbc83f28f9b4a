//! The board's accesses to a [`Bond`]: each is taken to its end, which the mailbox's deadline bounds.

use iobond_spec::address::{BoardAddr, FunctionId};

use super::{Bond, bond::lock};
use crate::{
    device::{Device, Effect, Outcome},
    mailbox::Ticket,
};

impl Bond {
    /// The board reads configuration space. `relax` is called while the base owes an answer.
    pub fn config_read(&self, function: FunctionId, offset: u16, width: u8, relax: &mut dyn FnMut()) -> u32 {
        self.access(relax, |device, now, effects| device.config_read(now, function, offset, width, effects))
    }

    /// The board writes configuration space. `relax` is called while the mailbox is full.
    pub fn config_write(
        &self,
        function: FunctionId,
        offset: u16,
        width: u8,
        value: u32,
        relax: &mut dyn FnMut(),
    ) {
        self.access(relax, |device, now, effects| {
            device.config_write(now, function, offset, width, value, effects)
        });
    }

    /// The board reads memory space. `relax` is called while the base owes an answer, at most until the deadline.
    pub fn memory_read(&self, address: BoardAddr, width: u8, relax: &mut dyn FnMut()) -> u32 {
        self.access(relax, |device, now, effects| device.memory_read(now, address, width, effects))
    }

    /// The board writes memory space. `relax` is called while the mailbox is full.
    pub fn memory_write(&self, address: BoardAddr, width: u8, value: u32, relax: &mut dyn FnMut()) {
        let mut device = lock(&self.device);
        if let Some((queue, data)) = device.doorbell(address, width, value) {
            return self.ring(&device, queue, data);
        }
        drop(device);
        self.access(relax, |device, now, effects| device.memory_write(now, address, width, value, effects));
    }

    /// The board reads at `offset` in the BAR of `function`, for a host of boards that decodes addresses itself.
    pub fn bar_read(&self, function: FunctionId, offset: u32, width: u8, relax: &mut dyn FnMut()) -> u32 {
        self.access(relax, |device, now, effects| device.bar_read(now, function, offset, width, effects))
    }

    /// The board writes at `offset` in the BAR of `function`, for a host of boards that decodes addresses itself.
    pub fn bar_write(
        &self,
        function: FunctionId,
        offset: u32,
        width: u8,
        value: u32,
        relax: &mut dyn FnMut(),
    ) {
        let mut device = lock(&self.device);
        if let Some((queue, data)) = device.bar_doorbell(function, offset, width, value) {
            return self.ring(&device, queue, data);
        }
        drop(device);
        self.access(relax, |device, now, effects| {
            device.bar_write(now, function, offset, width, value, effects)
        });
    }

    /// The board resets `function` from outside of it: a conventional reset (PCIe 5.0, 6.6.1).
    pub fn reset(&self, function: FunctionId) {
        self.with_device(|device, now, effects| device.reset_function(now, function, effects));
    }

    /// Whether INTx of `function` is asserted.
    pub fn intx_asserted(&self, function: FunctionId) -> bool {
        lock(&self.device).intx(function)
    }

    /// Takes a board access to its end. The mailbox gives every access a deadline, so this ends.
    fn access(
        &self,
        relax: &mut dyn FnMut(),
        mut attempt: impl FnMut(&mut Device, u64, &mut Vec<Effect>) -> Outcome,
    ) -> u32 {
        loop {
            let outcome = self.with_device(|device, now, effects| {
                let outcome = attempt(device, now, effects);
                if let Outcome::Doorbell { queue, data } = outcome {
                    self.ring(device, queue, data);
                }
                outcome
            });
            match outcome {
                Outcome::Done(value) => return value,
                Outcome::Doorbell { .. } => return 0,
                Outcome::Waiting(ticket) => return self.await_answer(ticket, relax),
                Outcome::Full => relax(),
            }
        }
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
