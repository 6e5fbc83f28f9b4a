//! The `live` world: wall-clock time, memory maps and memcpy.

mod base_memory;
mod board_access;
mod board_memory;
mod bond;
mod memory;

pub use base_memory::{MapError, Mapping};
pub use board_memory::{
    Backing, BoardMapError, BoardMemory, Lease, Permission, RemoteMemory, ShareError, SharedFiles,
};
pub use bond::{BaseInterrupt, Bell, BoardInterrupts, Bond, Observer};
pub use memory::{Interrupts, Memory, ready};
