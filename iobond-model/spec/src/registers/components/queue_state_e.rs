//! Field Enum: state

#[allow(unused_imports)]
use super::_root; // alias to root module of generated code

#[repr(u8)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueStateE {
    /// Not enabled; the other fields may be written.
    Disabled = 0,
    /// The engine serves it.
    Running = 1,
    /// The engine stopped it; see the error field. Only disabling leaves this state.
    Error = 2,
}

impl QueueStateE {
    /// Decode a bit pattern into an encoded enum variant.
    ///
    /// # Errors
    /// Returns an error if the bit pattern does not match any encoded variants.
    pub const fn from_bits(bits: u8) -> Result<Self, peakrdl_rust::encode::UnknownVariant<u8>> {
        match bits {
            0 => Ok(Self::Disabled),
            1 => Ok(Self::Running),
            2 => Ok(Self::Error),
            bits => Err(peakrdl_rust::encode::UnknownVariant::new(bits)),
        }
    }

    /// The bit pattern of the variant
    #[must_use]
    pub const fn bits(&self) -> u8 {
        *self as u8
    }
}
