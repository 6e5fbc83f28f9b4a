//! The port that a configuration names.

use std::os::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    unix::net::UnixStream,
};

use iobond_spec::{address::BaseAddr, register_access::RegisterIo};

use super::{
    Port, PortError, Region,
    vfio::{Descriptors, VfioError, VfioPort},
    vfio_user::{VfioUserError, VfioUserPort},
};
use crate::config::PortConfig;

/// Names of the descriptors that keep a device as it is.
const CONNECTION: &str = "port-connection";
const CONTAINER: &str = "port-container";
const DEVICE: &str = "port-device";

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
#[derive(Debug)]
pub enum OpenPort {
    /// Another process serves the IO-Bond.
    VfioUser(VfioUserPort),
    /// It is in this machine.
    Vfio(VfioPort),
}

impl OpenPort {
    /// Every name that [`OpenPort::descriptors`] may use.
    pub const NAMES: [&str; 3] = [CONNECTION, CONTAINER, DEVICE];

    /// Opens the port that `config` names.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(config: &PortConfig) -> Result<Self, OpenError> {
        Ok(match config {
            PortConfig::VfioUser(socket) => Self::VfioUser(VfioUserPort::open(socket)?),
            PortConfig::Vfio(address) => Self::Vfio(VfioPort::open(*address)?),
        })
    }

    /// Goes on with a port that an earlier life of this process opened, without a reset: `take` finds its descriptors by name, and
    /// `mapped` says what was mapped for DMA. None if not all of them were kept.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn adopt(
        config: &PortConfig,
        mut take: impl FnMut(&str) -> Option<OwnedFd>,
        mapped: &[(BaseAddr, u64)],
    ) -> Result<Option<Self>, OpenError> {
        Ok(match config {
            PortConfig::VfioUser(_) => match take(CONNECTION) {
                Some(connection) => {
                    let connection = UnixStream::from(connection);
                    Some(Self::VfioUser(VfioUserPort::resume(connection, mapped)?))
                }
                None => None,
            },
            PortConfig::Vfio(_) => match (take(CONTAINER), take(DEVICE)) {
                (Some(container), Some(device)) => {
                    Some(Self::Vfio(VfioPort::adopt(Descriptors { container, device }, mapped)?))
                }
                _ => None,
            },
        })
    }

    /// What has to be kept for the next life of this process to go on with the device as it is, by name.
    pub fn descriptors(&self) -> Vec<(&'static str, BorrowedFd<'_>)> {
        match self {
            Self::VfioUser(port) => vec![(CONNECTION, port.connection())],
            Self::Vfio(port) => {
                let Descriptors { container, device } = port.descriptors();
                vec![(CONTAINER, container.as_fd()), (DEVICE, device.as_fd())]
            }
        }
    }

    fn port(&self) -> &dyn Port {
        match self {
            Self::VfioUser(port) => port,
            Self::Vfio(port) => port,
        }
    }
}

impl RegisterIo for OpenPort {
    #[inline]
    fn read32(&self, offset: u32) -> u32 {
        self.port().read32(offset)
    }

    #[inline]
    fn write32(&self, offset: u32, value: u32) {
        self.port().write32(offset, value);
    }
}

impl Port for OpenPort {
    fn map_dma(&self, region: &Region<'_>) -> Result<(), PortError> {
        self.port().map_dma(region)
    }

    fn unmap_dma(&self, iova: BaseAddr) -> Result<(), PortError> {
        self.port().unmap_dma(iova)
    }

    fn reset(&self) -> Result<(), PortError> {
        self.port().reset()
    }

    fn wake_up(&self) -> Option<BorrowedFd<'_>> {
        self.port().wake_up()
    }
}
