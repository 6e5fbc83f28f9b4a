//! What keeps the API from being served.

use std::{io, path::PathBuf};

use crate::config::MetricsAddress;

/// What keeps the API from being served.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Somebody else serves there.
    #[error("somebody listens at {} already; is another bm-hypervisor running for this board?", .0.display())]
    InUse(PathBuf),
    /// The path is a file of another kind.
    #[error("{} is no socket; remove it, or choose another path", .0.display())]
    NoSocket(PathBuf),
    /// The socket cannot be made.
    #[error("cannot listen at {}: {source}; is its directory there and writable, and the path not too long?", path.display())]
    Listen {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Metrics cannot be served.
    #[error("cannot serve metrics at {address}: {source}; is the port free?")]
    Metrics {
        /// Where.
        address: MetricsAddress,
        /// What the system said.
        source: io::Error,
    },
    /// The system refused a thread or an event.
    #[error("cannot start the API: {0}")]
    System(#[from] io::Error),
}
