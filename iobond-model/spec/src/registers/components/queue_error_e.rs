//! Field Enum: error

#[allow(unused_imports)]
use super::_root; // alias to root module of generated code

#[repr(u8)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueErrorE {
    /// No error.
    None = 0,
    /// The context written by the base is impossible: sizes, alignment, slots.
    BadContext = 1,
    /// The available index moved further than the ring is long.
    AvailJump = 2,
    /// An available entry names a descriptor outside of the table.
    BadHead = 3,
    /// A descriptor's next lies outside of the table.
    BadNext = 4,
    /// A chain is longer than its table, a loop among others, or than slots and shadow table allow.
    ChainTooLong = 5,
    /// A descriptor or an indirect table of no bytes.
    ZeroLength = 6,
    /// An indirect table whose length is not a multiple of 16, too long, nested, or not negotiated.
    BadIndirect = 7,
    /// A device-readable descriptor after a device-writable one (virtio 1.3, 2.7.4.2).
    BadOrder = 8,
    /// An address of the guest's is not in board memory, or bus mastering is off.
    BoardFault = 9,
    /// An address of the base's is not inside a granted window.
    BaseFault = 10,
    /// The back end used a chain that is not in flight, or TAIL jumped.
    BadUsed = 11,
    /// The back end says it wrote more than the chain's writable bytes.
    BadUsedLength = 12,
    /// NOTIFICATION_DATA named an index further ahead than the ring is long.
    BadDoorbell = 13,
}

impl QueueErrorE {
    /// Decode a bit pattern into an encoded enum variant.
    ///
    /// # Errors
    /// Returns an error if the bit pattern does not match any encoded variants.
    pub const fn from_bits(bits: u8) -> Result<Self, peakrdl_rust::encode::UnknownVariant<u8>> {
        match bits {
            0 => Ok(Self::None),
            1 => Ok(Self::BadContext),
            2 => Ok(Self::AvailJump),
            3 => Ok(Self::BadHead),
            4 => Ok(Self::BadNext),
            5 => Ok(Self::ChainTooLong),
            6 => Ok(Self::ZeroLength),
            7 => Ok(Self::BadIndirect),
            8 => Ok(Self::BadOrder),
            9 => Ok(Self::BoardFault),
            10 => Ok(Self::BaseFault),
            11 => Ok(Self::BadUsed),
            12 => Ok(Self::BadUsedLength),
            13 => Ok(Self::BadDoorbell),
            bits => Err(peakrdl_rust::encode::UnknownVariant::new(bits)),
        }
    }

    /// The bit pattern of the variant
    #[must_use]
    pub const fn bits(&self) -> u8 {
        *self as u8
    }
}
