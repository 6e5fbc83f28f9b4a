//! The common configuration structure (virtio 1.3, 4.1.4.3): one table of fields, and what reading and
//! writing each does.

use iobond_spec::address::BoardAddr;

use super::{
    Effect, Function,
    queue::{Queue, map_vector},
    status::Step,
};

/// A field of `struct virtio_pci_common_cfg`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    DeviceFeatureSelect,
    DeviceFeature,
    DriverFeatureSelect,
    DriverFeature,
    ConfigVector,
    NumQueues,
    DeviceStatus,
    ConfigGeneration,
    QueueSelect,
    QueueSize,
    QueueVector,
    QueueEnable,
    QueueNotifyOff,
    DescLow,
    DescHigh,
    DriverLow,
    DriverHigh,
    DeviceLow,
    DeviceHigh,
    QueueNotifyData,
    QueueReset,
}

use Field::*;

/// Offset and width of every field. "The driver MUST access each field using the natural access method", a
/// 64-bit field as two 32-bit ones (virtio 1.3, 4.1.3.1); any other access finds nothing.
const FIELDS: [(u32, u8, Field); 21] = [
    (0x00, 4, DeviceFeatureSelect),
    (0x04, 4, DeviceFeature),
    (0x08, 4, DriverFeatureSelect),
    (0x0C, 4, DriverFeature),
    (0x10, 2, ConfigVector),
    (0x12, 2, NumQueues),
    (0x14, 1, DeviceStatus),
    (0x15, 1, ConfigGeneration),
    (0x16, 2, QueueSelect),
    (0x18, 2, QueueSize),
    (0x1A, 2, QueueVector),
    (0x1C, 2, QueueEnable),
    (0x1E, 2, QueueNotifyOff),
    (0x20, 4, DescLow),
    (0x24, 4, DescHigh),
    (0x28, 4, DriverLow),
    (0x2C, 4, DriverHigh),
    (0x30, 4, DeviceLow),
    (0x34, 4, DeviceHigh),
    (0x38, 2, QueueNotifyData),
    (0x3A, 2, QueueReset),
];

/// The field at `offset` that is `width` bytes wide.
pub(super) fn field(offset: u32, width: u8) -> Option<Field> {
    FIELDS.iter().find(|(at, wide, _)| (*at, *wide) == (offset, width)).map(|found| found.2)
}

/// The half of `features` that a select register chooses; zero beyond the 64 bits there are.
fn half(features: u64, select: u32) -> u32 {
    match select {
        0 => features as u32,
        1 => (features >> 32) as u32,
        _ => 0,
    }
}

/// Replaces one half of an address.
fn set_half(address: &mut BoardAddr, high: bool, value: u32) {
    let shift = if high { 32 } else { 0 };
    address.0 = address.0 & !(u64::from(u32::MAX) << shift) | u64::from(value) << shift;
}

impl Function {
    pub(super) fn read_common(&self, field: Field) -> u32 {
        match field {
            DeviceFeatureSelect => self.device_feature_select,
            DeviceFeature => half(self.offered, self.device_feature_select),
            DriverFeatureSelect => self.driver_feature_select,
            DriverFeature => half(self.driver_features, self.driver_feature_select),
            ConfigVector => self.config_vector.into(),
            NumQueues => self.queues.len() as u32,
            DeviceStatus => self.status.bits().into(),
            ConfigGeneration => self.generation.into(),
            QueueSelect => self.queue_select.into(),
            _ => self.selected().map_or(0, |queue| self.read_queue(queue, field)),
        }
    }

    /// A register of the selected queue. A queue that is not there has size zero, and nothing else
    /// (4.1.4.3.1).
    fn read_queue(&self, queue: &Queue, field: Field) -> u32 {
        match field {
            QueueSize => queue.size.into(),
            QueueVector => queue.vector.into(),
            QueueEnable => queue.enabled.into(),
            // IO-Bond finds a queue's doorbell at its own index.
            QueueNotifyOff => self.queue_select.into(),
            DescLow => queue.desc.0 as u32,
            DescHigh => (queue.desc.0 >> 32) as u32,
            DriverLow => queue.avail.0 as u32,
            DriverHigh => (queue.avail.0 >> 32) as u32,
            DeviceLow => queue.used.0 as u32,
            DeviceHigh => (queue.used.0 >> 32) as u32,
            // `queue_notif_config_data` exists only with NOTIF_CONFIG_DATA, which is not offered;
            // `queue_reset` reads zero since a reset is over before the next access is answered.
            _ => 0,
        }
    }

    pub(super) fn write_common(&mut self, field: Field, value: u32) -> Effect {
        match field {
            DeviceFeatureSelect => self.device_feature_select = value,
            DriverFeatureSelect => self.driver_feature_select = value,
            DriverFeature => return self.write_driver_feature(value),
            ConfigVector => self.config_vector = map_vector(value as u16),
            DeviceStatus => return self.write_status(value as u8),
            QueueSelect => self.queue_select = value as u16,
            DeviceFeature | NumQueues | ConfigGeneration | QueueNotifyOff | QueueNotifyData => {
                return self.refuse();
            }
            QueueEnable => return self.enable_selected(value),
            QueueReset => return self.reset_selected(value),
            QueueSize | QueueVector | DescLow | DescHigh | DriverLow | DriverHigh | DeviceLow
            | DeviceHigh => {
                return self.set_up_selected(field, value);
            }
        }
        Effect::None
    }

    fn write_driver_feature(&mut self, value: u32) -> Effect {
        if self.status.features_ok() {
            return self.refuse();
        }
        let shift = match self.driver_feature_select {
            0 => 0,
            1 => 32,
            // Bits beyond the 64 that are offered: harmless if none is set.
            _ if value == 0 => return Effect::None,
            _ => return self.refuse(),
        };
        self.driver_features =
            self.driver_features & !(u64::from(u32::MAX) << shift) | u64::from(value) << shift;
        Effect::None
    }

    fn write_status(&mut self, value: u8) -> Effect {
        match self.status.write(value) {
            Step::Note => Effect::None,
            Step::Refuse => self.refuse(),
            Step::Start => Effect::Start,
            // The registers are reset before the queues are stopped, but the write is answered after both:
            // the driver reads zero only once no buffer of its is touched any more (virtio 1.3, 4.1.4.3.1).
            Step::Reset => {
                self.reset();
                Effect::Reset
            }
            // `Status::write` has set FEATURES_OK already, and it is taken back here: the driver reads the
            // status again to see whether its features were accepted (virtio 1.3, 3.1.1, steps 5 and 6).
            Step::CheckFeatures => {
                if self.features_work() {
                    return Effect::None;
                }
                self.status.refuse_features();
                self.refuse()
            }
        }
    }

    /// Writes a register of the selected queue; those of an enabled queue stay as they are ("the driver MUST
    /// configure the other virtqueue fields before enabling the virtqueue", 4.1.4.3.2).
    fn set_up_selected(&mut self, field: Field, value: u32) -> Effect {
        let Some(queue) = self.queues.get_mut(usize::from(self.queue_select)).filter(|queue| !queue.enabled)
        else {
            return self.refuse();
        };
        match field {
            QueueSize if !queue.set_size(value as u16) => return self.refuse(),
            QueueVector => queue.vector = map_vector(value as u16),
            DescLow => set_half(&mut queue.desc, false, value),
            DescHigh => set_half(&mut queue.desc, true, value),
            DriverLow => set_half(&mut queue.avail, false, value),
            DriverHigh => set_half(&mut queue.avail, true, value),
            DeviceLow => set_half(&mut queue.used, false, value),
            DeviceHigh => set_half(&mut queue.used, true, value),
            _ => {}
        }
        Effect::None
    }

    /// `queue_enable`: 1 only, once, and after features are settled. A ring that is not possible is an error
    /// of the driver's from which only a reset leads.
    fn enable_selected(&mut self, value: u32) -> Effect {
        let ready = value == 1 && self.status.features_ok() && self.status.is_sound();
        let (index, running) = (self.queue_select, self.status.driver_ok());
        let Some(queue) = self.queues.get_mut(usize::from(index)).filter(|queue| ready && !queue.enabled)
        else {
            return self.refuse();
        };
        if !queue.is_well_formed() {
            self.refused += 1;
            return Effect::NeedsReset;
        }
        queue.enabled = true;
        if running { Effect::EnableQueue(index) } else { Effect::None }
    }

    /// `queue_reset` (virtio 1.3, 2.6.1), if RING_RESET was negotiated.
    fn reset_selected(&mut self, value: u32) -> Effect {
        let ready = value == 1 && self.ring_reset() && self.status.driver_ok();
        let index = self.queue_select;
        let Some(queue) = self.queues.get_mut(usize::from(index)).filter(|_| ready) else {
            return self.refuse();
        };
        let was_enabled = queue.enabled;
        *queue = Queue::new(queue.max_size);
        if was_enabled { Effect::ResetQueue(index) } else { Effect::None }
    }
}
