//! MSI-X: the table, the pending bits, and the rule for when a message is sent (PCIe 5.0, 6.1.4 and 7.7.2).

use iobond_spec::{
    ALL_ONES,
    function::{MSIX_ENTRY_SIZE, MSIX_VECTORS},
};

/// A message-signalled interrupt: a write of `data` to `address`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where the board's interrupt controller listens.
    pub address: u64,
    /// What it is told.
    pub data: u32,
}

/// Words of a table entry: address low and high, data, vector control.
const WORDS: usize = MSIX_ENTRY_SIZE as usize / 4;
/// Vector control bit 0: the vector is masked, as all are after reset.
const MASKED: u32 = 1;

/// Table and pending bits of one function.
#[derive(Clone, Debug)]
pub struct Msix {
    table: [[u32; WORDS]; MSIX_VECTORS as usize],
    pending: u64,
}

impl Default for Msix {
    fn default() -> Self {
        Self { table: [[0, 0, 0, MASKED]; MSIX_VECTORS as usize], pending: 0 }
    }
}

impl Msix {
    /// Reads the table's word at byte `offset`.
    pub fn read_table(&self, offset: u32) -> u32 {
        self.word(offset).map_or(ALL_ONES, |(vector, word)| self.table[vector][word])
    }

    /// Writes the table's word at byte `offset`; of vector control only the mask bit. Unmasking may release a
    /// message that is pending; `open` says that MSI-X is enabled and the function not masked.
    pub fn write_table(&mut self, offset: u32, value: u32, open: bool) -> Option<Message> {
        let (vector, word) = self.word(offset)?;
        self.table[vector][word] = if word == 3 { value & MASKED } else { value };
        if open { self.release(vector) } else { None }
    }

    /// Reads the pending bits' word at byte `offset`.
    pub fn read_pending(&self, offset: u32) -> u32 {
        (self.pending >> (8 * (offset & 4))) as u32
    }

    /// Raises `vector`: the message to send now, or none when it is masked and stays pending, or when there
    /// is no such vector.
    pub fn raise(&mut self, vector: u16, open: bool) -> Option<Message> {
        let vector = usize::from(vector);
        if vector >= self.table.len() {
            return None;
        }
        self.pending |= 1 << vector;
        if open { self.release(vector) } else { None }
    }

    /// Messages that wait no longer, now that MSI-X was enabled or the function unmasked.
    pub fn open(&mut self) -> impl Iterator<Item = Message> {
        (0..self.table.len()).filter_map(|vector| self.release(vector))
    }

    fn release(&mut self, vector: usize) -> Option<Message> {
        let [low, high, data, control] = self.table[vector];
        if self.pending & (1 << vector) == 0 || control & MASKED != 0 {
            return None;
        }
        self.pending &= !(1 << vector);
        Some(Message { address: u64::from(high) << 32 | u64::from(low), data })
    }

    fn word(&self, offset: u32) -> Option<(usize, usize)> {
        let word = offset as usize / 4;
        (word / WORDS < self.table.len()).then_some((word / WORDS, word % WORDS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(msix: &mut Msix, vector: u32, address: u64, data: u32) {
        let entry = vector * MSIX_ENTRY_SIZE;
        for (word, value) in [address as u32, (address >> 32) as u32, data, 0].into_iter().enumerate() {
            msix.write_table(entry + 4 * word as u32, value, true);
        }
    }

    #[test]
    fn a_masked_vector_is_pending_until_it_is_unmasked() {
        let mut msix = Msix::default();
        program(&mut msix, 3, 0xfee0_0000, 0x41);
        let message = Message { address: 0xfee0_0000, data: 0x41 };
        assert_eq!(msix.raise(3, true), Some(message));
        msix.write_table(3 * MSIX_ENTRY_SIZE + 12, MASKED, true);
        assert_eq!(msix.raise(3, true), None);
        assert_eq!(msix.read_pending(0), 1 << 3);
        assert_eq!(msix.write_table(3 * MSIX_ENTRY_SIZE + 12, 0, true), Some(message));
        assert_eq!(msix.read_pending(0), 0);
    }

    #[test]
    fn a_closed_function_keeps_its_interrupts_pending() {
        let mut msix = Msix::default();
        program(&mut msix, 63, 0x1_0000_0000, 7);
        assert_eq!(msix.raise(63, false), None);
        assert_eq!(msix.read_pending(4), 1 << 31);
        assert_eq!(msix.open().collect::<Vec<_>>(), [Message { address: 0x1_0000_0000, data: 7 }]);
        assert_eq!(msix.open().count(), 0);
    }

    #[test]
    fn there_is_no_vector_beyond_the_table() {
        let mut msix = Msix::default();
        assert_eq!(msix.raise(64, true), None);
        assert_eq!(msix.raise(u16::MAX, true), None);
        assert_eq!(msix.read_table(u32::from(MSIX_VECTORS) * MSIX_ENTRY_SIZE), ALL_ONES);
    }
}
