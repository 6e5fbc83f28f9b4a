//! The block device (virtio 1.3, 5.2): the back end's disk, with requests cut to what slots and shadow vring
//! hold.

use virtio_bindings::virtio_blk::*;

use super::{
    Device, Kind, Lacks, Offer, check_offer,
    features::{has, mask},
};
use crate::config::{BlkConfig, RingSizes};

/// Features offered if the back end has them. CONFIG_WCE is not: it would make a field writable.
const BACK_END: u64 = mask(&[
    VIRTIO_BLK_F_RO,
    VIRTIO_BLK_F_BLK_SIZE,
    VIRTIO_BLK_F_FLUSH,
    VIRTIO_BLK_F_TOPOLOGY,
    VIRTIO_BLK_F_DISCARD,
    VIRTIO_BLK_F_WRITE_ZEROES,
]);

/// Bytes of `struct virtio_blk_config` up to and including `write_zeroes_may_unmap` and its padding (virtio
/// 1.3, 5.2.4): all the fields of the features above.
pub const CONFIG_SIZE: u32 = 60;

/// What capacities are counted in (virtio 1.3, 5.2.4).
pub const SECTOR: u64 = 512;

/// Offset of `capacity` in `struct virtio_blk_config`.
pub const CAPACITY_FIELD: usize = 0;

/// Offsets into `struct virtio_blk_config`.
mod field {
    pub const SIZE_MAX: usize = 8;
    pub const SEG_MAX: usize = 12;
    pub const NUM_QUEUES: usize = 34;
}

/// The block device that `config`, the back end's `offer` and its configuration space make.
///
/// # Errors
/// [`Lacks`] when they do not go together.
pub fn device(config: &BlkConfig, offer: &Offer, mut space: Vec<u8>) -> Result<Device, Lacks> {
    check_offer(offer, config.queues)?;
    if config.read_only && !has(offer.features, VIRTIO_BLK_F_RO) {
        return Err(Lacks::ReadOnly);
    }
    space.resize(CONFIG_SIZE as usize, 0);
    let sizes = config.ring_sizes();
    let seg_max = seg_max(&sizes, offer, &space);
    set(&mut space, field::SIZE_MAX, &size_max(&sizes).to_le_bytes());
    set(&mut space, field::SEG_MAX, &seg_max.to_le_bytes());
    set(&mut space, field::NUM_QUEUES, &config.queues.to_le_bytes());
    let multiqueue = if config.queues > 1 { mask(&[VIRTIO_BLK_F_MQ]) } else { 0 };
    Ok(Device {
        kind: Kind::Blk,
        features: offer.features & BACK_END
            | mask(&[VIRTIO_BLK_F_SIZE_MAX, VIRTIO_BLK_F_SEG_MAX])
            | multiqueue,
        config: space,
        back_end_queues: config.queues,
        sizes,
    })
}

/// Most bytes of a segment: a slot, so that a segment is one descriptor of the shadow vring; but no less than
/// a page, without which Linux refuses the disk (`blk_validate_limits`).
fn size_max(sizes: &RingSizes) -> u32 {
    const LEAST: u32 = 4096;
    sizes.slot_size.max(LEAST)
}

/// Most segments of a request; header and status take two descriptors and two slots more. What the back end
/// takes at most is honoured.
fn seg_max(sizes: &RingSizes, offer: &Offer, space: &[u8]) -> u32 {
    let left = |there: u16| u32::from(there).saturating_sub(2);
    let slots_each = size_max(sizes) / sizes.slot_size.max(1);
    let fits = left(sizes.guest).min(left(sizes.slots.min(sizes.shadow)) / slots_each);
    let takes = match space.get(field::SEG_MAX..field::SEG_MAX + 4).map(TryInto::try_into) {
        Some(Ok(bytes)) if has(offer.features, VIRTIO_BLK_F_SEG_MAX) => u32::from_le_bytes(bytes),
        _ => u32::MAX,
    };
    fits.min(takes).max(1)
}

fn set(space: &mut [u8], offset: usize, value: &[u8]) {
    if let Some(field) = space.get_mut(offset..offset + value.len()) {
        field.copy_from_slice(value);
    }
}

/// The bits of `negotiated` that the back end is to know.
pub fn back_end_features(negotiated: u64, offer: &Offer) -> u64 {
    negotiated
        & offer.features
        & (BACK_END | mask(&[VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_SIZE_MAX, VIRTIO_BLK_F_MQ]))
}

/// Capacity in sectors of 512 bytes, as the configuration space says.
pub fn capacity(space: &[u8]) -> u64 {
    space.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}
