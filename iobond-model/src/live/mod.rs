//! The `live` world: wall-clock time, memory maps and memcpy.

mod memory;

pub use memory::{Interrupts, Memory, ready};
