//! Why a server cannot start, or cannot go on.

use std::io;
use std::path::{Path, PathBuf};

use unix_service::BindError;

/// What is wrong, where, and what to do about it. Every message is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The image cannot be opened.
    #[error("cannot open image {}: {source}; check the path, and that it may be read and written (or use --read-only)", path.display())]
    Image {
        /// The image file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A disk is whole sectors of 512 bytes, and at least one.
    #[error("image {} has {bytes} bytes, which is not a multiple of 512 above zero; resize it, e.g. with `truncate -s 64M`", path.display())]
    ImageSize {
        /// The image file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
    },
    /// Two writers would destroy the image.
    #[error("image {} is served by another process; stop that one, or share the image with --read-only on both", path.display())]
    ImageInUse {
        /// The image file.
        path: PathBuf,
    },
    /// Somebody answers at the socket.
    #[error("socket {} belongs to a server that is running; stop that one or choose another path", path.display())]
    SocketInUse {
        /// The socket.
        path: PathBuf,
    },
    /// A file that is not a socket is never removed.
    #[error("{} exists and is not a socket; remove it or choose another path", path.display())]
    NotASocket {
        /// What was to become the socket.
        path: PathBuf,
    },
    /// The socket cannot be made.
    #[error("cannot listen on {}: {source}; the directory has to exist and be writable, the path at most 107 bytes long", path.display())]
    Listen {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The switch is smaller than that.
    #[error("--port is given {ports} times; a switch has at most {most} ports")]
    TooManyPorts {
        /// Ports asked for.
        ports: usize,
        /// Ports there can be.
        most: usize,
    },
    /// One path for two ports.
    #[error("--port {} is given twice; every port needs a socket of its own", path.display())]
    DuplicatePort {
        /// The socket.
        path: PathBuf,
    },
    /// A capture file cannot be made.
    #[error("cannot write capture file {}: {source}; create the directory of --pcap-dir, or make it writable", path.display())]
    Capture {
        /// The capture file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The console's log cannot be written.
    #[error("cannot append to log {}: {source}; its directory has to exist and be writable", path.display())]
    Log {
        /// The log.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A thread, a pipe or a signal handler was refused.
    #[error("cannot {action}: {source}; the process has reached a limit of the system (see ulimit -a)")]
    Resources {
        /// What was to be done.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
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
