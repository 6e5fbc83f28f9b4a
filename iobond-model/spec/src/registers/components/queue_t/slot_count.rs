//! Register: Slot count

#[allow(unused_imports)]
use super::_root; // alias to root module of generated code

/// Slot count
#[repr(transparent)]
#[derive(Copy, Clone, Eq, PartialEq)]
pub struct SlotCount(u32);

unsafe impl Send for SlotCount {}
unsafe impl Sync for SlotCount {}

impl core::default::Default for SlotCount {
    fn default() -> Self {
        Self(0x0)
    }
}

impl peakrdl_rust::reg::Register for SlotCount {
    type Regwidth = u32;
    type Accesswidth = u32;
    type Access = peakrdl_rust::access::RW;
    type ByteEndian = peakrdl_rust::endian::LittleEndian;
    type WordEndian = peakrdl_rust::endian::LittleEndian;

    unsafe fn from_raw(val: Self::Regwidth) -> Self {
        Self(val)
    }

    fn to_raw(self) -> Self::Regwidth {
        self.0
    }
}

impl SlotCount {
    pub const COUNT_OFFSET: usize = 0;
    pub const COUNT_WIDTH: usize = 16;
    pub const COUNT_MASK: u32 = 0xFFFF;

    /// count
    ///
    /// Slots in the pool, 1 to 65535.
    #[inline(always)]
    #[allow(clippy::missing_panics_doc)]
    #[must_use]
    pub fn count(&self) -> u16 {
        let val = (self.0 >> Self::COUNT_OFFSET) & Self::COUNT_MASK;
        val as u16
    }

    /// count
    ///
    /// Slots in the pool, 1 to 65535.
    #[inline(always)]
    pub fn set_count(&mut self, val: u16) {
        let val = val as u32;
        self.0 = (self.0 & !(Self::COUNT_MASK << Self::COUNT_OFFSET))
            | ((val & Self::COUNT_MASK) << Self::COUNT_OFFSET);
    }
}

impl core::fmt::Debug for SlotCount {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("SlotCount").field("count", &self.count()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_default() {
        let reg = SlotCount::default();
        assert_eq!(reg.count(), 0);
    }
}
