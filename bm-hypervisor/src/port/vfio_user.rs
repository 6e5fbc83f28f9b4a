//! An IO-Bond that another process serves over vfio-user: the emulator, or a virtual machine monitor's own.
//!
//! A register write is one system call and is not waited for; a read is a round trip, some ten microseconds.
//! A poll pass only writes.

use std::{
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use iobond_spec::{
    ALL_ONES,
    address::BaseAddr,
    base_function::{BAR_SIZE, WAKE_VECTOR},
    register_access::RegisterIo,
};
use iobond_vfio_user::{Irq, Region as PciRegion, RemoteError, RemoteFunction};
use rustix::event::{EventfdFlags, eventfd};

use super::{Port, PortError, Region, mappings::Mappings};

/// How long the server may take to answer. The emulator does in microseconds; a machine that is overloaded
/// gets some time.
const TIMEOUT: Duration = Duration::from_secs(5);
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
    #[allow(missing_docs, reason = "the fields are those of the message")]
    Bar { socket: std::path::PathBuf, size: u64 },
    /// A mapping of the previous process that is not possible.
    #[error(
        "{length:#x} bytes at {iova} cannot have been mapped: the range is empty, or overlaps another one"
    )]
    #[allow(missing_docs, reason = "the fields are those of the message")]
    Mapped { iova: BaseAddr, length: u64 },
    /// The system refused an event.
    #[error("cannot make an event for the wake-up interrupt: {0}")]
    System(#[from] io::Error),
}

/// An IO-Bond behind a vfio-user socket.
#[derive(Debug)]
pub struct VfioUserPort {
    function: RemoteFunction,
    wake_up: OwnedFd,
    mappings: Mutex<Mappings<()>>,
    /// Whether the log says already that the device is gone.
    told: AtomicBool,
}

impl VfioUserPort {
    /// Connects to `socket`, lets the function decode its BAR and master the bus, and connects its wake-up
    /// interrupt.
    ///
    /// # Errors
    /// [`VfioUserError`].
    pub fn open(socket: &Path) -> Result<Self, VfioUserError> {
        let port = Self::over(RemoteFunction::connect(socket, TIMEOUT)?)?;
        let size = port.function.region_size(PciRegion::Bar0)?;
        if size != u64::from(BAR_SIZE) {
            return Err(VfioUserError::Bar { socket: socket.to_owned(), size });
        }
        port.switch_on()?;
        Ok(port)
    }

    /// Takes over the connection of a previous process; `mapped` says what that had mapped.
    ///
    /// # Errors
    /// [`VfioUserError`].
    pub fn resume(connection: UnixStream, mapped: &[(BaseAddr, u64)]) -> Result<Self, VfioUserError> {
        let port = Self::over(RemoteFunction::resume(connection, TIMEOUT)?)?;
        for &(iova, length) in mapped {
            if !port.mappings().insert(iova.0, length, ()) {
                return Err(VfioUserError::Mapped { iova, length });
            }
        }
        port.function.signal(Irq::Msix, WAKE_VECTOR.into(), &[port.wake_up.as_fd()])?;
        Ok(port)
    }

    fn over(function: RemoteFunction) -> Result<Self, VfioUserError> {
        let (mappings, told) = (Mutex::new(Mappings::new()), AtomicBool::new(false));
        let wake_up = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(io::Error::from)?;
        Ok(Self { function, wake_up, mappings, told })
    }

    fn switch_on(&self) -> Result<(), RemoteError> {
        self.function.write(PciRegion::Config, COMMAND, &COMMAND_ON.to_le_bytes())?;
        self.function.signal(Irq::Msix, WAKE_VECTOR.into(), &[self.wake_up.as_fd()])
    }

    /// The connection: a process that keeps a duplicate of it keeps the device as it is.
    #[must_use]
    pub fn connection(&self) -> BorrowedFd<'_> {
        self.function.connection()
    }

    fn mappings(&self) -> MutexGuard<'_, Mappings<()>> {
        self.mappings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A device that is gone reads all ones, as in hardware. The log says why, once.
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
        let mut mappings = self.mappings();
        if !mappings.is_free(iova.0, length) {
            return Err(PortError::Overlap { iova, length });
        }
        self.function.map(iova.0, length, file, file_offset).map_err(|error| PortError::System {
            iova,
            length,
            source: io::Error::other(error),
        })?;
        mappings.insert(iova.0, length, ());
        Ok(())
    }

    fn unmap_dma(&self, iova: BaseAddr) -> Result<(), PortError> {
        let mut mappings = self.mappings();
        let length = mappings.length(iova.0).ok_or(PortError::NotMapped { iova })?;
        match self.function.unmap(iova.0, length) {
            // A server that is gone reaches nothing.
            Ok(()) | Err(RemoteError::Gone) => {}
            Err(error) => return Err(PortError::System { iova, length, source: io::Error::other(error) }),
        }
        mappings.remove(iova.0);
        Ok(())
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

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{Read, Write},
        thread::{self, JoinHandle},
    };

    use super::*;

    const IOVA: BaseAddr = BaseAddr(1 << 40);

    /// A server that does all it is asked but refuses to unmap memory, `refusals` times; then it ends. How
    /// often it was asked to map memory.
    fn server(mut stream: UnixStream, refusals: usize) -> JoinHandle<usize> {
        thread::spawn(move || {
            let (mut maps, mut refused) = (0, 0);
            let mut header = [0; 16];
            while refused < refusals && stream.read_exact(&mut header).is_ok() {
                let [_, _, command, _, size, ..] = header;
                stream.read_exact(&mut vec![0; usize::from(size) - header.len()]).unwrap();
                // DMA_MAP and DMA_UNMAP; a reply has flag 1, an error flag 32 and an errno.
                maps += usize::from(command == 2);
                refused += usize::from(command == 3);
                let (flags, errno) = if command == 3 { (1 | 1 << 5, 16) } else { (1, 0) };
                header[4..].copy_from_slice(&[16, 0, 0, 0, flags, 0, 0, 0, errno, 0, 0, 0]);
                stream.write_all(&header).unwrap();
            }
            maps
        })
    }

    #[test]
    fn what_the_server_does_not_unmap_stays_mapped_until_it_is_gone() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let server = server(theirs, 2);
        let port = VfioUserPort::resume(ours, &[(IOVA, 8192)]).unwrap();
        let file = File::open("/proc/self/exe").unwrap();
        let map = |iova, length| port.map_dma(&Region { file: file.as_fd(), file_offset: 0, length, iova });
        assert!(matches!(map(IOVA.wrapping_add(4096), 4096), Err(PortError::Overlap { .. })));
        map(IOVA.wrapping_add(8192), 4096).unwrap();
        for _ in 0..2 {
            let refused = port.unmap_dma(IOVA).unwrap_err().to_string();
            assert!(
                refused.contains("cannot map or unmap 0x2000 bytes") && refused.contains("refused"),
                "{refused}"
            );
        }
        assert_eq!(server.join().unwrap(), 1);
        port.unmap_dma(IOVA).unwrap();
        assert!(matches!(port.unmap_dma(IOVA), Err(PortError::NotMapped { .. })));
    }

    #[test]
    fn what_cannot_have_been_mapped_is_refused() {
        for mapped in [&[(IOVA, 0)][..], &[(IOVA, 8192), (IOVA.wrapping_add(4096), 4096)]] {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let error = VfioUserPort::resume(ours, mapped).unwrap_err();
            assert!(matches!(error, VfioUserError::Mapped { .. }), "{error}");
            drop(theirs);
        }
    }
}
