//! What the board reaches: configuration requests and memory requests.

use iobond_spec::{
    ALL_ONES,
    address::{BoardAddr, FunctionId},
    function::{BAR, PCI_ACCESS_BAR, PCI_ACCESS_CAP, PCI_ACCESS_DATA, PCI_ACCESS_LENGTH, PCI_ACCESS_OFFSET},
};

use super::{Device, Effect};
use crate::{
    front_end::{Target, decode},
    mailbox::{Access, Ticket},
};

/// Where the data window of the PCI access capability stands.
const ACCESS_DATA: u16 = PCI_ACCESS_CAP + PCI_ACCESS_DATA;

/// How a board access went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Complete; of a read, the value.
    Done(u32),
    /// Complete; the board rang the doorbell of a queue.
    Doorbell {
        /// Number of the queue context.
        queue: usize,
        /// The available index, where NOTIFICATION_DATA was negotiated.
        data: Option<u16>,
    },
    /// A read that the base answers: ask [`Device::collect`] until it does or the deadline passes.
    Waiting(Ticket),
    /// The mailbox is full: the link stalls, and the same access is to be tried again.
    Full,
}

impl Device {
    /// The board reads `width` bytes of configuration space; all ones where no function is.
    pub fn config_read(
        &mut self,
        now: u64,
        function: FunctionId,
        offset: u16,
        width: u8,
        effects: &mut Vec<Effect>,
    ) -> Outcome {
        let Some(present) = self.function(function) else { return Outcome::Done(ALL_ONES) };
        if offset == ACCESS_DATA
            && matches!(width, 1 | 2 | 4)
            && let Some((at, access_width)) = self.pci_access(function)
        {
            return self.bar_read(now, function, at, access_width, effects);
        }
        Outcome::Done(present.config.read(offset, width))
    }

    /// The board writes `width` bytes of configuration space.
    pub fn config_write(
        &mut self,
        now: u64,
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
            self.reset_function(now, function, effects);
        }
        if offset == ACCESS_DATA
            && matches!(width, 1 | 2 | 4)
            && let Some((at, access_width)) = self.pci_access(function)
        {
            return self.bar_write(now, function, at, access_width, value, effects);
        }
        Outcome::Done(0)
    }

    /// The board reads `width` bytes of memory space; all ones where no BAR answers.
    pub fn memory_read(
        &mut self,
        now: u64,
        address: BoardAddr,
        width: u8,
        effects: &mut Vec<Effect>,
    ) -> Outcome {
        match self.claim(address) {
            Some((function, offset)) => self.bar_read(now, function, offset, width, effects),
            None => self.unsupported(),
        }
    }

    /// The queue whose doorbell a memory write rings, and the available index that came with it: the one access that a driver
    /// makes for every batch. It needs neither the time nor anything done afterwards. `None` for every other write, which has
    /// then had no effect.
    pub fn doorbell(&mut self, address: BoardAddr, width: u8, value: u32) -> Option<(usize, Option<u16>)> {
        let (function, offset) = self.claim(address)?;
        self.bar_doorbell(function, offset, width, value)
    }

    /// As [`Device::doorbell`], of a write at `offset` in the BAR of `function`.
    pub fn bar_doorbell(
        &mut self,
        function: FunctionId,
        offset: u32,
        width: u8,
        value: u32,
    ) -> Option<(usize, Option<u16>)> {
        match decode(offset, width) {
            Target::Doorbell(index) => self.ring(function, index, width, value),
            _ => None,
        }
    }

    /// The board writes `width` bytes of memory space.
    pub fn memory_write(
        &mut self,
        now: u64,
        address: BoardAddr,
        width: u8,
        value: u32,
        effects: &mut Vec<Effect>,
    ) -> Outcome {
        match self.claim(address) {
            Some((function, offset)) => self.bar_write(now, function, offset, width, value, effects),
            None => self.unsupported(),
        }
    }

    /// What the read of `ticket` completed with; `None` while it waits. Each ticket is collected once.
    pub fn collect(&mut self, now: u64, ticket: Ticket, effects: &mut Vec<Effect>) -> Option<u32> {
        self.with_mailbox(effects, |mailbox| {
            mailbox.expire(now);
            mailbox.collect(ticket)
        })
    }

    /// The function whose BAR decodes `address`, and the offset in it.
    fn claim(&self, address: BoardAddr) -> Option<(FunctionId, u32)> {
        FunctionId::all()
            .find_map(|id| self.function(id)?.config.decode_bar(address.0).map(|offset| (id, offset)))
    }

    /// The BAR access that the PCI access capability describes (virtio 1.3, 4.1.4.9), if it describes one.
    fn pci_access(&self, function: FunctionId) -> Option<(u32, u8)> {
        let config = &self.function(function)?.config;
        let field = |at: u16, width: u8| config.read(PCI_ACCESS_CAP + at, width);
        let width = match field(PCI_ACCESS_LENGTH, 4) {
            1 => 1,
            2 => 2,
            4 => 4,
            _ => return None,
        };
        (field(PCI_ACCESS_BAR, 1) == u32::from(BAR)).then(|| (field(PCI_ACCESS_OFFSET, 4), width))
    }

    /// The board reads `width` bytes at `offset` in the BAR of `function`.
    pub fn bar_read(
        &mut self,
        now: u64,
        function: FunctionId,
        offset: u32,
        width: u8,
        effects: &mut Vec<Effect>,
    ) -> Outcome {
        let target = decode(offset, width);
        if target == Target::Forwarded {
            let access = Access { function, offset, width };
            let ticket = self.with_mailbox(effects, |mailbox| {
                mailbox.expire(now);
                mailbox.read(now, access)
            });
            return ticket.map_or(Outcome::Full, Outcome::Waiting);
        }
        let Some(present) = self.function_mut(function) else { return Outcome::Done(ALL_ONES) };
        match target {
            Target::Isr => Outcome::Done(present.read_isr()),
            Target::MsixTable(at) => Outcome::Done(present.read_msix_table(at)),
            Target::MsixPba(at) => Outcome::Done(present.read_msix_pending(at)),
            // Doorbells are write only; reading one is no error (virtio 1.3 does not say), and means nothing.
            Target::Doorbell(_) => Outcome::Done(0),
            Target::Nothing | Target::Forwarded => self.unsupported(),
        }
    }

    /// The board writes `width` bytes at `offset` in the BAR of `function`.
    pub fn bar_write(
        &mut self,
        now: u64,
        function: FunctionId,
        offset: u32,
        width: u8,
        value: u32,
        effects: &mut Vec<Effect>,
    ) -> Outcome {
        match decode(offset, width) {
            Target::Doorbell(index) => match self.ring(function, index, width, value) {
                Some((queue, data)) => Outcome::Doorbell { queue, data },
                None => Outcome::Done(0),
            },
            Target::Forwarded => {
                let access = Access { function, offset, width };
                let accepted = self.with_mailbox(effects, |mailbox| {
                    mailbox.expire(now);
                    mailbox.write(now, access, value)
                });
                if accepted { Outcome::Done(0) } else { Outcome::Full }
            }
            Target::MsixTable(at) => {
                let message =
                    self.function_mut(function).and_then(|present| present.write_msix_table(at, value));
                effects.extend(message.map(Effect::Message));
                Outcome::Done(0)
            }
            // Read only to the board; a write is dropped, as hardware does.
            Target::Isr | Target::MsixPba(_) => Outcome::Done(0),
            Target::Nothing => self.unsupported(),
        }
    }

    /// Virtqueue `index` of `function` has something available. A doorbell of a queue that is not enabled means nothing.
    fn ring(
        &mut self,
        function: FunctionId,
        index: u16,
        width: u8,
        value: u32,
    ) -> Option<(usize, Option<u16>)> {
        let known = self.doorbells[function.index()].get(usize::from(index)).copied().flatten();
        let queue = usize::from(known?);
        let carries_data = self.queues[queue].ring();
        Some((queue, (carries_data && width == 4).then_some((value >> 16) as u16)))
    }

    /// An unsupported request: a read completes with all ones, a write with nothing (PCIe 5.0, 2.3.1).
    fn unsupported(&mut self) -> Outcome {
        self.mishaps.unsupported_requests = self.mishaps.unsupported_requests.wrapping_add(1);
        Outcome::Done(ALL_ONES)
    }
}
