//! The two rings of the console: off the transmitq what is printed, into the receiveq what is typed.

use virtio_queue::{Queue, QueueT};
use vm_memory::GuestMemoryMmap;

use super::typed::Typed;
use crate::chain::Buffers;
use crate::ring::{self, RingError};

/// 5.3.2: receiveq of port 0.
pub(crate) const RECEIVEQ: usize = 0;
/// 5.3.2: transmitq of port 0.
pub(crate) const TRANSMITQ: usize = 1;
/// Number of rings without MULTIPORT (5.3.2).
pub(crate) const COUNT: usize = 2;

/// Most chains that are taken at once. Terminals and the other ring are looked at in between.
const MAX_CHAINS: usize = 64;

/// Most descriptors of a chain.
const MAX_DESCRIPTORS: usize = 1024;

/// Most bytes that a chain may print: one chain must not keep the thread busy for long. Linux sends 32 KiB at
/// most.
const MAX_PRINTED: usize = 1 << 20;

/// Bytes after which no further chain is printed.
const ENOUGH_BYTES: usize = 64 << 10;

/// What a look at a ring came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Pass {
    /// Used index before the first of them.
    pub(crate) before: u16,
    /// Chains that went back to the driver, each with the bytes written to it.
    pub(crate) used: Vec<(u16, u32)>,
    /// Chains among them that were not what the ring is for: unreadable, of the wrong direction, too long.
    pub(crate) malformed: usize,
}

impl Pass {
    fn over(queue: &Queue) -> Self {
        Self { before: queue.next_used(), used: Vec::new(), malformed: 0 }
    }

    /// Hands the chains back.
    fn publish(self, queue: &mut Queue, memory: &GuestMemoryMmap) -> Result<Self, RingError> {
        if !self.used.is_empty() {
            ring::publish(queue, memory, &self.used)?;
        }
        Ok(self)
    }
}

/// Replaces `printed` by what is available in the transmitq.
pub(crate) fn print(
    queue: &mut Queue,
    memory: &GuestMemoryMmap,
    printed: &mut Vec<u8>,
) -> Result<Pass, RingError> {
    printed.clear();
    let mut pass = Pass::over(queue);
    let mut buffers = Buffers::default();
    while pass.used.len() < MAX_CHAINS && printed.len() < ENOUGH_BYTES {
        let Some(chain) = ring::pop(queue, memory)? else { break };
        pass.used.push((chain.head_index(), 0));
        let is_chain = buffers.collect(chain, memory, MAX_DESCRIPTORS).is_ok();
        let len = buffers.readable.len();
        // 5.3.6.1: no device-writable buffer in a transmitq.
        if !is_chain || buffers.writable.len() > 0 || len > MAX_PRINTED {
            pass.malformed += 1;
            continue;
        }
        let start = printed.len();
        printed.resize(start + len, 0);
        buffers.readable.read(0, &mut printed[start..]);
    }
    pass.publish(queue, memory)
}

/// Puts what is `typed` into the buffers of the receiveq, as far as there are any.
pub(crate) fn enter(
    queue: &mut Queue,
    memory: &GuestMemoryMmap,
    typed: &mut Typed,
) -> Result<Pass, RingError> {
    let mut pass = Pass::over(queue);
    let mut buffers = Buffers::default();
    while pass.used.len() < MAX_CHAINS && !typed.is_empty() {
        let Some(chain) = ring::pop(queue, memory)? else { break };
        let head = chain.head_index();
        let is_chain = buffers.collect(chain, memory, MAX_DESCRIPTORS).is_ok();
        // 5.3.6.1: no device-readable buffer in a receiveq.
        let writable = if is_chain && buffers.readable.len() == 0 { buffers.writable.len() } else { 0 };
        let mut written = 0;
        while written < writable && !typed.is_empty() {
            let count = buffers.writable.write(written, typed.front());
            typed.taken(count);
            written += count;
        }
        pass.malformed += usize::from(writable == 0);
        pass.used.push((head, written as u32));
    }
    pass.publish(queue, memory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use virtio_bindings::virtio_ring::{VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};
    use virtio_queue::desc::{RawDescriptor, split::Descriptor};
    use virtio_queue::mock::MockSplitQueue;
    use vm_memory::{Bytes, GuestAddress};

    const SIZE: u16 = 16;
    const DATA: u64 = 0x1_0000;
    const MEMORY: usize = 0x4_0000;

    fn memory() -> GuestMemoryMmap {
        GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY)]).unwrap()
    }

    /// A ring with one descriptor for each chain: offset from [`DATA`], length, device-writable.
    fn ring_of(memory: &GuestMemoryMmap, chains: &[(u64, u32, bool)]) -> Queue {
        let mock = MockSplitQueue::new(memory, SIZE);
        for (index, &(at, len, writable)) in chains.iter().enumerate() {
            let flags = if writable { VRING_DESC_F_WRITE as u16 } else { 0 };
            let descriptor = Descriptor::new(DATA + at, len, flags, 0);
            mock.desc_table().store(index as u16, RawDescriptor::from(descriptor)).unwrap();
            mock.avail().ring().ref_at(index).unwrap().store(u16::to_le(index as u16));
        }
        mock.avail().idx().store(u16::to_le(chains.len() as u16));
        mock.create_queue().unwrap()
    }

    #[test]
    fn chains_are_printed_in_order_and_what_is_none_is_not() {
        let memory = memory();
        memory.write_slice(b"one, two, three", GuestAddress(DATA)).unwrap();
        let mut queue = ring_of(
            &memory,
            &[(0, 5, false), (0, 5, true), (MEMORY as u64, 5, false), (0, 0, false), (5, 10, false)],
        );
        let mut printed = b"old".to_vec();
        let pass = print(&mut queue, &memory, &mut printed).unwrap();
        assert_eq!(printed, b"one, two, three");
        assert_eq!(pass.used, [(0, 0), (1, 0), (2, 0), (3, 0), (4, 0)]);
        assert_eq!((pass.before, pass.malformed), (0, 2));
    }

    #[test]
    fn a_chain_that_is_too_long_is_not_printed() {
        let memory = memory();
        // Nine times the same 128 KiB, in one chain.
        let mock = MockSplitQueue::new(&memory, SIZE);
        for index in 0..9 {
            let flags = if index < 8 { VRING_DESC_F_NEXT as u16 } else { 0 };
            let descriptor = Descriptor::new(DATA, 128 << 10, flags, index + 1);
            mock.desc_table().store(index, RawDescriptor::from(descriptor)).unwrap();
        }
        mock.avail().idx().store(u16::to_le(1));
        let mut queue: Queue = mock.create_queue().unwrap();
        let mut printed = Vec::new();
        assert_eq!(print(&mut queue, &memory, &mut printed).unwrap().malformed, 1);
        assert!(printed.is_empty());
    }

    #[test]
    fn what_is_typed_waits_for_buffers() {
        let memory = memory();
        let mut typed = Typed::default();
        typed.push(b"hello");
        let mut queue = ring_of(&memory, &[(0, 2, true), (0, 9, false), (2, 2, true)]);
        let pass = enter(&mut queue, &memory, &mut typed).unwrap();
        assert_eq!((pass.used, pass.malformed), (vec![(0, 2), (1, 0), (2, 2)], 1));
        assert_eq!(memory.read_obj::<[u8; 4]>(GuestAddress(DATA)).unwrap(), *b"hell");
        assert_eq!(typed.front(), b"o");
        assert_eq!(enter(&mut queue, &memory, &mut typed).unwrap().used, []);
        assert_eq!(typed.front(), b"o");
    }

    #[test]
    fn a_buffer_is_not_taken_while_nothing_is_typed() {
        let memory = memory();
        let mut queue = ring_of(&memory, &[(0, 2, true)]);
        assert_eq!(enter(&mut queue, &memory, &mut Typed::default()).unwrap().used, []);
        assert_eq!(queue.next_avail(), 0);
    }

    proptest! {
        /// Whatever the chains: each goes back once, and the driver has read a prefix of what was typed.
        #[test]
        fn every_chain_goes_back(
            chains in prop::collection::vec((0u64..0x3_1000, 0u32..300, any::<bool>()), 1..usize::from(SIZE)),
            keys in prop::collection::vec(any::<u8>(), 0..2000),
        ) {
            let memory = memory();
            let mut typed = Typed::default();
            typed.push(&keys);
            let pass = enter(&mut ring_of(&memory, &chains), &memory, &mut typed).unwrap();
            let written: usize = pass.used.iter().map(|&(_, len)| len as usize).sum();
            prop_assert_eq!(typed.front(), &keys[written..]);
            prop_assert!(typed.is_empty() || pass.used.len() == chains.len());

            let mut printed = Vec::new();
            let pass = print(&mut ring_of(&memory, &chains), &memory, &mut printed).unwrap();
            prop_assert_eq!(pass.used.len(), chains.len());
            let readable: usize = chains.iter().filter(|chain| !chain.2).map(|chain| chain.1 as usize).sum();
            prop_assert!(printed.len() <= readable);
        }
    }
}
