//! A look ahead: index, entries and descriptors of a guest's ring, asked for together and not one after the other.
//!
//! ```text
//!   without    |-- index --|-- entries --|-- descriptors --|
//!   with       |-- index -------|
//!               |-- entries -----|
//!                |-- descriptors -|
//! ```
//! Entries below the index that was read with them, and the descriptors of their chains, were written before that index (virtio 1.3,
//! 2.7.13), so that whoever reads the index first, and they are served in that order, reads nothing that is too old. Which descriptors
//! they are, nobody knows yet: the next chain is taken to be as far from the last as that was from the one before. Where it is not, they
//! are read again.

use iobond_spec::{
    address::{Address, BoardAddr},
    ring::split::{DESC_SIZE, Descriptor},
};
use zerocopy::{IntoBytes, little_endian::U16};

use super::{QueueError, Ring, entries::Entries};
use crate::fabric::{Fabric, Read};

/// Entries, and descriptors, that one look sees at most: 256 bytes of descriptors, a common maximum payload.
pub const MOST_AHEAD: u8 = 16;

/// Where a queue would look next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vantage {
    pub(super) ring: Ring<BoardAddr>,
    /// Next entry to fetch.
    pub(super) next: u16,
    /// The descriptor that the next chain is taken to begin with.
    pub(super) expected: u16,
}

/// What was seen.
#[derive(Clone, Copy, Debug)]
pub struct Sight {
    avail: u16,
    first: u16,
    entries: [U16; MOST_AHEAD as usize],
    entry_count: u8,
    first_descriptor: u16,
    descriptors: [Descriptor; MOST_AHEAD as usize],
    descriptor_count: u8,
}

impl Vantage {
    /// The available index up to which everything has been fetched.
    #[must_use]
    pub fn next(&self) -> u16 {
        self.next
    }

    /// Looks for `entries` and `descriptors`, each at most [`MOST_AHEAD`]; also for the available index, unless `avail` says it.
    ///
    /// # Errors
    /// A fault.
    pub async fn look<F: Fabric>(
        &self,
        fabric: &F,
        avail: Option<u16>,
        entries: u8,
        descriptors: u8,
    ) -> Result<Sight, QueueError> {
        let Self { ring, next, expected } = *self;
        let within_ring = |from: u16, most: u8| (ring.size - from).min(most.min(MOST_AHEAD).into());
        let ahead = Entries { ring: ring.avail.into(), size: ring.size, first: next };
        let entry_count = within_ring(next & (ring.size - 1), entries);
        let descriptor_count = within_ring(expected, descriptors);
        let mut index = U16::ZERO;
        let mut sight = Sight {
            avail: next,
            first: next,
            entries: [U16::ZERO; MOST_AHEAD as usize],
            entry_count: entry_count as u8,
            first_descriptor: expected,
            descriptors: [Descriptor::default(); MOST_AHEAD as usize],
            descriptor_count: descriptor_count as u8,
        };
        let table = Address::from(ring.desc).wrapping_add(u64::from(expected) * DESC_SIZE);
        let mut reads = [
            Read { at: ring.avail_idx(), into: index.as_mut_bytes() },
            Read { at: ahead.first_address(), into: sight.entries[..entry_count.into()].as_mut_bytes() },
            Read { at: table, into: sight.descriptors[..descriptor_count.into()].as_mut_bytes() },
        ];
        fabric.read_all(&mut reads[usize::from(avail.is_some())..]).await?;
        sight.avail = avail.unwrap_or(index.get());
        Ok(sight)
    }
}

impl Sight {
    /// The available index.
    #[must_use]
    pub fn avail(&self) -> u16 {
        self.avail
    }

    /// Puts the entries from `next` on into `heads`, if all of them were seen; whether they were.
    pub(super) fn entries(&self, next: u16, heads: &mut [U16]) -> bool {
        let skip = usize::from(next.wrapping_sub(self.first));
        let seen = &self.entries[..self.entry_count.into()];
        // Beyond the index they may be of another round.
        let valid = usize::from(self.avail.wrapping_sub(self.first)).min(seen.len());
        match seen[..valid].get(skip..skip + heads.len()) {
            Some(seen) => {
                heads.copy_from_slice(seen);
                true
            }
            None => false,
        }
    }

    /// The descriptors that were seen, and the number of the first of them.
    pub(super) fn descriptors(&self) -> (u16, &[Descriptor]) {
        (self.first_descriptor, &self.descriptors[..self.descriptor_count.into()])
    }
}
