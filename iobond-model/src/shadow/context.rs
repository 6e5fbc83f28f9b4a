//! Whether the queue context that the base wrote into `queues[n]` can work.

use iobond_spec::{
    MAX_RING,
    address::{BaseAddr, BoardAddr},
    queue_context::{QueueContext, Ring},
    ring::split,
};

use super::QueueError;

/// Smallest slot: four descriptors fit into it, should it hold an indirect table.
const MIN_SLOT: u32 = 64;
/// Largest slot; the engine keeps one bit of a piece's length for itself.
const MAX_SLOT: u32 = 1 << 30;

/// Checks what the registers' types do not.
///
/// # Errors
/// [`QueueError::BadContext`] with the first objection.
pub fn check(context: &QueueContext) -> Result<(), QueueError> {
    let guest =
        ring_objection(&context.guest, BoardAddr::is_aligned, |at, bytes| at.checked_add(bytes).is_some());
    let shadow =
        ring_objection(&context.shadow, BaseAddr::is_aligned, |at, bytes| at.checked_add(bytes).is_some());
    match guest.or(shadow).or_else(|| slot_objection(context)) {
        Some(objection) => Err(QueueError::BadContext(objection)),
        None => Ok(()),
    }
}

fn slot_objection(context: &QueueContext) -> Option<&'static str> {
    let &QueueContext { slots, slot_size: size, slot_count, .. } = context;
    if !size.is_power_of_two() || !(MIN_SLOT..=MAX_SLOT).contains(&size) {
        Some("slot size is not a power of two from 64 to 2^30")
    } else if slot_count == 0 {
        Some("there are no slots")
    } else if !slots.is_aligned(split::DESC_ALIGN) {
        Some("slots are not aligned to 16 bytes")
    } else if slots.checked_add(u64::from(size) * u64::from(slot_count)).is_none() {
        Some("slots wrap around the address space")
    } else if context.shadow.size < context.guest.size {
        Some("the shadow vring is smaller than the guest's ring")
    } else {
        None
    }
}

/// What is wrong with a ring whose areas are `aligned` to so many bytes, and `end` so many bytes on inside
/// the address space.
fn ring_objection<A: Copy>(
    ring: &Ring<A>,
    aligned: impl Fn(A, u64) -> bool,
    end: impl Fn(A, u64) -> bool,
) -> Option<&'static str> {
    if !ring.size.is_power_of_two() || ring.size > MAX_RING {
        return Some("ring size is not a power of two up to 32768");
    }
    let areas = [
        (ring.desc, split::DESC_ALIGN, split::desc_bytes(ring.size)),
        (ring.avail, split::AVAIL_ALIGN, split::avail_bytes(ring.size)),
        (ring.used, split::USED_ALIGN, split::used_bytes(ring.size)),
    ];
    if areas.iter().any(|&(at, alignment, _)| !aligned(at, alignment)) {
        return Some("ring area is not aligned as virtio 1.3, 2.7 wants it");
    }
    if areas.iter().any(|&(at, _, bytes)| !end(at, bytes)) {
        return Some("ring area wraps around the address space");
    }
    None
}
