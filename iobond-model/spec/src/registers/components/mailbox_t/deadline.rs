//! Register: Deadline

#[allow(unused_imports)]
use super::_root; // alias to root module of generated code

/// Deadline
#[repr(transparent)]
#[derive(Copy, Clone, Eq, PartialEq)]
pub struct Deadline(u32);

unsafe impl Send for Deadline {}
unsafe impl Sync for Deadline {}

impl core::default::Default for Deadline {
    fn default() -> Self {
        Self(0xC350)
    }
}

impl peakrdl_rust::reg::Register for Deadline {
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

impl Deadline {
    pub const MICROSECONDS_OFFSET: usize = 0;
    pub const MICROSECONDS_WIDTH: usize = 32;
    pub const MICROSECONDS_MASK: u32 = 0xFFFF_FFFF;

    /// microseconds
    ///
    /// Microseconds from a board access to its deadline; the reset value is the top of the PCIe default completion time-out (PCIe 5.0, 7.5.3.16).
    #[inline(always)]
    #[allow(clippy::missing_panics_doc)]
    #[must_use]
    pub fn microseconds(&self) -> u32 {
        let val = (self.0 >> Self::MICROSECONDS_OFFSET) & Self::MICROSECONDS_MASK;
        val
    }

    /// microseconds
    ///
    /// Microseconds from a board access to its deadline; the reset value is the top of the PCIe default completion time-out (PCIe 5.0, 7.5.3.16).
    #[inline(always)]
    pub fn set_microseconds(&mut self, val: u32) {
        let val = val as u32;
        self.0 = (self.0 & !(Self::MICROSECONDS_MASK << Self::MICROSECONDS_OFFSET))
            | ((val & Self::MICROSECONDS_MASK) << Self::MICROSECONDS_OFFSET);
    }
}

impl core::fmt::Debug for Deadline {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Deadline").field("microseconds", &self.microseconds()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_default() {
        let reg = Deadline::default();
        assert_eq!(reg.microseconds(), 50000);
    }
}
