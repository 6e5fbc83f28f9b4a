//! How a connection with a back end comes about, in either role, within a bound.

use std::{
    fs, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{
            fs::FileTypeExt,
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with},
};

use super::error::{BackEndError, Problem};
use crate::config::{BackEndConfig, Role};

/// How long to wait before trying to connect again.
const AGAIN: Duration = Duration::from_millis(10);

/// One end of a connection that is still to be made. A listener listens from here on, so that a board with several can be
/// connected to in any order.
#[derive(Debug)]
pub(crate) struct Socket<'a> {
    config: &'a BackEndConfig,
    listener: Option<Listener>,
}

impl<'a> Socket<'a> {
    /// Starts to listen, if that is the role.
    pub(crate) fn new(config: &'a BackEndConfig) -> Result<Self, BackEndError> {
        let listener = match config.role {
            Role::Connect => None,
            Role::Listen => Some(Listener::bind(&config.socket).map_err(|error| BackEndError {
                socket: config.socket.clone(),
                problem: Problem::Listen(error),
            })?),
        };
        Ok(Self { config, listener })
    }

    /// Connects, or waits for the back end to; at most for its time-out.
    pub(super) fn open(self) -> Result<UnixStream, BackEndError> {
        let within = self.config.timeout();
        let deadline = Instant::now() + within;
        let stream = match self.listener {
            None => connect_until(&self.config.socket, deadline)
                .map_err(|source| Problem::Connect { within, source }),
            Some(listener) => listener.accept_until(deadline).map_err(|error| match error.kind() {
                io::ErrorKind::TimedOut => Problem::NobodyCame(within),
                _ => Problem::Listen(error),
            }),
        };
        stream.map_err(|problem| BackEndError { socket: self.config.socket.clone(), problem })
    }

    /// Tries once to connect, or waits for the back end to as long as `patience`.
    pub(crate) fn try_open(&self, patience: Duration) -> Result<UnixStream, BackEndError> {
        let stream = match &self.listener {
            None => connect_once(&self.config.socket)
                .map_err(|source| Problem::Connect { within: Duration::ZERO, source }),
            Some(listener) => {
                listener.accept_until(Instant::now() + patience).map_err(|error| match error.kind() {
                    io::ErrorKind::TimedOut => Problem::NobodyCame(patience),
                    _ => Problem::Listen(error),
                })
            }
        };
        stream.map_err(|problem| BackEndError { socket: self.config.socket.clone(), problem })
    }
}

/// Tries to connect until somebody listens.
fn connect_until(path: &Path, deadline: Instant) -> io::Result<UnixStream> {
    loop {
        let error = match connect_once(path) {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        // No socket file yet; nobody listens yet; or the queue of those who wait to be accepted is full.
        let later = [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused, io::ErrorKind::WouldBlock];
        if !later.contains(&error.kind()) || Instant::now() >= deadline {
            return Err(error);
        }
        thread::sleep(AGAIN.min(deadline.saturating_duration_since(Instant::now())));
    }
}

/// Connects without waiting: a blocking connect has no bound.
pub(crate) fn connect_once(path: &Path) -> io::Result<UnixStream> {
    let address = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &address)?;
    into_blocking(socket.into())
}

fn into_blocking(stream: UnixStream) -> io::Result<UnixStream> {
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// A listener whose socket file goes when it does.
#[derive(Debug)]
struct Listener {
    listener: UnixListener,
    path: PathBuf,
}

impl Listener {
    fn bind(path: &Path) -> io::Result<Self> {
        remove_stale(path)?;
        let listener = UnixListener::bind(path)?;
        let listener = Self { listener, path: path.into() };
        listener.listener.set_nonblocking(true)?;
        Ok(listener)
    }

    fn accept_until(&self, deadline: Instant) -> io::Result<UnixStream> {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => return into_blocking(OwnedFd::from(stream).into()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let left = Timespec::try_from(left).map_err(io::Error::other)?;
            poll(&mut [PollFd::from_borrowed_fd(self.listener.as_fd(), PollFlags::IN)], Some(&left))?;
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Somebody may have removed it already.
        let _ = fs::remove_file(&self.path);
    }
}

/// Removes a socket that nobody listens at any more; a process that died left it behind.
pub(crate) fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(metadata) if !metadata.file_type().is_socket() => Err(io::ErrorKind::AlreadyExists.into()),
        Ok(_) => match connect_once(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
            _ => Err(io::ErrorKind::AddrInUse.into()),
        },
    }
}
