//! An IO-Bond that another process serves over vfio-user: the emulator, or a virtual machine monitor's own.
//!
//! A register write is one system call and is not waited for; a read is a round trip, some ten microseconds. A poll pass only
//! writes.

use std::{
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
    sync::{Mutex, PoisonError, atomic::AtomicBool, atomic::Ordering},
    time::Duration,
};

use iobond_spec::{
    ALL_ONES,
    address::BaseAddr,
    base_function::{BAR_SIZE, WAKE_VECTOR},
    register_access::RegisterIo,
};
use iobond_vfio_user::{Errno, Irq, Region as PciRegion, RemoteError, RemoteFunction};
use rustix::event::{EventfdFlags, eventfd};

use super::{Port, PortError, Region};

/// How long the server may take to answer. The emulator does in microseconds; a machine that is overloaded gets some time.
const PATIENCE: Duration = Duration::from_secs(5);
/// Command register (PCIe 5.0, 7.5.1.1.3).
const COMMAND: u64 = 0x04;
/// Memory Space and Bus Master.
const COMMAND_ON: u16 = 1 << 1 | 1 << 2;

/// A port that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum VfioUserError {
    /// The server cannot be reached, or does not behave.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// It serves something else.
    #[error("{} serves a function whose BAR 0 has {size:#x} bytes, and an IO-Bond's has {BAR_SIZE:#x}; is it another function's socket?", socket.display())]
    Bar {
        /// The socket.
        socket: std::path::PathBuf,
        /// Bytes of BAR 0.
        size: u64,
    },
    /// The system refused an event.
    #[error("cannot make an event for the wake-up interrupt: {0}")]
    System(#[from] io::Error),
}

/// An IO-Bond behind a vfio-user socket.
#[derive(Debug)]
pub struct VfioUserPort {
    function: RemoteFunction,
    wake_up: OwnedFd,
    /// What is mapped: address and length.
    mapped: Mutex<Vec<(BaseAddr, u64)>>,
    /// That the device is gone was said.
    told: AtomicBool,
}

impl VfioUserPort {
    /// Connects to `socket`, lets the function decode its BAR and master the bus, and connects its wake-up interrupt.
    ///
    /// # Errors
    /// [`VfioUserError`].
    pub fn open(socket: &Path) -> Result<Self, VfioUserError> {
        let port = Self::over(RemoteFunction::connect(socket, PATIENCE)?)?;
        let size = port.function.region_size(PciRegion::Bar0)?;
        if size != u64::from(BAR_SIZE) {
            return Err(VfioUserError::Bar { socket: socket.to_owned(), size });
        }
        port.switch_on()?;
        Ok(port)
    }

    /// Goes on with a connection that an earlier life of this process made; `mapped` says what that life had mapped.
    ///
    /// # Errors
    /// [`VfioUserError`].
    pub fn resume(connection: UnixStream, mapped: Vec<(BaseAddr, u64)>) -> Result<Self, VfioUserError> {
        let port = Self::over(RemoteFunction::resume(connection, PATIENCE)?)?;
        *port.mapped() = mapped;
        port.function.signal(Irq::Msix, WAKE_VECTOR.into(), &[port.wake_up.as_fd()])?;
        Ok(port)
    }

    fn over(function: RemoteFunction) -> Result<Self, VfioUserError> {
        let (mapped, told) = (Mutex::default(), AtomicBool::new(false));
        let wake_up = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(io::Error::from)?;
        Ok(Self { function, wake_up, mapped, told })
    }

    fn switch_on(&self) -> Result<(), RemoteError> {
        self.function.write(PciRegion::Config, COMMAND, &COMMAND_ON.to_le_bytes())?;
        self.function.signal(Irq::Msix, WAKE_VECTOR.into(), &[self.wake_up.as_fd()])
    }

    /// The connection: who keeps a duplicate of it keeps the device as it is.
    #[must_use]
    pub fn connection(&self) -> BorrowedFd<'_> {
        self.function.connection()
    }

    fn mapped(&self) -> std::sync::MutexGuard<'_, Vec<(BaseAddr, u64)>> {
        self.mapped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A device that is gone reads all ones, as in hardware. Why is said once.
    fn lose(&self, error: &RemoteError) {
        if !self.told.swap(true, Ordering::Relaxed) {
            tracing::error!("the IO-Bond does not answer any more: {error}");
        }
    }
}

impl RegisterIo for VfioUserPort {
    fn read32(&self, offset: u32) -> u32 {
        let mut word = [0; 4];
        match self.function.read(PciRegion::Bar0, offset.into(), &mut word) {
            Ok(()) => u32::from_le_bytes(word),
            Err(error) => {
                self.lose(&error);
                ALL_ONES
            }
        }
    }

    fn write32(&self, offset: u32, value: u32) {
        if let Err(error) = self.function.write(PciRegion::Bar0, offset.into(), &value.to_le_bytes()) {
            self.lose(&error);
        }
    }
}

impl Port for VfioUserPort {
    fn map_dma(&self, region: &Region<'_>) -> Result<(), PortError> {
        let &Region { file, file_offset, length, iova } = region;
        self.function.map(iova.0, length, file, file_offset).map_err(|error| match error {
            RemoteError::Refused { errno: Errno::EXIST, .. } => PortError::Overlap { iova, length },
            other => PortError::System { iova, length, source: io::Error::other(other) },
        })?;
        self.mapped().push((iova, length));
        Ok(())
    }

    fn unmap_dma(&self, iova: BaseAddr) -> Result<(), PortError> {
        let mut mapped = self.mapped();
        let at = mapped.iter().position(|(start, _)| *start == iova);
        let (_, length) = mapped.swap_remove(at.ok_or(PortError::NotMapped { iova })?);
        match self.function.unmap(iova.0, length) {
            // Who is gone reaches nothing.
            Ok(()) | Err(RemoteError::Gone) => Ok(()),
            Err(error) => {
                self.lose(&error);
                Err(PortError::NotMapped { iova })
            }
        }
    }

    fn reset(&self) -> Result<(), PortError> {
        // The function comes back as after power-on, with its command register cleared.
        let reset = self.function.reset().and_then(|()| self.switch_on());
        reset.map_err(|error| PortError::Reset(io::Error::other(error)))
    }

    fn wake_up(&self) -> Option<BorrowedFd<'_>> {
        Some(self.wake_up.as_fd())
    }
}
