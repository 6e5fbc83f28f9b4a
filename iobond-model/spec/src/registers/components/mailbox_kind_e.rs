//! Field Enum: kind

#[allow(unused_imports)]
use super::_root; // alias to root module of generated code

#[repr(u8)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailboxKindE {
    /// No request stands.
    None = 0,
    /// A board read waits for its answer.
    Read = 1,
    /// A posted board write; the answer only releases the mailbox.
    Write = 2,
    /// The function was reset (FLR or conventional); IO-Bond has already stopped its queues.
    Reset = 3,
}

impl MailboxKindE {
    /// Decode a bit pattern into an encoded enum variant.
    ///
    /// # Errors
    /// Returns an error if the bit pattern does not match any encoded variants.
    pub const fn from_bits(bits: u8) -> Result<Self, peakrdl_rust::encode::UnknownVariant<u8>> {
        match bits {
            0 => Ok(Self::None),
            1 => Ok(Self::Read),
            2 => Ok(Self::Write),
            3 => Ok(Self::Reset),
            bits => Err(peakrdl_rust::encode::UnknownVariant::new(bits)),
        }
    }

    /// The bit pattern of the variant
    #[must_use]
    pub const fn bits(&self) -> u8 {
        *self as u8
    }
}
