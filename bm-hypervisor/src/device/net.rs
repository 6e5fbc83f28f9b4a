//! The network device (virtio 1.3, 5.1): checksum and segmentation offloads as the back end has them, and
//! multiqueue with a control queue that bm-hypervisor works itself.

use virtio_bindings::virtio_net::*;

use super::{
    Device, Kind, Lacks, Offer, check_offer,
    features::{Dependency, close, has, mask},
};
use crate::config::NetConfig;

/// Features that say what packets look like: offered if the back end understands them.
const BACK_END: u64 = mask(&[
    VIRTIO_NET_F_CSUM,
    VIRTIO_NET_F_GUEST_CSUM,
    VIRTIO_NET_F_GUEST_TSO4,
    VIRTIO_NET_F_GUEST_TSO6,
    VIRTIO_NET_F_HOST_TSO4,
    VIRTIO_NET_F_HOST_TSO6,
    VIRTIO_NET_F_MRG_RXBUF,
]);

/// "Feature bit requirements" (virtio 1.3, 5.1.3.1).
pub const DEPENDENCIES: &[Dependency] = &[
    (VIRTIO_NET_F_GUEST_TSO4, mask(&[VIRTIO_NET_F_GUEST_CSUM])),
    (VIRTIO_NET_F_GUEST_TSO6, mask(&[VIRTIO_NET_F_GUEST_CSUM])),
    (VIRTIO_NET_F_HOST_TSO4, mask(&[VIRTIO_NET_F_CSUM])),
    (VIRTIO_NET_F_HOST_TSO6, mask(&[VIRTIO_NET_F_CSUM])),
    (VIRTIO_NET_F_MQ, mask(&[VIRTIO_NET_F_CTRL_VQ])),
];

/// Features that are bm-hypervisor's own, whatever the back end says: it answers them from the configuration.
const OWN: u64 = mask(&[VIRTIO_NET_F_MAC, VIRTIO_NET_F_STATUS]);

/// The network device that `config` and the back end's `offer` make.
///
/// # Errors
/// [`Lacks`] when they do not go together.
pub fn device(config: &NetConfig, offer: &Offer) -> Result<Device, Lacks> {
    let queues = 2 * config.queue_pairs;
    check_offer(offer, queues)?;
    let multiqueue = if config.queue_pairs > 1 { mask(&[VIRTIO_NET_F_MQ, VIRTIO_NET_F_CTRL_VQ]) } else { 0 };
    let mtu = if config.mtu.is_some() { mask(&[VIRTIO_NET_F_MTU]) } else { 0 };
    let features = close(offer.features & BACK_END | OWN | multiqueue | mtu, DEPENDENCIES);
    Ok(Device {
        kind: Kind::Net,
        features,
        config: config_space(config),
        back_end_queues: queues,
        sizes: config.ring_sizes(),
    })
}

/// Offset of `status` in `struct virtio_net_config`.
pub const STATUS_FIELD: usize = 6;

/// The `status` field of a link that is up, or down.
pub fn status(up: bool) -> [u8; 2] {
    let link = if up { VIRTIO_NET_S_LINK_UP as u16 } else { 0 };
    link.to_le_bytes()
}

/// Says in a configuration space whether the link is up.
pub fn set_link(config: &mut [u8], up: bool) {
    if let Some(field) = config.get_mut(STATUS_FIELD..STATUS_FIELD + 2) {
        field.copy_from_slice(&status(up));
    }
}

/// `struct virtio_net_config` up to `mtu` (virtio 1.3, 5.1.4). The link is up until a command takes it down.
fn config_space(config: &NetConfig) -> Vec<u8> {
    let mut bytes = config.mac.bytes().to_vec();
    bytes.extend(status(true));
    bytes.extend(config.queue_pairs.to_le_bytes());
    bytes.extend(config.mtu.unwrap_or(0).to_le_bytes());
    bytes
}

/// The bits of `negotiated` that the back end is to know. MQ and the control queue are not among them unless
/// it offered them.
pub fn back_end_features(negotiated: u64, offer: &Offer) -> u64 {
    negotiated & offer.features & (BACK_END | mask(&[VIRTIO_NET_F_MQ, VIRTIO_NET_F_MAC]))
}

/// Pairs with vrings that are enabled before the driver says otherwise: one, unless MQ was not taken, when
/// there is but one (virtio 1.3, 5.1.6.5.5: "the device MUST queue packets only on queues of the first pair"
/// until told).
pub const FIRST_PAIRS: u16 = 1;

/// Whether vring `index` belongs to the first `pairs` pairs.
pub fn is_in_pairs(index: u16, pairs: u16, negotiated: u64) -> bool {
    !has(negotiated, VIRTIO_NET_F_MQ) || index < 2 * pairs
}
