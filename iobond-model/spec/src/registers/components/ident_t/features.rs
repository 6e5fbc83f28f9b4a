//! Register: Features

#[allow(unused_imports)]
use super::_root; // alias to root module of generated code

/// Features
///
/// What the queue engine can do.
#[repr(transparent)]
#[derive(Copy, Clone, Eq, PartialEq)]
pub struct Features(u32);

unsafe impl Send for Features {}
unsafe impl Sync for Features {}

impl core::default::Default for Features {
    fn default() -> Self {
        Self(0xFD)
    }
}

impl peakrdl_rust::reg::Register for Features {
    type Regwidth = u32;
    type Accesswidth = u32;
    type Access = peakrdl_rust::access::R;
    type ByteEndian = peakrdl_rust::endian::LittleEndian;
    type WordEndian = peakrdl_rust::endian::LittleEndian;

    unsafe fn from_raw(val: Self::Regwidth) -> Self {
        Self(val)
    }

    fn to_raw(self) -> Self::Regwidth {
        self.0
    }
}

impl Features {
    pub const SPLIT_OFFSET: usize = 0;
    pub const SPLIT_WIDTH: usize = 1;
    pub const SPLIT_MASK: u32 = 0x1;

    /// split
    ///
    /// Split rings (virtio 1.3, 2.7).
    #[inline(always)]
    #[allow(clippy::missing_panics_doc)]
    #[must_use]
    pub fn split(&self) -> bool {
        let val = (self.0 >> Self::SPLIT_OFFSET) & Self::SPLIT_MASK;
        val != 0
    }

    pub const PACKED_OFFSET: usize = 1;
    pub const PACKED_WIDTH: usize = 1;
    pub const PACKED_MASK: u32 = 0x1;

    /// packed
    ///
    /// Packed rings (virtio 1.3, 2.8).
    #[inline(always)]
    #[allow(clippy::missing_panics_doc)]
    #[must_use]
    pub fn packed(&self) -> bool {
        let val = (self.0 >> Self::PACKED_OFFSET) & Self::PACKED_MASK;
        val != 0
    }

    pub const INDIRECT_OFFSET: usize = 2;
    pub const INDIRECT_WIDTH: usize = 1;
    pub const INDIRECT_MASK: u32 = 0x1;

    /// indirect
    ///
    /// Indirect descriptors (virtio 1.3, 2.7.5.3).
    #[inline(always)]
    #[allow(clippy::missing_panics_doc)]
    #[must_use]
    pub fn indirect(&self) -> bool {
        let val = (self.0 >> Self::INDIRECT_OFFSET) & Self::INDIRECT_MASK;
        val != 0
    }

    pub const EVENT_IDX_OFFSET: usize = 3;
    pub const EVENT_IDX_WIDTH: usize = 1;
    pub const EVENT_IDX_MASK: u32 = 0x1;

    /// event_idx
    ///
    /// Notification suppression by index (virtio 1.3, 2.7.7).
    #[inline(always)]
    #[allow(clippy::missing_panics_doc)]
    #[must_use]
    pub fn event_idx(&self) -> bool {
        let val = (self.0 >> Self::EVENT_IDX_OFFSET) & Self::EVENT_IDX_MASK;
        val != 0
    }

    pub const NOTIFICATION_DATA_OFFSET: usize = 4;
    pub const NOTIFICATION_DATA_WIDTH: usize = 1;
    pub const NOTIFICATION_DATA_MASK: u32 = 0x1;

    /// notification_data
    ///
    /// Doorbells that carry the available index (virtio 1.3, 2.9).
    #[inline(always)]
    #[allow(clippy::missing_panics_doc)]
    #[must_use]
    pub fn notification_data(&self) -> bool {
        let val = (self.0 >> Self::NOTIFICATION_DATA_OFFSET) & Self::NOTIFICATION_DATA_MASK;
        val != 0
    }

    pub const RING_RESET_OFFSET: usize = 5;
    pub const RING_RESET_WIDTH: usize = 1;
    pub const RING_RESET_MASK: u32 = 0x1;

    /// ring_reset
    ///
    /// Reset of a single queue (virtio 1.3, 2.6.1).
    #[inline(always)]
    #[allow(clippy::missing_panics_doc)]
    #[must_use]
    pub fn ring_reset(&self) -> bool {
        let val = (self.0 >> Self::RING_RESET_OFFSET) & Self::RING_RESET_MASK;
        val != 0
    }

    pub const STATUS_PAGE_OFFSET: usize = 6;
    pub const STATUS_PAGE_WIDTH: usize = 1;
    pub const STATUS_PAGE_MASK: u32 = 0x1;

    /// status_page
    ///
    /// Status page in base memory.
    #[inline(always)]
    #[allow(clippy::missing_panics_doc)]
    #[must_use]
    pub fn status_page(&self) -> bool {
        let val = (self.0 >> Self::STATUS_PAGE_OFFSET) & Self::STATUS_PAGE_MASK;
        val != 0
    }

    pub const LIMITS_OFFSET: usize = 7;
    pub const LIMITS_WIDTH: usize = 1;
    pub const LIMITS_MASK: u32 = 0x1;

    /// limits
    ///
    /// Limits on the rates of a function (`qos`).
    #[inline(always)]
    #[allow(clippy::missing_panics_doc)]
    #[must_use]
    pub fn limits(&self) -> bool {
        let val = (self.0 >> Self::LIMITS_OFFSET) & Self::LIMITS_MASK;
        val != 0
    }
}

impl core::fmt::Debug for Features {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Features")
            .field("split", &self.split())
            .field("packed", &self.packed())
            .field("indirect", &self.indirect())
            .field("event_idx", &self.event_idx())
            .field("notification_data", &self.notification_data())
            .field("ring_reset", &self.ring_reset())
            .field("status_page", &self.status_page())
            .field("limits", &self.limits())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_default() {
        let reg = Features::default();
        assert_eq!(reg.split(), true);
        assert_eq!(reg.packed(), false);
        assert_eq!(reg.indirect(), true);
        assert_eq!(reg.event_idx(), true);
        assert_eq!(reg.notification_data(), true);
        assert_eq!(reg.ring_reset(), true);
        assert_eq!(reg.status_page(), true);
        assert_eq!(reg.limits(), true);
    }
}
