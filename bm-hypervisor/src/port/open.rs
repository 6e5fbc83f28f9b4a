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

/// Descriptors that keep a device as it is.
const CONNECTION: &str = "connection";
const CONTAINER: &str = "container";
const DEVICE: &str = "device";

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

/// A port of the kind that the configuration names.
#[derive(Debug)]
pub enum OpenPort {
    /// Another process serves the IO-Bond.
    VfioUser(VfioUserPort),
    /// It is in this machine.
    Vfio(VfioPort),
}

impl OpenPort {
    /// How every name begins that [`OpenPort::descriptors`] uses.
    pub const PREFIX: &str = "port-";

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

    /// Takes over a port that a previous process opened, without a reset: `take` finds its descriptors by
    /// name, and `mapped` says what was mapped for DMA. None if not all of them were kept, or it was another
    /// port.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn adopt(
        config: &PortConfig,
        mut take: impl FnMut(&str) -> Option<OwnedFd>,
        mapped: &[(BaseAddr, u64)],
    ) -> Result<Option<Self>, OpenError> {
        let mut take = |what| take(&kept_name(what, config));
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

    /// What has to be kept for the next process to take the device over as it is, by name. `config` is what
    /// it was opened as: a name says which port it is of.
    pub fn descriptors(&self, config: &PortConfig) -> Vec<(String, BorrowedFd<'_>)> {
        let kept = match self {
            Self::VfioUser(port) => vec![(CONNECTION, port.connection())],
            Self::Vfio(port) => {
                let Descriptors { container, device } = port.descriptors();
                vec![(CONTAINER, container.as_fd()), (DEVICE, device.as_fd())]
            }
        };
        kept.into_iter().map(|(what, fd)| (kept_name(what, config), fd)).collect()
    }

    fn port(&self) -> &dyn Port {
        match self {
            Self::VfioUser(port) => port,
            Self::Vfio(port) => port,
        }
    }
}

/// What a descriptor of this port is kept as. Keepers take neither colons nor control characters
/// (sd_pid_notify_with_fds(3), FDNAME).
fn kept_name(what: &str, config: &PortConfig) -> String {
    let port = match config {
        PortConfig::Vfio(address) => address.to_string(),
        PortConfig::VfioUser(socket) => socket.display().to_string(),
    };
    let plain = |c: char| if c.is_ascii_graphic() && c != ':' { c } else { '_' };
    format!("{}{what}-{}", OpenPort::PREFIX, port.chars().map(plain).collect::<String>())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_descriptors_of_another_port_are_not_taken_over() {
        let [one, other] = ["/run/one.sock", "/run/other.sock"].map(|path| PortConfig::VfioUser(path.into()));
        let kept = kept_name(CONNECTION, &one);
        let adopt = |config: &PortConfig| {
            // A server that is gone, which the process that takes its connection is told.
            let take = |name: &str| (name == kept).then(|| OwnedFd::from(UnixStream::pair().unwrap().0));
            OpenPort::adopt(config, take, &[])
        };
        assert!(matches!(adopt(&one), Err(OpenError::VfioUser(_))));
        assert!(matches!(adopt(&other), Ok(None)));
        assert!(matches!(adopt(&PortConfig::Vfio("0000:01:00.0".parse().unwrap())), Ok(None)));
    }

    #[test]
    fn names_are_such_as_keepers_take() {
        let vfio = PortConfig::Vfio("0000:01:00.0".parse().unwrap());
        assert_eq!(kept_name(DEVICE, &vfio), "port-device-0000_01_00.0");
        let odd = PortConfig::VfioUser("/run/a b:c\n".into());
        assert_eq!(kept_name(CONNECTION, &odd), "port-connection-/run/a_b_c_");
    }
}
