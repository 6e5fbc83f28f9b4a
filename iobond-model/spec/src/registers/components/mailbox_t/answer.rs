//! Register: Answer

#[allow(unused_imports)]
use super::_root; // alias to root module of generated code

/// Answer
///
/// Writing it completes the request of that number; another number is counted as late and otherwise ignored.
#[repr(transparent)]
#[derive(Copy, Clone, Eq, PartialEq)]
pub struct Answer(u32);

unsafe impl Send for Answer {}
unsafe impl Sync for Answer {}

impl core::default::Default for Answer {
    fn default() -> Self {
        Self(0x0)
    }
}

impl peakrdl_rust::reg::Register for Answer {
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

impl Answer {
    pub const SEQUENCE_OFFSET: usize = 0;
    pub const SEQUENCE_WIDTH: usize = 16;
    pub const SEQUENCE_MASK: u32 = 0xFFFF;

    /// sequence
    ///
    /// Number of the request.
    #[inline(always)]
    pub fn set_sequence(&mut self, val: u16) {
        let val = val as u32;
        self.0 = (self.0 & !(Self::SEQUENCE_MASK << Self::SEQUENCE_OFFSET))
            | ((val & Self::SEQUENCE_MASK) << Self::SEQUENCE_OFFSET);
    }
}

impl core::fmt::Debug for Answer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Answer").finish()
    }
}
