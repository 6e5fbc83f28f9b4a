//! Descriptors in bursts: read ahead on the board's side, gathered into runs on the base's.

use iobond_spec::{
    address::{Address, BaseAddr},
    ring::split::{DESC_SIZE, Descriptor},
};
use zerocopy::IntoBytes;

use super::QueueError;
use crate::fabric::Fabric;

/// Descriptors that are read or written in one burst at most: 256 bytes, a common maximum payload.
const DEPTH: usize = 16;
/// Descriptors that are read in one burst at least: 64 bytes, the read completion boundary (PCIe 5.0, 2.3.1.1).
const LEAST_DEPTH: u32 = 4;

/// A descriptor table that is read a burst at a time.
///
/// What was read ahead is good for as long as nothing newer may have been made available: one batch. The driver wrote every
/// descriptor of a chain before it made the chain available (virtio 1.3, 2.7.13), and the available index was read first.
#[derive(Debug)]
pub(super) struct Prefetch {
    table: Address,
    size: u32,
    depth: u32,
    first: u32,
    len: u32,
    entries: [Descriptor; DEPTH],
}

impl Prefetch {
    /// Nothing read yet of the table of `size` descriptors at `table`, of which about `wanted` will be asked for.
    #[inline]
    pub(super) fn new(table: Address, size: u32, wanted: u32) -> Self {
        let depth = wanted.clamp(LEAST_DEPTH, DEPTH as u32);
        Self { table, size, depth, first: 0, len: 0, entries: [Descriptor::default(); DEPTH] }
    }

    /// Descriptor `index`, which is below the table's size.
    #[inline]
    pub(super) async fn get<F: Fabric>(&mut self, fabric: &F, index: u32) -> Result<Descriptor, QueueError> {
        let ahead = index.wrapping_sub(self.first);
        if ahead < self.len {
            return Ok(self.entries[ahead as usize]);
        }
        let len = (self.size - index).min(self.depth);
        let at = self.table.wrapping_add(u64::from(index) * DESC_SIZE);
        fabric.read(at, self.entries[..len as usize].as_mut_bytes()).await?;
        (self.first, self.len) = (index, len);
        Ok(self.entries[0])
    }
}

/// Neighbouring shadow descriptors that are written in one burst.
#[derive(Debug)]
pub(super) struct Run {
    table: BaseAddr,
    first: u16,
    len: u16,
    entries: [Descriptor; DEPTH],
}

impl Run {
    /// An empty run for the table at `table`.
    #[inline]
    pub(super) fn new(table: BaseAddr) -> Self {
        Self { table, first: 0, len: 0, entries: [Descriptor::default(); DEPTH] }
    }

    /// Adds descriptor `index`; what stood before is written when it is no neighbour or the burst is full.
    #[inline]
    pub(super) async fn push<F: Fabric>(
        &mut self,
        fabric: &F,
        index: u16,
        descriptor: Descriptor,
    ) -> Result<(), QueueError> {
        if usize::from(self.len) == DEPTH || index != self.first.wrapping_add(self.len) {
            self.flush(fabric).await?;
            self.first = index;
        }
        self.entries[usize::from(self.len)] = descriptor;
        self.len += 1;
        Ok(())
    }

    /// Writes what has been added.
    #[inline]
    pub(super) async fn flush<F: Fabric>(&mut self, fabric: &F) -> Result<(), QueueError> {
        if self.len > 0 {
            let at = self.table.wrapping_add(u64::from(self.first) * DESC_SIZE);
            fabric.write(at.into(), self.entries[..usize::from(self.len)].as_bytes()).await?;
            self.first = self.first.wrapping_add(self.len);
            self.len = 0;
        }
        Ok(())
    }
}
