//! What keeps the API from being served.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::config::MetricsAddress;

/// What keeps the API from being served.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are those of the messages")]
pub enum ApiError {
    /// Another process serves there.
    #[error("another process listens at {} already; is another bm-hypervisor running for this board?", .0.display())]
    InUse(PathBuf),
    /// The path is a file of another kind.
    #[error("{} is not a socket; remove it, or choose another path", .0.display())]
    NoSocket(PathBuf),
    /// The socket cannot be made.
    #[error("cannot listen at {}: {source}; is its directory there and writable, and the path not too long?", path.display())]
    Listen { path: PathBuf, source: io::Error },
    /// Metrics cannot be served.
    #[error("cannot serve metrics at {address}: {source}; is the port free?")]
    Metrics { address: MetricsAddress, source: io::Error },
    /// The system refused a thread or an event.
    #[error("cannot start the API: {0}")]
    System(#[from] io::Error),
}

impl ApiError {
    /// What keeps it from listening at `path`, as [`Listener::bind`](crate::unix_socket::Listener::bind)
    /// says.
    pub(super) fn listen(path: &Path, source: io::Error) -> Self {
        let path = path.into();
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::InUse(path),
            io::ErrorKind::AlreadyExists => Self::NoSocket(path),
            _ => Self::Listen { path, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_obstacle_is_told_apart() {
        for (kind, part) in [
            (io::ErrorKind::AddrInUse, "another process listens at /run/board0.sock already"),
            (io::ErrorKind::AlreadyExists, "/run/board0.sock is not a socket"),
            (io::ErrorKind::NotFound, "cannot listen at /run/board0.sock: entity not found"),
        ] {
            let text = ApiError::listen(Path::new("/run/board0.sock"), kind.into()).to_string();
            assert!(text.contains(part), "{text}");
        }
    }
}
