//! How a connection with a back end comes about, in either role, within a bound.

use std::{
    io,
    os::unix::net::UnixStream,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use unix_service::Listener;

use super::error::{BackEndError, Problem};
use crate::config::{BackEndConfig, Role};

/// How long to wait before trying to connect again.
const AGAIN: Duration = Duration::from_millis(10);

/// One end of a connection that is still to be made. A listener listens from here on, so that a board with
/// several can be connected to in any order.
#[derive(Debug)]
pub(crate) struct Socket<'a> {
    config: &'a BackEndConfig,
    listener: Option<Listener>,
}

impl<'a> Socket<'a> {
    /// Starts to listen, if that is the role.
    pub(crate) fn new(config: &'a BackEndConfig) -> Result<Self, BackEndError> {
        let listener = match config.role {
            Role::Connect => None,
            Role::Listen => Some(Listener::bind(&config.socket, None).map_err(|error| BackEndError {
                socket: config.socket.clone(),
                problem: Problem::Listen(error.into()),
            })?),
        };
        Ok(Self { config, listener })
    }

    /// Connects, or waits for the back end to, for at most its time-out.
    pub(super) fn open(self) -> Result<UnixStream, BackEndError> {
        let within = self.config.timeout();
        let deadline = Instant::now() + within;
        let stream = match self.listener {
            None => connect_until(&self.config.socket, deadline)
                .map_err(|source| Problem::Connect { within, source }),
            Some(listener) => listener.accept_until(deadline).map_err(|error| match error.kind() {
                io::ErrorKind::TimedOut => Problem::DidNotConnect(within),
                _ => Problem::Listen(error),
            }),
        };
        stream.map_err(|problem| BackEndError { socket: self.config.socket.clone(), problem })
    }

    /// Tries once to connect, or waits for the back end to as long as `timeout`.
    pub(crate) fn try_open(&self, timeout: Duration) -> Result<UnixStream, BackEndError> {
        let stream = match &self.listener {
            None => unix_service::connect(&self.config.socket)
                .map_err(|source| Problem::Connect { within: Duration::ZERO, source }),
            Some(listener) => {
                listener.accept_until(Instant::now() + timeout).map_err(|error| match error.kind() {
                    io::ErrorKind::TimedOut => Problem::DidNotConnect(timeout),
                    _ => Problem::Listen(error),
                })
            }
        };
        stream.map_err(|problem| BackEndError { socket: self.config.socket.clone(), problem })
    }
}

/// Tries to connect until the back end listens.
fn connect_until(path: &Path, deadline: Instant) -> io::Result<UnixStream> {
    loop {
        let error = match unix_service::connect(path) {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        // No socket file yet; no listener yet; or its backlog is full.
        let later = [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused, io::ErrorKind::WouldBlock];
        if !later.contains(&error.kind()) || Instant::now() >= deadline {
            return Err(error);
        }
        thread::sleep(AGAIN.min(deadline.saturating_duration_since(Instant::now())));
    }
}
