//! Descriptors in bursts: read ahead on the board's side, gathered before they are written on the base's.

use iobond_spec::{
    address::{Address, BaseAddr},
    ring::split::{DESC_SIZE, Descriptor},
};
use zerocopy::IntoBytes;

use super::QueueError;
use crate::fabric::Fabric;

/// Descriptors that are read in one burst at most: 256 bytes, a common maximum payload.
const DEPTH: usize = 16;
/// Descriptors that are read in one burst at least: 64 bytes, the read completion boundary (PCIe 5.0,
/// 2.3.1.1).
const LEAST_DEPTH: u32 = 4;

/// A descriptor table that is read a burst at a time.
///
/// What was read ahead is good for as long as nothing newer may have been made available: one batch. The
/// driver wrote every descriptor of a chain before it made the chain available (virtio 1.3, 2.7.13), and the
/// available index was read first.
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
    /// Nothing read yet of the table of `size` descriptors at `table`, of which about `wanted` will be asked
    /// for, and at most `most` are read at a time.
    #[inline]
    pub(super) fn new(table: Address, size: u32, wanted: u32, most: u8) -> Self {
        let most = u32::from(most).clamp(1, DEPTH as u32);
        let depth = wanted.max(LEAST_DEPTH).min(most);
        Self { table, size, depth, first: 0, len: 0, entries: [Descriptor::default(); DEPTH] }
    }

    /// The same with descriptors that were seen already, from number `first` on.
    pub(super) fn having_seen(mut self, (first, seen): (u16, &[Descriptor])) -> Self {
        let len = seen.len().min(DEPTH);
        self.entries[..len].copy_from_slice(&seen[..len]);
        (self.first, self.len) = (first.into(), len as u32);
        self
    }

    /// Descriptor `index`, which is below the table's size.
    #[inline]
    pub(super) async fn get<F: Fabric>(&mut self, fabric: &F, index: u32) -> Result<Descriptor, QueueError> {
        if let Some(descriptor) = self.known(index) {
            return Ok(descriptor);
        }
        self.fetch(fabric, index).await
    }

    /// Descriptor `index`, if it has been read. Most are, and callers in a hurry ask here before they wait
    /// for anything.
    #[inline]
    pub(super) fn known(&self, index: u32) -> Option<Descriptor> {
        let ahead = index.wrapping_sub(self.first);
        (ahead < self.len).then(|| self.entries[ahead as usize])
    }

    async fn fetch<F: Fabric>(&mut self, fabric: &F, index: u32) -> Result<Descriptor, QueueError> {
        let len = (self.size - index).min(self.depth);
        let at = self.table.wrapping_add(u64::from(index) * DESC_SIZE);
        fabric.read(at, self.entries[..len as usize].as_mut_bytes()).await?;
        (self.first, self.len) = (index, len);
        Ok(self.entries[0])
    }
}

/// Address of descriptor `index` of the table at `table`.
#[inline]
pub(super) fn descriptor_address(table: BaseAddr, index: u16) -> BaseAddr {
    table.wrapping_add(u64::from(index) * DESC_SIZE)
}

/// Shadow descriptors that a burst has still to write, in the shadow vring's table or in indirect tables.
#[derive(Debug)]
pub(super) struct ShadowDescriptors {
    at: Vec<BaseAddr>,
    descriptors: Vec<Descriptor>,
}

impl ShadowDescriptors {
    /// Space for `most` of them.
    pub(super) fn new(most: usize) -> Self {
        Self { at: Vec::with_capacity(most), descriptors: Vec::with_capacity(most) }
    }

    /// Adds a descriptor that is to be written at `at`.
    #[inline]
    pub(super) fn add(&mut self, at: BaseAddr, descriptor: Descriptor) {
        self.at.push(at);
        self.descriptors.push(descriptor);
    }

    /// Writes what was added, consecutive descriptors in one burst.
    #[inline]
    pub(super) async fn write<F: Fabric>(&mut self, fabric: &F) -> Result<(), QueueError> {
        let mut first = 0;
        while let Some(&at) = self.at.get(first) {
            let follow = |(ahead, next): (u64, &BaseAddr)| *next == at.wrapping_add(ahead * DESC_SIZE);
            let run = (0..).zip(&self.at[first..]).take_while(|&pair| follow(pair)).count();
            fabric.write(at.into(), self.descriptors[first..first + run].as_bytes()).await?;
            first += run;
        }
        self.at.clear();
        self.descriptors.clear();
        Ok(())
    }

    /// Bytes on the heap.
    pub(super) fn footprint(&self) -> usize {
        self.at.capacity() * size_of::<BaseAddr>() + self.descriptors.capacity() * size_of::<Descriptor>()
    }
}
