//! What a device is beyond its transport: identity, feature bits, configuration fields, queues.
//!
//! A device is data, worked out once from its configuration and from what its back end offers;
//! [`crate::virtio_pci`] answers the driver from it. Feature bits and field layouts are those of crate
//! `virtio-bindings`.

pub mod blk;
pub mod console;
pub(crate) mod control_queue;
pub mod features;
pub mod net;
mod offer;

pub use self::offer::Offer;
use crate::config::RingSizes;
use features::{Dependency, has};
use virtio_bindings::virtio_net::{VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_MQ};

/// Which device a function is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A network device (virtio 1.3, 5.1).
    Net,
    /// A block device (virtio 1.3, 5.2).
    Blk,
    /// A console of one port (virtio 1.3, 5.3).
    Console,
}

impl Kind {
    /// What configuration files call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Net => "net",
            Self::Blk => "blk",
            Self::Console => "console",
        }
    }

    /// Virtio device ID (virtio 1.3, 5).
    pub const fn id(self) -> u16 {
        match self {
            Self::Net => virtio_bindings::virtio_ids::VIRTIO_ID_NET as u16,
            Self::Blk => virtio_bindings::virtio_ids::VIRTIO_ID_BLOCK as u16,
            Self::Console => console::ID,
        }
    }

    /// PCI base class, sub-class and programming interface: an Ethernet controller, a SCSI storage
    /// controller, another communication device (PCI Code and ID Assignment Specification 1.11, 1.2, 1.3 and
    /// 1.8), which is what firmware expects of virtio devices.
    pub const fn class_code(self) -> u32 {
        match self {
            Self::Net => 0x02_00_00,
            Self::Blk => 0x01_00_00,
            Self::Console => 0x07_80_00,
        }
    }

    /// Features of this device that need others (virtio 1.3, 5.1.3.1).
    pub const fn dependencies(self) -> &'static [Dependency] {
        match self {
            Self::Net => net::DEPENDENCIES,
            Self::Blk | Self::Console => &[],
        }
    }

    /// The bits of `negotiated` that a back end with this offer is to know.
    pub fn back_end_features(self, negotiated: u64, offer: &Offer) -> u64 {
        match self {
            Self::Net => net::back_end_features(negotiated, offer),
            Self::Blk => blk::back_end_features(negotiated, offer),
            Self::Console => console::back_end_features(negotiated, offer),
        }
    }
}

/// What works a virtqueue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The back end, as its vring of this number.
    BackEnd(u16),
    /// bm-hypervisor itself: the control queue of a network device (virtio 1.3, 5.1.6.5).
    Control,
}

/// One device as it is offered to its driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Which device it is.
    pub kind: Kind,
    /// Device-specific feature bits that it offers.
    pub features: u64,
    /// Its configuration space, a multiple of four bytes long. The driver cannot write any field that is
    /// offered.
    pub config: Vec<u8>,
    /// Queues that the back end works.
    pub back_end_queues: u16,
    /// Sizes of their rings and slot pools.
    pub sizes: RingSizes,
}

impl Device {
    /// Virtqueues there are: those of the back end, and behind them a network device's control queue.
    pub fn queues(&self) -> u16 {
        self.back_end_queues + u16::from(self.kind == Kind::Net && has(self.features, VIRTIO_NET_F_CTRL_VQ))
    }

    /// What works queue `index` under `negotiated` features; none if it has no use then. A network driver
    /// that does not take MQ finds the control queue right behind the first pair, and nothing behind that
    /// (virtio 1.3, 5.1.2).
    pub fn role(&self, index: u16, negotiated: u64) -> Option<Role> {
        let data = match self.kind {
            Kind::Net if !has(negotiated, VIRTIO_NET_F_MQ) => 2,
            Kind::Net | Kind::Blk | Kind::Console => self.back_end_queues,
        };
        if index < data {
            return Some(Role::BackEnd(index));
        }
        (index == data && has(negotiated, VIRTIO_NET_F_CTRL_VQ)).then_some(Role::Control)
    }

    /// Whether buffers of queue `index` are offered for what may come: the even ones of a network device and
    /// a console (virtio 1.3, 5.1.2 and 5.3.2), but for a control queue.
    pub fn is_receive_queue(&self, index: u16, negotiated: u64) -> bool {
        let receives = matches!(self.kind, Kind::Net | Kind::Console) && index.is_multiple_of(2);
        receives && matches!(self.role(index, negotiated), Some(Role::BackEnd(_)))
    }

    /// Sizes of queue `index`'s rings and slots. Since a control queue may stand in more than one place, only
    /// the last queue, which can be nothing else, is small.
    pub fn sizes(&self, index: u16) -> RingSizes {
        if index >= self.back_end_queues { RingSizes::CONTROL } else { self.sizes }
    }
}

/// A device that cannot be made from what its back end offers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lacks {
    /// The back end serves only drivers from before virtio 1.0.
    #[error("does not offer VIRTIO_F_VERSION_1; only virtio 1.0 and later back ends can be used")]
    Version1,
    /// A disk's capacity is in its configuration space, which only the back end knows.
    #[error(
        "does not offer vhost-user protocol feature CONFIG, without which a disk's capacity is unknown; serve the disk with a back end that does"
    )]
    Config,
    /// Read-only was asked for.
    #[error(
        "serves the disk writable, but the configuration says read_only; open it read-only in the back end"
    )]
    ReadOnly,
    /// More queues were asked for than there are.
    #[error(
        "works {there} queues, but the configuration asks for {wanted}; lower it, or give the back end more queues"
    )]
    Queues {
        /// How many the back end works.
        there: u64,
        /// How many the configuration asks for.
        wanted: u16,
    },
}

/// That the back end offers what every device needs, and enough queues.
fn check_offer(offer: &Offer, queues: u16) -> Result<(), Lacks> {
    if !has(offer.features, virtio_bindings::virtio_config::VIRTIO_F_VERSION_1) {
        return Err(Lacks::Version1);
    }
    if offer.queues < u64::from(queues) {
        return Err(Lacks::Queues { there: offer.queues, wanted: queues });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
