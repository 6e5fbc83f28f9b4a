//! Which ranges a port has mapped, so that no two overlap and only what is mapped is taken back.

use std::collections::BTreeMap;

/// Ranges of I/O virtual addresses that do not overlap, with what goes with each.
#[derive(Debug)]
pub(super) struct Mappings<T>(BTreeMap<u64, (u64, T)>);

impl<T> Mappings<T> {
    pub(super) fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Whether `length` bytes at `iova`, at least one, can be added: they overlap nothing and do not wrap.
    pub(super) fn is_free(&self, iova: u64, length: u64) -> bool {
        let Some(last) = length.checked_sub(1).and_then(|more| iova.checked_add(more)) else { return false };
        // Ranges do not overlap, so the one that begins last at or before `last` also ends last.
        let below = self.0.range(..=last).next_back();
        below.is_none_or(|(start, (length, _))| start + (length - 1) < iova)
    }

    /// Adds a range that is free; whether it was.
    pub(super) fn insert(&mut self, iova: u64, length: u64, what: T) -> bool {
        let free = self.is_free(iova, length);
        if free {
            self.0.insert(iova, (length, what));
        }
        free
    }

    /// The length of the range that begins at `iova`.
    pub(super) fn length(&self, iova: u64) -> Option<u64> {
        self.0.get(&iova).map(|(length, _)| *length)
    }

    /// Forgets the range that begins at `iova`.
    pub(super) fn remove(&mut self, iova: u64) {
        self.0.remove(&iova);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_that_are_empty_or_wrap_are_refused() {
        let mut mappings = Mappings::new();
        assert!(!mappings.insert(0x1000, 0, ()) && !mappings.insert(u64::MAX, 2, ()));
        assert!(
            mappings.insert(u64::MAX, 1, ())
                && mappings.insert(0, 1, ())
                && !mappings.insert(0, u64::MAX, ())
        );
    }

    proptest! {
        /// Against a set of single bytes.
        #[test]
        fn nothing_overlaps(steps in proptest::collection::vec((0u64..64, 0u64..16, any::<bool>()), 1..60)) {
            let mut mappings = Mappings::new();
            let mut bytes = [false; 80];
            for (iova, length, add) in steps {
                let range = iova as usize..(iova + length) as usize;
                if add {
                    let free = length > 0 && bytes[range.clone()].iter().all(|taken| !taken);
                    prop_assert_eq!(mappings.insert(iova, length, ()), free);
                    if free {
                        bytes[range].fill(true);
                    }
                } else if let Some(length) = mappings.length(iova) {
                    mappings.remove(iova);
                    bytes[iova as usize..(iova + length) as usize].fill(false);
                }
            }
        }
    }
}
