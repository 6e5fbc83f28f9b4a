//! How large rings and slot pools are.

use iobond_spec::MAX_RING;
use serde::{Deserialize, Serialize};

use super::{ConfigError, within};

/// What a configuration says about the rings of a function; the device's defaults fill in the rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RingConfig {
    /// Largest guest ring, in descriptors.
    #[serde(default)]
    pub guest: Option<u16>,
    /// Shadow vring, in descriptors. Default four times the guest ring and at most 1024, but at least the
    /// guest ring.
    #[serde(default)]
    pub shadow: Option<u16>,
    /// Bytes of a slot.
    #[serde(default)]
    pub slot_size: Option<u32>,
    /// Slots of each queue.
    #[serde(default)]
    pub slots: Option<u16>,
}

/// The sizes of every ring and slot pool of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingSizes {
    /// Largest guest ring, in descriptors: a power of two, 2 to 32768.
    pub guest: u16,
    /// Shadow vring, in descriptors: a power of two, at least `guest`. 1024 by default: what QEMU's
    /// libvhost-user and crate vhost-user-backend's servers commonly take at most.
    pub shadow: u16,
    /// Bytes of a slot: a power of two, 64 to 1 MiB.
    pub slot_size: u32,
    /// Slots of each queue, 4 to 65535.
    pub slots: u16,
}

/// Largest slot: many times a frame of 64 KiB.
const MAX_SLOT_SIZE: u32 = 1 << 20;

impl RingSizes {
    /// Defaults of a block function: a request of 1 MiB goes into a ring, which takes 258 descriptors when
    /// its pages lie apart. When they do not, a driver makes segments as large as a slot, and what costs is
    /// their number.
    pub const BLK: Self = Self { guest: 512, shadow: 1024, slot_size: 32768, slots: 512 };
    /// Defaults of a network function: a frame of 1500 bytes and its header go into a slot.
    pub const NET: Self = Self { guest: 256, shadow: 1024, slot_size: 2048, slots: 1024 };
    /// Defaults of a console: Linux fills the receive queue with buffers of a page, and each goes into a slot
    /// and a shadow descriptor of its own.
    pub const CONSOLE: Self = Self { guest: 64, shadow: 256, slot_size: 4096, slots: 64 };
    /// A control queue: its commands are a few bytes each.
    pub const CONTROL: Self = Self { guest: 64, shadow: 256, slot_size: 64, slots: 256 };

    /// What is reserved for a function that comes later: what a queue of any device takes by default.
    pub const SPARE: Self = Self { guest: 512, shadow: 1024, slot_size: 32768, slots: 512 };

    /// The shadow vring for a guest ring of `guest` descriptors when nothing else is said.
    #[must_use]
    pub fn default_shadow(guest: u16) -> u16 {
        guest.saturating_mul(4).min(1024).max(guest)
    }

    /// Whether IO-Bond can run such rings.
    pub(super) fn check(&self, at: &str) -> Result<(), ConfigError> {
        within(&format!("{at}.guest"), self.guest, 2, MAX_RING)?;
        within(&format!("{at}.shadow"), self.shadow, self.guest, MAX_RING)?;
        within(&format!("{at}.slot_size"), self.slot_size, 64, MAX_SLOT_SIZE)?;
        within(&format!("{at}.slots"), self.slots, 4, u16::MAX)?;
        power_of_two(&format!("{at}.guest"), self.guest.into())?;
        power_of_two(&format!("{at}.shadow"), self.shadow.into())?;
        power_of_two(&format!("{at}.slot_size"), self.slot_size)
    }
}

impl RingConfig {
    /// These sizes where given, those of `default` elsewhere.
    pub fn resolve(&self, default: RingSizes) -> RingSizes {
        let guest = self.guest.unwrap_or(default.guest);
        RingSizes {
            guest,
            shadow: self.shadow.unwrap_or_else(|| RingSizes::default_shadow(guest)),
            slot_size: self.slot_size.unwrap_or(default.slot_size),
            slots: self.slots.unwrap_or(default.slots),
        }
    }
}

fn power_of_two(key: &str, value: u32) -> Result<(), ConfigError> {
    if value.is_power_of_two() {
        return Ok(());
    }
    Err(ConfigError::Value { key: key.into(), value: value.into(), expected: "a power of two".into() })
}
