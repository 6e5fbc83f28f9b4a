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
    pub const POWERED_OFFSET: usize = 0;
    pub const POWERED_WIDTH: usize = 1;
    pub const POWERED_MASK: u32 = 0x1;

    /// powered
    ///
    /// The board is powered.
    #[inline(always)]
    #[allow(clippy::missing_panics_doc)]
    #[must_use]
    pub fn powered(&self) -> bool {
        let val = (self.0 >> Self::POWERED_OFFSET) & Self::POWERED_MASK;
        val != 0
    }

    pub const QUEUE_ERROR_OFFSET: usize = 1;
    pub const QUEUE_ERROR_WIDTH: usize = 1;
    pub const QUEUE_ERROR_MASK: u32 = 0x1;

    /// queue_error
    ///
    /// A queue of this board is in the error state.
    #[inline(always)]
    #[allow(clippy::missing_panics_doc)]
    #[must_use]
    pub fn queue_error(&self) -> bool {
        let val = (self.0 >> Self::QUEUE_ERROR_OFFSET) & Self::QUEUE_ERROR_MASK;
        val != 0
    }
}

impl core::fmt::Debug for State {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("State")
            .field("powered", &self.powered())
            .field("queue_error", &self.queue_error())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_default() {
        let reg = State::default();
        assert_eq!(reg.powered(), false);
        assert_eq!(reg.queue_error(), false);
    }
}
