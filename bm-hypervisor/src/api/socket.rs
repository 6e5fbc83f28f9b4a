//! The sockets that are listened at: with the right mode from their first moment on, and gone when their server is.

use std::{
    fs, io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, chmod, fchmod},
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with},
};

use super::{MAX_CLIENTS, error::ApiError};
use crate::vhost_user::remove_stale;

/// A Unix socket that is listened at. Its file goes when it does.
#[derive(Debug)]
pub(super) struct Listener {
    listener: UnixListener,
    path: PathBuf,
}

impl Listener {
    /// Listens at `path`, whose permission bits become `mode`. A socket that a dead process left behind is replaced.
    pub(super) fn bind(path: &Path, mode: u32) -> Result<Self, ApiError> {
        remove_stale(path).map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => ApiError::InUse(path.into()),
            io::ErrorKind::AlreadyExists => ApiError::NoSocket(path.into()),
            _ => ApiError::Listen { path: path.into(), source },
        })?;
        let listener =
            bind_with_mode(path, mode).map_err(|source| ApiError::Listen { path: path.into(), source })?;
        Ok(Self { listener, path: path.into() })
    }

    /// The next client, if one waits. It is never waited for.
    pub(super) fn accept(&self) -> io::Result<UnixStream> {
        let (stream, _) = self.listener.accept()?;
        stream.set_nonblocking(false)?;
        Ok(stream)
    }
}

/// The file appears with the mode that the socket has when it is bound, less the process's mask; so that nobody else can connect in
/// between, it gets no more than its mode then, and all of it after.
fn bind_with_mode(path: &Path, mode: u32) -> io::Result<UnixListener> {
    let address = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let mode = Mode::from_raw_mode(mode);
    fchmod(&socket, mode)?;
    bind(&socket, &address)?;
    let ready = chmod(path, mode).and_then(|()| listen(&socket, 2 * MAX_CLIENTS as i32));
    if let Err(error) = ready {
        // It is our own, and of no use to anybody.
        let _ = fs::remove_file(path);
        return Err(error.into());
    }
    Ok(socket.into())
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
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_socket_has_its_mode_and_goes_with_its_listener() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        for wanted in [0o600, 0o666, 0o640] {
            let listener = Listener::bind(&path, wanted).unwrap();
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
        let listener = Listener::bind(&path, 0o600).unwrap();
        let text = Listener::bind(&path, 0o600).unwrap_err().to_string();
        assert!(text.contains("somebody listens at") && text.contains("socket"), "{text}");
        assert!(path.exists());
        drop(listener);
        fs::write(&path, "precious").unwrap();
        let text = Listener::bind(&path, 0o600).unwrap_err().to_string();
        assert!(text.contains("is no socket"), "{text}");
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        let nowhere = Listener::bind(&folder.path().join("no/socket"), 0o600).unwrap_err().to_string();
        assert!(nowhere.contains("cannot listen at"), "{nowhere}");
    }
}
