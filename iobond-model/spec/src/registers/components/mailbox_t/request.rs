//! Register: Request

#[allow(unused_imports)]
use super::_root; // alias to root module of generated code

// Instances of named component types
pub use _root::components::mailbox_kind_e as kind;

/// Request
#[repr(transparent)]
#[derive(Copy, Clone, Eq, PartialEq)]
pub struct Request(u32);

unsafe impl Send for Request {}
unsafe impl Sync for Request {}

impl core::default::Default for Request {
    fn default() -> Self {
        Self(0x0)
    }
}

impl peakrdl_rust::reg::Register for Request {
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

impl Request {
    pub const KIND_OFFSET: usize = 0;
    pub const KIND_WIDTH: usize = 2;
    pub const KIND_MASK: u32 = 0x3;

    /// kind
    ///
    /// What stands here.
    #[inline(always)]
    #[allow(clippy::missing_panics_doc)]
    #[must_use]
    pub fn kind(&self) -> kind::MailboxKindE {
        let val = (self.0 >> Self::KIND_OFFSET) & Self::KIND_MASK;
        kind::MailboxKindE::from_bits(val as u8).expect("All possible field values represented by enum")
    }

    pub const WIDTH_OFFSET: usize = 2;
    pub const WIDTH_WIDTH: usize = 3;
    pub const WIDTH_MASK: u32 = 0x7;

    /// width
    ///
    /// Width in bytes: 1, 2 or 4.
    #[inline(always)]
    #[allow(clippy::missing_panics_doc)]
    #[must_use]
    pub fn width(&self) -> u8 {
        let val = (self.0 >> Self::WIDTH_OFFSET) & Self::WIDTH_MASK;
        val as u8
    }

    pub const FUNCTION_ID_OFFSET: usize = 5;
    pub const FUNCTION_ID_WIDTH: usize = 3;
    pub const FUNCTION_ID_MASK: u32 = 0x7;

    /// function_id
    ///
    /// PCI function the board addressed.
    #[inline(always)]
    #[allow(clippy::missing_panics_doc)]
    #[must_use]
    pub fn function_id(&self) -> u8 {
        let val = (self.0 >> Self::FUNCTION_ID_OFFSET) & Self::FUNCTION_ID_MASK;
        val as u8
    }

    pub const SEQUENCE_OFFSET: usize = 8;
    pub const SEQUENCE_WIDTH: usize = 16;
    pub const SEQUENCE_MASK: u32 = 0xFFFF;

    /// sequence
    ///
    /// Number of this request, 1 to 65535, then 1 again; the answer repeats it.
    #[inline(always)]
    #[allow(clippy::missing_panics_doc)]
    #[must_use]
    pub fn sequence(&self) -> u16 {
        let val = (self.0 >> Self::SEQUENCE_OFFSET) & Self::SEQUENCE_MASK;
        val as u16
    }
}

impl core::fmt::Debug for Request {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Request")
            .field("kind", &self.kind())
            .field("width", &self.width())
            .field("function_id", &self.function_id())
            .field("sequence", &self.sequence())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_default() {
        let reg = Request::default();
        assert_eq!(reg.kind(), kind::MailboxKindE::None);
        assert_eq!(reg.width(), 0);
        assert_eq!(reg.function_id(), 0);
        assert_eq!(reg.sequence(), 0);
    }
}
