//! What keeps the API from being served.

use std::{
    io,
    path::{Path, PathBuf},
};

use unix_service::BindError;

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
    /// What keeps it from listening at `path`.
    pub(super) fn listen(path: &Path, error: BindError) -> Self {
        let path = path.into();
        match error {
            BindError::InUse => Self::InUse(path),
            BindError::NotASocket => Self::NoSocket(path),
            BindError::System(source) => Self::Listen { path, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_obstacle_is_told_apart() {
        let missing = io::Error::from(io::ErrorKind::NotFound);
        for (error, part) in [
            (BindError::InUse, "another process listens at /run/board0.sock already"),
            (BindError::NotASocket, "/run/board0.sock is not a socket"),
            (missing.into(), "cannot listen at /run/board0.sock: entity not found"),
        ] {
            let text = ApiError::listen(Path::new("/run/board0.sock"), error).to_string();
            assert!(text.contains(part), "{text}");
        }
    }
}
