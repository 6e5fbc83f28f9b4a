//! Register: Fill

#[allow(unused_imports)]
use super::_root; // alias to root module of generated code

/// Fill
#[repr(transparent)]
#[derive(Copy, Clone, Eq, PartialEq)]
pub struct Fill(u32);

unsafe impl Send for Fill {}
unsafe impl Sync for Fill {}

impl core::default::Default for Fill {
    fn default() -> Self {
        Self(0x40_0000)
    }
}

impl peakrdl_rust::reg::Register for Fill {
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

impl Fill {
    pub const WAITING_OFFSET: usize = 0;
    pub const WAITING_WIDTH: usize = 16;
    pub const WAITING_MASK: u32 = 0xFFFF;

    /// waiting
    ///
    /// Requests that stand or wait.
    #[inline(always)]
    #[allow(clippy::missing_panics_doc)]
    #[must_use]
    pub fn waiting(&self) -> u16 {
        let val = (self.0 >> Self::WAITING_OFFSET) & Self::WAITING_MASK;
        val as u16
    }

    pub const CAPACITY_OFFSET: usize = 16;
    pub const CAPACITY_WIDTH: usize = 16;
    pub const CAPACITY_MASK: u32 = 0xFFFF;

    /// capacity
    ///
    /// How many fit.
    #[inline(always)]
    #[allow(clippy::missing_panics_doc)]
    #[must_use]
    pub fn capacity(&self) -> u16 {
        let val = (self.0 >> Self::CAPACITY_OFFSET) & Self::CAPACITY_MASK;
        val as u16
    }
}

impl core::fmt::Debug for Fill {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Fill").field("waiting", &self.waiting()).field("capacity", &self.capacity()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_default() {
        let reg = Fill::default();
        assert_eq!(reg.waiting(), 0);
        assert_eq!(reg.capacity(), 64);
    }
}
