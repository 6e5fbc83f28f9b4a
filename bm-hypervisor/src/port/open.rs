//! The port that a configuration names.

use std::os::fd::BorrowedFd;

use iobond_spec::{address::BaseAddr, register_access::RegisterIo};

use super::{
    Port, PortError, Region,
    vfio::{VfioError, VfioPort},
    vfio_user::{VfioUserError, VfioUserPort},
};
use crate::config::PortConfig;

/// A port that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process serves the IO-Bond, or should.
    #[error(transparent)]
    VfioUser(#[from] VfioUserError),
    /// The device cannot be had.
    #[error(transparent)]
    Vfio(#[from] VfioError),
}

/// A port of whichever kind.
pub struct OpenPort(Box<dyn Port>);

impl OpenPort {
    /// Opens the port that `config` names.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(config: &PortConfig) -> Result<Self, OpenError> {
        Ok(match config {
            PortConfig::VfioUser(socket) => Self(Box::new(VfioUserPort::open(socket)?)),
            PortConfig::Vfio(address) => Self(Box::new(VfioPort::open(*address)?)),
        })
    }
}

impl RegisterIo for OpenPort {
    fn read32(&self, offset: u32) -> u32 {
        self.0.read32(offset)
    }

    fn write32(&self, offset: u32, value: u32) {
        self.0.write32(offset, value);
    }
}

impl Port for OpenPort {
    fn map_dma(&self, region: &Region<'_>) -> Result<(), PortError> {
        self.0.map_dma(region)
    }

    fn unmap_dma(&self, iova: BaseAddr) -> Result<(), PortError> {
        self.0.unmap_dma(iova)
    }

    fn reset(&self) -> Result<(), PortError> {
        self.0.reset()
    }

    fn wake_up(&self) -> Option<BorrowedFd<'_>> {
        self.0.wake_up()
    }
}
