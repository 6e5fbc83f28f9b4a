//! Register: State

#[allow(unused_imports)]
use super::_root; // alias to root module of generated code

// Instances of named component types
pub use _root::components::queue_error_e as error;
pub use _root::components::queue_state_e as state;

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
    pub const STATE_OFFSET: usize = 0;
    pub const STATE_WIDTH: usize = 2;
    pub const STATE_MASK: u32 = 0x3;

    /// state
    ///
    /// What the engine does with it.
    #[inline(always)]
    #[allow(clippy::missing_errors_doc)]
    pub fn state(&self) -> Result<state::QueueStateE, peakrdl_rust::encode::UnknownVariant<u8>> {
        let val = (self.0 >> Self::STATE_OFFSET) & Self::STATE_MASK;
        state::QueueStateE::from_bits(val as u8)
    }

    pub const ERROR_OFFSET: usize = 2;
    pub const ERROR_WIDTH: usize = 6;
    pub const ERROR_MASK: u32 = 0x3F;

    /// error
    ///
    /// Why it stopped.
    #[inline(always)]
    #[allow(clippy::missing_errors_doc)]
    pub fn error(&self) -> Result<error::QueueErrorE, peakrdl_rust::encode::UnknownVariant<u8>> {
        let val = (self.0 >> Self::ERROR_OFFSET) & Self::ERROR_MASK;
        error::QueueErrorE::from_bits(val as u8)
    }
}

impl core::fmt::Debug for State {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("State").field("state", &self.state()).field("error", &self.error()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_default() {
        let reg = State::default();
        assert_eq!(reg.state(), Ok(state::QueueStateE::Disabled));
        assert_eq!(reg.error(), Ok(error::QueueErrorE::None));
    }
}
