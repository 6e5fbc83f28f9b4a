//! The `live` world: wall-clock time, memory maps and memcpy.

mod base_memory;
mod bond;
mod memory;

pub use base_memory::{MapError, Mapping};
pub use bond::{BoardInterrupts, Bond, Observer};
pub use memory::{Interrupts, Memory, ready};
