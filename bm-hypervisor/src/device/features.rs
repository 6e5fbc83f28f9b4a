//! Feature bits: arithmetic, dependencies between them, and their names.

use virtio_bindings::{virtio_blk::*, virtio_config::*, virtio_net::*, virtio_ring::*};

use super::Kind;

/// Feature bits number `bits` as a mask.
pub const fn mask(bits: &[u32]) -> u64 {
    let mut mask = 0;
    let mut index = 0;
    while index < bits.len() {
        mask |= 1 << bits[index];
        index += 1;
    }
    mask
}

/// Whether feature bit number `bit` is in `features`.
pub const fn has(features: u64, bit: u32) -> bool {
    features >> bit & 1 != 0
}

/// A feature, and the features of which it needs at least one.
pub type Dependency = (u32, u64);

/// `features` without those that lack what they depend on, in any number of steps.
pub fn close(mut features: u64, dependencies: &[Dependency]) -> u64 {
    while let Some((bit, _)) =
        dependencies.iter().find(|(bit, needs)| has(features, *bit) && features & needs == 0)
    {
        features &= !(1 << bit);
    }
    features
}

/// Names of transport features. Which of them a board is offered depends on `ident.features`.
const TRANSPORT: &[(u32, &str)] = &[
    (VIRTIO_F_NOTIFY_ON_EMPTY, "NOTIFY_ON_EMPTY"),
    // Dirty logging, of vhost and not of virtio (vhost-user protocol, "Migration").
    (26, "LOG_ALL"),
    (VIRTIO_RING_F_INDIRECT_DESC, "INDIRECT_DESC"),
    (VIRTIO_RING_F_EVENT_IDX, "EVENT_IDX"),
    // In the range of the transport, but vhost-user's own (vhost-user protocol, "Feature negotiation").
    (VHOST_USER_F_PROTOCOL_FEATURES, "PROTOCOL_FEATURES"),
    (VIRTIO_F_VERSION_1, "VERSION_1"),
    (VIRTIO_F_ACCESS_PLATFORM, "ACCESS_PLATFORM"),
    (VIRTIO_F_RING_PACKED, "RING_PACKED"),
    (VIRTIO_F_IN_ORDER, "IN_ORDER"),
    (VIRTIO_F_ORDER_PLATFORM, "ORDER_PLATFORM"),
    (VIRTIO_F_NOTIFICATION_DATA, "NOTIFICATION_DATA"),
    (VIRTIO_F_RING_RESET, "RING_RESET"),
];

/// The bit by which a vhost-user back end says that it has protocol features (vhost-user protocol, "Feature
/// negotiation").
pub const VHOST_USER_F_PROTOCOL_FEATURES: u32 = 30;

/// `cols` and `rows` of a console are valid (virtio 1.3, 5.3.3).
pub const VIRTIO_CONSOLE_F_SIZE: u32 = 0;
/// A console has several ports, and two queues to control them (virtio 1.3, 5.3.3). Never offered.
const VIRTIO_CONSOLE_F_MULTIPORT: u32 = 1;
/// `emerg_wr` of a console can be written (virtio 1.3, 5.3.3). Never offered: it would make a field writable.
const VIRTIO_CONSOLE_F_EMERG_WRITE: u32 = 2;

const NET: &[(u32, &str)] = &[
    (VIRTIO_NET_F_CSUM, "CSUM"),
    (VIRTIO_NET_F_GUEST_CSUM, "GUEST_CSUM"),
    (VIRTIO_NET_F_CTRL_GUEST_OFFLOADS, "CTRL_GUEST_OFFLOADS"),
    (VIRTIO_NET_F_MTU, "MTU"),
    (VIRTIO_NET_F_MAC, "MAC"),
    (VIRTIO_NET_F_GUEST_TSO4, "GUEST_TSO4"),
    (VIRTIO_NET_F_GUEST_TSO6, "GUEST_TSO6"),
    (VIRTIO_NET_F_GUEST_ECN, "GUEST_ECN"),
    (VIRTIO_NET_F_GUEST_UFO, "GUEST_UFO"),
    (VIRTIO_NET_F_HOST_TSO4, "HOST_TSO4"),
    (VIRTIO_NET_F_HOST_TSO6, "HOST_TSO6"),
    (VIRTIO_NET_F_HOST_ECN, "HOST_ECN"),
    (VIRTIO_NET_F_HOST_UFO, "HOST_UFO"),
    (VIRTIO_NET_F_MRG_RXBUF, "MRG_RXBUF"),
    (VIRTIO_NET_F_STATUS, "STATUS"),
    (VIRTIO_NET_F_CTRL_VQ, "CTRL_VQ"),
    (VIRTIO_NET_F_CTRL_RX, "CTRL_RX"),
    (VIRTIO_NET_F_CTRL_VLAN, "CTRL_VLAN"),
    (VIRTIO_NET_F_GUEST_ANNOUNCE, "GUEST_ANNOUNCE"),
    (VIRTIO_NET_F_MQ, "MQ"),
    (VIRTIO_NET_F_CTRL_MAC_ADDR, "CTRL_MAC_ADDR"),
];

const BLK: &[(u32, &str)] = &[
    (VIRTIO_BLK_F_SIZE_MAX, "SIZE_MAX"),
    (VIRTIO_BLK_F_SEG_MAX, "SEG_MAX"),
    (VIRTIO_BLK_F_GEOMETRY, "GEOMETRY"),
    (VIRTIO_BLK_F_RO, "RO"),
    (VIRTIO_BLK_F_BLK_SIZE, "BLK_SIZE"),
    (VIRTIO_BLK_F_FLUSH, "FLUSH"),
    (VIRTIO_BLK_F_TOPOLOGY, "TOPOLOGY"),
    (VIRTIO_BLK_F_CONFIG_WCE, "CONFIG_WCE"),
    (VIRTIO_BLK_F_MQ, "MQ"),
    (VIRTIO_BLK_F_DISCARD, "DISCARD"),
    (VIRTIO_BLK_F_WRITE_ZEROES, "WRITE_ZEROES"),
    (VIRTIO_BLK_F_SECURE_ERASE, "SECURE_ERASE"),
    (VIRTIO_BLK_F_ZONED, "ZONED"),
];

const CONSOLE: &[(u32, &str)] = &[
    (VIRTIO_CONSOLE_F_SIZE, "SIZE"),
    (VIRTIO_CONSOLE_F_MULTIPORT, "MULTIPORT"),
    (VIRTIO_CONSOLE_F_EMERG_WRITE, "EMERG_WRITE"),
];

/// The names of `features`, separated by blanks; a bit without one as `bit N`.
pub fn names(kind: Kind, features: u64) -> String {
    let device = match kind {
        Kind::Net => NET,
        Kind::Blk => BLK,
        Kind::Console => CONSOLE,
    };
    let name = |bit| match device.iter().chain(TRANSPORT).find(|(known, _)| *known == bit) {
        Some((_, name)) => (*name).to_owned(),
        None => format!("bit {bit}"),
    };
    (0..u64::BITS).filter(|bit| has(features, *bit)).map(name).collect::<Vec<_>>().join(" ")
}
