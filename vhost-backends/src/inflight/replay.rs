//! The requests that are to be done again, as a ring to take them from.

use virtio_queue::{DescriptorChain, Queue, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestRegionMmap};

use std::sync::Arc;

use crate::ring::{self, RingError};

/// Bytes of an available ring before its entries: le16 flags, le16 idx (virtio 1.3, 2.7.6).
const HEADER: u64 = 4;

/// A ring over the descriptor table of another, whose available entries are this server's own: crate
/// `virtio-queue` walks a chain only from a head that it found in an available ring, and that of the driver
/// is not the device's to write.
pub(crate) struct Replay {
    queue: Queue,
    /// The front end's memory when the ring was taken up, and behind it a page or more with the available
    /// ring. Only descriptors are read from it: they stay where they are for as long as a ring runs, which
    /// other memory need not.
    memory: GuestMemoryMmap,
}

impl Replay {
    /// Offers `heads` of `queue`, no more than that is long, in this order.
    pub(crate) fn new(queue: &Queue, memory: &GuestMemoryMmap, heads: &[u16]) -> Result<Self, RingError> {
        let broken = |_| RingError::NoReplay;
        let at = memory.last_addr().0.checked_add(1).map(|end| end.next_multiple_of(4096));
        let at = GuestAddress(at.ok_or(RingError::NoReplay)?);
        let length = (HEADER + 2 * u64::from(queue.size()) + 2).next_multiple_of(4096);
        let region =
            GuestRegionMmap::from_range(at, length as usize, None).map_err(|_| RingError::NoReplay)?;
        let memory = memory.insert_region(Arc::new(region)).map_err(|_| RingError::NoReplay)?;
        let entries = heads.iter().flat_map(|head| head.to_le_bytes()).collect::<Vec<_>>();
        memory.write_slice(&entries, GuestAddress(at.0 + HEADER)).map_err(ring::access)?;
        let count = (heads.len() as u16).to_le();
        memory.write_obj(count, GuestAddress(at.0 + 2)).map_err(ring::access)?;
        let mut offered = Queue::new(queue.max_size()).map_err(broken)?;
        offered.set_size(queue.size());
        offered.try_set_desc_table_address(GuestAddress(queue.desc_table())).map_err(broken)?;
        offered.try_set_avail_ring_address(at).map_err(broken)?;
        offered.set_ready(true);
        Ok(Self { queue: offered, memory })
    }

    /// The next request, in the order of the heads.
    pub(crate) fn pop(&mut self) -> Result<Option<DescriptorChain<&GuestMemoryMmap>>, RingError> {
        ring::pop(&mut self.queue, &self.memory)
    }
}
