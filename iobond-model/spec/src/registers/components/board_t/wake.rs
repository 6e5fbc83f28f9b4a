//! Register: Wake

#[allow(unused_imports)]
use super::_root; // alias to root module of generated code

/// Wake
///
/// For a base that wants to sleep: it arms, looks once more at what it polls, and then waits for the interrupt.
#[repr(transparent)]
#[derive(Copy, Clone, Eq, PartialEq)]
pub struct Wake(u32);

unsafe impl Send for Wake {}
unsafe impl Sync for Wake {}

impl core::default::Default for Wake {
    fn default() -> Self {
        Self(0x0)
    }
}

impl peakrdl_rust::reg::Register for Wake {
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

impl Wake {
    pub const ARM_OFFSET: usize = 0;
    pub const ARM_WIDTH: usize = 1;
    pub const ARM_MASK: u32 = 0x1;

    /// arm
    ///
    /// Write 1: send MSI-X vector 0 of this function once, when a HEAD, the mailbox or the queues in error next change.
    #[inline(always)]
    pub fn set_arm(&mut self, val: bool) {
        let val = val as u32;
        self.0 =
            (self.0 & !(Self::ARM_MASK << Self::ARM_OFFSET)) | ((val & Self::ARM_MASK) << Self::ARM_OFFSET);
    }
}

impl core::fmt::Debug for Wake {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Wake").finish()
    }
}
