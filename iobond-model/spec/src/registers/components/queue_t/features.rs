//! Register: Features

#[allow(unused_imports)]
use super::_root; // alias to root module of generated code

/// Features
///
/// What was negotiated for this queue.
#[repr(transparent)]
#[derive(Copy, Clone, Eq, PartialEq)]
pub struct Features(u32);

unsafe impl Send for Features {}
unsafe impl Sync for Features {}

impl core::default::Default for Features {
    fn default() -> Self {
        Self(0x0)
    }
}

impl peakrdl_rust::reg::Register for Features {
    type Regwidth = u32;
    type Accesswidth = u32;
    type Access = peakrdl_rust::access::RW;
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
    pub const INDIRECT_OFFSET: usize = 0;
    pub const INDIRECT_WIDTH: usize = 1;
    pub const INDIRECT_MASK: u32 = 0x1;

    /// indirect
    ///
    /// The guest may use indirect tables.
    #[inline(always)]
    #[allow(clippy::missing_panics_doc)]
    #[must_use]
    pub fn indirect(&self) -> bool {
        let val = (self.0 >> Self::INDIRECT_OFFSET) & Self::INDIRECT_MASK;
        val != 0
    }

    /// indirect
    ///
    /// The guest may use indirect tables.
    #[inline(always)]
    pub fn set_indirect(&mut self, val: bool) {
        let val = val as u32;
        self.0 = (self.0 & !(Self::INDIRECT_MASK << Self::INDIRECT_OFFSET))
            | ((val & Self::INDIRECT_MASK) << Self::INDIRECT_OFFSET);
    }

    pub const EVENT_IDX_OFFSET: usize = 1;
    pub const EVENT_IDX_WIDTH: usize = 1;
    pub const EVENT_IDX_MASK: u32 = 0x1;

    /// event_idx
    ///
    /// The guest ring has event indices.
    #[inline(always)]
    #[allow(clippy::missing_panics_doc)]
    #[must_use]
    pub fn event_idx(&self) -> bool {
        let val = (self.0 >> Self::EVENT_IDX_OFFSET) & Self::EVENT_IDX_MASK;
        val != 0
    }

    /// event_idx
    ///
    /// The guest ring has event indices.
    #[inline(always)]
    pub fn set_event_idx(&mut self, val: bool) {
        let val = val as u32;
        self.0 = (self.0 & !(Self::EVENT_IDX_MASK << Self::EVENT_IDX_OFFSET))
            | ((val & Self::EVENT_IDX_MASK) << Self::EVENT_IDX_OFFSET);
    }

    pub const NOTIFICATION_DATA_OFFSET: usize = 2;
    pub const NOTIFICATION_DATA_WIDTH: usize = 1;
    pub const NOTIFICATION_DATA_MASK: u32 = 0x1;

    /// notification_data
    ///
    /// The guest's doorbells carry the available index.
    #[inline(always)]
    #[allow(clippy::missing_panics_doc)]
    #[must_use]
    pub fn notification_data(&self) -> bool {
        let val = (self.0 >> Self::NOTIFICATION_DATA_OFFSET) & Self::NOTIFICATION_DATA_MASK;
        val != 0
    }

    /// notification_data
    ///
    /// The guest's doorbells carry the available index.
    #[inline(always)]
    pub fn set_notification_data(&mut self, val: bool) {
        let val = val as u32;
        self.0 = (self.0 & !(Self::NOTIFICATION_DATA_MASK << Self::NOTIFICATION_DATA_OFFSET))
            | ((val & Self::NOTIFICATION_DATA_MASK) << Self::NOTIFICATION_DATA_OFFSET);
    }

    pub const SHADOW_INDIRECT_OFFSET: usize = 3;
    pub const SHADOW_INDIRECT_WIDTH: usize = 1;
    pub const SHADOW_INDIRECT_MASK: u32 = 0x1;

    /// shadow_indirect
    ///
    /// The back end takes indirect tables in the shadow vring.
    #[inline(always)]
    #[allow(clippy::missing_panics_doc)]
    #[must_use]
    pub fn shadow_indirect(&self) -> bool {
        let val = (self.0 >> Self::SHADOW_INDIRECT_OFFSET) & Self::SHADOW_INDIRECT_MASK;
        val != 0
    }

    /// shadow_indirect
    ///
    /// The back end takes indirect tables in the shadow vring.
    #[inline(always)]
    pub fn set_shadow_indirect(&mut self, val: bool) {
        let val = val as u32;
        self.0 = (self.0 & !(Self::SHADOW_INDIRECT_MASK << Self::SHADOW_INDIRECT_OFFSET))
            | ((val & Self::SHADOW_INDIRECT_MASK) << Self::SHADOW_INDIRECT_OFFSET);
    }

    pub const COPY_ALL_OFFSET: usize = 4;
    pub const COPY_ALL_WIDTH: usize = 1;
    pub const COPY_ALL_MASK: u32 = 0x1;

    /// copy_all
    ///
    /// Quirk: copy every writable byte back, whatever the back end says it wrote.
    #[inline(always)]
    #[allow(clippy::missing_panics_doc)]
    #[must_use]
    pub fn copy_all(&self) -> bool {
        let val = (self.0 >> Self::COPY_ALL_OFFSET) & Self::COPY_ALL_MASK;
        val != 0
    }

    /// copy_all
    ///
    /// Quirk: copy every writable byte back, whatever the back end says it wrote.
    #[inline(always)]
    pub fn set_copy_all(&mut self, val: bool) {
        let val = val as u32;
        self.0 = (self.0 & !(Self::COPY_ALL_MASK << Self::COPY_ALL_OFFSET))
            | ((val & Self::COPY_ALL_MASK) << Self::COPY_ALL_OFFSET);
    }

    pub const COUNT_ON_RETURN_OFFSET: usize = 5;
    pub const COUNT_ON_RETURN_WIDTH: usize = 1;
    pub const COUNT_ON_RETURN_MASK: u32 = 0x1;

    /// count_on_return
    ///
    /// Its chains count as operations when they are returned, not when they are forwarded: buffers that are merely offered, as a receive queue's, cost nothing. See `qos`.
    #[inline(always)]
    #[allow(clippy::missing_panics_doc)]
    #[must_use]
    pub fn count_on_return(&self) -> bool {
        let val = (self.0 >> Self::COUNT_ON_RETURN_OFFSET) & Self::COUNT_ON_RETURN_MASK;
        val != 0
    }

    /// count_on_return
    ///
    /// Its chains count as operations when they are returned, not when they are forwarded: buffers that are merely offered, as a receive queue's, cost nothing. See `qos`.
    #[inline(always)]
    pub fn set_count_on_return(&mut self, val: bool) {
        let val = val as u32;
        self.0 = (self.0 & !(Self::COUNT_ON_RETURN_MASK << Self::COUNT_ON_RETURN_OFFSET))
            | ((val & Self::COUNT_ON_RETURN_MASK) << Self::COUNT_ON_RETURN_OFFSET);
    }
}

impl core::fmt::Debug for Features {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Features")
            .field("indirect", &self.indirect())
            .field("event_idx", &self.event_idx())
            .field("notification_data", &self.notification_data())
            .field("shadow_indirect", &self.shadow_indirect())
            .field("copy_all", &self.copy_all())
            .field("count_on_return", &self.count_on_return())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_default() {
        let reg = Features::default();
        assert_eq!(reg.indirect(), false);
        assert_eq!(reg.event_idx(), false);
        assert_eq!(reg.notification_data(), false);
        assert_eq!(reg.shadow_indirect(), false);
        assert_eq!(reg.copy_all(), false);
        assert_eq!(reg.count_on_return(), false);
    }
}
