//! What was typed and waits until the driver provides buffers. Pure.

use std::collections::VecDeque;

/// Most bytes that wait. Terminals that type more are not read meanwhile.
pub(crate) const LIMIT: usize = 64 << 10;

/// Typed bytes of all terminals, in the order in which they were read.
#[derive(Debug, Default)]
pub(crate) struct Typed(VecDeque<u8>);

impl Typed {
    /// How much more may be typed now, in bytes.
    pub(crate) fn free(&self) -> usize {
        LIMIT - self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds `bytes`, no more than are [free](Self::free). Returns how many.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.free());
        self.0.extend(bytes.iter().take(count));
        count
    }

    /// What is to be taken next, in one piece, which may be shorter than all.
    pub(crate) fn front(&self) -> &[u8] {
        self.0.as_slices().0
    }

    /// The first `count` bytes were taken.
    pub(crate) fn taken(&mut self, count: usize) {
        self.0.drain(..count.min(self.0.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// What is let in comes out in order, and never more than the limit waits.
        #[test]
        fn what_was_typed_arrives_in_order(turns in prop::collection::vec((0usize..40_000, 0usize..40_000), 1..40)) {
            let mut typed = Typed::default();
            let (mut written, mut read) = (0usize, 0usize);
            for (len, count) in turns {
                let bytes: Vec<u8> = (written..written + len).map(|at| (at / 3) as u8).collect();
                let free = typed.free();
                prop_assert_eq!(typed.push(&bytes), len.min(free));
                written += len.min(free);
                let front = typed.front();
                prop_assert!(front.iter().enumerate().all(|(index, &byte)| byte == ((read + index) / 3) as u8));
                let count = count.min(front.len());
                typed.taken(count);
                read += count;
                prop_assert_eq!(typed.free(), LIMIT - (written - read));
                prop_assert_eq!(typed.is_empty(), written == read);
                prop_assert_eq!(typed.front().is_empty(), typed.is_empty());
            }
        }
    }
}
