//! The `live` world: wall-clock time, memory maps and memcpy.

mod base_memory;
mod board_access;
mod bond;
mod dma_memory;
mod memory;

pub use base_memory::{MapError, Mapping};
pub use bond::{BaseInterrupt, Bell, BoardInterrupts, Bond, Observer};
pub use dma_memory::{
    Backing, BaseMemory, BoardMemory, DmaAddress, DmaMapError, DmaMemory, Lease, Permission, RemoteMemory,
    ShareError, SharedFiles,
};
pub use memory::{Interrupts, Memory, ready};
