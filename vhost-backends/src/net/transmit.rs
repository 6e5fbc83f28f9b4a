//! Off a transmit queue: frames from guest memory into ours.
//!
//! A frame is copied once, here. Routing, checksums, capture and every copy to a port then see the same
//! bytes, whatever the driver does to its memory meanwhile, and the driver has its buffer back at once.

use std::ops::Range;

use virtio_queue::Queue;
use vm_memory::GuestMemoryMmap;

use super::header::{HEADER, MAX_FRAME, MIN_FRAME, Negotiated, Offload};
use crate::chain::Buffers;
use crate::ring::{self, RingError};

/// Most frames that are taken at once.
const MAX_FRAMES: usize = 64;

/// Bytes after which no further frame is taken. Keeps a batch of long frames within a second-level cache.
const ENOUGH_BYTES: usize = 256 << 10;

/// Most descriptors of a frame. Linux uses 19 at most; a chain of 65535 would keep the other ports waiting.
const MAX_DESCRIPTORS: usize = 1024;

/// A frame and what is left to be done to it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) offload: Offload,
}

/// Frames taken off a queue in one go.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    frames: Vec<(Range<usize>, Offload)>,
    used: Vec<(u16, u32)>,
    /// Chains that were no frame.
    malformed: u64,
}

impl Batch {
    /// Fills the batch with what is available in `queue` and hands the buffers back.
    pub(crate) fn take(
        &mut self,
        queue: &mut Queue,
        memory: &GuestMemoryMmap,
        negotiated: Negotiated,
    ) -> Result<(), RingError> {
        self.bytes.clear();
        self.frames.clear();
        self.used.clear();
        self.malformed = 0;
        let mut buffers = Buffers::default();
        while self.used.len() < MAX_FRAMES && self.bytes.len() < ENOUGH_BYTES {
            let Some(chain) = ring::pop(queue, memory)? else { break };
            self.used.push((chain.head_index(), 0));
            let is_chain = buffers.collect(chain, memory, MAX_DESCRIPTORS).is_ok();
            if !is_chain || self.copy(&buffers, negotiated).is_none() {
                self.malformed += 1;
            }
        }
        if !self.used.is_empty() {
            ring::publish(queue, memory, &self.used)?;
        }
        Ok(())
    }

    /// Whether the queue was empty.
    pub(crate) fn is_empty(&self) -> bool {
        self.used.is_empty()
    }

    /// Chains that were no frame.
    pub(crate) fn malformed(&self) -> u64 {
        self.malformed
    }

    /// The frames in the order of the queue.
    pub(crate) fn frames(&self) -> impl Iterator<Item = Frame<'_>> {
        self.frames
            .iter()
            .map(|(range, offload)| Frame { bytes: &self.bytes[range.clone()], offload: *offload })
    }

    /// Copies one frame, or nothing if it is none.
    fn copy(&mut self, buffers: &Buffers<'_>, negotiated: Negotiated) -> Option<()> {
        let header_len = negotiated.header();
        let len = buffers.readable.len().checked_sub(header_len)?;
        if buffers.writable.len() > 0 || !(MIN_FRAME..=MAX_FRAME).contains(&len) {
            return None;
        }
        let mut header = [0; HEADER];
        buffers.readable.read(0, &mut header[..header_len]);
        let start = self.bytes.len();
        self.bytes.resize(start + len, 0);
        let frame = &mut self.bytes[start..];
        buffers.readable.read(header_len, frame);
        match Offload::parse(&header, frame, negotiated) {
            Ok(offload) => self.frames.push((start..start + len, offload)),
            Err(_) => {
                self.bytes.truncate(start);
                return None;
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
    use virtio_queue::desc::{RawDescriptor, split::Descriptor};
    use virtio_queue::mock::MockSplitQueue;
    use vm_memory::{Bytes, GuestAddress};

    const MODERN: Negotiated = Negotiated(1 << VIRTIO_F_VERSION_1);
    const DATA: u64 = 0x1_0000;

    fn memory() -> GuestMemoryMmap {
        GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x4_0000)]).unwrap()
    }

    /// Makes one chain available for each length: header and frame in one descriptor.
    fn take(memory: &GuestMemoryMmap, lengths: &[u32]) -> (Batch, u16) {
        let mock = MockSplitQueue::new(memory, 16);
        for (index, &len) in lengths.iter().enumerate() {
            let descriptor = Descriptor::new(DATA, len, 0, 0);
            mock.desc_table().store(index as u16, RawDescriptor::from(descriptor)).unwrap();
            mock.avail().ring().ref_at(index).unwrap().store(u16::to_le(index as u16));
        }
        mock.avail().idx().store(u16::to_le(lengths.len() as u16));
        let mut queue: Queue = mock.create_queue().unwrap();
        let mut batch = Batch::default();
        batch.take(&mut queue, memory, MODERN).unwrap();
        (batch, u16::from_le(mock.used().idx().load()))
    }

    #[test]
    fn lengths_that_are_no_frame_are_counted_and_handed_back() {
        let memory = memory();
        let lengths = [0, 12, 12 + 13, 12 + 14, 12 + 65_550, 12 + 65_551];
        let (batch, used) = take(&memory, &lengths);
        assert_eq!(batch.frames().map(|frame| frame.bytes.len()).collect::<Vec<_>>(), [14, 65_550]);
        assert_eq!((batch.malformed(), used), (4, 6));
    }

    proptest! {
        /// Whatever the header says: every chain is a frame or counted, and goes back.
        #[test]
        fn every_chain_is_accounted_for(header: [u8; 12], lengths in prop::collection::vec(0u32..300, 1..16)) {
            let memory = memory();
            memory.write_slice(&header, GuestAddress(DATA)).unwrap();
            let (batch, used) = take(&memory, &lengths);
            prop_assert_eq!(usize::from(used), lengths.len());
            prop_assert_eq!(batch.frames().count() as u64 + batch.malformed(), u64::from(used));
        }
    }
}
