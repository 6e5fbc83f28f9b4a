//! Reading ahead: index, entries and descriptors of a guest's ring, asked for together and not one after the
//! other.
//!
//! ```text
//!   without    |-- index --|-- entries --|-- descriptors --|
//!   with       |-- index -------|
//!               |-- entries -----|
//!                |-- descriptors -|
//! ```
//! The driver wrote the entries below the index, and the descriptors of their chains, before it wrote that
//! index (virtio 1.3, 2.7.13). The three reads are served in the order shown, so that nothing which the index
//! vouches for is older than it. Which descriptors the next chains have is not known yet: each chain is taken
//! to begin as far behind the last as that did behind the one before. Where it does not, its descriptors are
//! read again.

use iobond_spec::{
    address::{Address, BoardAddr},
    ring::split::{DESC_SIZE, Descriptor},
};
use zerocopy::{IntoBytes, little_endian::U16};

use super::{QueueError, Ring, entries::Entries};
use crate::fabric::{Fabric, Read};

/// Entries, and descriptors, that are read ahead at most: 256 bytes of descriptors, a common maximum payload.
pub const MOST_AHEAD: u8 = 16;

/// Where a queue fetches next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchCursor {
    pub(super) ring: Ring<BoardAddr>,
    /// Next entry to fetch.
    pub(super) next: u16,
    /// The descriptor that the next chain is taken to begin with.
    pub(super) expected: u16,
}

/// What was read ahead, with the index that says how much of it counts.
#[derive(Clone, Copy, Debug)]
pub struct SpeculativeRead {
    avail: u16,
    first: u16,
    entries: [U16; MOST_AHEAD as usize],
    entry_count: u8,
    first_descriptor: u16,
    descriptors: [Descriptor; MOST_AHEAD as usize],
    descriptor_count: u8,
}

impl FetchCursor {
    /// The available index up to which everything has been fetched.
    #[must_use]
    pub fn next(&self) -> u16 {
        self.next
    }

    /// Reads `entries` and `descriptors`, each at most [`MOST_AHEAD`]; also the available index, unless
    /// `avail` says it.
    ///
    /// # Errors
    /// [`QueueError::Fault`] when the function may not read the ring.
    pub async fn read_ahead<F: Fabric>(
        &self,
        fabric: &F,
        avail: Option<u16>,
        entries: u8,
        descriptors: u8,
    ) -> Result<SpeculativeRead, QueueError> {
        let Self { ring, next, expected } = *self;
        let within_ring = |from: u16, most: u8| (ring.size - from).min(most.min(MOST_AHEAD).into());
        let available = Entries { ring: ring.avail.into(), size: ring.size, first: next };
        let entry_count = within_ring(next & (ring.size - 1), entries);
        let descriptor_count = within_ring(expected, descriptors);
        let mut index = U16::ZERO;
        let mut ahead = SpeculativeRead {
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
            Read { at: available.first_address(), into: ahead.entries[..entry_count.into()].as_mut_bytes() },
            Read { at: table, into: ahead.descriptors[..descriptor_count.into()].as_mut_bytes() },
        ];
        fabric.read_all(&mut reads[usize::from(avail.is_some())..]).await?;
        ahead.avail = avail.unwrap_or(index.get());
        Ok(ahead)
    }
}

impl SpeculativeRead {
    /// The available index that was read, or was known before.
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
