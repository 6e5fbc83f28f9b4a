//! The device's side of a split virtqueue, where `virtio_queue::Queue` is too coarse for a server.
//!
//! [`Queue`] keeps the indices and walks the chains. Added here: an empty ring is told from a broken one,
//! several used buffers become visible at once (a frame in merged buffers must), and the driver's wish not to
//! be interrupted is heeded in both of its forms.

use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use unix_service::{Polling, Rest};
use virtio_bindings::virtio_ring::VRING_AVAIL_F_NO_INTERRUPT;
use virtio_queue::{DescriptorChain, Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryAtomic, GuestMemoryMmap};

/// Looks at the rings between two offers of the core to other threads. A look takes some 50 ns, giving way a
/// microsecond or so: where cores are free an answer is not held up by it, and where they are few the driver
/// that the thread waits for gets to run.
const LOOKS_PER_YIELD: u32 = 32;

/// A front end's memory table, replaced whole when the front end changes it.
pub(crate) type Memory = GuestMemoryAtomic<GuestMemoryMmap>;

/// One vring of a connection. The thread that handles the control socket locks it too.
pub(crate) type Vring = vhost_user_backend::VringMutex<Memory>;

/// Why a ring cannot be read any further. The ring stops; its front end has to set it up anew.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RingError {
    /// The available index moved further than the ring is long, or a ring lies outside of the memory table.
    #[error("the ring cannot be accessed: {0}")]
    Access(#[from] virtio_queue::Error),
    /// The available ring names a descriptor that does not exist.
    #[error("the available ring names descriptor {head}, but the table has {size} descriptors")]
    Head { head: u16, size: u16 },
    /// The available index is ahead, but the entry cannot be read.
    #[error("available ring entry {0} lies outside of the memory table")]
    Entry(u16),
    /// The region for what is in flight was begun by a server that writes it in another way.
    #[error("what was in flight is noted in version {0} of the layout, and this server knows only version 1")]
    InFlightVersion(u16),
    /// There is no memory for the ring that requests are done again from.
    #[error("there is no memory to do requests again that an earlier server left in flight")]
    NoReplay,
}

/// How a thread looks at its idle rings: for `limit` before it sleeps; zero does not poll.
pub(crate) fn polling(limit: Duration) -> Polling {
    Polling::new(Rest::After(limit), LOOKS_PER_YIELD, LOOKS_PER_YIELD)
}

/// Takes the next available chain off `queue`, or nothing if there is none.
pub(crate) fn pop<'m>(
    queue: &mut Queue,
    memory: &'m GuestMemoryMmap,
) -> Result<Option<DescriptorChain<&'m GuestMemoryMmap>>, RingError> {
    if queue.avail_idx(memory, Ordering::Acquire)?.0 == queue.next_avail() {
        return Ok(None);
    }
    match queue.iter(memory)?.next() {
        Some(chain) if chain.head_index() < queue.size() => Ok(Some(chain)),
        Some(chain) => Err(RingError::Head { head: chain.head_index(), size: queue.size() }),
        // The iterator also ends at an entry that it cannot read: that must not look like an idle ring for
        // ever.
        None => Err(RingError::Entry(queue.next_avail())),
    }
}

/// Hands `used` chains, each a head and the bytes written to it, back to the driver, all at once: the used
/// index moves after every element is in place (virtio 1.3, 2.7.13.3), and for buffers that carry one frame
/// only once (5.1.6.4).
pub(crate) fn publish(
    queue: &mut Queue,
    memory: &GuestMemoryMmap,
    used: &[(u16, u32)],
) -> Result<(), RingError> {
    let mut next = queue.next_used();
    for &(head, len) in used {
        // 2.7.8: le16 flags, le16 idx, then elements of le32 id, le32 len.
        let at = queue.used_ring() + 4 + 8 * u64::from(next % queue.size());
        let element = u64::from(len) << 32 | u64::from(head);
        memory.write_obj(element.to_le(), GuestAddress(at)).map_err(access)?;
        next = next.wrapping_add(1);
    }
    memory.store(next.to_le(), GuestAddress(queue.used_ring() + 2), Ordering::Release).map_err(access)?;
    queue.set_next_used(next);
    Ok(())
}

/// Whether the driver wants an interrupt for what was published since the used index was `before`
/// (virtio 1.3, 2.7.7.2 and 2.7.10.1).
pub(crate) fn wants_interrupt(
    queue: &Queue,
    memory: &GuestMemoryMmap,
    before: u16,
) -> Result<bool, RingError> {
    let after = queue.next_used();
    // The used index must be seen by the driver before its suppression is read.
    fence(Ordering::SeqCst);
    if queue.event_idx_enabled() {
        let at = queue.avail_ring() + 4 + 2 * u64::from(queue.size());
        let event = u16::from_le(memory.load(GuestAddress(at), Ordering::Relaxed).map_err(access)?);
        Ok(after.wrapping_sub(event).wrapping_sub(1) < after.wrapping_sub(before))
    } else {
        let flags: u16 = memory.load(GuestAddress(queue.avail_ring()), Ordering::Relaxed).map_err(access)?;
        Ok(after != before && u32::from(u16::from_le(flags)) & VRING_AVAIL_F_NO_INTERRUPT == 0)
    }
}

/// Asks the driver to kick when it makes more available than it has by now, taken or not. The caller looks at
/// the available index once more afterwards (virtio 1.3, 2.7.10.2).
pub(crate) fn kick_for_more(queue: &mut Queue, memory: &GuestMemoryMmap) -> Result<(), RingError> {
    // The queue would ask for a kick at the first chain that was not taken, which the driver has gone past.
    let next = queue.next_avail();
    queue.set_next_avail(queue.avail_idx(memory, Ordering::Acquire)?.0);
    let result = queue.enable_notification(memory);
    queue.set_next_avail(next);
    result?;
    Ok(())
}

pub(crate) fn access(source: vm_memory::GuestMemoryError) -> RingError {
    RingError::Access(virtio_queue::Error::GuestMemory(source))
}

#[cfg(test)]
mod tests {
    use super::*;
    use virtio_queue::mock::MockSplitQueue;

    const SIZE: u16 = 8;

    fn memory() -> GuestMemoryMmap {
        GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x1_0000)]).unwrap()
    }

    #[test]
    fn an_index_that_jumps_breaks_the_ring_and_an_idle_one_does_not() {
        let memory = memory();
        let mock = MockSplitQueue::new(&memory, SIZE);
        let mut queue: Queue = mock.create_queue().unwrap();
        assert!(pop(&mut queue, &memory).unwrap().is_none());
        mock.avail().idx().store(u16::to_le(SIZE + 1));
        assert!(matches!(pop(&mut queue, &memory), Err(RingError::Access(_))));
    }

    #[test]
    fn a_head_outside_of_the_table_breaks_the_ring() {
        let memory = memory();
        let mock = MockSplitQueue::new(&memory, SIZE);
        let mut queue: Queue = mock.create_queue().unwrap();
        mock.avail().ring().ref_at(0).unwrap().store(u16::to_le(SIZE));
        mock.avail().idx().store(u16::to_le(1));
        assert!(matches!(pop(&mut queue, &memory), Err(RingError::Head { head: SIZE, size: SIZE })));
    }

    #[test]
    fn an_entry_that_cannot_be_read_is_not_an_idle_ring() {
        let memory = memory();
        let mock = MockSplitQueue::new(&memory, SIZE);
        let mut queue: Queue = mock.create_queue().unwrap();
        // Flags and index are the last four bytes of memory; the entries lie beyond.
        queue.try_set_avail_ring_address(GuestAddress(0xfffc)).unwrap();
        memory.write_obj(1u16.to_le(), GuestAddress(0xfffe)).unwrap();
        assert!(matches!(pop(&mut queue, &memory), Err(RingError::Entry(0))));
    }

    #[test]
    fn a_driver_that_adds_while_the_device_looks_is_no_fault() {
        let memory = memory();
        let mock = MockSplitQueue::new(&memory, SIZE);
        let mut queue: Queue = mock.create_queue().unwrap();
        let index = GuestAddress(mock.avail_addr().0 + 2);
        const TURNS: u16 = 20_000;
        std::thread::scope(|scope| {
            // Never more than one chain ahead: the driver waits for the device to take it.
            let (taken, wait) = std::sync::mpsc::channel();
            let memory = &memory;
            scope.spawn(move || {
                for turn in 1..=TURNS {
                    memory.store(turn.to_le(), index, Ordering::Release).unwrap();
                    wait.recv().unwrap();
                }
            });
            for _ in 0..TURNS {
                while pop(&mut queue, memory).unwrap().is_none() {
                    std::hint::spin_loop();
                }
                taken.send(()).unwrap();
            }
        });
        assert_eq!(queue.next_avail(), TURNS);
    }

    #[test]
    fn a_batch_wraps_around_the_ring_and_moves_the_index_once() {
        let memory = memory();
        let mock = MockSplitQueue::new(&memory, SIZE);
        let mut queue: Queue = mock.create_queue().unwrap();
        queue.set_next_used(u16::MAX - 1);
        publish(&mut queue, &memory, &[(3, 30), (4, 40), (5, 50)]).unwrap();
        assert_eq!(u16::from_le(mock.used().idx().load()), 1);
        for (slot, head, len) in [(6, 3, 30), (7, 4, 40), (0, 5, 50)] {
            let element = mock.used().ring().ref_at(slot).unwrap().load();
            assert_eq!((element.id(), element.len()), (head, len));
        }
    }

    #[test]
    fn interrupts_follow_the_event_index_across_a_batch() {
        let memory = memory();
        let mock = MockSplitQueue::new(&memory, SIZE);
        let mut queue: Queue = mock.create_queue().unwrap();
        queue.set_event_idx(true);
        publish(&mut queue, &memory, &[(0, 0), (1, 0), (2, 0)]).unwrap();
        // (used_event, is an interrupt due for used entries 0..3?)
        for (event, due) in [(0u16, true), (1, true), (2, true), (3, false), (u16::MAX, false)] {
            let at = mock.avail_addr().0 + 4 + 2 * u64::from(SIZE);
            memory.write_obj(event.to_le(), GuestAddress(at)).unwrap();
            assert_eq!(wants_interrupt(&queue, &memory, 0).unwrap(), due, "used_event {event}");
        }
    }

    #[test]
    fn a_kick_is_asked_for_beyond_what_is_there() {
        let memory = memory();
        let mock = MockSplitQueue::new(&memory, SIZE);
        let mut queue: Queue = mock.create_queue().unwrap();
        queue.set_event_idx(true);
        mock.avail().idx().store(u16::to_le(5));
        kick_for_more(&mut queue, &memory).unwrap();
        let event: u16 = memory.read_obj(GuestAddress(mock.used_addr().0 + 4 + 8 * u64::from(SIZE))).unwrap();
        assert_eq!((u16::from_le(event), queue.next_avail()), (5, 0));
    }

    #[test]
    fn interrupts_follow_the_flag_without_the_event_index() {
        let memory = memory();
        let mock = MockSplitQueue::new(&memory, SIZE);
        let mut queue: Queue = mock.create_queue().unwrap();
        assert!(!wants_interrupt(&queue, &memory, 0).unwrap(), "nothing was used");
        publish(&mut queue, &memory, &[(0, 0)]).unwrap();
        assert!(wants_interrupt(&queue, &memory, 0).unwrap());
        memory.write_obj(1u16.to_le(), mock.avail_addr()).unwrap();
        assert!(!wants_interrupt(&queue, &memory, 0).unwrap());
    }
}
