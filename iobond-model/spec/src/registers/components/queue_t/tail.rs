//! Register: TAIL

#[allow(unused_imports)]
use super::_root; // alias to root module of generated code

/// TAIL
#[repr(transparent)]
#[derive(Copy, Clone, Eq, PartialEq)]
pub struct Tail(u32);

unsafe impl Send for Tail {}
unsafe impl Sync for Tail {}

impl core::default::Default for Tail {
    fn default() -> Self {
        Self(0x0)
    }
}

impl peakrdl_rust::reg::Register for Tail {
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

impl Tail {
    pub const INDEX_OFFSET: usize = 0;
    pub const INDEX_WIDTH: usize = 16;
    pub const INDEX_MASK: u32 = 0xFFFF;

    /// index
    ///
    /// Shadow used index: how far used buffers may be returned to the guest. May be written while enabled.
    #[inline(always)]
    #[allow(clippy::missing_panics_doc)]
    #[must_use]
    pub fn index(&self) -> u16 {
        let val = (self.0 >> Self::INDEX_OFFSET) & Self::INDEX_MASK;
        val as u16
    }

    /// index
    ///
    /// Shadow used index: how far used buffers may be returned to the guest. May be written while enabled.
    #[inline(always)]
    pub fn set_index(&mut self, val: u16) {
        let val = val as u32;
        self.0 = (self.0 & !(Self::INDEX_MASK << Self::INDEX_OFFSET))
            | ((val & Self::INDEX_MASK) << Self::INDEX_OFFSET);
    }
}

impl core::fmt::Debug for Tail {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Tail").field("index", &self.index()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_default() {
        let reg = Tail::default();
        assert_eq!(reg.index(), 0);
    }
}
