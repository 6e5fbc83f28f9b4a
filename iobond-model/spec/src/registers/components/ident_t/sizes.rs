//! Register: Sizes

#[allow(unused_imports)]
use super::_root; // alias to root module of generated code

/// Sizes
///
/// How much of each resource there is.
#[repr(transparent)]
#[derive(Copy, Clone, Eq, PartialEq)]
pub struct Sizes(u32);

unsafe impl Send for Sizes {}
unsafe impl Sync for Sizes {}

impl core::default::Default for Sizes {
    fn default() -> Self {
        Self(0xF08_4008)
    }
}

impl peakrdl_rust::reg::Register for Sizes {
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

impl Sizes {
    pub const FUNCTIONS_OFFSET: usize = 0;
    pub const FUNCTIONS_WIDTH: usize = 8;
    pub const FUNCTIONS_MASK: u32 = 0xFF;

    /// functions
    ///
    /// PCI functions, 1 to 8.
    #[inline(always)]
    #[allow(clippy::missing_panics_doc)]
    #[must_use]
    pub fn functions(&self) -> u8 {
        let val = (self.0 >> Self::FUNCTIONS_OFFSET) & Self::FUNCTIONS_MASK;
        val as u8
    }

    pub const QUEUES_OFFSET: usize = 8;
    pub const QUEUES_WIDTH: usize = 8;
    pub const QUEUES_MASK: u32 = 0xFF;

    /// queues
    ///
    /// Queue contexts, 1 to 64.
    #[inline(always)]
    #[allow(clippy::missing_panics_doc)]
    #[must_use]
    pub fn queues(&self) -> u8 {
        let val = (self.0 >> Self::QUEUES_OFFSET) & Self::QUEUES_MASK;
        val as u8
    }

    pub const WINDOWS_OFFSET: usize = 16;
    pub const WINDOWS_WIDTH: usize = 8;
    pub const WINDOWS_MASK: u32 = 0xFF;

    /// windows
    ///
    /// DMA windows, 1 to 8.
    #[inline(always)]
    #[allow(clippy::missing_panics_doc)]
    #[must_use]
    pub fn windows(&self) -> u8 {
        let val = (self.0 >> Self::WINDOWS_OFFSET) & Self::WINDOWS_MASK;
        val as u8
    }

    pub const RING_LOG2_OFFSET: usize = 24;
    pub const RING_LOG2_WIDTH: usize = 8;
    pub const RING_LOG2_MASK: u32 = 0xFF;

    /// ring_log2
    ///
    /// Log2 of the largest ring, guest or shadow.
    #[inline(always)]
    #[allow(clippy::missing_panics_doc)]
    #[must_use]
    pub fn ring_log2(&self) -> u8 {
        let val = (self.0 >> Self::RING_LOG2_OFFSET) & Self::RING_LOG2_MASK;
        val as u8
    }
}

impl core::fmt::Debug for Sizes {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Sizes")
            .field("functions", &self.functions())
            .field("queues", &self.queues())
            .field("windows", &self.windows())
            .field("ring_log2", &self.ring_log2())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_default() {
        let reg = Sizes::default();
        assert_eq!(reg.functions(), 8);
        assert_eq!(reg.queues(), 64);
        assert_eq!(reg.windows(), 8);
        assert_eq!(reg.ring_log2(), 15);
    }
}
