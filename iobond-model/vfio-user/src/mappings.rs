//! Which ranges of the client's memory are mapped.

use std::collections::BTreeMap;

use rustix::io::Errno;

use crate::protocol::MAX_MAPPINGS;

/// Ranges that do not overlap: first to last address.
#[derive(Debug, Default)]
pub(crate) struct Mappings(BTreeMap<u64, u64>);

impl Mappings {
    /// Whether `size` bytes at `address` can be mapped beside what is.
    ///
    /// # Errors
    /// `EINVAL` when the range is empty or wraps, `EEXIST` when part of it is mapped, `ENOSPC` when there are
    /// too many ranges.
    pub(crate) fn admit(&self, address: u64, size: u64) -> Result<(), Errno> {
        let last = last(address, size)?;
        if self.0.range(..=last).next_back().is_some_and(|(_, &end)| end >= address) {
            return Err(Errno::EXIST);
        }
        if self.0.len() >= MAX_MAPPINGS { Err(Errno::NOSPC) } else { Ok(()) }
    }

    /// Adds a range that was admitted.
    pub(crate) fn insert(&mut self, address: u64, size: u64) {
        if let Ok(last) = last(address, size) {
            self.0.insert(address, last);
        }
    }

    /// Takes out a range that [`within`](Self::within) found.
    pub(crate) fn remove(&mut self, address: u64) {
        self.0.remove(&address);
    }

    /// Takes out all ranges.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Address and size of every range inside of `size` bytes at `address`.
    ///
    /// # Errors
    /// `EINVAL` when that is empty or wraps, or would cut a range in two.
    pub(crate) fn within(&self, address: u64, size: u64) -> Result<Vec<(u64, u64)>, Errno> {
        let last = last(address, size)?;
        let crosses = |at: u64| {
            let below = self.0.range(..=at).next_back();
            below.is_some_and(|(&first, &end)| end >= at && (first < address || end > last))
        };
        if crosses(address) || crosses(last) {
            return Err(Errno::INVAL);
        }
        Ok(self.0.range(address..=last).map(|(&first, &end)| (first, end - first + 1)).collect())
    }
}

/// The address of the last of `size` bytes.
fn last(address: u64, size: u64) -> Result<u64, Errno> {
    size.checked_sub(1).and_then(|more| address.checked_add(more)).ok_or(Errno::INVAL)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_do_not_overlap_and_do_not_wrap() {
        let mut mappings = Mappings::default();
        mappings.admit(0x1000, 0x1000).unwrap();
        mappings.insert(0x1000, 0x1000);
        for (address, size) in [(0x1000, 1), (0x1fff, 1), (0, 0x1001), (0, u64::MAX), (0x1fff, 0x1000)] {
            assert_eq!(mappings.admit(address, size), Err(Errno::EXIST), "{address:#x}+{size:#x}");
        }
        for (address, size) in [(0, 0), (0x5000, 0), (u64::MAX, 2), (2, u64::MAX)] {
            assert_eq!(mappings.admit(address, size), Err(Errno::INVAL), "{address:#x}+{size:#x}");
        }
        for (address, size) in [(0, 0x1000), (0x2000, u64::MAX - 0x1fff), (u64::MAX, 1)] {
            assert_eq!(mappings.admit(address, size), Ok(()), "{address:#x}+{size:#x}");
        }
    }

    #[test]
    fn there_is_an_end_to_mappings() {
        let mut mappings = Mappings::default();
        (0..MAX_MAPPINGS as u64).for_each(|page| mappings.insert(page << 12, 1 << 12));
        assert_eq!(mappings.admit((MAX_MAPPINGS as u64) << 12, 1), Err(Errno::NOSPC));
        assert_eq!(mappings.within(0, 1 << 40).unwrap().len(), MAX_MAPPINGS);
    }

    proptest! {
        /// Beside a map of 64 addresses, each with the number of the range that holds it.
        #[test]
        fn agrees_with_a_map_of_single_addresses(steps in prop::collection::vec((any::<bool>(), 0u64..64, 0u64..20), 1..60)) {
            let mut mappings = Mappings::default();
            let mut owners = [0; 64];
            for (number, (unmap, address, size)) in (1..).zip(steps) {
                let range = address as usize..owners.len().min((address + size) as usize);
                if !unmap {
                    let expected = match owners[range.clone()].iter().all(|owner| *owner == 0) {
                        _ if size == 0 => Err(Errno::INVAL),
                        free => free.then_some(()).ok_or(Errno::EXIST),
                    };
                    prop_assert_eq!(mappings.admit(address, range.len() as u64), expected);
                    if expected.is_ok() {
                        mappings.insert(address, range.len() as u64);
                        owners[range].fill(number);
                    }
                } else if size > 0 {
                    let inside = |owner: &i32| owners.iter().enumerate().all(|(at, o)| o != owner || range.contains(&at));
                    let mut found: Vec<i32> = owners[range.clone()].iter().copied().filter(|o| *o != 0).collect();
                    found.dedup();
                    match mappings.within(address, range.len() as u64) {
                        Err(_) => prop_assert!(!found.iter().all(inside)),
                        Ok(ranges) => {
                            prop_assert!(found.iter().all(inside));
                            prop_assert_eq!(ranges.len(), found.len());
                            ranges.iter().for_each(|(first, _)| mappings.remove(*first));
                            owners[range].fill(0);
                        }
                    }
                }
            }
        }
    }
}
