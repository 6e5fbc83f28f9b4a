//! Unix sockets: connected to without waiting; listened at with the right mode from their first moment on, and gone when their
//! listener is.

use std::{
    fs, io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::{
            fs::FileTypeExt,
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
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with},
};

/// Connections that may wait to be accepted, as the standard library has it.
const BACKLOG: i32 = 128;

/// Connects without waiting: a blocking connect has no bound.
pub(crate) fn connect_once(path: &Path) -> io::Result<UnixStream> {
    let address = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &address)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// A Unix socket that is listened at. Its file goes when it does.
#[derive(Debug)]
pub(crate) struct Listener {
    listener: UnixListener,
    path: PathBuf,
}

impl Listener {
    /// Listens at `path`, whose permission bits become `mode`, or what the process's mask leaves. A socket that a dead process left
    /// behind is replaced.
    ///
    /// # Errors
    /// [`io::ErrorKind::AddrInUse`] when somebody listens there, [`io::ErrorKind::AlreadyExists`] when something else is there, and
    /// what the system says.
    pub(crate) fn bind(path: &Path, mode: Option<u32>) -> io::Result<Self> {
        remove_stale(path)?;
        Ok(Self { listener: bind_with_mode(path, mode)?, path: path.into() })
    }

    /// The next one who connects, if one waits. It is never waited for.
    pub(crate) fn accept(&self) -> io::Result<UnixStream> {
        let (stream, _) = self.listener.accept()?;
        stream.set_nonblocking(false)?;
        Ok(stream)
    }

    /// The next one who connects until `deadline`; then [`io::ErrorKind::TimedOut`].
    pub(crate) fn accept_until(&self, deadline: Instant) -> io::Result<UnixStream> {
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

/// The file appears with the mode that the socket has when it is bound, less the process's mask; so that nobody else can connect in
/// between, it gets no more than its mode then, and all of it after.
fn bind_with_mode(path: &Path, mode: Option<u32>) -> io::Result<UnixListener> {
    let address = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let mode = mode.map(Mode::from_raw_mode);
    mode.map_or(Ok(()), |mode| fchmod(&socket, mode))?;
    bind(&socket, &address)?;
    let ready = mode.map_or(Ok(()), |mode| chmod(path, mode)).and_then(|()| listen(&socket, BACKLOG));
    if let Err(error) = ready {
        // It is our own, and of no use to anybody.
        let _ = fs::remove_file(path);
        return Err(error.into());
    }
    Ok(socket.into())
}

/// Removes a socket that nobody listens at any more; a process that died left it behind.
fn remove_stale(path: &Path) -> io::Result<()> {
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

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Somebody may have removed it already.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt, time::Duration};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_socket_has_its_mode_and_goes_with_its_listener() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        for wanted in [0o600, 0o666, 0o640] {
            let listener = Listener::bind(&path, Some(wanted)).unwrap();
            assert_eq!(mode(&path), wanted);
            drop(listener);
            assert!(!path.exists());
        }
    }

    #[test]
    fn a_stale_socket_is_replaced_and_anything_else_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        // The listener goes without its file, as a process that is killed does.
        drop(UnixListener::bind(&path).unwrap());
        let listener = Listener::bind(&path, None).unwrap();
        let refused = || Listener::bind(&path, None).unwrap_err().kind();
        assert_eq!(refused(), io::ErrorKind::AddrInUse);
        assert!(path.exists());
        drop(listener);
        fs::write(&path, "precious").unwrap();
        assert_eq!(refused(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        let nowhere = Listener::bind(&folder.path().join("no/socket"), None).unwrap_err();
        assert_eq!(nowhere.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn who_connects_is_waited_for_until_the_deadline() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = Listener::bind(&path, None).unwrap();
        let deadline = Instant::now() + Duration::from_millis(10);
        assert_eq!(listener.accept_until(deadline).unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(Instant::now() >= deadline);
        let _client = connect_once(&path).unwrap();
        listener.accept_until(deadline).unwrap();
    }
}
