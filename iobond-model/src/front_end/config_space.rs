//! Configuration space: an image that the base wrote, a mask of what the board may change, and the few bits
//! with a meaning for IO-Bond itself. Capabilities stand where [`iobond_spec::function`] says.

use iobond_spec::{
    ALL_ONES,
    function::{BAR_SIZE, CONFIG_SIZE, MSIX_CAP, PCIE_CAP},
};

const SIZE: usize = CONFIG_SIZE as usize;

/// Command register (PCIe 5.0, 7.5.1.1.3).
const COMMAND: u16 = 0x04;
const COMMAND_MEMORY: u8 = 1 << 1;
const COMMAND_BUS_MASTER: u8 = 1 << 2;
/// High byte of the command register: Interrupt Disable.
const COMMAND_INTX_DISABLE: u8 = 1 << 2;
/// Status register: Interrupt Status.
const STATUS: u16 = 0x06;
const STATUS_INTX: u8 = 1 << 3;
/// Base address registers 0 and 1 (PCIe 5.0, 7.5.1.2.1).
const BAR0: u16 = 0x10;
const BAR1: u16 = 0x14;
/// High byte of MSI-X message control (PCIe 5.0, 7.7.2.2).
const MSIX_CONTROL_HIGH: u16 = MSIX_CAP + 3;
const MSIX_ENABLE: u8 = 1 << 7;
const MSIX_FUNCTION_MASK: u8 = 1 << 6;
/// High byte of PCI Express device control; its top bit initiates an FLR (PCIe 5.0, 7.5.3.4).
const DEVICE_CONTROL_HIGH: u16 = PCIE_CAP + 9;
const INITIATE_FLR: u8 = 1 << 7;

/// What a configuration write set off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConfigEvent {
    /// The board initiated a function level reset.
    pub reset: bool,
    /// MSI-X was enabled or the function unmasked: pending messages may go.
    pub msix_opened: bool,
    /// INTx became asserted: an interrupt that was pending while it was disabled (PCIe 5.0, 7.5.1.1.3).
    pub intx_asserted: bool,
}

/// Configuration space of one function.
#[derive(Clone, Debug)]
pub struct ConfigSpace {
    image: [u8; SIZE],
    mask: [u8; SIZE],
    now: [u8; SIZE],
}

impl ConfigSpace {
    /// The space after reset: `image`, of which the board may change the bits that `mask` sets.
    pub fn new(image: [u8; SIZE], mask: [u8; SIZE]) -> Self {
        Self { image, mask, now: image }
    }

    /// Back to the image.
    pub fn reset(&mut self) {
        self.now = self.image;
    }

    /// Reads `width` bytes at `offset`; zero beyond the image, where a function without extended capabilities
    /// has none. All ones when width or alignment is not what a configuration request can have.
    pub fn read(&self, offset: u16, width: u8) -> u32 {
        if !well_formed(offset, width) {
            return ALL_ONES;
        }
        let byte = |at: u16| self.now.get(usize::from(at)).copied().unwrap_or(0);
        (0..u16::from(width)).rev().fold(0, |value, i| value << 8 | u32::from(byte(offset + i)))
    }

    /// Writes `width` bytes at `offset`, as far as the mask allows.
    pub fn write(&mut self, offset: u16, width: u8, value: u32) -> ConfigEvent {
        if !well_formed(offset, width) {
            return ConfigEvent::default();
        }
        let was_open = self.msix_open();
        let mut event = ConfigEvent::default();
        for (at, byte) in (offset..).zip(value.to_le_bytes()).take(usize::from(width)) {
            event.reset |= at == DEVICE_CONTROL_HIGH && byte & INITIATE_FLR != 0;
            self.write_byte(at, byte);
        }
        event.msix_opened = !was_open && self.msix_open();
        event
    }

    fn write_byte(&mut self, at: u16, byte: u8) {
        let at = usize::from(at);
        if let (Some(now), Some(mask)) = (self.now.get_mut(at), self.mask.get(at)) {
            *now = *now & !mask | byte & mask;
        }
    }

    fn byte(&self, at: u16) -> u8 {
        self.now[usize::from(at)]
    }

    fn word(&self, at: u16) -> u32 {
        let at = usize::from(at);
        u32::from_le_bytes([self.now[at], self.now[at + 1], self.now[at + 2], self.now[at + 3]])
    }

    /// Sets or clears Interrupt Status, which mirrors the ISR (PCIe 5.0, 7.5.1.1.4).
    pub fn set_intx_status(&mut self, asserted: bool) {
        let status = &mut self.now[usize::from(STATUS)];
        *status = if asserted { *status | STATUS_INTX } else { *status & !STATUS_INTX };
    }

    /// Memory Space Enable: the function decodes its BAR.
    pub fn memory_enable(&self) -> bool {
        self.byte(COMMAND) & COMMAND_MEMORY != 0
    }

    /// Bus Master Enable: the function may access memory and send MSI-X messages.
    pub fn bus_master(&self) -> bool {
        self.byte(COMMAND) & COMMAND_BUS_MASTER != 0
    }

    /// Whether INTx may be asserted: not disabled, and MSI-X not in its place.
    pub fn intx_allowed(&self) -> bool {
        self.byte(COMMAND + 1) & COMMAND_INTX_DISABLE == 0 && !self.msix_enable()
    }

    /// MSI-X Enable: interrupts are messages, and INTx is not used.
    pub fn msix_enable(&self) -> bool {
        self.byte(MSIX_CONTROL_HIGH) & MSIX_ENABLE != 0
    }

    /// Whether MSI-X messages may go: enabled, and the function not masked. They are memory writes, so Bus
    /// Master Enable counts too.
    pub fn msix_open(&self) -> bool {
        self.msix_enable() && self.byte(MSIX_CONTROL_HIGH) & MSIX_FUNCTION_MASK == 0 && self.bus_master()
    }

    /// Offset in the BAR of board address `address`, if the function decodes it.
    pub fn decode_bar(&self, address: u64) -> Option<u32> {
        let start = u64::from(self.word(BAR1)) << 32 | u64::from(self.word(BAR0) & !0xF);
        let offset = address.checked_sub(start)?;
        (self.memory_enable() && offset < u64::from(BAR_SIZE)).then_some(offset as u32)
    }
}

fn well_formed(offset: u16, width: u8) -> bool {
    matches!(width, 1 | 2 | 4) && offset.is_multiple_of(u16::from(width)) && offset < 4096
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn space() -> ConfigSpace {
        let (mut image, mut mask) = ([0; SIZE], [0; SIZE]);
        image[..4].copy_from_slice(&[0xF4, 0x1A, 0x41, 0x10]);
        image[0x10] = 0x04;
        mask[4] = 0x06;
        mask[0x11..0x18].copy_from_slice(&[0x80, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]);
        mask[usize::from(MSIX_CONTROL_HIGH)] = 0xC0;
        ConfigSpace::new(image, mask)
    }

    #[test]
    fn a_bar_sizes_and_decodes() {
        let mut space = space();
        space.write(BAR0, 4, ALL_ONES);
        space.write(BAR1, 4, ALL_ONES);
        assert_eq!((space.read(BAR0, 4), space.read(BAR1, 4)), (!(BAR_SIZE - 1) | 4, ALL_ONES));
        space.write(BAR0, 4, 0xE000_8000);
        space.write(BAR1, 4, 1);
        assert_eq!(space.decode_bar(0x1_E000_8010), None);
        space.write(COMMAND, 2, 6);
        assert_eq!(space.decode_bar(0x1_E000_8010), Some(0x10));
        assert_eq!(space.decode_bar(0x1_E000_7FFF), None);
        assert_eq!(space.decode_bar(0x1_E001_0000), None);
    }

    #[test]
    fn an_flr_is_noticed_in_every_width_and_never_reads_back() {
        for (offset, width, value) in
            [(PCIE_CAP + 8, 4, 0x8000), (PCIE_CAP + 8, 2, 0x8000), (PCIE_CAP + 9, 1, 0x80)]
        {
            let mut space = space();
            assert!(space.write(offset, width, value).reset);
            assert_eq!(space.read(PCIE_CAP + 8, 4), 0);
        }
    }

    #[test]
    fn unmasking_is_an_event_once() {
        let mut space = space();
        space.write(COMMAND, 2, 6);
        assert!(!space.write(MSIX_CAP + 2, 2, 0xC000).msix_opened);
        assert!(space.write(MSIX_CAP + 2, 2, 0x8000).msix_opened);
        assert!(!space.write(MSIX_CAP + 2, 2, 0x8000).msix_opened);
    }

    proptest! {
        #[test]
        fn only_masked_bits_ever_change(
            writes in prop::collection::vec((any::<u16>(), 0u8..9, any::<u32>()), 0..64)
        ) {
            let fresh = space();
            let mut space = space();
            for (offset, width, value) in writes {
                space.write(offset, width, value);
            }
            for at in 0..SIZE {
                prop_assert_eq!(space.now[at] & !space.mask[at], fresh.image[at] & !fresh.mask[at]);
            }
        }
    }
}
