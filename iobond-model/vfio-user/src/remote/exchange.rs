//! One request and its answer at a time.

use std::{
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU16, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::io::Errno;
use zerocopy::IntoBytes;

use super::RemoteError;
use crate::{
    message::{Framer, Message},
    protocol::{Command, Header, HeaderFlags, REQUEST},
    stream::{Received, Stream},
};

/// The connection to a server.
#[derive(Debug)]
pub(super) struct Exchanges {
    stream: Stream,
    /// What comes in; held for a whole exchange.
    incoming: Mutex<Framer>,
    next_id: AtomicU16,
    gone: AtomicBool,
    timeout: Duration,
}

impl Exchanges {
    pub(super) fn new(stream: UnixStream, timeout: Duration) -> Result<Self, RemoteError> {
        Ok(Self {
            stream: Stream::new(stream).map_err(|_| RemoteError::Gone)?,
            incoming: Mutex::default(),
            // A previous process may have left an answer behind: its number is hardly the first that is used
            // here.
            next_id: AtomicU16::new(std::process::id() as u16),
            gone: AtomicBool::new(false),
            timeout,
        })
    }

    /// Throws away what came for a previous process, which may have read the half of it. A server that never
    /// comes to an end of it is left.
    pub(super) fn forget(&self) -> Result<(), RemoteError> {
        let deadline = Instant::now() + self.timeout;
        let mut bytes = [0; 4096];
        loop {
            match self.stream.receive(&mut bytes) {
                Ok(Received::Nothing) => return Ok(()),
                Ok(Received::Bytes(..) | Received::FdsLost) if !left(deadline).is_zero() => {}
                _ => {
                    self.give_up();
                    return Err(RemoteError::Gone);
                }
            }
        }
    }

    /// Sends a request and waits for its answer; the payload of that.
    pub(super) fn ask(
        &self,
        command: Command,
        payload: &[&[u8]],
        fds: &[BorrowedFd<'_>],
    ) -> Result<Vec<u8>, RemoteError> {
        let mut framer = self.incoming.lock().unwrap_or_else(PoisonError::into_inner);
        let deadline = Instant::now() + self.timeout;
        let id = self.send(command, REQUEST, payload, fds)?;
        loop {
            let message = self.next(&mut framer, command, deadline).inspect_err(|_| self.give_up())?;
            let ours = message.header.id == id && message.header.command == command as u16;
            match message.is_reply() {
                true if ours && message.is_error() => {
                    let errno = Errno::from_raw_os_error(message.header.error.cast_signed());
                    return Err(RemoteError::Refused { command, errno });
                }
                true if ours => return Ok(message.payload),
                // Of an exchange that a previous process did not end.
                true => {}
                // The server asks for memory, all of which it has files of.
                false => self.refuse(&message, command, left(deadline))?,
            }
            // A server that keeps sending something else does not answer.
            if left(deadline).is_zero() {
                self.give_up();
                return Err(self.silent(command));
            }
        }
    }

    /// Sends a request that wants no answer.
    pub(super) fn tell(&self, command: Command, payload: &[&[u8]]) -> Result<(), RemoteError> {
        self.send(command, REQUEST | HeaderFlags::NO_REPLY.bits(), payload, &[]).map(drop)
    }

    fn send(
        &self,
        command: Command,
        flags: u32,
        payload: &[&[u8]],
        fds: &[BorrowedFd<'_>],
    ) -> Result<u16, RemoteError> {
        if self.gone.load(Ordering::Relaxed) {
            return Err(RemoteError::Gone);
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let size = size_of::<Header>() + payload.iter().map(|part| part.len()).sum::<usize>();
        let header = Header { id, command: command as u16, size: size as u32, flags, error: 0 };
        let parts: Vec<&[u8]> = [header.as_bytes()].into_iter().chain(payload.iter().copied()).collect();
        let sent = self.stream.send_with(&parts, fds, self.timeout);
        sent.map_err(|error| self.not_sent(command, &error))?;
        Ok(id)
    }

    /// The server did not take a message while it owed, or was to be asked for, an answer to `command`.
    fn not_sent(&self, command: Command, error: &io::Error) -> RemoteError {
        self.give_up();
        match error.kind() {
            io::ErrorKind::TimedOut => self.silent(command),
            _ => RemoteError::Gone,
        }
    }

    fn silent(&self, command: Command) -> RemoteError {
        RemoteError::Silent { command, within: self.timeout }
    }

    /// The next message, whatever it is.
    fn next(&self, framer: &mut Framer, command: Command, deadline: Instant) -> Result<Message, RemoteError> {
        loop {
            // Before the look at the socket: what is there by then counts.
            let left = left(deadline);
            let message = match self.stream.receive(framer.space()).map_err(|_| RemoteError::Gone)? {
                Received::Bytes(bytes, fds) => {
                    framer.advance(bytes, fds).map_err(|_| RemoteError::Nonsense { command })?
                }
                Received::FdsLost => return Err(RemoteError::Nonsense { command }),
                Received::End => return Err(RemoteError::Gone),
                Received::Nothing => {
                    self.stream.wait(None, Some(left)).map_err(|_| RemoteError::Gone)?;
                    None
                }
            };
            match message {
                Some(message) => return Ok(message),
                None if left.is_zero() => return Err(self.silent(command)),
                None => {}
            }
        }
    }

    /// Says no to a request of the server, while the answer to `command` is waited for.
    fn refuse(&self, request: &Message, command: Command, timeout: Duration) -> Result<(), RemoteError> {
        if !request.wants_reply() {
            return Ok(());
        }
        let reply = request.error(Errno::NOTSUP);
        let sent = self.stream.send_with(&[reply.header.as_bytes()], &[], timeout);
        sent.map_err(|error| self.not_sent(command, &error))
    }

    fn give_up(&self) {
        self.gone.store(true, Ordering::Relaxed);
        self.stream.shut_down();
    }
}

impl AsFd for Exchanges {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// Time until `deadline`; none after it.
fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;
    use crate::protocol::REPLY;

    /// A connection with a timeout of zero, so that only what is there already counts.
    fn with_no_time() -> (Exchanges, UnixStream) {
        let (socket, server) = UnixStream::pair().unwrap();
        (Exchanges::new(socket, Duration::ZERO).unwrap(), server)
    }

    fn header(id: u16, command: Command, flags: u32) -> Header {
        Header { id, command: command as u16, size: size_of::<Header>() as u32, flags, error: 0 }
    }

    /// server: answer, or something else and then the answer
    #[test]
    fn a_server_that_talks_of_something_else_does_not_answer() {
        let command = Command::DeviceReset;
        let (exchanges, mut server) = with_no_time();
        let id = exchanges.next_id.load(Ordering::Relaxed);
        let answer = header(id, command, REPLY);
        server.write_all(answer.as_bytes()).unwrap();
        assert!(exchanges.ask(command, &[], &[]).unwrap().is_empty());

        let no_reply = REQUEST | HeaderFlags::NO_REPLY.bits();
        let foreign = [
            header(id.wrapping_sub(1), command, REPLY),
            header(id, Command::DmaRead, no_reply),
            header(id, Command::DmaRead, REQUEST),
        ];
        for header in foreign {
            let (exchanges, mut server) = with_no_time();
            server.write_all(&[header.as_bytes(), answer.as_bytes()].concat()).unwrap();
            let asked = exchanges.ask(command, &[], &[]);
            assert!(matches!(asked, Err(RemoteError::Silent { .. })), "{header:?}: {asked:?}");
            let again = exchanges.ask(command, &[], &[]);
            assert!(matches!(again, Err(RemoteError::Gone)), "{again:?}");
        }
    }

    #[test]
    fn what_a_previous_process_left_is_forgotten_only_within_the_timeout() {
        let (exchanges, mut server) = with_no_time();
        exchanges.forget().unwrap();
        server.write_all(&[0; 16 << 10]).unwrap();
        assert!(matches!(exchanges.forget(), Err(RemoteError::Gone)));
        assert_eq!(server.read(&mut [0]).unwrap(), 0, "it is left");

        let (socket, mut server) = UnixStream::pair().unwrap();
        server.write_all(&[0; 16 << 10]).unwrap();
        let exchanges = Exchanges::new(socket, Duration::from_secs(10)).unwrap();
        exchanges.forget().unwrap();
    }
}
