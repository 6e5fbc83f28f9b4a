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
        Self(0xFFFF_0000)
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
    pub const ENABLE_OFFSET: usize = 0;
    pub const ENABLE_WIDTH: usize = 1;
    pub const ENABLE_MASK: u32 = 0x1;

    /// enable
    ///
    /// 1: serve the queue. 0: forget it, in-flight chains too.
    #[inline(always)]
    #[allow(clippy::missing_panics_doc)]
    #[must_use]
    pub fn enable(&self) -> bool {
        let val = (self.0 >> Self::ENABLE_OFFSET) & Self::ENABLE_MASK;
        val != 0
    }

    /// enable
    ///
    /// 1: serve the queue. 0: forget it, in-flight chains too.
    #[inline(always)]
    pub fn set_enable(&mut self, val: bool) {
        let val = val as u32;
        self.0 = (self.0 & !(Self::ENABLE_MASK << Self::ENABLE_OFFSET))
            | ((val & Self::ENABLE_MASK) << Self::ENABLE_OFFSET);
    }

    pub const FUNCTION_ID_OFFSET: usize = 1;
    pub const FUNCTION_ID_WIDTH: usize = 3;
    pub const FUNCTION_ID_MASK: u32 = 0x7;

    /// function_id
    ///
    /// PCI function that owns it.
    #[inline(always)]
    #[allow(clippy::missing_panics_doc)]
    #[must_use]
    pub fn function_id(&self) -> u8 {
        let val = (self.0 >> Self::FUNCTION_ID_OFFSET) & Self::FUNCTION_ID_MASK;
        val as u8
    }

    /// function_id
    ///
    /// PCI function that owns it.
    #[inline(always)]
    pub fn set_function_id(&mut self, val: u8) {
        let val = val as u32;
        self.0 = (self.0 & !(Self::FUNCTION_ID_MASK << Self::FUNCTION_ID_OFFSET))
            | ((val & Self::FUNCTION_ID_MASK) << Self::FUNCTION_ID_OFFSET);
    }

    pub const INDEX_OFFSET: usize = 4;
    pub const INDEX_WIDTH: usize = 12;
    pub const INDEX_MASK: u32 = 0xFFF;

    /// index
    ///
    /// Virtqueue index inside the function.
    #[inline(always)]
    #[allow(clippy::missing_panics_doc)]
    #[must_use]
    pub fn index(&self) -> u16 {
        let val = (self.0 >> Self::INDEX_OFFSET) & Self::INDEX_MASK;
        val as u16
    }

    /// index
    ///
    /// Virtqueue index inside the function.
    #[inline(always)]
    pub fn set_index(&mut self, val: u16) {
        let val = val as u32;
        self.0 = (self.0 & !(Self::INDEX_MASK << Self::INDEX_OFFSET))
            | ((val & Self::INDEX_MASK) << Self::INDEX_OFFSET);
    }

    pub const VECTOR_OFFSET: usize = 16;
    pub const VECTOR_WIDTH: usize = 16;
    pub const VECTOR_MASK: u32 = 0xFFFF;

    /// vector
    ///
    /// MSI-X vector for used buffers; 0xFFFF: none (virtio 1.3, 4.1.5.1.2).
    #[inline(always)]
    #[allow(clippy::missing_panics_doc)]
    #[must_use]
    pub fn vector(&self) -> u16 {
        let val = (self.0 >> Self::VECTOR_OFFSET) & Self::VECTOR_MASK;
        val as u16
    }

    /// vector
    ///
    /// MSI-X vector for used buffers; 0xFFFF: none (virtio 1.3, 4.1.5.1.2).
    #[inline(always)]
    pub fn set_vector(&mut self, val: u16) {
        let val = val as u32;
        self.0 = (self.0 & !(Self::VECTOR_MASK << Self::VECTOR_OFFSET))
            | ((val & Self::VECTOR_MASK) << Self::VECTOR_OFFSET);
    }
}

impl core::fmt::Debug for Control {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Control")
            .field("enable", &self.enable())
            .field("function_id", &self.function_id())
            .field("index", &self.index())
            .field("vector", &self.vector())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_default() {
        let reg = Control::default();
        assert_eq!(reg.enable(), false);
        assert_eq!(reg.function_id(), 0);
        assert_eq!(reg.index(), 0);
        assert_eq!(reg.vector(), 65535);
    }
}
