//! Register: Sizes

#[allow(unused_imports)]
use super::_root; // alias to root module of generated code

/// Sizes
#[repr(transparent)]
#[derive(Copy, Clone, Eq, PartialEq)]
pub struct Sizes(u32);

unsafe impl Send for Sizes {}
unsafe impl Sync for Sizes {}

impl core::default::Default for Sizes {
    fn default() -> Self {
        Self(0x0)
    }
}

impl peakrdl_rust::reg::Register for Sizes {
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

impl Sizes {
    pub const GUEST_OFFSET: usize = 0;
    pub const GUEST_WIDTH: usize = 16;
    pub const GUEST_MASK: u32 = 0xFFFF;

    /// guest
    ///
    /// Guest ring size in descriptors, a power of two.
    #[inline(always)]
    #[allow(clippy::missing_panics_doc)]
    #[must_use]
    pub fn guest(&self) -> u16 {
        let val = (self.0 >> Self::GUEST_OFFSET) & Self::GUEST_MASK;
        val as u16
    }

    /// guest
    ///
    /// Guest ring size in descriptors, a power of two.
    #[inline(always)]
    pub fn set_guest(&mut self, val: u16) {
        let val = val as u32;
        self.0 = (self.0 & !(Self::GUEST_MASK << Self::GUEST_OFFSET))
            | ((val & Self::GUEST_MASK) << Self::GUEST_OFFSET);
    }

    pub const SHADOW_OFFSET: usize = 16;
    pub const SHADOW_WIDTH: usize = 16;
    pub const SHADOW_MASK: u32 = 0xFFFF;

    /// shadow
    ///
    /// Shadow vring size in descriptors, a power of two, at least the guest's.
    #[inline(always)]
    #[allow(clippy::missing_panics_doc)]
    #[must_use]
    pub fn shadow(&self) -> u16 {
        let val = (self.0 >> Self::SHADOW_OFFSET) & Self::SHADOW_MASK;
        val as u16
    }

    /// shadow
    ///
    /// Shadow vring size in descriptors, a power of two, at least the guest's.
    #[inline(always)]
    pub fn set_shadow(&mut self, val: u16) {
        let val = val as u32;
        self.0 = (self.0 & !(Self::SHADOW_MASK << Self::SHADOW_OFFSET))
            | ((val & Self::SHADOW_MASK) << Self::SHADOW_OFFSET);
    }
}

impl core::fmt::Debug for Sizes {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Sizes").field("guest", &self.guest()).field("shadow", &self.shadow()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_default() {
        let reg = Sizes::default();
        assert_eq!(reg.guest(), 0);
        assert_eq!(reg.shadow(), 0);
    }
}
