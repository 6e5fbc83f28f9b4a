//! Entries of an available or used ring, in bursts: one access, or two where the burst wraps.

use iobond_spec::{address::Address, ring::split::RING};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::QueueError;
use crate::fabric::Fabric;

/// A stretch of a ring's entries, as long as the ring at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entries {
    /// The available or used ring, from its flags on.
    pub(super) ring: Address,
    /// Ring size, a power of two.
    pub(super) size: u16,
    /// Free-running index of the first entry.
    pub(super) first: u16,
}

impl Entries {
    /// Reads as many entries as `into` has.
    #[inline]
    pub(super) async fn read<E, F: Fabric>(self, fabric: &F, into: &mut [E]) -> Result<(), QueueError>
    where
        E: FromBytes + IntoBytes,
    {
        let (before, after) = into.split_at_mut(self.before_wrap(into.len()));
        fabric.read(self.address::<E>(self.first), before.as_mut_bytes()).await?;
        if !after.is_empty() {
            fabric.read(self.address::<E>(0), after.as_mut_bytes()).await?;
        }
        Ok(())
    }

    /// Writes the entries of `from`.
    #[inline]
    pub(super) async fn write<E, F: Fabric>(self, fabric: &F, from: &[E]) -> Result<(), QueueError>
    where
        E: IntoBytes + Immutable,
    {
        let (before, after) = from.split_at(self.before_wrap(from.len()));
        fabric.write(self.address::<E>(self.first), before.as_bytes()).await?;
        if !after.is_empty() {
            fabric.write(self.address::<E>(0), after.as_bytes()).await?;
        }
        Ok(())
    }

    /// Where the first of them stands.
    pub(super) fn first_address(self) -> Address {
        self.ring.wrapping_add(RING + u64::from(self.position(self.first)) * 2)
    }

    fn before_wrap(self, count: usize) -> usize {
        usize::from(self.size - self.position(self.first)).min(count)
    }

    fn address<E>(self, index: u16) -> Address {
        self.ring.wrapping_add(RING + u64::from(self.position(index)) * size_of::<E>() as u64)
    }

    fn position(self, index: u16) -> u16 {
        index & (self.size - 1)
    }
}
