//! A listening Unix socket that knows whether its path may be taken, and takes it back.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use crate::Error;

/// A bound socket. Dropping it removes the file, unless that has become somebody else's.
#[derive(Debug)]
pub(crate) struct Socket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the file that we bound.
    file: Option<(u64, u64)>,
}

impl Socket {
    /// Binds `path`. A socket file whose server is gone is replaced; anything else there is left alone.
    pub(crate) fn bind(path: &Path) -> Result<Self, Error> {
        let cannot_listen = |source| Error::Listen { path: path.into(), source };
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(Error::NotASocket { path: path.into() });
            }
            Ok(_) => match UnixStream::connect(path) {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    fs::remove_file(path).map_err(cannot_listen)?;
                }
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    return Err(cannot_listen(error));
                }
                // Connected, or refused for the moment because the server's backlog is full.
                _ => return Err(Error::SocketInUse { path: path.into() }),
            },
            Err(_) => {}
        }
        let listener = UnixListener::bind(path).map_err(cannot_listen)?;
        Ok(Self { listener, path: path.into(), file: identity(path) })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// From here on [`Self::accept`] does not wait.
    pub(crate) fn set_nonblocking(&self) -> io::Result<()> {
        self.listener.set_nonblocking(true)
    }

    /// Whoever connected, as a stream that does not wait either.
    pub(crate) fn accept(&self) -> io::Result<UnixStream> {
        let (stream, _) = self.listener.accept()?;
        stream.set_nonblocking(true)?;
        Ok(stream)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.file.is_some() && self.file == identity(&self.path) {
            // Nothing is left to be done about an error: the process is about to end.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_live_socket_and_a_plain_file_are_left_alone_and_a_stale_socket_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");

        let live = Socket::bind(&path).unwrap();
        assert!(matches!(Socket::bind(&path), Err(Error::SocketInUse { .. })));
        assert!(path.exists(), "the refused one must not remove the file");
        drop(live);
        assert!(!path.exists());

        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "a plain listener leaves its file behind");
        drop(Socket::bind(&path).unwrap());

        fs::write(&path, "precious").unwrap();
        assert!(matches!(Socket::bind(&path), Err(Error::NotASocket { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn a_file_that_became_somebody_elses_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let ours = Socket::bind(&path).unwrap();
        fs::rename(&path, directory.path().join("moved")).unwrap();
        let _theirs = UnixListener::bind(&path).unwrap();
        drop(ours);
        assert!(path.exists());
    }
}
