//! Into a receive queue: a frame from our memory into as many of the driver's buffers as it takes.

use virtio_queue::{Queue, QueueT};
use vm_memory::GuestMemoryMmap;

use super::header::Negotiated;
use super::transmit::Frame;
use crate::chain::{Buffers, Malformed};
use crate::ring::{self, RingError};

/// Most buffers that a frame is spread over. Buffers of 256 bytes take the longest frame with as many.
const MAX_BUFFERS: usize = 258;

/// Most descriptors of one buffer.
const MAX_DESCRIPTORS: usize = 1024;

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The driver has it.
    Delivered,
    /// There are not enough buffers. The queue is as it was.
    NoBuffers,
    /// The buffers are too small. The queue is as it was.
    TooLong,
}

/// Why a receive queue stops.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReceiveError {
    #[error(transparent)]
    Ring(#[from] RingError),
    #[error("the chain at descriptor {head} is not a receive buffer: {why}")]
    Chain { head: u16, why: Malformed },
    #[error("the receive buffer at descriptor {0} is not device-writable, or shorter than a header")]
    Buffer(u16),
}

/// Puts `frame` into `queue` for a driver that negotiated `to`.
pub(crate) fn deliver(
    queue: &mut Queue,
    memory: &GuestMemoryMmap,
    to: Negotiated,
    frame: Frame<'_>,
) -> Result<Outcome, ReceiveError> {
    let before = queue.next_avail();
    let outcome = try_deliver(queue, memory, to, frame);
    if !matches!(outcome, Ok(Outcome::Delivered)) {
        queue.set_next_avail(before);
    }
    outcome
}

fn try_deliver(
    queue: &mut Queue,
    memory: &GuestMemoryMmap,
    to: Negotiated,
    frame: Frame<'_>,
) -> Result<Outcome, ReceiveError> {
    let need = to.header() + frame.bytes.len();
    let mut buffers = Buffers::default();
    let mut used: Vec<(u16, u32)> = Vec::with_capacity(1);
    while buffers.writable.len() < need {
        // A ring that is used up whole will not get any longer.
        let exhausted = used.len() >= MAX_BUFFERS.min(queue.size().into());
        if exhausted || (used.len() == 1 && !to.mergeable()) {
            return Ok(Outcome::TooLong);
        }
        let Some(chain) = ring::pop(queue, memory)? else { return Ok(Outcome::NoBuffers) };
        let (head, before) = (chain.head_index(), buffers.writable.len());
        buffers.append(chain, memory, MAX_DESCRIPTORS).map_err(|why| ReceiveError::Chain { head, why })?;
        let len = buffers.writable.len() - before;
        // 5.1.6.3.1: each buffer is at least as long as the header.
        if buffers.readable.len() > 0 || len < to.header() {
            return Err(ReceiveError::Buffer(head));
        }
        // All but the last are filled.
        used.push((head, len.min(need - before) as u32));
    }
    let header = frame.offload.encode(used.len() as u16);
    buffers.writable.write(0, &header[..to.header()]);
    buffers.writable.write(to.header(), frame.bytes);
    ring::publish(queue, memory, &used)?;
    Ok(Outcome::Delivered)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::header::Offload;
    use proptest::prelude::*;
    use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
    use virtio_bindings::virtio_net::VIRTIO_NET_F_MRG_RXBUF;
    use virtio_bindings::virtio_ring::VRING_DESC_F_WRITE;
    use virtio_queue::desc::{RawDescriptor, split::Descriptor};
    use virtio_queue::mock::MockSplitQueue;
    use vm_memory::{Bytes, GuestAddress};

    const MODERN: Negotiated = Negotiated(1 << VIRTIO_F_VERSION_1);
    const MERGEABLE: Negotiated = Negotiated(MODERN.0 | 1 << VIRTIO_NET_F_MRG_RXBUF);
    const DATA: u64 = 0x1_0000;
    const STRIDE: u64 = 0x1000;

    fn memory() -> GuestMemoryMmap {
        GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x4_0000)]).unwrap()
    }

    /// A receive queue of 16 with one buffer of each of the lengths.
    fn queue_with<'m>(
        memory: &'m GuestMemoryMmap,
        lengths: &[u32],
    ) -> (MockSplitQueue<'m, GuestMemoryMmap>, Queue) {
        let mock = MockSplitQueue::new(memory, 16);
        for (index, &len) in lengths.iter().enumerate() {
            let descriptor = Descriptor::new(DATA + index as u64 * STRIDE, len, VRING_DESC_F_WRITE as u16, 0);
            mock.desc_table().store(index as u16, RawDescriptor::from(descriptor)).unwrap();
            mock.avail().ring().ref_at(index).unwrap().store(u16::to_le(index as u16));
        }
        mock.avail().idx().store(u16::to_le(lengths.len() as u16));
        let queue = mock.create_queue().unwrap();
        (mock, queue)
    }

    fn frame(bytes: &[u8]) -> Frame<'_> {
        Frame { bytes, offload: Offload::default() }
    }

    #[test]
    fn without_merging_a_frame_fits_one_buffer_or_none() {
        let memory = memory();
        let (_mock, mut queue) = queue_with(&memory, &[112, 200]);
        assert_eq!(deliver(&mut queue, &memory, MODERN, frame(&[7; 101])).unwrap(), Outcome::TooLong);
        assert_eq!(deliver(&mut queue, &memory, MODERN, frame(&[7; 100])).unwrap(), Outcome::Delivered);
        assert_eq!(deliver(&mut queue, &memory, MODERN, frame(&[7; 101])).unwrap(), Outcome::Delivered);
        assert_eq!(deliver(&mut queue, &memory, MODERN, frame(&[7; 14])).unwrap(), Outcome::NoBuffers);
    }

    #[test]
    fn a_frame_that_lacks_buffers_leaves_the_queue_alone() {
        let memory = memory();
        let (mock, mut queue) = queue_with(&memory, &[64, 64, 64]);
        assert_eq!(deliver(&mut queue, &memory, MERGEABLE, frame(&[7; 181])).unwrap(), Outcome::NoBuffers);
        assert_eq!((queue.next_avail(), u16::from_le(mock.used().idx().load())), (0, 0));
        assert_eq!(deliver(&mut queue, &memory, MERGEABLE, frame(&[7; 180])).unwrap(), Outcome::Delivered);
        assert_eq!(u16::from_le(mock.used().idx().load()), 3);
    }

    #[test]
    fn a_ring_of_tiny_buffers_is_too_small_and_not_just_empty() {
        let memory = memory();
        let (_mock, mut queue) = queue_with(&memory, &[12; 16]);
        assert_eq!(deliver(&mut queue, &memory, MERGEABLE, frame(&[7; 1000])).unwrap(), Outcome::TooLong);
    }

    #[test]
    fn a_buffer_that_cannot_be_written_stops_the_ring() {
        let memory = memory();
        let (mock, mut queue) = queue_with(&memory, &[11]);
        let error = deliver(&mut queue, &memory, MERGEABLE, frame(&[7; 60])).unwrap_err();
        assert!(matches!(error, ReceiveError::Buffer(0)), "{error}");
        mock.desc_table().store(0, RawDescriptor::from(Descriptor::new(DATA, 100, 0, 0))).unwrap();
        let error = deliver(&mut queue, &memory, MERGEABLE, frame(&[7; 60])).unwrap_err();
        assert!(matches!(error, ReceiveError::Buffer(0)), "{error}");
    }

    proptest! {
        /// A driver that joins the buffers as 5.1.6.4 says has the frame.
        #[test]
        fn merged_buffers_hold_the_frame(
            lengths in prop::collection::vec(12u32..400, 16), bytes in prop::collection::vec(any::<u8>(), 14..1500),
        ) {
            let memory = memory();
            let (mock, mut queue) = queue_with(&memory, &lengths);
            if deliver(&mut queue, &memory, MERGEABLE, frame(&bytes)).unwrap() == Outcome::Delivered {
                let count: u16 = memory.read_obj(GuestAddress(DATA + 10)).unwrap();
                prop_assert_eq!(count, mock.used().idx().load());
                let mut joined = Vec::new();
                for (slot, &length) in lengths.iter().enumerate().take(count.into()) {
                    let element = mock.used().ring().ref_at(slot).unwrap().load();
                    prop_assert_eq!(element.id(), slot as u32);
                    prop_assert!(element.len() <= length);
                    let mut part = vec![0; element.len() as usize];
                    memory.read_slice(&mut part, GuestAddress(DATA + slot as u64 * STRIDE)).unwrap();
                    joined.extend(part);
                }
                prop_assert_eq!(&joined[12..], &bytes[..]);
            } else {
                let capacity: u32 = lengths.iter().sum();
                prop_assert!((capacity as usize) < 12 + bytes.len());
            }
        }
    }
}
