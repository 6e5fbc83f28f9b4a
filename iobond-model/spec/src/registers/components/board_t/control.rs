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
    pub const POWER_OFFSET: usize = 0;
    pub const POWER_WIDTH: usize = 1;
    pub const POWER_MASK: u32 = 0x1;

    /// power
    ///
    /// 1: the board's functions answer. 0: every board access completes as if no device were there.
    #[inline(always)]
    #[allow(clippy::missing_panics_doc)]
    #[must_use]
    pub fn power(&self) -> bool {
        let val = (self.0 >> Self::POWER_OFFSET) & Self::POWER_MASK;
        val != 0
    }

    /// power
    ///
    /// 1: the board's functions answer. 0: every board access completes as if no device were there.
    #[inline(always)]
    pub fn set_power(&mut self, val: bool) {
        let val = val as u32;
        self.0 = (self.0 & !(Self::POWER_MASK << Self::POWER_OFFSET))
            | ((val & Self::POWER_MASK) << Self::POWER_OFFSET);
    }

    pub const RESET_OFFSET: usize = 1;
    pub const RESET_WIDTH: usize = 1;
    pub const RESET_MASK: u32 = 0x1;

    /// reset
    ///
    /// Write 1: reset every function, as a PCIe conventional reset does.
    #[inline(always)]
    #[allow(clippy::missing_panics_doc)]
    #[must_use]
    pub fn reset(&self) -> bool {
        let val = (self.0 >> Self::RESET_OFFSET) & Self::RESET_MASK;
        val != 0
    }

    /// reset
    ///
    /// Write 1: reset every function, as a PCIe conventional reset does.
    #[inline(always)]
    pub fn set_reset(&mut self, val: bool) {
        let val = val as u32;
        self.0 = (self.0 & !(Self::RESET_MASK << Self::RESET_OFFSET))
            | ((val & Self::RESET_MASK) << Self::RESET_OFFSET);
    }
}

impl core::fmt::Debug for Control {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Control").field("power", &self.power()).field("reset", &self.reset()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_default() {
        let reg = Control::default();
        assert_eq!(reg.power(), false);
        assert_eq!(reg.reset(), false);
    }
}
