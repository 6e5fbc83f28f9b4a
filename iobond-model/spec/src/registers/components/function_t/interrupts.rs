//! Register: Interrupts sent

#[allow(unused_imports)]
use super::_root; // alias to root module of generated code

/// Interrupts sent
#[repr(transparent)]
#[derive(Copy, Clone, Eq, PartialEq)]
pub struct Interrupts(u32);

unsafe impl Send for Interrupts {}
unsafe impl Sync for Interrupts {}

impl core::default::Default for Interrupts {
    fn default() -> Self {
        Self(0x0)
    }
}

impl peakrdl_rust::reg::Register for Interrupts {
    type Regwidth = u32;
    type Accesswidth = u32;
    type Access = peakrdl_rust::access::R;
    type ByteEndian = peakrdl_rust::endian::LittleEndian;
    type WordEndian = peakrdl_rust::endian::LittleEndian;

    unsafe fn from_raw(val: Self::Regwidth) -> Self {
        Self(val)
    }

    fn to_raw(self) -> Self::Regwidth {
        self.0
    }
}

impl Interrupts {
    pub const COUNT_OFFSET: usize = 0;
    pub const COUNT_WIDTH: usize = 32;
    pub const COUNT_MASK: u32 = 0xFFFF_FFFF;

    /// count
    ///
    /// MSI-X messages and INTx assertions; wraps.
    #[inline(always)]
    #[allow(clippy::missing_panics_doc)]
    #[must_use]
    pub fn count(&self) -> u32 {
        let val = (self.0 >> Self::COUNT_OFFSET) & Self::COUNT_MASK;
        val
    }
}

impl core::fmt::Debug for Interrupts {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Interrupts").field("count", &self.count()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_default() {
        let reg = Interrupts::default();
        assert_eq!(reg.count(), 0);
    }
}
