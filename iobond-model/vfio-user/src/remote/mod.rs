//! The other end: a PCI function that another process serves, as its host uses it.
//!
//! A server is as hostile as a client. Every exchange has an end, and a server that does not answer, or
//! answers with what was not asked, is not talked to any more.

mod exchange;

use std::{
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with},
};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use self::exchange::Exchanges;
use crate::{
    Irq, Region,
    protocol::{
        Command, DmaMap, DmaMapFlags, DmaUnmap, IrqSet, IrqSetFlags, MAJOR, MAX_FDS, MINOR, RegionAccess,
        RegionFlags, RegionInfo, Version,
    },
};

/// Between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(10);
/// What is proposed with the version. Memory always comes with its file, so that the server asks for none of
/// it.
const CAPABILITIES: &[u8] = b"{\"capabilities\":{\"max_msg_fds\":16}}\0";

/// Why a remote function did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are those of the message")]
pub enum RemoteError {
    /// No server listens on the socket at `path`.
    #[error("cannot connect to {} within {within:?}: {source}; is a vfio-user server running there?", path.display())]
    Connect { path: PathBuf, within: Duration, source: std::io::Error },
    /// The server speaks another protocol.
    #[error("the server speaks vfio-user {major}.{minor}, this program 0.1")]
    Version { major: u16, minor: u16 },
    /// The connection ended, now or earlier.
    #[error("the vfio-user server is gone")]
    Gone,
    /// The server did not answer in time.
    #[error("the vfio-user server did not answer {command:?} within {within:?}")]
    Silent { command: Command, within: Duration },
    /// What the server sent does not answer the request.
    #[error("the vfio-user server answered {command:?} with something else")]
    Nonsense { command: Command },
    /// The server answered with an errno.
    #[error("the vfio-user server refused {command:?}: {errno}")]
    Refused { command: Command, errno: Errno },
}

/// A function behind a socket. Usable from any thread: exchanges go one after the other.
#[derive(Debug)]
pub struct RemoteFunction {
    exchanges: Exchanges,
}

impl RemoteFunction {
    /// Connects to the server at `path` and agrees on a version. Tries for `timeout`, which also bounds
    /// every later exchange.
    ///
    /// # Errors
    /// [`RemoteError`].
    pub fn connect(path: &Path, timeout: Duration) -> Result<Self, RemoteError> {
        let deadline = Instant::now() + timeout;
        let stream = loop {
            match try_connect(path) {
                Ok(stream) => break stream,
                Err(_) if Instant::now() < deadline => thread::sleep(PAUSE),
                Err(errno) => {
                    let source = errno.into();
                    return Err(RemoteError::Connect { path: path.to_owned(), within: timeout, source });
                }
            }
        };
        let function = Self { exchanges: Exchanges::new(stream, timeout)? };
        function.agree()?;
        Ok(function)
    }

    /// Resumes a connection on which a previous process agreed on a version: memory, eventfds and the
    /// function itself are as that process left them. `timeout` bounds this and every later exchange.
    ///
    /// # Errors
    /// [`RemoteError::Gone`] when the socket cannot be used, or what comes from it has no end.
    pub fn resume(stream: UnixStream, timeout: Duration) -> Result<Self, RemoteError> {
        let exchanges = Exchanges::new(stream, timeout)?;
        exchanges.forget()?;
        Ok(Self { exchanges })
    }

    fn agree(&self) -> Result<(), RemoteError> {
        let proposed = Version { major: MAJOR, minor: MINOR };
        let answer = self.exchanges.ask(Command::Version, &[proposed.as_bytes(), CAPABILITIES], &[])?;
        let nonsense = RemoteError::Nonsense { command: Command::Version };
        let (Version { major, minor }, _) = Version::read_from_prefix(&answer).map_err(|_| nonsense)?;
        if (major, minor) == (MAJOR, minor.min(MINOR)) {
            Ok(())
        } else {
            Err(RemoteError::Version { major, minor })
        }
    }

    /// Bytes of `region`, 0 if the function does not have it, or it cannot be both read and written.
    ///
    /// # Errors
    /// [`RemoteError`].
    pub fn region_size(&self, region: Region) -> Result<u64, RemoteError> {
        let command = Command::DeviceGetRegionInfo;
        let argsz = size_of::<RegionInfo>() as u32;
        let asked = RegionInfo { argsz, index: region as u32, ..RegionInfo::new_zeroed() };
        let answer = self.exchanges.ask(command, &[asked.as_bytes()], &[])?;
        let (info, _) =
            RegionInfo::read_from_prefix(&answer).map_err(|_| RemoteError::Nonsense { command })?;
        let both = RegionFlags::READ | RegionFlags::WRITE;
        Ok(if RegionFlags::from_bits_retain(info.flags).contains(both) { info.size } else { 0 })
    }

    /// Reads `into.len()` bytes at `offset` of `region`. All writes before it have taken effect.
    ///
    /// # Errors
    /// [`RemoteError`].
    pub fn read(&self, region: Region, offset: u64, into: &mut [u8]) -> Result<(), RemoteError> {
        let command = Command::RegionRead;
        let access = RegionAccess { offset, region: region as u32, count: into.len() as u32 };
        let answer = self.exchanges.ask(command, &[access.as_bytes()], &[])?;
        let data = answer.get(size_of::<RegionAccess>()..).filter(|data| data.len() == into.len());
        into.copy_from_slice(data.ok_or(RemoteError::Nonsense { command })?);
        Ok(())
    }

    /// Writes `from` at `offset` of `region`. Posted: the server does not say whether it took it.
    ///
    /// # Errors
    /// [`RemoteError::Gone`].
    pub fn write(&self, region: Region, offset: u64, from: &[u8]) -> Result<(), RemoteError> {
        let access = RegionAccess { offset, region: region as u32, count: from.len() as u32 };
        self.exchanges.tell(Command::RegionWrite, &[access.as_bytes(), from])
    }

    /// Lets the function reach `size` bytes of `file` from `offset` on as `address`.
    ///
    /// # Errors
    /// [`RemoteError`].
    pub fn map(&self, address: u64, size: u64, file: BorrowedFd<'_>, offset: u64) -> Result<(), RemoteError> {
        let flags = (DmaMapFlags::READ | DmaMapFlags::WRITE).bits();
        let map = DmaMap { argsz: size_of::<DmaMap>() as u32, flags, offset, address, size };
        self.exchanges.ask(Command::DmaMap, &[map.as_bytes()], &[file]).map(drop)
    }

    /// Undoes [`RemoteFunction::map`]. When it returns, the function does not reach that memory any more.
    ///
    /// # Errors
    /// [`RemoteError`]; also when nothing was mapped there.
    pub fn unmap(&self, address: u64, size: u64) -> Result<(), RemoteError> {
        let command = Command::DmaUnmap;
        let asked = DmaUnmap { argsz: size_of::<DmaUnmap>() as u32, flags: 0, address, size };
        let answer = self.exchanges.ask(command, &[asked.as_bytes()], &[])?;
        match DmaUnmap::read_from_bytes(&answer) {
            Ok(done) if done.size == size => Ok(()),
            Ok(_) => Err(RemoteError::Refused { command, errno: Errno::NOENT }),
            Err(_) => Err(RemoteError::Nonsense { command }),
        }
    }

    /// Has vectors of `irq` from `start` on signal these eventfds, at most [`MAX_FDS`].
    ///
    /// # Errors
    /// [`RemoteError`].
    pub fn signal(&self, irq: Irq, start: u32, eventfds: &[BorrowedFd<'_>]) -> Result<(), RemoteError> {
        debug_assert!(eventfds.len() <= MAX_FDS);
        let set = IrqSet {
            argsz: size_of::<IrqSet>() as u32,
            flags: (IrqSetFlags::DATA_EVENTFD | IrqSetFlags::ACTION_TRIGGER).bits(),
            index: irq as u32,
            start,
            count: eventfds.len() as u32,
        };
        self.exchanges.ask(Command::DeviceSetIrqs, &[set.as_bytes()], eventfds).map(drop)
    }

    /// Resets the function; mappings and eventfds stay.
    ///
    /// # Errors
    /// [`RemoteError`].
    pub fn reset(&self) -> Result<(), RemoteError> {
        self.exchanges.ask(Command::DeviceReset, &[], &[]).map(drop)
    }

    /// The connection. While a process keeps a duplicate of it, the function stays as it is, even beyond the
    /// end of this process.
    #[must_use]
    pub fn connection(&self) -> BorrowedFd<'_> {
        self.exchanges.as_fd()
    }
}

/// Connects to the socket at `path`, or not, without waiting: a server that does not accept would have it
/// wait for ever.
fn try_connect(path: &Path) -> Result<UnixStream, Errno> {
    let address = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &address)?;
    Ok(socket.into())
}
