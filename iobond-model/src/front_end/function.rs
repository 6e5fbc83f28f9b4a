//! One PCI function: its configuration space, MSI-X and ISR together.

use iobond_spec::function::NO_VECTOR;

use super::{ConfigEvent, ConfigSpace, Message, Msix};

/// ISR bit 0: a queue interrupt (virtio 1.3, 4.1.4.5).
const ISR_QUEUE: u8 = 1;
/// ISR bit 1: a configuration change.
const ISR_CONFIGURATION: u8 = 2;

/// What raising an interrupt comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Raised {
    /// Nothing: masked, no vector, or INTx was asserted already.
    Nothing,
    /// A message is to be sent to the board.
    Message(Message),
    /// INTx of the function has become asserted.
    Intx,
}

/// A function that the board finds.
#[derive(Clone, Debug)]
pub struct Function {
    /// Configuration space, as the board has changed it since reset.
    pub config: ConfigSpace,
    msix: Msix,
    isr: u8,
    intx: bool,
    interrupts: u32,
}

impl Function {
    /// The function after reset.
    pub fn new(config: ConfigSpace) -> Self {
        Self { config, msix: Msix::default(), isr: 0, intx: false, interrupts: 0 }
    }

    /// FLR or conventional reset: everything the board has set is gone (PCIe 5.0, 6.6.2).
    pub fn reset(&mut self) {
        self.config.reset();
        self.msix = Msix::default();
        self.isr = 0;
        self.intx = false;
    }

    /// MSI-X messages and INTx assertions so far; wraps.
    pub fn interrupts(&self) -> u32 {
        self.interrupts
    }

    /// Whether INTx is asserted.
    pub fn intx(&self) -> bool {
        self.intx
    }

    /// Writes configuration space; messages that were pending and may go now are added to `messages`.
    pub fn write_config(
        &mut self,
        offset: u16,
        width: u8,
        value: u32,
        messages: &mut Vec<Message>,
    ) -> ConfigEvent {
        let mut event = self.config.write(offset, width, value);
        if event.msix_opened {
            let before = messages.len();
            messages.extend(self.msix.open());
            self.count(messages.len() - before);
        }
        event.intx_asserted = self.update_intx();
        event
    }

    /// Raises an interrupt for `vector`, as MSI-X where it is enabled and as INTx otherwise. `configuration`
    /// marks a configuration change, which the ISR tells apart.
    pub fn raise(&mut self, vector: u16, configuration: bool) -> Raised {
        if self.config.msix_enable() {
            // With MSI-X the ISR is not used (virtio 1.3, 4.1.5.4), and NO_VECTOR is silence.
            let open = self.config.msix_open();
            let message = if vector == NO_VECTOR { None } else { self.msix.raise(vector, open) };
            self.count(usize::from(message.is_some()));
            return message.map_or(Raised::Nothing, Raised::Message);
        }
        self.isr |= if configuration { ISR_CONFIGURATION } else { ISR_QUEUE };
        if self.update_intx() { Raised::Intx } else { Raised::Nothing }
    }

    /// Reads and clears the ISR, which deasserts INTx (virtio 1.3, 4.1.4.5.1).
    pub fn read_isr(&mut self) -> u32 {
        let isr = std::mem::take(&mut self.isr);
        self.update_intx();
        u32::from(isr)
    }

    /// Reads the MSI-X table.
    pub fn read_msix_table(&self, offset: u32) -> u32 {
        self.msix.read_table(offset)
    }

    /// Reads the MSI-X pending bits.
    pub fn read_msix_pending(&self, offset: u32) -> u32 {
        self.msix.read_pending(offset)
    }

    /// Writes the MSI-X table; the message that this released.
    pub fn write_msix_table(&mut self, offset: u32, value: u32) -> Option<Message> {
        let message = self.msix.write_table(offset, value, self.config.msix_open());
        self.count(usize::from(message.is_some()));
        message
    }

    /// Lets INTx and its status bit follow the ISR; whether INTx became asserted.
    fn update_intx(&mut self) -> bool {
        let was = self.intx;
        self.config.set_intx_status(self.isr != 0);
        self.intx = self.isr != 0 && self.config.intx_allowed();
        let asserted = self.intx && !was;
        self.count(usize::from(asserted));
        asserted
    }

    fn count(&mut self, sent: usize) {
        self.interrupts = self.interrupts.wrapping_add(sent as u32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_msix_the_isr_tells_and_intx_follows() {
        let mut function = Function::new(ConfigSpace::new([0; 256], [0; 256]));
        assert_eq!(function.raise(5, false), Raised::Intx);
        assert_eq!(function.raise(5, true), Raised::Nothing);
        assert!(function.intx() && function.config.read(6, 2) & 8 != 0);
        assert_eq!(function.read_isr(), 3);
        assert_eq!(function.read_isr(), 0);
        assert!(!function.intx() && function.config.read(6, 2) & 8 == 0);
        assert_eq!(function.interrupts(), 1);
    }
}
