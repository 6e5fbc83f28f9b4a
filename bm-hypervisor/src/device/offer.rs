//! What a vhost-user back end offers, from which a device is made.

use vhost::vhost_user::VhostUserProtocolFeatures;

/// What a back end offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Feature bits, the transport's and the device's.
    pub features: u64,
    /// Protocol features, known ones only.
    pub protocol: VhostUserProtocolFeatures,
    /// Vrings that it works. Without protocol feature MQ it does not say; then one pair is taken for granted.
    pub queues: u64,
    /// Memory slots that it has, if it said.
    pub memory_slots: Option<u64>,
}
