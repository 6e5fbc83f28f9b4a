//! The `live` world: wall-clock time, memory maps and memcpy.

mod board_access;
mod bond;
mod dma_memory;
mod environment;
mod grants;
mod idle;
mod limits;
mod memory;
mod pass;

pub use bond::Bond;
pub use dma_memory::{
    Backing, BaseMemory, BoardMemory, DmaAddress, DmaMapError, DmaMemory, Lease, MapError, Mapping,
    Permission, RemoteMemory, ShareError, SharedFiles,
};
pub use environment::Environment;
pub use idle::Idle;
pub use memory::{Interrupts, Memory};
