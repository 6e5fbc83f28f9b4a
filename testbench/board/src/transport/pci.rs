//! The modern PCI transport (virtio 1.3, 4.1) over a [`Bus`]: every field with its own width, MSI-X instead
//! of INTx.

use std::{
    cell::RefCell,
    ops::Deref,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use iobond_spec::address::BoardAddr;
use virtio_bindings::virtio_config::{VIRTIO_F_NOTIFICATION_DATA, VIRTIO_F_RING_RESET};
use virtio_drivers::{
    Error, PhysAddr,
    transport::{DeviceStatus, DeviceType, InterruptStatus, Transport},
};
use vm_memory::{Bytes, GuestAddress};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{BoardTransport, TransportError, msix};
use crate::{
    bus::Bus,
    pci::{Function, PciError, Region, VirtioStructure, header::VIRTIO_VENDOR},
};

/// `struct virtio_pci_common_cfg` (virtio 1.3, 4.1.4.3): offsets.
mod field {
    pub const DEVICE_FEATURE_SELECT: u64 = 0;
    pub const DEVICE_FEATURE: u64 = 4;
    pub const DRIVER_FEATURE_SELECT: u64 = 8;
    pub const DRIVER_FEATURE: u64 = 12;
    pub const CONFIG_MSIX_VECTOR: u64 = 16;
    pub const NUM_QUEUES: u64 = 18;
    pub const DEVICE_STATUS: u64 = 20;
    pub const CONFIG_GENERATION: u64 = 21;
    pub const QUEUE_SELECT: u64 = 22;
    pub const QUEUE_SIZE: u64 = 24;
    pub const QUEUE_MSIX_VECTOR: u64 = 26;
    pub const QUEUE_ENABLE: u64 = 28;
    pub const QUEUE_NOTIFY_OFF: u64 = 30;
    pub const QUEUE_DESC: u64 = 32;
    pub const QUEUE_DRIVER: u64 = 40;
    pub const QUEUE_DEVICE: u64 = 48;
    pub const QUEUE_RESET: u64 = 58;
    /// Up to and including `queue_device`: what every modern device has.
    pub const LEAST_SIZE: u64 = 56;
}

/// Vector of configuration changes; queue `n` has vector `n + 1`.
const CONFIG_VECTOR: u16 = 0;
/// `VIRTIO_MSI_NO_VECTOR` (virtio 1.3, 4.1.5.1.2).
const NO_VECTOR: u16 = 0xFFFF;
/// How long a reset may take before it counts as stuck; the mailbox may answer late, but not that late.
const RESET_TIMEOUT: Duration = Duration::from_secs(5);

/// A queue as far as the transport has to remember it.
#[derive(Clone, Copy, Debug)]
struct Queue {
    doorbell: BoardAddr,
    driver_area: BoardAddr,
}

/// A modern virtio PCI function as its driver holds it. `B` is a pointer to the board's bus.
#[derive(Debug)]
pub struct PciTransport<B> {
    bus: B,
    function: Function,
    device_type: DeviceType,
    common: Region,
    notify: Region,
    multiplier: u32,
    isr: Region,
    device: Option<Region>,
    /// MSI-X vectors that were programmed; 0 without MSI-X.
    vectors: u16,
    features: u64,
    queues: Vec<Option<Queue>>,
    reset_timeout: Duration,
    fault: RefCell<Option<TransportError>>,
}

impl<B: Deref<Target: Bus>> PciTransport<B> {
    /// Takes a function that [`crate::pci::enumerate`] found, and programs and enables its MSI-X table.
    ///
    /// # Errors
    /// [`TransportError::NotVirtio`], or [`TransportError::Pci`] when a structure is missing or out of place.
    pub fn new(bus: B, function: Function) -> Result<Self, TransportError> {
        let (common, _) = function.virtio(VirtioStructure::Common)?;
        let (notify, multiplier) = function.virtio(VirtioStructure::Notify)?;
        let (isr, _) = function.virtio(VirtioStructure::Isr)?;
        if common.length < field::LEAST_SIZE {
            return Err(
                PciError::Missing { function: function.id, what: "a whole common configuration" }.into()
            );
        }
        let device = match function.virtio(VirtioStructure::Device) {
            Ok((region, _)) => Some(region),
            Err(PciError::Missing { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let mut transport = Self {
            device_type: device_type(&function)?,
            bus,
            common,
            notify,
            multiplier,
            isr,
            device,
            vectors: 0,
            features: 0,
            queues: Vec::new(),
            reset_timeout: RESET_TIMEOUT,
            fault: RefCell::new(None),
            function,
        };
        let queues = transport.read(field::NUM_QUEUES, 2) as u16;
        transport.vectors = msix::enable(&*transport.bus, &mut transport.function, queues.saturating_add(1))?;
        Ok(transport)
    }

    /// The function, as it stands now.
    pub fn function(&self) -> &Function {
        &self.function
    }

    /// Sets how long a reset may take before it counts as stuck; 5 s to begin with.
    pub fn set_reset_timeout(&mut self, timeout: Duration) {
        self.reset_timeout = timeout;
    }

    /// The bus that the function is on.
    pub fn bus(&self) -> &B {
        &self.bus
    }

    /// Queues share the last vector when the table is too small for one each.
    fn queue_vector(&self, queue: u16) -> u16 {
        queue.saturating_add(1).min(self.vectors.saturating_sub(1))
    }

    fn read(&self, field: u64, width: u8) -> u32 {
        self.bus.mmio_read(self.common.address.wrapping_add(field), width) & all_ones(width)
    }

    fn write(&self, field: u64, width: u8, value: u32) {
        self.bus.mmio_write(self.common.address.wrapping_add(field), width, value);
    }

    /// 64-bit fields are written as two 32-bit ones (virtio 1.3, 4.1.3.1).
    fn write_u64(&self, field: u64, value: u64) {
        self.write(field, 4, value as u32);
        self.write(field + 4, 4, (value >> 32) as u32);
    }

    fn keep(&self, fault: TransportError) {
        self.fault.borrow_mut().get_or_insert(fault);
    }

    fn select(&self, queue: u16) {
        self.write(field::QUEUE_SELECT, 2, u32::from(queue));
    }

    /// Writes a vector field and reads it back: NO_VECTOR there means that the device had no resources for it
    /// (virtio 1.3, 4.1.5.1.2.1).
    fn set_vector(&self, field: u64, vector: u16, what: impl FnOnce() -> String) {
        if self.vectors == 0 {
            return;
        }
        self.write(field, 2, u32::from(vector));
        if self.read(field, 2) as u16 == NO_VECTOR {
            self.keep(TransportError::VectorRefused { device: self.name(), what: what(), vector });
        }
    }

    /// Whether a common configuration field becomes 0 in time.
    fn await_zero(&self, field: u64, width: u8) -> bool {
        let start = Instant::now();
        loop {
            let value = self.read(field, width);
            if value == 0 {
                return true;
            }
            if value == all_ones(width) {
                self.keep(TransportError::Gone { device: self.name(), what: "a field that a reset clears" });
                return false;
            }
            if start.elapsed() > self.reset_timeout {
                return false;
            }
            self.bus.relax();
        }
    }

    /// Where queue `queue`, which is selected, is notified (virtio 1.3, 4.1.4.4).
    fn doorbell(&self, queue: u16) -> Result<BoardAddr, TransportError> {
        let offset = u64::from(self.read(field::QUEUE_NOTIFY_OFF, 2)) * u64::from(self.multiplier);
        let width = if self.features & 1 << VIRTIO_F_NOTIFICATION_DATA != 0 { 4 } else { 2 };
        if offset + width > self.notify.length {
            return Err(TransportError::DoorbellOutside { device: self.name(), queue, offset });
        }
        Ok(self.notify.address.wrapping_add(offset))
    }
}

/// What a register of `width` bytes reads as when no device answers.
fn all_ones(width: u8) -> u32 {
    u32::MAX >> (32 - 8 * u32::from(width))
}

/// The virtio device type from the PCI device id (virtio 1.3, 4.1.2.1).
fn device_type(function: &Function) -> Result<DeviceType, TransportError> {
    let (vendor, id) = (function.vendor, function.device);
    let found = match (vendor, id) {
        (VIRTIO_VENDOR, 0x1000) => Some(DeviceType::Network),
        (VIRTIO_VENDOR, 0x1001) => Some(DeviceType::Block),
        (VIRTIO_VENDOR, 0x1003) => Some(DeviceType::Console),
        (VIRTIO_VENDOR, 0x1040..=0x107F) => DeviceType::try_from(id - 0x1040).ok(),
        _ => None,
    };
    found.ok_or(TransportError::NotVirtio { device: function.id, vendor, id })
}

impl<B: Deref<Target: Bus>> Transport for PciTransport<B> {
    fn device_type(&self) -> DeviceType {
        self.device_type
    }

    fn read_device_features(&mut self) -> u64 {
        self.write(field::DEVICE_FEATURE_SELECT, 4, 0);
        let low = self.read(field::DEVICE_FEATURE, 4);
        self.write(field::DEVICE_FEATURE_SELECT, 4, 1);
        let high = self.read(field::DEVICE_FEATURE, 4);
        u64::from(high) << 32 | u64::from(low)
    }

    fn write_driver_features(&mut self, features: u64) {
        self.features = features;
        self.write(field::DRIVER_FEATURE_SELECT, 4, 0);
        self.write(field::DRIVER_FEATURE, 4, features as u32);
        self.write(field::DRIVER_FEATURE_SELECT, 4, 1);
        self.write(field::DRIVER_FEATURE, 4, (features >> 32) as u32);
    }

    fn max_queue_size(&mut self, queue: u16) -> u32 {
        let found = self.read(field::NUM_QUEUES, 2) as u16;
        if queue >= found {
            self.keep(TransportError::NoQueue { device: self.name(), queue, found });
            return 0;
        }
        self.select(queue);
        self.read(field::QUEUE_SIZE, 2)
    }

    fn notify(&mut self, queue: u16) {
        let Some(Some(Queue { doorbell, driver_area })) = self.queues.get(usize::from(queue)).copied() else {
            return;
        };
        if self.features & 1 << VIRTIO_F_NOTIFICATION_DATA == 0 {
            self.bus.mmio_write(doorbell, 2, u32::from(queue));
            return;
        }
        // The upper half is the available index that the driver has just published (virtio 1.3, 2.9).
        let index = GuestAddress(driver_area.0 + iobond_spec::ring::split::IDX);
        match self.bus.memory().load::<u16>(index, Ordering::Acquire) {
            Ok(next) => self.bus.mmio_write(doorbell, 4, u32::from(next) << 16 | u32::from(queue)),
            Err(_) => self.keep(TransportError::QueueRefused { device: self.name(), queue }),
        }
    }

    fn get_status(&self) -> DeviceStatus {
        let status = self.read(field::DEVICE_STATUS, 1);
        if status == all_ones(1) {
            self.keep(TransportError::Gone { device: self.name(), what: "the device status" });
        }
        DeviceStatus::from_bits_retain(status)
    }

    fn set_status(&mut self, status: DeviceStatus) {
        self.write(field::DEVICE_STATUS, 1, status.bits());
        if status.is_empty() {
            self.fault.replace(None);
            self.queues.clear();
            self.features = 0;
            // The driver waits until the device says that it is reset (virtio 1.3, 4.1.4.3.2).
            if !self.await_zero(field::DEVICE_STATUS, 1) {
                self.keep(TransportError::ResetStuck { device: self.name(), status: self.get_status() });
            }
        } else if status == DeviceStatus::ACKNOWLEDGE | DeviceStatus::DRIVER {
            self.set_vector(field::CONFIG_MSIX_VECTOR, CONFIG_VECTOR, || "configuration changes".into());
        }
    }

    fn set_guest_page_size(&mut self, _: u32) {
        // Only a legacy device (virtio 0.9.5) has a page size.
    }

    fn requires_legacy_layout(&self) -> bool {
        false
    }

    fn queue_set(
        &mut self,
        queue: u16,
        size: u32,
        desc: PhysAddr,
        driver_area: PhysAddr,
        device_area: PhysAddr,
    ) {
        self.select(queue);
        self.write(field::QUEUE_SIZE, 2, size);
        self.write_u64(field::QUEUE_DESC, desc);
        self.write_u64(field::QUEUE_DRIVER, driver_area);
        self.write_u64(field::QUEUE_DEVICE, device_area);
        self.set_vector(field::QUEUE_MSIX_VECTOR, self.queue_vector(queue), || format!("queue {queue}"));
        let doorbell = match self.doorbell(queue) {
            Ok(doorbell) => doorbell,
            Err(fault) => return self.keep(fault),
        };
        self.write(field::QUEUE_ENABLE, 2, 1);
        if self.read(field::QUEUE_ENABLE, 2) != 1 {
            return self.keep(TransportError::QueueRefused { device: self.name(), queue });
        }
        if self.queues.len() <= usize::from(queue) {
            self.queues.resize(usize::from(queue) + 1, None);
        }
        self.queues[usize::from(queue)] = Some(Queue { doorbell, driver_area: BoardAddr(driver_area) });
    }

    /// Resets one queue, where RING_RESET was negotiated (virtio 1.3, 2.6.1.2); otherwise only a reset of the
    /// device ends it.
    fn queue_unset(&mut self, queue: u16) {
        if self.features & 1 << VIRTIO_F_RING_RESET == 0 {
            return;
        }
        self.select(queue);
        self.write(field::QUEUE_RESET, 2, 1);
        if !self.await_zero(field::QUEUE_RESET, 2) {
            return self.keep(TransportError::QueueResetStuck { device: self.name(), queue });
        }
        if let Some(state) = self.queues.get_mut(usize::from(queue)) {
            *state = None;
        }
    }

    fn queue_used(&mut self, queue: u16) -> bool {
        self.select(queue);
        self.read(field::QUEUE_ENABLE, 2) == 1
    }

    fn ack_interrupt(&mut self) -> InterruptStatus {
        // Reading the ISR clears it (virtio 1.3, 4.1.4.5).
        InterruptStatus::from_bits_truncate(self.bus.mmio_read(self.isr.address, 1) & 0xFF)
    }

    fn read_config_generation(&self) -> u32 {
        self.read(field::CONFIG_GENERATION, 1)
    }

    fn read_config_space<T: FromBytes + IntoBytes>(&self, offset: usize) -> virtio_drivers::Result<T> {
        let (start, width) = self.config_field::<T>(offset)?;
        let mut value = T::new_zeroed();
        for (chunk, address) in value.as_mut_bytes().chunks_mut(width).zip((start.0..).step_by(width)) {
            let read = self.bus.mmio_read(BoardAddr(address), width as u8).to_le_bytes();
            chunk.copy_from_slice(&read[..width]);
        }
        Ok(value)
    }

    fn write_config_space<T: IntoBytes + Immutable>(
        &mut self,
        offset: usize,
        value: T,
    ) -> virtio_drivers::Result<()> {
        let (start, width) = self.config_field::<T>(offset)?;
        for (chunk, address) in value.as_bytes().chunks(width).zip((start.0..).step_by(width)) {
            let mut bytes = [0; 4];
            bytes[..width].copy_from_slice(chunk);
            self.bus.mmio_write(BoardAddr(address), width as u8, u32::from_le_bytes(bytes));
        }
        Ok(())
    }
}

impl<B: Deref<Target: Bus>> PciTransport<B> {
    /// Where a device configuration field of type `T` is, and the width to access it with: 8 and 16-bit
    /// fields as such, 32-bit ones as such, 64-bit ones as two of those, arrays of bytes byte by byte (virtio
    /// 1.3, 4.1.3.1).
    fn config_field<T>(&self, offset: usize) -> virtio_drivers::Result<(BoardAddr, usize)> {
        let device = self.device.ok_or(Error::ConfigSpaceMissing)?;
        let end = offset.checked_add(size_of::<T>()).ok_or(Error::ConfigSpaceTooSmall)?;
        if end as u64 > device.length {
            return Err(Error::ConfigSpaceTooSmall);
        }
        let width = align_of::<T>().min(4);
        if !offset.is_multiple_of(width) {
            return Err(Error::InvalidParam);
        }
        Ok((device.address.wrapping_add(offset as u64), width))
    }
}

impl<B: Deref<Target: Bus>> BoardTransport for PciTransport<B> {
    fn name(&self) -> String {
        self.function.id.to_string()
    }

    fn relax(&self) {
        self.bus.relax();
    }

    fn fault(&self) -> Option<TransportError> {
        self.fault.borrow().clone()
    }
}
