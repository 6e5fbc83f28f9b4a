//! Addresses of the two memories. A [`BoardAddr`] is what a guest wrote into a ring; a [`BaseAddr`] is an I/O
//! virtual address that the base granted. There is no conversion between them: the only way across is a copy.

use core::fmt;

macro_rules! address {
    ($(#[$doc:meta])* $name:ident, $side:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The address `bytes` further on, or `None` past the end of the address space.
            #[inline]
            pub const fn checked_add(self, bytes: u64) -> Option<Self> {
                match self.0.checked_add(bytes) {
                    Some(address) => Some(Self(address)),
                    None => None,
                }
            }

            /// The address `bytes` further on, modulo 2^64. For offsets inside of a range that was checked as
            /// a whole.
            #[inline]
            pub const fn wrapping_add(self, bytes: u64) -> Self {
                Self(self.0.wrapping_add(bytes))
            }

            /// Whether the address is a multiple of `alignment`, a power of two.
            #[inline]
            pub const fn is_aligned(self, alignment: u64) -> bool {
                self.0 & (alignment - 1) == 0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($side, ":{:#x}"), self.0)
            }
        }
    };
}

address!(
    /// An address in the memory of the compute board.
    BoardAddr,
    "board"
);

address!(
    /// An I/O virtual address in the memory of the base server.
    BaseAddr,
    "base"
);

/// An address on either side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// In board memory.
    Board(BoardAddr),
    /// In base memory.
    Base(BaseAddr),
}

impl From<BoardAddr> for Address {
    #[inline]
    fn from(address: BoardAddr) -> Self {
        Self::Board(address)
    }
}

impl From<BaseAddr> for Address {
    #[inline]
    fn from(address: BaseAddr) -> Self {
        Self::Base(address)
    }
}

impl Address {
    /// The address `bytes` further on, modulo 2^64.
    #[inline]
    pub const fn wrapping_add(self, bytes: u64) -> Self {
        match self {
            Self::Board(address) => Self::Board(address.wrapping_add(bytes)),
            Self::Base(address) => Self::Base(address.wrapping_add(bytes)),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Board(address) => address.fmt(f),
            Self::Base(address) => address.fmt(f),
        }
    }
}

/// Number of a PCI function of the board, below [`crate::MAX_FUNCTIONS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FunctionId(u8);

impl FunctionId {
    /// The function numbered `id`, or `None` when there cannot be one.
    pub const fn new(id: u8) -> Option<Self> {
        if (id as usize) < crate::MAX_FUNCTIONS { Some(Self(id)) } else { None }
    }

    /// The function that the low bits of `id` name: what a register field of just as many bits holds.
    #[inline]
    pub const fn truncated(id: u8) -> Self {
        const { assert!(crate::MAX_FUNCTIONS.is_power_of_two()) }
        Self(id & (crate::MAX_FUNCTIONS as u8 - 1))
    }

    /// Every function an IO-Bond can hold, in order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..crate::MAX_FUNCTIONS as u8).map(Self)
    }

    /// The number, below [`crate::MAX_FUNCTIONS`].
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for FunctionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "function {}", self.0)
    }
}
