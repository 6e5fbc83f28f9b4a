//! What the board reaches: configuration requests and memory requests.

use iobond_spec::{
    ALL_ONES,
    address::{BoardAddr, FunctionId},
    function::{BAR, PCI_ACCESS_BAR, PCI_ACCESS_CAP, PCI_ACCESS_DATA, PCI_ACCESS_LENGTH, PCI_ACCESS_OFFSET},
};

use super::{Access, Device, Effect, Outcome};
use crate::{
    front_end::{Target, decode},
    mailbox::{BarAccess, Ticket},
};

/// Offset in configuration space of the data window of the PCI access capability.
const ACCESS_DATA: u16 = PCI_ACCESS_CAP + PCI_ACCESS_DATA;

impl Device {
    /// The board makes `access`. A read that no function or BAR answers completes with all ones (PCIe 5.0,
    /// 2.3.1).
    ///
    /// `now` is asked only where a deadline begins: a notification, which a driver sends for every batch,
    /// needs no clock.
    pub fn access(&mut self, now: impl Fn() -> u64, access: Access, effects: &mut Vec<Effect>) -> Outcome {
        match access {
            Access::ConfigRead { function, offset, width } => {
                self.config_read(now, function, offset, width, effects)
            }
            Access::ConfigWrite { function, offset, width, value } => {
                self.config_write(now, function, offset, width, value, effects)
            }
            Access::BarRead { function, offset, width } => {
                self.bar_read(now, BarAccess { function, offset, width }, effects)
            }
            Access::BarWrite { function, offset, width, value } => {
                self.bar_write(now, BarAccess { function, offset, width }, value, effects)
            }
            Access::MemoryRead { address, width } => match self.claim(address, width) {
                Some(access) => self.bar_read(now, access, effects),
                None => self.unsupported(),
            },
            Access::MemoryWrite { address, width, value } => match self.claim(address, width) {
                Some(access) => self.bar_write(now, access, value, effects),
                None => self.unsupported(),
            },
        }
    }

    fn config_read(
        &mut self,
        now: impl Fn() -> u64,
        function: FunctionId,
        offset: u16,
        width: u8,
        effects: &mut Vec<Effect>,
    ) -> Outcome {
        if let Some(access) = self.pci_access(function, offset, width) {
            return self.bar_read(now, access, effects);
        }
        let present = self.function(function);
        Outcome::Done(present.map_or(ALL_ONES, |present| present.config.read(offset, width)))
    }

    fn config_write(
        &mut self,
        now: impl Fn() -> u64,
        function: FunctionId,
        offset: u16,
        width: u8,
        value: u32,
        effects: &mut Vec<Effect>,
    ) -> Outcome {
        let Some(present) = self.function_mut(function) else { return Outcome::Done(0) };
        let mut messages = Vec::new();
        let event = present.write_config(offset, width, value, &mut messages);
        effects.extend(messages.into_iter().map(Effect::Message));
        if event.intx_asserted {
            effects.push(Effect::Intx(function));
        }
        if event.reset {
            self.reset_function(now(), function, effects);
        }
        match self.pci_access(function, offset, width) {
            Some(access) => self.bar_write(now, access, value, effects),
            None => Outcome::Done(0),
        }
    }

    /// What the read of `ticket` completed with; `None` while it waits. Each ticket is collected once.
    pub fn collect(&mut self, now: u64, ticket: Ticket, effects: &mut Vec<Effect>) -> Option<u32> {
        self.with_mailbox(effects, |mailbox| {
            mailbox.expire(now);
            mailbox.collect(ticket)
        })
    }

    /// The access in the BAR that decodes `address`, if one does.
    fn claim(&self, address: BoardAddr, width: u8) -> Option<BarAccess> {
        FunctionId::all().find_map(|function| {
            let offset = self.function(function)?.config.decode_bar(address.0)?;
            Some(BarAccess { function, offset, width })
        })
    }

    /// The BAR access that the PCI access capability describes (virtio 1.3, 4.1.4.9), if `width` bytes at
    /// `offset` of configuration space are its data window and it describes one.
    fn pci_access(&self, function: FunctionId, offset: u16, width: u8) -> Option<BarAccess> {
        if offset != ACCESS_DATA || !matches!(width, 1 | 2 | 4) {
            return None;
        }
        let config = &self.function(function)?.config;
        let field = |at: u16, width: u8| config.read(PCI_ACCESS_CAP + at, width);
        let width = match field(PCI_ACCESS_LENGTH, 4) {
            1 => 1,
            2 => 2,
            4 => 4,
            _ => return None,
        };
        let offset = field(PCI_ACCESS_OFFSET, 4);
        (field(PCI_ACCESS_BAR, 1) == u32::from(BAR)).then_some(BarAccess { function, offset, width })
    }

    fn bar_read(&mut self, now: impl Fn() -> u64, access: BarAccess, effects: &mut Vec<Effect>) -> Outcome {
        let target = decode(access.offset, access.width);
        if target == Target::Forwarded {
            let now = now();
            let ticket = self.with_mailbox(effects, |mailbox| {
                mailbox.expire(now);
                mailbox.read(now, access)
            });
            return ticket.map_or(Outcome::Full, Outcome::Waiting);
        }
        let Some(present) = self.function_mut(access.function) else { return Outcome::Done(ALL_ONES) };
        match target {
            Target::Isr => Outcome::Done(present.read_isr()),
            Target::MsixTable(at) => Outcome::Done(present.read_msix_table(at)),
            Target::MsixPba(at) => Outcome::Done(present.read_msix_pending(at)),
            // Doorbells are write only; reading one is not an error (virtio 1.3 does not say), and means
            // nothing.
            Target::Doorbell(_) => Outcome::Done(0),
            Target::Nothing | Target::Forwarded => self.unsupported(),
        }
    }

    fn bar_write(
        &mut self,
        now: impl Fn() -> u64,
        access: BarAccess,
        value: u32,
        effects: &mut Vec<Effect>,
    ) -> Outcome {
        match decode(access.offset, access.width) {
            Target::Doorbell(index) => self.notify(access, index, value),
            Target::Forwarded => {
                let now = now();
                let accepted = self.with_mailbox(effects, |mailbox| {
                    mailbox.expire(now);
                    mailbox.write(now, access, value)
                });
                if accepted { Outcome::Done(0) } else { Outcome::Full }
            }
            Target::MsixTable(at) => {
                let present = self.function_mut(access.function);
                let message = present.and_then(|present| present.write_msix_table(at, value));
                effects.extend(message.map(Effect::Message));
                Outcome::Done(0)
            }
            // Read only to the board; a write is dropped, as hardware does.
            Target::Isr | Target::MsixPba(_) => Outcome::Done(0),
            Target::Nothing => self.unsupported(),
        }
    }

    /// The driver notifies virtqueue `index` (virtio 1.3, 4.1.5.2). Without an enabled queue the write means
    /// nothing.
    fn notify(&mut self, access: BarAccess, index: u16, value: u32) -> Outcome {
        let Some(queue) = self.find_notified_queue(access.function, index) else { return Outcome::Done(0) };
        let carries_data = self.queues[queue].count_notification() && access.width == 4;
        Outcome::Doorbell { queue, data: carries_data.then_some((value >> 16) as u16) }
    }

    /// The queue context that is enabled for virtqueue `index` of `function`.
    fn find_notified_queue(&self, function: FunctionId, index: u16) -> Option<usize> {
        let queue = *self.doorbells[function.index()].get(usize::from(index))?;
        queue.map(usize::from)
    }

    /// An unsupported request: a read completes with all ones, a write with nothing (PCIe 5.0, 2.3.1).
    fn unsupported(&mut self) -> Outcome {
        let count = &mut self.error_counters.unsupported_requests;
        *count = count.wrapping_add(1);
        Outcome::Done(ALL_ONES)
    }
}
