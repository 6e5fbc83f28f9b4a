//! What the board asks for, and how it went.

use iobond_spec::address::{BoardAddr, FunctionId};

use crate::mailbox::Ticket;

/// A request of the board: to configuration space or the BAR of a function, or to memory space. `width` is 1,
/// 2 or 4 bytes.
///
/// A host of boards that decodes addresses itself names the BAR and the offset in it; any other names a
/// memory address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are those of a PCIe request")]
pub enum Access {
    ConfigRead { function: FunctionId, offset: u16, width: u8 },
    ConfigWrite { function: FunctionId, offset: u16, width: u8, value: u32 },
    BarRead { function: FunctionId, offset: u32, width: u8 },
    BarWrite { function: FunctionId, offset: u32, width: u8, value: u32 },
    MemoryRead { address: BoardAddr, width: u8 },
    MemoryWrite { address: BoardAddr, width: u8, value: u32 },
}

impl Access {
    /// Whether it waits for a completion. Memory writes are posted (PCIe 5.0, 2.4), and so are configuration
    /// writes here: nothing comes back that a board could see.
    #[must_use]
    pub fn is_read(self) -> bool {
        matches!(self, Self::ConfigRead { .. } | Self::BarRead { .. } | Self::MemoryRead { .. })
    }

    /// How many bytes are read or written.
    #[must_use]
    pub fn width(self) -> u8 {
        match self {
            Self::ConfigRead { width, .. }
            | Self::ConfigWrite { width, .. }
            | Self::BarRead { width, .. }
            | Self::BarWrite { width, .. }
            | Self::MemoryRead { width, .. }
            | Self::MemoryWrite { width, .. } => width,
        }
    }
}

/// How a board access went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Complete; of a read, the value.
    Done(u32),
    /// Complete; it was an available buffer notification (virtio 1.3, 4.1.5.2).
    Doorbell {
        /// Number of the queue context.
        queue: usize,
        /// The available index, where NOTIFICATION_DATA was negotiated (virtio 1.3, 2.9).
        data: Option<u16>,
    },
    /// A read that the base answers: ask [`Device::collect`](super::Device::collect) until it does or the
    /// deadline passes.
    Waiting(Ticket),
    /// The mailbox is full: the link stalls, and the same access is to be tried again.
    Full,
}
