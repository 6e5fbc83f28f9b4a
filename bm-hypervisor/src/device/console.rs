//! The console device (virtio 1.3, 5.3): one port with two queues, which are the back end's.

use virtio_bindings::virtio_ids::VIRTIO_ID_CONSOLE;

pub use super::features::VIRTIO_CONSOLE_F_SIZE;
use super::{
    Device, Kind, Lacks, Offer, check_offer,
    features::{has, mask},
};
use crate::config::ConsoleConfig;

/// Virtio device ID (virtio 1.3, 5.3.1).
pub const ID: u16 = VIRTIO_ID_CONSOLE as u16;

/// Bytes of `cols` and `rows`, two 16-bit fields at the beginning of the configuration space (virtio 1.3,
/// 5.3.4).
pub const SIZE_FIELDS: u32 = 4;

/// The console that `config`, the back end's `offer` and the first [`SIZE_FIELDS`] of its configuration space
/// make. A back end without a configuration space has a console of no particular size.
///
/// # Errors
/// [`Lacks`] when they do not go together.
pub fn device(config: &ConsoleConfig, offer: &Offer, size: Option<&[u8]>) -> Result<Device, Lacks> {
    check_offer(offer, ConsoleConfig::QUEUES)?;
    let size = size.filter(|_| has(offer.features, VIRTIO_CONSOLE_F_SIZE));
    let size = size.and_then(|bytes| bytes.first_chunk::<{ SIZE_FIELDS as usize }>());
    Ok(Device {
        kind: Kind::Console,
        features: if size.is_some() { mask(&[VIRTIO_CONSOLE_F_SIZE]) } else { 0 },
        config: config_space(size.copied().unwrap_or_default()),
        back_end_queues: ConsoleConfig::QUEUES,
        sizes: config.ring_sizes(),
    })
}

/// `struct virtio_console_config` (virtio 1.3, 5.3.4): `cols` and `rows`, `max_nr_ports`, `emerg_wr`.
fn config_space(size: [u8; SIZE_FIELDS as usize]) -> Vec<u8> {
    let mut bytes = size.to_vec();
    bytes.extend(1u32.to_le_bytes());
    bytes.extend(0u32.to_le_bytes());
    bytes
}

/// The bits of `negotiated` that the back end is to know.
pub fn back_end_features(negotiated: u64, offer: &Offer) -> u64 {
    negotiated & offer.features & mask(&[VIRTIO_CONSOLE_F_SIZE])
}

/// Columns and rows, as the configuration space says.
pub fn size(space: &[u8]) -> [u16; 2] {
    let field = |at: usize| space.get(at..at + 2).map_or(0, |bytes| u16::from_le_bytes([bytes[0], bytes[1]]));
    [field(0), field(2)]
}
