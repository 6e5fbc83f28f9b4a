//! A descriptor chain as two runs of bytes: what the device may read, then what it may write.
//!
//! virtio 1.3, 2.7.4: a device must not care where one descriptor ends and the next begins, so no code above
//! this module sees a descriptor.

use virtio_queue::DescriptorChain;
use vm_memory::{GuestMemory, GuestMemoryMmap, Permissions, VolatileSlice};

/// Why a chain is not a message. The device hands such a chain back unused and counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    /// No descriptor, a loop, an indirect table in an indirect table, a table outside of memory, more than 4
    /// GiB.
    #[error("its descriptors do not form a chain that ends")]
    Unterminated,
    /// More descriptors than the device is ready to look at.
    #[error("it has more than {0} descriptors")]
    TooManyDescriptors(usize),
    /// A descriptor covers bytes that the memory table does not hold.
    #[error("a descriptor points outside of the memory table")]
    OutsideMemory,
    /// 2.7.4.2: device-readable descriptors come first.
    #[error("a device-readable descriptor follows a device-writable one")]
    Order,
}

/// Bytes of a front end's memory in the order of a chain.
#[derive(Debug, Default)]
pub(crate) struct Segments<'m> {
    slices: Vec<VolatileSlice<'m>>,
    len: usize,
}

impl<'m> Segments<'m> {
    /// Length of the run in bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    fn clear(&mut self) {
        self.slices.clear();
        self.len = 0;
    }

    fn push(&mut self, slice: VolatileSlice<'m>) {
        self.len += slice.len();
        self.slices.push(slice);
    }

    /// The parts of `len` bytes from `offset` on, cut short at the end of the run.
    pub(crate) fn range(&self, offset: usize, len: usize) -> impl Iterator<Item = VolatileSlice<'m>> + '_ {
        let (mut skip, mut left) = (offset, len);
        self.slices.iter().filter_map(move |slice| {
            let from = skip.min(slice.len());
            let count = left.min(slice.len() - from);
            skip -= from;
            left -= count;
            (count > 0).then(|| slice.subslice(from, count).ok()).flatten()
        })
    }

    /// Copies bytes from `offset` on into `into` and returns how many there were.
    pub(crate) fn read(&self, offset: usize, into: &mut [u8]) -> usize {
        let mut done = 0;
        for slice in self.range(offset, into.len()) {
            done += slice.copy_to(&mut into[done..]);
        }
        done
    }

    /// Copies `from` to the bytes from `offset` on and returns how many fitted.
    pub(crate) fn write(&self, offset: usize, from: &[u8]) -> usize {
        let mut done = 0;
        for slice in self.range(offset, from.len()) {
            slice.copy_from(&from[done..]);
            done += slice.len();
        }
        done
    }

    /// Sets `len` bytes from `offset` on to zero.
    pub(crate) fn zero(&self, offset: usize, len: usize) {
        const ZEROES: [u8; 4096] = [0; 4096];
        for slice in self.range(offset, len) {
            let mut done = 0;
            while let Ok(rest) = slice.offset(done)
                && !rest.is_empty()
            {
                rest.copy_from(&ZEROES);
                done += rest.len().min(ZEROES.len());
            }
        }
    }
}

/// Both runs of a chain. One value serves many chains: [`Buffers::collect`] starts over and keeps the
/// allocation.
#[derive(Debug, Default)]
pub(crate) struct Buffers<'m> {
    /// The bytes that the device may read, in the order of the chain.
    pub(crate) readable: Segments<'m>,
    /// The bytes that the device may write, in the order of the chain.
    pub(crate) writable: Segments<'m>,
}

impl<'m> Buffers<'m> {
    /// Reads the descriptors of `chain`, at most `limit` of them.
    pub(crate) fn collect(
        &mut self,
        chain: DescriptorChain<&'m GuestMemoryMmap>,
        memory: &'m GuestMemoryMmap,
        limit: usize,
    ) -> Result<(), Malformed> {
        self.readable.clear();
        self.writable.clear();
        self.append(chain, memory, limit)
    }

    /// Reads one more chain, whose bytes follow those that are here.
    pub(crate) fn append(
        &mut self,
        chain: DescriptorChain<&'m GuestMemoryMmap>,
        memory: &'m GuestMemoryMmap,
        limit: usize,
    ) -> Result<(), Malformed> {
        // The walker ends silently at whatever it cannot follow; the last descriptor it gave then still has
        // NEXT.
        let mut ended = false;
        for (seen, descriptor) in chain.enumerate() {
            if seen == limit {
                return Err(Malformed::TooManyDescriptors(limit));
            }
            let (run, access) = match descriptor.is_write_only() {
                true => (&mut self.writable, Permissions::Write),
                false if self.writable.len > 0 => return Err(Malformed::Order),
                false => (&mut self.readable, Permissions::Read),
            };
            let slices = memory
                .get_slices(descriptor.addr(), descriptor.len() as usize, access)
                .map_err(|_| Malformed::OutsideMemory)?;
            for slice in slices {
                run.push(slice.map_err(|_| Malformed::OutsideMemory)?);
            }
            ended = !descriptor.has_next();
        }
        if ended { Ok(()) } else { Err(Malformed::Unterminated) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring;
    use proptest::prelude::*;
    use virtio_bindings::virtio_ring::{VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};
    use virtio_queue::desc::{RawDescriptor, split::Descriptor};
    use virtio_queue::{Queue, mock::MockSplitQueue};
    use vm_memory::{Bytes, GuestAddress};

    const NEXT: u16 = VRING_DESC_F_NEXT as u16;
    const WRITE: u16 = VRING_DESC_F_WRITE as u16;
    const INDIRECT: u16 = VRING_DESC_F_INDIRECT as u16;
    const SIZE: u16 = 16;
    const MEMORY: u64 = 0x2_0000;

    fn memory() -> GuestMemoryMmap {
        GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY as usize)]).unwrap()
    }

    /// Puts `table` into the descriptor table and collects the chain that starts at descriptor 0.
    fn collect<'m>(
        memory: &'m GuestMemoryMmap,
        table: &[Descriptor],
        limit: usize,
    ) -> (Buffers<'m>, Result<(), Malformed>) {
        let mock = MockSplitQueue::new(memory, SIZE);
        for (index, descriptor) in table.iter().enumerate() {
            mock.desc_table().store(index as u16, RawDescriptor::from(*descriptor)).unwrap();
        }
        mock.avail().idx().store(u16::to_le(1));
        let mut queue: Queue = mock.create_queue().unwrap();
        let chain = ring::pop(&mut queue, memory).unwrap().unwrap();
        let mut buffers = Buffers::default();
        let result = buffers.collect(chain, memory, limit);
        (buffers, result)
    }

    #[test]
    fn both_runs_are_found_whatever_the_split() {
        let memory = memory();
        memory.write_slice(b"header and data", GuestAddress(0x8000)).unwrap();
        let table = [
            Descriptor::new(0x8000, 3, NEXT, 1),
            Descriptor::new(0x8003, 12, NEXT, 2),
            Descriptor::new(0x9000, 2, NEXT | WRITE, 3),
            Descriptor::new(0x9100, 5, WRITE, 0),
        ];
        let (buffers, result) = collect(&memory, &table, 4);
        result.unwrap();
        let mut text = [0; 15];
        assert_eq!(buffers.readable.read(0, &mut text), 15);
        assert_eq!(&text, b"header and data");
        assert_eq!(buffers.writable.write(1, b"xyz"), 3);
        let bytes: [u8; 2] = memory.read_obj(GuestAddress(0x9100)).unwrap();
        assert_eq!(&bytes, b"yz");
        assert_eq!(buffers.writable.write(5, b"xyz"), 2, "only two bytes are left from 5 on");
    }

    #[test]
    fn garbage_is_named() {
        let memory = memory();
        let cases = [
            (vec![Descriptor::new(0x8000, 1, NEXT, 0)], Malformed::Unterminated),
            (vec![Descriptor::new(0x8000, 1, NEXT, SIZE)], Malformed::Unterminated),
            (vec![Descriptor::new(MEMORY, 16, INDIRECT, 0)], Malformed::Unterminated),
            (vec![Descriptor::new(0x8000, 0, INDIRECT, 0)], Malformed::Unterminated),
            (vec![Descriptor::new(MEMORY - 1, 2, 0, 0)], Malformed::OutsideMemory),
            (vec![Descriptor::new(u64::MAX, 2, 0, 0)], Malformed::OutsideMemory),
            (
                vec![Descriptor::new(0x8000, 1, NEXT | WRITE, 1), Descriptor::new(0x8000, 1, 0, 0)],
                Malformed::Order,
            ),
        ];
        for (table, expected) in cases {
            assert_eq!(collect(&memory, &table, 64).1, Err(expected), "{table:?}");
        }
        let two = [Descriptor::new(0x8000, 1, NEXT, 1), Descriptor::new(0x8000, 1, 0, 0)];
        assert_eq!(collect(&memory, &two, 1).1, Err(Malformed::TooManyDescriptors(1)));
    }

    #[test]
    fn an_indirect_table_in_an_indirect_table_is_refused() {
        let memory = memory();
        let inner = Descriptor::new(0x8000, 16, INDIRECT, 0);
        memory.write_obj(RawDescriptor::from(inner), GuestAddress(0x8000)).unwrap();
        let table = [Descriptor::new(0x8000, 16, INDIRECT, 0)];
        assert_eq!(collect(&memory, &table, 64).1, Err(Malformed::Unterminated));
    }

    proptest! {
        /// Whatever the table holds, what is collected lies in memory and is no longer than the limit allows.
        #[test]
        fn any_table_is_bounded(raw in prop::collection::vec(
            (0..MEMORY + 64, prop_oneof![0u32..64, any::<u32>()], 0u16..8, 0..SIZE + 2), 1..usize::from(SIZE),
        )) {
            let memory = memory();
            let table: Vec<_> =
                raw.iter().map(|&(addr, len, flags, next)| Descriptor::new(addr, len, flags, next)).collect();
            let (buffers, result) = collect(&memory, &table, 8);
            if result.is_ok() {
                prop_assert!(buffers.readable.slices.len() + buffers.writable.slices.len() <= 8);
            }
            prop_assert!(buffers.readable.len() as u64 <= 8 * MEMORY);
            buffers.writable.zero(0, buffers.writable.len());
        }

        /// A range is the same bytes that a flat copy gives.
        #[test]
        fn a_range_is_a_window_on_the_run(
            lengths in prop::collection::vec(0u32..40, 1..8), offset in 0usize..200, len in 0usize..200,
        ) {
            let memory = memory();
            let bytes: Vec<u8> = (0..=255).collect();
            memory.write_slice(&bytes, GuestAddress(0x8000)).unwrap();
            memory.write_slice(&bytes, GuestAddress(0x8100)).unwrap();
            let mut at = 0x8000;
            let mut table = Vec::new();
            for (index, &len) in lengths.iter().enumerate() {
                let flags = if index + 1 < lengths.len() { NEXT } else { 0 };
                table.push(Descriptor::new(at, len, flags, index as u16 + 1));
                at += u64::from(len);
            }
            let (buffers, result) = collect(&memory, &table, 8);
            prop_assert_eq!(result, Ok(()));
            let total: usize = lengths.iter().map(|&len| len as usize).sum();
            let mut copied = vec![0; len];
            let count = buffers.readable.read(offset, &mut copied);
            prop_assert_eq!(count, len.min(total.saturating_sub(offset)));
            let expected: Vec<u8> = (offset..offset + count).map(|index| index as u8).collect();
            prop_assert_eq!(&copied[..count], &expected[..]);
        }
    }
}
