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
const TIMEOUT: Duration = Duration::from_secs(10);

/// What an instance can be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "request", deny_unknown_fields)]
pub enum Request {
    /// How everything is, which [`Reply::Status`] tells.
    Status,
    /// Does something to the power of the board of this name.
    #[allow(missing_docs, reason = "the fields are those of the message")]
    Board { board: String, action: Action },
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
    /// How everything is.
    Status(Box<Status>),
    /// What was asked for is done, or on its way.
    Done,
    /// What was asked for is not done.
    Refused {
        /// Why, in a sentence for the user.
        reason: String,
    },
}

/// An instance that could not be asked, or refused.
#[allow(missing_docs, reason = "the fields are those of the message")]
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error(transparent)]
    Directory(#[from] RunDirectoryError),
    #[error("instance {name:?} does not answer on its control socket: {source}")]
    Socket { name: String, source: io::Error },
    #[error(
        "instance {name:?} answers what this bmhive does not understand ({reason}); are both of one version?"
    )]
    Nonsense { name: String, reason: serde_json::Error },
    #[error("{0}")]
    Refused(String),
}

/// Asks instance `name`.
///
/// # Errors
/// [`ControlError`]; a [`Reply::Refused`] is one of them.
pub fn ask(name: &str, request: &Request) -> Result<Reply, ControlError> {
    let path = locate(name)?;
    let nonsense = |reason| ControlError::Nonsense { name: name.into(), reason };
    let line = serde_json::to_string(request).map_err(nonsense)?;
    let answer = exchange(&path, &line).map_err(|source| match source.kind() {
        // The socket of an instance that was killed.
        io::ErrorKind::ConnectionRefused => RunDirectoryError::absent(name).into(),
        _ => ControlError::Socket { name: name.into(), source },
    })?;
    match serde_json::from_slice(&answer).map_err(nonsense)? {
        Reply::Refused { reason } => Err(ControlError::Refused(reason)),
        reply => Ok(reply),
    }
}

fn exchange(path: &Path, line: &str) -> io::Result<Vec<u8>> {
    let deadline = Instant::now() + TIMEOUT;
    let mut stream = UnixStream::connect(path)?;
    stream.set_write_timeout(Some(TIMEOUT))?;
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
