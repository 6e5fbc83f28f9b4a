//! Register: Inject

#[allow(unused_imports)]
use super::_root; // alias to root module of generated code

/// Inject
///
/// Writing it raises an interrupt of this function.
#[repr(transparent)]
#[derive(Copy, Clone, Eq, PartialEq)]
pub struct Inject(u32);

unsafe impl Send for Inject {}
unsafe impl Sync for Inject {}

impl core::default::Default for Inject {
    fn default() -> Self {
        Self(0x0)
    }
}

impl peakrdl_rust::reg::Register for Inject {
    type Regwidth = u32;
    type Accesswidth = u32;
    type Access = peakrdl_rust::access::W;
    type ByteEndian = peakrdl_rust::endian::LittleEndian;
    type WordEndian = peakrdl_rust::endian::LittleEndian;

    unsafe fn from_raw(val: Self::Regwidth) -> Self {
        Self(val)
    }

    fn to_raw(self) -> Self::Regwidth {
        self.0
    }
}

impl Inject {
    pub const VECTOR_OFFSET: usize = 0;
    pub const VECTOR_WIDTH: usize = 16;
    pub const VECTOR_MASK: u32 = 0xFFFF;

    /// vector
    ///
    /// MSI-X vector; 0xFFFF (NO_VECTOR) raises none. Without MSI-X, INTx is asserted.
    #[inline(always)]
    pub fn set_vector(&mut self, val: u16) {
        let val = val as u32;
        self.0 = (self.0 & !(Self::VECTOR_MASK << Self::VECTOR_OFFSET))
            | ((val & Self::VECTOR_MASK) << Self::VECTOR_OFFSET);
    }

    pub const CONFIGURATION_OFFSET: usize = 16;
    pub const CONFIGURATION_WIDTH: usize = 1;
    pub const CONFIGURATION_MASK: u32 = 0x1;

    /// configuration
    ///
    /// Also set the ISR's configuration change bit (virtio 1.3, 4.1.4.5).
    #[inline(always)]
    pub fn set_configuration(&mut self, val: bool) {
        let val = val as u32;
        self.0 = (self.0 & !(Self::CONFIGURATION_MASK << Self::CONFIGURATION_OFFSET))
            | ((val & Self::CONFIGURATION_MASK) << Self::CONFIGURATION_OFFSET);
    }
}

impl core::fmt::Debug for Inject {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Inject").finish()
    }
}
