//! Why a server cannot start, or has to end.

use std::io;
use std::path::{Path, PathBuf};

use unix_service::BindError;

/// What is wrong, where, and what to do about it. Every message is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the fields are those of the message")]
pub enum Error {
    #[error("cannot open image {}: {source}; check the path, and that it may be read and written (or use --read-only)", path.display())]
    Image { path: PathBuf, source: io::Error },
    /// A disk is whole sectors of 512 bytes, and at least one.
    #[error("image {} has {bytes} bytes, which is not a multiple of 512 above zero; resize it, e.g. with `truncate -s 64M`", path.display())]
    ImageSize { path: PathBuf, bytes: u64 },
    /// Two writers would destroy the image.
    #[error("image {} is served by another process; stop that one, or share the image with --read-only on both", path.display())]
    ImageInUse { path: PathBuf },
    #[error("socket {} belongs to a server that is running; stop that one or choose another path", path.display())]
    SocketInUse { path: PathBuf },
    /// A file that is not a socket is never removed.
    #[error("{} exists and is not a socket; remove it or choose another path", path.display())]
    NotASocket { path: PathBuf },
    #[error("cannot listen on {}: {source}; the directory has to exist and be writable, the path at most 107 bytes long", path.display())]
    Listen { path: PathBuf, source: io::Error },
    #[error("--port is given {ports} times; a switch has at most {most} ports")]
    TooManyPorts { ports: usize, most: usize },
    #[error("--port {} is given twice; every port needs a socket of its own", path.display())]
    DuplicatePort { path: PathBuf },
    #[error("cannot write capture file {}: {source}; create the directory of --pcap-dir, or make it writable", path.display())]
    Capture { path: PathBuf, source: io::Error },
    #[error("cannot append to log {}: {source}; its directory has to exist and be writable", path.display())]
    Log { path: PathBuf, source: io::Error },
    /// A thread, a pipe or a signal handler was refused.
    #[error("cannot {action}: {source}; the process has reached a limit of the system (see ulimit -a)")]
    Resources { action: &'static str, source: io::Error },
}

impl Error {
    /// What keeps a server from listening at `path`.
    pub(crate) fn listen(path: &Path, error: BindError) -> Self {
        let path = path.into();
        match error {
            BindError::InUse => Self::SocketInUse { path },
            BindError::NotASocket => Self::NotASocket { path },
            BindError::System(source) => Self::Listen { path, source },
        }
    }
}
