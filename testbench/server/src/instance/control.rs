//! What is said over `control.sock`: one line of JSON there, one back, and the connection is over.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::{RunDirectoryError, Status, locate};

/// Bytes of a request, with its end of line.
pub(super) const LONGEST_REQUEST: usize = 4096;
/// Bytes of a reply: a status of 16 boards with 8 functions each takes a tenth.
const LONGEST_REPLY: usize = 1 << 20;
/// How long an instance may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What an instance can be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "request", deny_unknown_fields)]
pub enum Request {
    /// [`Reply::Status`].
    Status,
    /// Does something to a board's power.
    Board {
        /// The board's name.
        board: String,
        /// What.
        action: Action,
    },
}

/// What can be done to a board's power.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Switch it on
    Start,
    /// Press its power button; a guest that does not switch off within 15 s is switched off
    Stop,
    /// Cut its power
    Kill,
    /// Press its reset button
    Reset,
}

/// What an instance answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "reply")]
pub enum Reply {
    /// How it is.
    Status(Box<Status>),
    /// What was asked for is done, or on its way.
    Done,
    /// It is not.
    Refused {
        /// Why.
        reason: String,
    },
}

/// An instance that could not be asked, or refused.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// There is none.
    #[error(transparent)]
    Directory(#[from] RunDirectoryError),
    /// The socket failed.
    #[error("instance {name:?} does not answer on its control socket: {source}")]
    Socket {
        /// The instance's name.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// The answer is none.
    #[error(
        "instance {name:?} answers what this bmhive does not understand ({reason}); are both of one version?"
    )]
    Nonsense {
        /// The instance's name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The instance refused.
    #[error("{0}")]
    Refused(String),
}

/// Asks instance `name`.
///
/// # Errors
/// [`ControlError`]; a [`Reply::Refused`] is one of them.
pub fn ask(name: &str, request: &Request) -> Result<Reply, ControlError> {
    let path = locate(name)?;
    let nonsense = |reason: String| ControlError::Nonsense { name: name.into(), reason };
    let line = serde_json::to_string(request).map_err(|error| nonsense(error.to_string()))?;
    let answer = exchange(&path, &line).map_err(|source| match source.kind() {
        // The socket of an instance that was killed.
        io::ErrorKind::ConnectionRefused => RunDirectoryError::absent(name).into(),
        _ => ControlError::Socket { name: name.into(), source },
    })?;
    match serde_json::from_slice(&answer).map_err(|error| nonsense(error.to_string()))? {
        Reply::Refused { reason } => Err(ControlError::Refused(reason)),
        reply => Ok(reply),
    }
}

fn exchange(path: &Path, line: &str) -> io::Result<Vec<u8>> {
    let deadline = Instant::now() + PATIENCE;
    let mut stream = UnixStream::connect(path)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(format!("{line}\n").as_bytes())?;
    read_line(&mut stream, LONGEST_REPLY, deadline)
}

/// Reads up to the end of a line, which is not part of the answer, by `deadline` and within `longest` bytes.
pub(super) fn read_line(stream: &mut UnixStream, longest: usize, deadline: Instant) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        let count = match stream.read(&mut piece) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Err(error) => return Err(error),
        };
        let (fresh, _) = piece.split_at(count);
        match fresh.iter().position(|byte| *byte == b'\n') {
            Some(end) if line.len() + end < longest => {
                line.extend(fresh.iter().take(end));
                return Ok(line);
            }
            None if line.len() + count < longest => line.extend(fresh),
            _ => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("a line of more than {longest} bytes"),
                ));
            }
        }
    }
}
