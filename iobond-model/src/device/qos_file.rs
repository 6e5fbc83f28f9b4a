//! The registers of one function's limits.

use iobond_spec::{
    offsets::qos as offset,
    register_access::{decode, encode},
    registers::components::qos_t::control::Control,
};

use crate::qos::{Limit, Limits};

/// Registers of one function's limits, as 32-bit words.
const REGISTER_WORDS: usize = (offset::STRIDE / 4) as usize;

/// What the base wrote of one function's limits.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct QosFile {
    words: [u32; REGISTER_WORDS],
    delays: u32,
}

impl QosFile {
    /// What the function is held to, if to anything.
    pub(super) fn limits(&self) -> Option<Limits> {
        let pair = |low: u32, high: u32| u64::from(self.word(high)) << 32 | u64::from(self.word(low));
        let burst = |at: u32| u64::from(self.word(at));
        self.enabled().then(|| Limits {
            operations: Limit {
                rate: pair(offset::OPERATIONS_LO, offset::OPERATIONS_HI),
                burst: burst(offset::OPERATIONS_BURST),
            },
            bytes: Limit {
                rate: pair(offset::BYTES_LO, offset::BYTES_HI),
                burst: burst(offset::BYTES_BURST),
            },
        })
    }

    /// A queue had to wait.
    pub(super) fn delay(&mut self) {
        self.delays = self.delays.wrapping_add(1);
    }

    pub(super) fn read(&self, at: u32) -> u32 {
        if at == offset::DELAYS { self.delays } else { self.word(at) }
    }

    /// Whether the write was accepted; rates and bursts can be written only while there are no limits.
    pub(super) fn write(&mut self, at: u32, value: u32) -> bool {
        let stored = match at {
            offset::CONTROL => encode(decode::<Control>(value & Control::ENABLE_MASK)),
            offset::DELAYS => return false,
            _ if self.enabled() => return false,
            _ => value,
        };
        self.words[(at / 4) as usize] = stored;
        true
    }

    fn enabled(&self) -> bool {
        decode::<Control>(self.word(offset::CONTROL)).enable()
    }

    fn word(&self, at: u32) -> u32 {
        self.words[(at / 4) as usize]
    }
}
