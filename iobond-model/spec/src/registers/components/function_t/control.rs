//! Register: Control

#[allow(unused_imports)]
use super::_root; // alias to root module of generated code

/// Control
#[repr(transparent)]
#[derive(Copy, Clone, Eq, PartialEq)]
pub struct Control(u32);

unsafe impl Send for Control {}
unsafe impl Sync for Control {}

impl core::default::Default for Control {
    fn default() -> Self {
        Self(0x0)
    }
}

impl peakrdl_rust::reg::Register for Control {
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

impl Control {
    pub const PRESENT_OFFSET: usize = 0;
    pub const PRESENT_WIDTH: usize = 1;
    pub const PRESENT_MASK: u32 = 0x1;

    /// present
    ///
    /// 1: the board finds the function. Config image and mask are taken on the 0 to 1 edge.
    #[inline(always)]
    #[allow(clippy::missing_panics_doc)]
    #[must_use]
    pub fn present(&self) -> bool {
        let val = (self.0 >> Self::PRESENT_OFFSET) & Self::PRESENT_MASK;
        val != 0
    }

    /// present
    ///
    /// 1: the board finds the function. Config image and mask are taken on the 0 to 1 edge.
    #[inline(always)]
    pub fn set_present(&mut self, val: bool) {
        let val = val as u32;
        self.0 = (self.0 & !(Self::PRESENT_MASK << Self::PRESENT_OFFSET))
            | ((val & Self::PRESENT_MASK) << Self::PRESENT_OFFSET);
    }
}

impl core::fmt::Debug for Control {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Control").field("present", &self.present()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_default() {
        let reg = Control::default();
        assert_eq!(reg.present(), false);
    }
}
