//! The control plane of a virtio PCI function (virtio 1.3, 4.1), answered over the mailbox.
//!
//! [`Function`] is the state behind forwarded accesses: it does no I/O. A write returns the [`Effect`] that
//! it asks for, and the control thread carries it out before the access is answered. Every offset, width and
//! value is the board's, hence hostile: what no field decodes reads zero, is ignored, and is counted.

mod common_configuration;
pub mod config_image;
pub mod queue;
pub mod record;
pub mod status;

use iobond_spec::function::{COMMON, COMMON_SIZE, DEVICE, DEVICE_SIZE, NO_VECTOR};
use virtio_bindings::virtio_config::{VIRTIO_F_NOTIFICATION_DATA, VIRTIO_F_RING_RESET, VIRTIO_F_VERSION_1};
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};

pub use self::{queue::Queue, status::Status};
use crate::device::{
    Device,
    features::{close, has, mask},
};

/// What a write asks for beyond the registers themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing but the registers changes.
    None,
    /// Stop every queue: the function was reset.
    Reset,
    /// Start the queues that are enabled: the driver set DRIVER_OK.
    Start,
    /// Start this queue: it was enabled after DRIVER_OK.
    EnableQueue(u16),
    /// Stop this queue: it was reset alone.
    ResetQueue(u16),
    /// Ask the driver for a reset: it set up a queue that is not possible.
    NeedsReset,
}

/// Transport features of a function over an IO-Bond that says it can do `ident`.
pub fn transport_features(ident: &iobond_spec::registers::components::ident_t::features::Features) -> u64 {
    let bits = [
        (true, VIRTIO_F_VERSION_1),
        (ident.indirect(), VIRTIO_RING_F_INDIRECT_DESC),
        (ident.event_idx(), VIRTIO_RING_F_EVENT_IDX),
        (ident.notification_data(), VIRTIO_F_NOTIFICATION_DATA),
        (ident.ring_reset(), VIRTIO_F_RING_RESET),
    ];
    bits.into_iter().filter(|(can, _)| *can).fold(0, |features, (_, bit)| features | 1 << bit)
}

/// The control plane of one function.
#[derive(Clone, Debug)]
pub struct Function {
    device: Device,
    offered: u64,
    driver_features: u64,
    device_feature_select: u32,
    driver_feature_select: u32,
    config_vector: u16,
    /// `config_generation`: how often device configuration changed, wrapping.
    generation: u8,
    queue_select: u16,
    status: Status,
    queues: Vec<Queue>,
    refused: u64,
    withdrawn: bool,
}

impl Function {
    /// The function after reset; it offers the device's features and those of the transport.
    pub fn new(device: Device, transport: u64) -> Self {
        let queues = (0..device.queues()).map(|index| Queue::new(device.sizes(index).guest)).collect();
        Self {
            offered: device.features | transport,
            device,
            driver_features: 0,
            device_feature_select: 0,
            driver_feature_select: 0,
            config_vector: NO_VECTOR,
            generation: 0,
            queue_select: 0,
            status: Status::default(),
            queues,
            refused: 0,
            withdrawn: false,
        }
    }

    /// There is nothing behind the function any more. Whatever features a driver chooses from now on,
    /// FEATURES_OK is refused: its probe fails at once (virtio 1.3, 3.1.1, step 6), where a device that only
    /// fails later makes it wait for ever.
    pub fn withdraw(&mut self) {
        self.withdrawn = true;
    }

    /// There is something behind the function again.
    pub fn restore(&mut self) {
        self.withdrawn = false;
    }

    /// The device behind it.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Features that it offers.
    pub fn offered(&self) -> u64 {
        self.offered
    }

    /// Features that the driver accepted; they count once [`Status::features_ok`].
    pub fn negotiated(&self) -> u64 {
        self.driver_features
    }

    /// The `device_status` field as it stands.
    pub fn status(&self) -> Status {
        self.status
    }

    /// Its virtqueues as the driver set them up, by index.
    pub fn queues(&self) -> &[Queue] {
        &self.queues
    }

    /// Accesses that no field decodes, or that came out of order.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Answers a read of `width` bytes at `offset` in the BAR.
    pub fn read(&mut self, offset: u32, width: u8) -> u32 {
        let value = match offset {
            COMMON..COMMON_END => {
                common_configuration::field(offset - COMMON, width).map(|field| self.read_common(field))
            }
            DEVICE..DEVICE_END => self.read_device(offset - DEVICE, width),
            _ => None,
        };
        value.unwrap_or_else(|| {
            self.refused += 1;
            0
        })
    }

    /// Takes a write of `width` bytes at `offset` in the BAR. No field of device configuration that is
    /// offered can be written.
    pub fn write(&mut self, offset: u32, width: u8, value: u32) -> Effect {
        match offset {
            COMMON..COMMON_END => match common_configuration::field(offset - COMMON, width) {
                Some(field) => self.write_common(field, value),
                None => self.refuse(),
            },
            _ => self.refuse(),
        }
    }

    /// Device configuration takes any width whose bytes are all there (virtio 1.3, 4.1.3.1 leaves fields to
    /// the device).
    fn read_device(&self, offset: u32, width: u8) -> Option<u32> {
        let start = offset as usize;
        let bytes = self
            .device
            .config
            .get(start..start + usize::from(width))
            .filter(|bytes| matches!(bytes.len(), 1 | 2 | 4))?;
        Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte)))
    }

    fn selected(&self) -> Option<&Queue> {
        self.queues.get(usize::from(self.queue_select))
    }

    fn refuse(&mut self) -> Effect {
        self.refused += 1;
        Effect::None
    }

    /// Whether RING_RESET was negotiated.
    fn ring_reset(&self) -> bool {
        has(self.driver_features, VIRTIO_F_RING_RESET)
    }

    /// Whether there is a device, and the driver's choice is a subset of its offer, has VERSION_1, and leaves
    /// no feature without what it needs.
    fn features_work(&self) -> bool {
        let chosen = self.driver_features;
        !self.withdrawn
            && chosen & !self.offered == 0
            && chosen & mask(&[VIRTIO_F_VERSION_1]) != 0
            && close(chosen, self.device.kind.dependencies()) == chosen
    }

    /// Replaces device configuration from byte `offset` on, as far as there is any; whether that changed it.
    /// The generation tells a driver that reads a field in pieces (virtio 1.3, 4.1.4.3.1: "the device MUST
    /// present a changed config_generation").
    pub fn reconfigure(&mut self, offset: usize, bytes: &[u8]) -> bool {
        let field = self.device.config.get_mut(offset..offset.saturating_add(bytes.len()));
        let Some(field) = field.filter(|field| *field != bytes) else { return false };
        field.copy_from_slice(bytes);
        self.generation = self.generation.wrapping_add(1);
        true
    }

    /// The vector to tell of a configuration change with, if there is a driver to be told: only after
    /// DRIVER_OK (virtio 1.3, 2.3).
    pub fn change_vector(&self) -> Option<u16> {
        self.status.driver_ok().then_some(self.config_vector)
    }

    /// Puts every register back to what it is after reset (virtio 1.3, 2.4). Counters stay.
    pub fn reset(&mut self) {
        let Self { device, refused, offered, withdrawn, generation, .. } = self;
        let (offered, refused, withdrawn, generation) = (*offered, *refused, *withdrawn, *generation);
        let fresh = Self { offered, refused, withdrawn, generation, ..Self::new(device.clone(), 0) };
        *self = fresh;
    }

    /// Takes back the enabling of queue `index`: it could not be started.
    pub fn refuse_queue(&mut self, index: u16) {
        if let Some(queue) = self.queues.get_mut(usize::from(index)) {
            queue.enabled = false;
        }
    }

    /// Asks the driver for a reset. The vector to interrupt with, if the driver is to be told: only after
    /// DRIVER_OK, and once (virtio 1.3, 2.1.2).
    pub fn ask_for_reset(&mut self) -> Option<u16> {
        let new = self.status.set_needs_reset();
        (new && self.status.driver_ok()).then_some(self.config_vector)
    }
}

const COMMON_END: u32 = COMMON + COMMON_SIZE;
const DEVICE_END: u32 = DEVICE + DEVICE_SIZE;

#[cfg(test)]
mod tests;
