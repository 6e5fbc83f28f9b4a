//! Unix sockets: one that is listened at, and connecting to one.

use std::{
    fs, io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{
            fs::{FileTypeExt, MetadataExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    time::Instant,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{Mode, chmod, fchmod},
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with},
};

use crate::StopFlag;

/// Connections that may wait to be accepted, as the standard library has it.
const BACKLOG: i32 = 128;

/// What keeps a process from listening at a path.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A process listens there.
    #[error("a process listens there already")]
    InUse,
    /// A file of another kind is there. It is left alone.
    #[error("it exists and is not a socket")]
    NotASocket,
    /// The system refuses the socket or its file.
    #[error(transparent)]
    System(#[from] io::Error),
}

impl From<Errno> for BindError {
    fn from(errno: Errno) -> Self {
        Self::System(errno.into())
    }
}

impl From<BindError> for io::Error {
    fn from(error: BindError) -> Self {
        match error {
            BindError::InUse => Self::new(io::ErrorKind::AddrInUse, error),
            BindError::NotASocket => Self::new(io::ErrorKind::AlreadyExists, error),
            BindError::System(error) => error,
        }
    }
}

/// Connects to the socket at `path` without waiting for a listener whose backlog is full: a blocking
/// `connect` has no bound. What is sent and received waits, as usual.
///
/// # Errors
/// What the system says; [`io::ErrorKind::WouldBlock`] when too many connections wait to be accepted.
pub fn connect(path: &Path) -> io::Result<UnixStream> {
    let address = SocketAddrUnix::new(path)?;
    let socket = socket(SocketFlags::NONBLOCK)?;
    rustix::net::connect(&socket, &address)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

fn socket(flags: SocketFlags) -> Result<OwnedFd, Errno> {
    socket_with(AddressFamily::UNIX, SocketType::STREAM, flags | SocketFlags::CLOEXEC, None)
}

/// A Unix socket that is listened at. Dropping it removes the file, unless another process has replaced that.
#[derive(Debug)]
pub struct Listener {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the file that we bound.
    file: Option<(u64, u64)>,
}

impl Listener {
    /// Listens at `path`, whose permission bits become `mode`, or what the process's mask leaves. A socket
    /// that a process left behind when it died is replaced; anything else that is there is left alone.
    ///
    /// # Errors
    /// Every [`BindError`].
    pub fn bind(path: &Path, mode: Option<u32>) -> Result<Self, BindError> {
        let listener = match bind_with_mode(path, mode) {
            // So it says of every file that is there, of whatever kind.
            Err(Errno::ADDRINUSE) => {
                remove_stale(path)?;
                bind_with_mode(path, mode)?
            }
            bound => bound?,
        };
        Ok(Self { listener, path: path.into(), file: identity(path) })
    }

    /// The path at which it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next client that has connected.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when none has: this never waits. What the system says.
    pub fn accept(&self) -> io::Result<UnixStream> {
        let (stream, _) = self.listener.accept()?;
        stream.set_nonblocking(false)?;
        Ok(stream)
    }

    /// Waits for the next client; nothing once `stop` is set.
    pub fn next_client(&self, stop: &StopFlag) -> Option<io::Result<UnixStream>> {
        while !stop.wait(Some(self.as_fd()), None) {
            match self.accept() {
                // It has hung up before it was accepted.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                accepted => return Some(accepted),
            }
        }
        None
    }

    /// Waits for the next client until `deadline`.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] when none came. What the system says.
    pub fn accept_until(&self, deadline: Instant) -> io::Result<UnixStream> {
        loop {
            match self.accept() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                accepted => return accepted,
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let left = Timespec::try_from(left).map_err(io::Error::other)?;
            match poll(&mut [PollFd::from_borrowed_fd(self.as_fd(), PollFlags::IN)], Some(&left)) {
                Err(Errno::INTR) => {}
                other => other.map(drop)?,
            }
        }
    }
}

/// `bind` makes the file with the mode of the socket, less the process's mask. A `chmod` alone would come too
/// late for a file that is to be less open than that, so the socket gets its mode first; a `chmod` after it
/// gives the file what the mask took. At no moment may more processes connect than in the end.
fn bind_with_mode(path: &Path, mode: Option<u32>) -> Result<UnixListener, Errno> {
    let address = SocketAddrUnix::new(path)?;
    let socket = socket(SocketFlags::NONBLOCK)?;
    let mode = mode.map(Mode::from_raw_mode);
    mode.map_or(Ok(()), |mode| fchmod(&socket, mode))?;
    bind(&socket, &address)?;
    let ready = mode.map_or(Ok(()), |mode| chmod(path, mode)).and_then(|()| listen(&socket, BACKLOG));
    if let Err(errno) = ready {
        // The file is ours, and no process can connect to it.
        let _ = fs::remove_file(path);
        return Err(errno);
    }
    Ok(socket.into())
}

/// Removes a socket at which no process listens any more.
fn remove_stale(path: &Path) -> Result<(), BindError> {
    let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    match fs::symlink_metadata(path) {
        Ok(file) if file.file_type().is_socket() => {}
        Ok(_) => return Err(BindError::NotASocket),
        // Its process has removed it meanwhile.
        Err(error) if gone(&error) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    match connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(fs::remove_file(path)?),
        Err(error) if gone(&error) => Ok(()),
        // It listens, and too many connections wait to be accepted.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(BindError::InUse),
        Err(error) => Err(error.into()),
        Ok(_) => Err(BindError::InUse),
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if self.file.is_some() && self.file == identity(&self.path) {
            // Nothing can be done about an error here; the next process replaces the file.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt, time::Duration};

    use super::*;

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        (folder, path)
    }

    #[test]
    fn a_socket_has_its_mode_and_its_file_goes_with_its_listener() {
        let (_folder, path) = folder();
        for wanted in [0o600, 0o666, 0o640] {
            let listener = Listener::bind(&path, Some(wanted)).unwrap();
            assert_eq!(fs::symlink_metadata(&path).unwrap().permissions().mode() & 0o777, wanted);
            drop(listener);
            assert!(!path.exists());
        }
    }

    #[test]
    fn a_stale_socket_is_replaced_and_anything_else_is_left_alone() {
        let (folder, path) = folder();
        // The listener goes without its file, as a process that is killed does.
        drop(UnixListener::bind(&path).unwrap());
        let listener = Listener::bind(&path, None).unwrap();
        assert!(matches!(Listener::bind(&path, None), Err(BindError::InUse)));
        assert!(path.exists(), "the one that is refused must not remove the file");
        drop(listener);
        fs::write(&path, "precious").unwrap();
        assert!(matches!(Listener::bind(&path, None), Err(BindError::NotASocket)));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        let nowhere = Listener::bind(&folder.path().join("no/socket"), None);
        assert!(matches!(nowhere, Err(BindError::System(error)) if error.kind() == io::ErrorKind::NotFound));
    }

    #[test]
    fn a_listener_whose_backlog_is_full_is_in_use() {
        let (_folder, path) = folder();
        let _listener = Listener::bind(&path, None).unwrap();
        let mut waiting = Vec::new();
        let full = loop {
            match connect(&path) {
                Ok(stream) => waiting.push(stream),
                Err(error) => break error,
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        assert!(matches!(Listener::bind(&path, None), Err(BindError::InUse)));
    }

    #[test]
    fn a_file_that_another_process_has_put_there_stays() {
        let (folder, path) = folder();
        let ours = Listener::bind(&path, None).unwrap();
        fs::rename(&path, folder.path().join("moved")).unwrap();
        let _theirs = UnixListener::bind(&path).unwrap();
        drop(ours);
        assert!(path.exists());
    }

    #[test]
    fn a_client_is_waited_for_until_the_deadline() {
        let (_folder, path) = folder();
        let listener = Listener::bind(&path, None).unwrap();
        let deadline = Instant::now() + Duration::from_millis(10);
        assert_eq!(listener.accept_until(deadline).unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(Instant::now() >= deadline);
        let _client = connect(&path).unwrap();
        listener.accept_until(deadline).unwrap();
    }

    #[test]
    fn a_client_is_waited_for_until_the_flag_is_set() {
        let (_folder, path) = folder();
        let listener = Listener::bind(&path, None).unwrap();
        let stop = StopFlag::new().unwrap();
        let _client = connect(&path).unwrap();
        assert!(listener.next_client(&stop).is_some_and(|client| client.is_ok()));
        stop.set();
        assert!(listener.next_client(&stop).is_none());
    }
}
