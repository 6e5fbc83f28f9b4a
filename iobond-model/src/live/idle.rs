//! What a thread does between two turns.

use std::cell::Cell;

/// What a thread does that finds nothing to do: looks again for a while, then lets others have the processor.
#[derive(Debug, Default)]
pub struct Idle(Cell<u32>);

impl Idle {
    /// Looks before the processor is given away: a few microseconds, about what giving it away and getting it
    /// back takes.
    const LOOKS: u32 = 64;

    /// There was something to do, or there was nothing.
    pub fn after(&self, busy: bool) {
        let looks = if busy { 0 } else { self.0.get() + 1 };
        self.0.set(looks);
        if looks > Self::LOOKS {
            std::thread::yield_now();
        } else {
            std::hint::spin_loop();
        }
    }
}
