//! Features and configuration space of the disk (virtio 1.3, 5.2.3 and 5.2.4).

use std::mem::{offset_of, size_of};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_CONFIG_WCE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH,
    VIRTIO_BLK_F_MQ, VIRTIO_BLK_F_RO, VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_WRITE_ZEROES, virtio_blk_config,
};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};

use super::request::{Geometry, MAX_DISCARD_SECTORS, MAX_EXTENTS, MAX_WRITE_ZEROES_SECTORS, SECTOR};
use crate::session::VHOST_USER_F_PROTOCOL_FEATURES;

/// Longest configuration space of the vhost-user protocol (VHOST_USER_MAX_CONFIG_SIZE) in bytes. Front ends
/// ask for as much of the structure as they know; what lies behind our end of it reads as zero.
const CONFIG_SPACE: usize = 256;
const _: () = assert!(size_of::<virtio_blk_config>() <= CONFIG_SPACE);

/// What does not change while the server runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) read_only: bool,
    pub(crate) queues: u16,
    pub(crate) queue_size: u16,
}

/// What one front end negotiated. Every connection starts anew.
#[derive(Debug)]
pub(crate) struct Negotiated {
    shape: Shape,
    /// Capacity in sectors of 512 bytes.
    sectors: AtomicU64,
    features: AtomicU64,
    /// The `writeback` field: whether completed writes may be lost before a FLUSH.
    writeback: AtomicBool,
}

impl Negotiated {
    /// Nothing is negotiated yet, and the disk has `sectors`.
    pub(crate) fn new(shape: Shape, sectors: u64) -> Self {
        Self {
            shape,
            sectors: AtomicU64::new(sectors),
            features: AtomicU64::new(0),
            writeback: AtomicBool::new(true),
        }
    }

    /// The image has this many sectors now: what the configuration space says from here on, and requests are
    /// judged against.
    pub(crate) fn resize(&self, sectors: u64) {
        self.sectors.store(sectors, Ordering::Relaxed);
    }

    /// Every feature that the disk has.
    pub(crate) fn offered(&self) -> u64 {
        let mut features = bit(VIRTIO_F_VERSION_1)
            | bit(VIRTIO_RING_F_INDIRECT_DESC)
            | bit(VIRTIO_RING_F_EVENT_IDX)
            | VHOST_USER_F_PROTOCOL_FEATURES
            | bit(VIRTIO_BLK_F_SEG_MAX)
            | bit(VIRTIO_BLK_F_BLK_SIZE)
            | bit(VIRTIO_BLK_F_FLUSH)
            | bit(VIRTIO_BLK_F_CONFIG_WCE)
            | bit(VIRTIO_BLK_F_MQ);
        features |= match self.shape.read_only {
            true => bit(VIRTIO_BLK_F_RO),
            false => bit(VIRTIO_BLK_F_DISCARD) | bit(VIRTIO_BLK_F_WRITE_ZEROES),
        };
        features
    }

    /// Takes what the driver accepted. 5.2.5.2: writeback starts at 1, but at 0 with CONFIG_WCE and without
    /// FLUSH.
    pub(crate) fn accept(&self, features: u64) {
        self.features.store(features, Ordering::Relaxed);
        let flush = features & bit(VIRTIO_BLK_F_FLUSH) != 0;
        self.writeback.store(flush, Ordering::Relaxed);
    }

    /// Whether a write is on stable storage before it completes (5.2.6.2: unless FLUSH, or by the `writeback`
    /// field).
    pub(crate) fn write_through(&self) -> bool {
        !self.writeback.load(Ordering::Relaxed)
    }

    /// What requests are judged against.
    pub(crate) fn geometry(&self) -> Geometry {
        let features = self.features.load(Ordering::Relaxed);
        Geometry {
            sectors: self.sectors.load(Ordering::Relaxed),
            read_only: self.shape.read_only,
            discard: features & bit(VIRTIO_BLK_F_DISCARD) != 0,
            write_zeroes: features & bit(VIRTIO_BLK_F_WRITE_ZEROES) != 0,
        }
    }

    /// `len` bytes of the configuration space, or nothing if the range does not lie in it.
    pub(crate) fn read(&self, offset: u32, len: u32) -> Vec<u8> {
        let end = u64::from(offset) + u64::from(len);
        if end > CONFIG_SPACE as u64 {
            return Vec::new();
        }
        self.space().get(offset as usize..end as usize).unwrap_or_default().to_vec()
    }

    /// Writes to the configuration space. Only `writeback` can be written (5.2.4), if CONFIG_WCE was
    /// accepted. Returns whether the write was allowed.
    pub(crate) fn write(&self, offset: u32, bytes: &[u8]) -> bool {
        let allowed = self.features.load(Ordering::Relaxed) & bit(VIRTIO_BLK_F_CONFIG_WCE) != 0;
        match *bytes {
            [value @ 0..=1] if allowed && offset as usize == offset_of!(virtio_blk_config, wce) => {
                self.writeback.store(value == 1, Ordering::Relaxed);
                true
            }
            _ => false,
        }
    }

    fn space(&self) -> [u8; CONFIG_SPACE] {
        let mut space = [0; CONFIG_SPACE];
        let mut put = |at: usize, value: &[u8]| {
            if let Some(field) = space.get_mut(at..at + value.len()) {
                field.copy_from_slice(value);
            }
        };
        let Shape { queues, queue_size, .. } = self.shape;
        let sectors = self.sectors.load(Ordering::Relaxed);
        // 2.7.5.3.1: no chain is longer than the ring; header and status are part of it. A front end whose
        // ring is shorter than ours tells its driver less.
        let segments = u32::from(queue_size.saturating_sub(2).max(1));
        put(offset_of!(virtio_blk_config, capacity), &sectors.to_le_bytes());
        put(offset_of!(virtio_blk_config, seg_max), &segments.to_le_bytes());
        put(offset_of!(virtio_blk_config, blk_size), &(SECTOR as u32).to_le_bytes());
        put(offset_of!(virtio_blk_config, wce), &[self.writeback.load(Ordering::Relaxed).into()]);
        put(offset_of!(virtio_blk_config, num_queues), &queues.to_le_bytes());
        put(offset_of!(virtio_blk_config, max_discard_sectors), &MAX_DISCARD_SECTORS.to_le_bytes());
        put(offset_of!(virtio_blk_config, max_discard_seg), &(MAX_EXTENTS as u32).to_le_bytes());
        put(offset_of!(virtio_blk_config, discard_sector_alignment), &1u32.to_le_bytes());
        put(offset_of!(virtio_blk_config, max_write_zeroes_sectors), &MAX_WRITE_ZEROES_SECTORS.to_le_bytes());
        put(offset_of!(virtio_blk_config, max_write_zeroes_seg), &(MAX_EXTENTS as u32).to_le_bytes());
        put(offset_of!(virtio_blk_config, write_zeroes_may_unmap), &[1]);
        space
    }
}

/// The mask of a feature that the virtio headers give by its number.
fn bit(number: u32) -> u64 {
    1 << number
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECTORS: u64 = 0x1234;
    const SHAPE: Shape = Shape { read_only: false, queues: 4, queue_size: 128 };

    #[test]
    fn the_driver_reads_what_the_disk_is() {
        let disk = Negotiated::new(SHAPE, SECTORS);
        // Offsets of 5.2.4, by hand.
        assert_eq!(disk.read(0, 8), 0x1234u64.to_le_bytes());
        assert_eq!(disk.read(12, 4), 126u32.to_le_bytes());
        assert_eq!(disk.read(20, 4), 512u32.to_le_bytes());
        assert_eq!(disk.read(34, 2), 4u16.to_le_bytes());
        assert_eq!(disk.read(36, 4), MAX_DISCARD_SECTORS.to_le_bytes());
        assert_eq!(disk.read(52, 4), (MAX_EXTENTS as u32).to_le_bytes());
        assert_eq!(disk.read(56, 1), [1]);
        assert_eq!(disk.read(0, 256).len(), 256);
        let longest = Negotiated::new(Shape { queue_size: 1024, ..SHAPE }, SECTORS);
        assert_eq!(longest.read(12, 4), 1022u32.to_le_bytes(), "1 MiB in pages is one request");
        assert!(disk.read(0, 257).is_empty() && disk.read(u32::MAX, u32::MAX).is_empty());
    }

    #[test]
    fn a_disk_that_grew_is_as_large_as_it_says() {
        let disk = Negotiated::new(SHAPE, SECTORS);
        disk.resize(0x5678);
        assert_eq!(disk.read(0, 8), 0x5678u64.to_le_bytes());
        assert_eq!(disk.geometry().sectors, 0x5678);
    }

    #[test]
    fn writes_are_write_through_unless_the_driver_can_flush() {
        let disk = Negotiated::new(SHAPE, SECTORS);
        disk.accept(bit(VIRTIO_F_VERSION_1));
        assert!(disk.write_through());
        disk.accept(bit(VIRTIO_BLK_F_FLUSH));
        assert!(!disk.write_through());
        assert!(!disk.write(32, &[0]), "CONFIG_WCE was not accepted");
        disk.accept(bit(VIRTIO_BLK_F_FLUSH) | bit(VIRTIO_BLK_F_CONFIG_WCE));
        assert!(disk.write(32, &[0]) && disk.write_through() && disk.read(32, 1) == [0]);
        assert!(disk.write(32, &[1]) && !disk.write_through());
        assert!(!disk.write(32, &[2]) && !disk.write(0, &[0]) && !disk.write(32, &[0, 0]));
    }

    #[test]
    fn a_disk_that_is_read_only_says_so_and_offers_nothing_that_writes() {
        let disk = Negotiated::new(Shape { read_only: true, ..SHAPE }, SECTORS);
        assert_ne!(disk.offered() & bit(VIRTIO_BLK_F_RO), 0);
        assert_eq!(disk.offered() & (bit(VIRTIO_BLK_F_DISCARD) | bit(VIRTIO_BLK_F_WRITE_ZEROES)), 0);
    }
}
