//! Split virtqueues (virtio 1.3, 2.7): the layout of their three areas and the arithmetic of their
//! free-running indices.
//!
//! Every value is little endian (virtio 1.3, 1.4). Indices count buffers ever made available or used, modulo
//! 2^16, and are reduced modulo the ring size only to find an entry.

use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    little_endian::{U16, U32, U64},
};

/// Descriptor flag: the chain goes on at `next` (virtio 1.3, 2.7.5).
pub const DESC_NEXT: u16 = 1;
/// Descriptor flag: the device writes this buffer, and reads it otherwise.
pub const DESC_WRITE: u16 = 2;
/// Descriptor flag: the buffer holds a table of descriptors (virtio 1.3, 2.7.5.3).
pub const DESC_INDIRECT: u16 = 4;

/// Available ring flag: the driver wants no interrupts (virtio 1.3, 2.7.6).
pub const AVAIL_NO_INTERRUPT: u16 = 1;
/// Used ring flag: the device wants no notifications (virtio 1.3, 2.7.8).
pub const USED_NO_NOTIFY: u16 = 1;

/// Alignment of the descriptor table in bytes (virtio 1.3, 2.7).
pub const DESC_ALIGN: u64 = 16;
/// Alignment of the available ring in bytes.
pub const AVAIL_ALIGN: u64 = 2;
/// Alignment of the used ring in bytes.
pub const USED_ALIGN: u64 = 4;

/// `struct virtq_desc` (virtio 1.3, 2.7.5).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Descriptor {
    /// Address of the buffer, in the memory of the side that made it available.
    pub addr: U64,
    /// Length of the buffer in bytes.
    pub len: U32,
    /// [`DESC_NEXT`], [`DESC_WRITE`], [`DESC_INDIRECT`].
    pub flags: U16,
    /// Index of the chain's next descriptor, if [`DESC_NEXT`] is set.
    pub next: U16,
}

/// `struct virtq_used_elem` (virtio 1.3, 2.7.8).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct UsedElement {
    /// Index of the head of the used chain.
    pub id: U32,
    /// Bytes that the device wrote into the chain.
    pub len: U32,
}

/// Bytes of a descriptor.
pub const DESC_SIZE: u64 = size_of::<Descriptor>() as u64;
/// Bytes of a used element.
pub const USED_ELEMENT_SIZE: u64 = size_of::<UsedElement>() as u64;
/// Bytes of an entry of the available ring.
pub const AVAIL_ENTRY_SIZE: u64 = 2;

const _: () = assert!(DESC_SIZE == 16 && USED_ELEMENT_SIZE == 8);

/// Offset of `flags` in the available ring and in the used ring.
pub const FLAGS: u64 = 0;
/// Offset of `idx` in the available ring and in the used ring.
pub const IDX: u64 = 2;
/// Offset of the first entry of either ring.
pub const RING: u64 = 4;

/// Bytes of the descriptor table of a queue of `size`.
pub const fn desc_bytes(size: u16) -> u64 {
    DESC_SIZE * size as u64
}

/// Bytes of the available ring of a queue of `size`, `used_event` included.
pub const fn avail_bytes(size: u16) -> u64 {
    used_event_offset(size) + 2
}

/// Bytes of the used ring of a queue of `size`, `avail_event` included.
pub const fn used_bytes(size: u16) -> u64 {
    avail_event_offset(size) + 2
}

/// Offset of `used_event` in the available ring (virtio 1.3, 2.7.6).
pub const fn used_event_offset(size: u16) -> u64 {
    RING + AVAIL_ENTRY_SIZE * size as u64
}

/// Offset of `avail_event` in the used ring (virtio 1.3, 2.7.8).
pub const fn avail_event_offset(size: u16) -> u64 {
    RING + USED_ELEMENT_SIZE * size as u64
}

/// Offset in the available ring of the entry for free-running index `index`.
#[inline]
pub const fn avail_entry_offset(index: u16, size: u16) -> u64 {
    RING + AVAIL_ENTRY_SIZE * (index & (size - 1)) as u64
}

/// Offset in the used ring of the element for free-running index `index`.
#[inline]
pub const fn used_element_offset(index: u16, size: u16) -> u64 {
    RING + USED_ELEMENT_SIZE * (index & (size - 1)) as u64
}

/// Whether moving an index from `old` to `new` passes `event`, so that the other side wants to hear of it
/// (virtio 1.3, 2.7.7.2 and 2.7.10; the same arithmetic as Linux's `vring_need_event`).
#[inline]
pub const fn need_event(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_table_in_2_7() {
        assert_eq!(desc_bytes(256), 16 * 256);
        assert_eq!(avail_bytes(256), 6 + 2 * 256);
        assert_eq!(used_bytes(256), 6 + 8 * 256);
    }

    #[test]
    fn entries_wrap_at_the_ring_size() {
        assert_eq!(avail_entry_offset(256, 256), RING);
        assert_eq!(avail_entry_offset(65535, 256), RING + 2 * 255);
        assert_eq!(used_element_offset(257, 256), RING + 8);
    }

    #[test]
    fn an_event_is_due_exactly_when_the_index_passes_it() {
        for start in [0u16, 65530] {
            let at = |n: u16| start.wrapping_add(n);
            assert!(need_event(at(0), at(1), at(0)));
            assert!(need_event(at(2), at(5), at(1)));
            assert!(!need_event(at(5), at(5), at(1)));
            assert!(!need_event(at(0), at(5), at(1)));
            assert!(!need_event(at(0), at(1), at(1)));
        }
    }
}
