//! Register: State

#[allow(unused_imports)]
use super::_root; // alias to root module of generated code

/// State
#[repr(transparent)]
#[derive(Copy, Clone, Eq, PartialEq)]
pub struct State(u32);

unsafe impl Send for State {}
unsafe impl Sync for State {}

impl core::default::Default for State {
    fn default() -> Self {
        Self(0x0)
    }
}

impl peakrdl_rust::reg::Register for State {
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

impl State {
    pub const MEMORY_ENABLE_OFFSET: usize = 0;
    pub const MEMORY_ENABLE_WIDTH: usize = 1;
    pub const MEMORY_ENABLE_MASK: u32 = 0x1;

    /// memory_enable
    ///
    /// The board set Memory Space Enable.
    #[inline(always)]
    #[allow(clippy::missing_panics_doc)]
    #[must_use]
    pub fn memory_enable(&self) -> bool {
        let val = (self.0 >> Self::MEMORY_ENABLE_OFFSET) & Self::MEMORY_ENABLE_MASK;
        val != 0
    }

    pub const BUS_MASTER_OFFSET: usize = 1;
    pub const BUS_MASTER_WIDTH: usize = 1;
    pub const BUS_MASTER_MASK: u32 = 0x1;

    /// bus_master
    ///
    /// The board set Bus Master Enable; without it the engine reads no board memory and sends no MSI-X.
    #[inline(always)]
    #[allow(clippy::missing_panics_doc)]
    #[must_use]
    pub fn bus_master(&self) -> bool {
        let val = (self.0 >> Self::BUS_MASTER_OFFSET) & Self::BUS_MASTER_MASK;
        val != 0
    }

    pub const MSIX_ENABLE_OFFSET: usize = 2;
    pub const MSIX_ENABLE_WIDTH: usize = 1;
    pub const MSIX_ENABLE_MASK: u32 = 0x1;

    /// msix_enable
    ///
    /// The board enabled MSI-X.
    #[inline(always)]
    #[allow(clippy::missing_panics_doc)]
    #[must_use]
    pub fn msix_enable(&self) -> bool {
        let val = (self.0 >> Self::MSIX_ENABLE_OFFSET) & Self::MSIX_ENABLE_MASK;
        val != 0
    }
}

impl core::fmt::Debug for State {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("State")
            .field("memory_enable", &self.memory_enable())
            .field("bus_master", &self.bus_master())
            .field("msix_enable", &self.msix_enable())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_default() {
        let reg = State::default();
        assert_eq!(reg.memory_enable(), false);
        assert_eq!(reg.bus_master(), false);
        assert_eq!(reg.msix_enable(), false);
    }
}
