//! How the board's drivers reach a virtio device: `virtio_drivers::transport::Transport`, plus what that
//! trait has no place for.

mod msix;
mod pci;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use iobond_spec::address::FunctionId;
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_drivers::transport::{DeviceStatus, Transport};

pub use self::{msix::message_data, pci::PciTransport};
use super::pci::PciError;

/// A device that did not do as a driver must expect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are those of the message")]
pub enum TransportError {
    #[error(transparent)]
    Pci(#[from] PciError),
    #[error(
        "{device}: vendor {vendor:#06x}, device {id:#06x} is not a virtio device that the board has a driver for"
    )]
    NotVirtio { device: FunctionId, vendor: u16, id: u16 },
    #[error("{device}: {what} reads as all ones: the device is gone, or its mailbox is not served")]
    Gone { device: String, what: &'static str },
    #[error("{device}: offers features {offered:#x} without VERSION_1; only modern devices are driven")]
    NoVersion1 { device: String, offered: u64 },
    #[error("{device}: does not accept features {accepted:#x} of the offered {offered:#x}")]
    FeaturesRefused { device: String, offered: u64, accepted: u64 },
    #[error("{device}: status is still {status:?} after it was written as 0")]
    ResetStuck { device: String, status: DeviceStatus },
    #[error("{device}: needs a reset (status {status:?})")]
    NeedsReset { device: String, status: DeviceStatus },
    #[error("{device}: queue {queue} of {found}, as far as num_queues says")]
    NoQueue { device: String, queue: u16, found: u16 },
    #[error("{device}: queue {queue} is not enabled after queue_enable was written")]
    QueueRefused { device: String, queue: u16 },
    #[error("{device}: queue {queue} is still being reset")]
    QueueResetStuck { device: String, queue: u16 },
    #[error("{device}: no resources for MSI-X vector {vector} of {what}")]
    VectorRefused { device: String, what: String, vector: u16 },
    #[error(
        "{device}: the doorbell of queue {queue} at notification offset {offset:#x} is outside of the notification structure"
    )]
    DoorbellOutside { device: String, queue: u16, offset: u64 },
    #[error("{socket}: {message} failed: {reason}")]
    VhostUser { socket: PathBuf, message: &'static str, reason: String },
}

/// A transport that a board's driver can wait on.
///
/// Most functions of [`Transport`] return nothing. What goes wrong in one of them is kept, and
/// [`BoardTransport::fault`] tells.
pub trait BoardTransport: Transport {
    /// What the device is called in errors.
    fn name(&self) -> String;

    /// Lets time pass while a driver waits for its device.
    fn relax(&self);

    /// The first thing that went wrong since the last reset.
    fn fault(&self) -> Option<TransportError>;

    /// Resets the device and negotiates those of the `wanted` features that it offers (virtio 1.3, 3.1.1,
    /// steps 1 to 6).
    ///
    /// # Errors
    /// Whatever [`BoardTransport::fault`] tells, [`TransportError::NoVersion1`] or
    /// [`TransportError::FeaturesRefused`].
    fn negotiate(&mut self, wanted: u64) -> Result<u64, TransportError> {
        let known = DeviceStatus::ACKNOWLEDGE | DeviceStatus::DRIVER;
        self.set_status(DeviceStatus::empty());
        self.set_status(DeviceStatus::ACKNOWLEDGE);
        self.set_status(known);
        let offered = self.read_device_features();
        self.check()?;
        if offered & 1 << VIRTIO_F_VERSION_1 == 0 {
            self.set_status(known | DeviceStatus::FAILED);
            return Err(TransportError::NoVersion1 { device: self.name(), offered });
        }
        let accepted = offered & (wanted | 1 << VIRTIO_F_VERSION_1);
        self.write_driver_features(accepted);
        self.set_status(known | DeviceStatus::FEATURES_OK);
        self.check()?;
        if !self.get_status().contains(DeviceStatus::FEATURES_OK) {
            self.set_status(known | DeviceStatus::FAILED);
            return Err(TransportError::FeaturesRefused { device: self.name(), offered, accepted });
        }
        Ok(accepted)
    }

    /// Sets DRIVER_OK (virtio 1.3, 3.1.1, step 8).
    ///
    /// # Errors
    /// Whatever [`BoardTransport::fault`] tells of the set-up since, or [`TransportError::NeedsReset`].
    fn activate(&mut self) -> Result<(), TransportError> {
        self.check()?;
        self.finish_init();
        self.check()
    }

    /// Whether the device is as it should be.
    ///
    /// # Errors
    /// Whatever [`BoardTransport::fault`] tells, or [`TransportError::NeedsReset`].
    fn check(&self) -> Result<(), TransportError> {
        if let Some(fault) = self.fault() {
            return Err(fault);
        }
        let status = self.get_status();
        if status.contains(DeviceStatus::DEVICE_NEEDS_RESET) {
            return Err(TransportError::NeedsReset { device: self.name(), status });
        }
        self.fault().map_or(Ok(()), Err)
    }
}
