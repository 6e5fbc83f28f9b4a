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
    patience: Duration,
}

impl Exchanges {
    pub(super) fn new(stream: UnixStream, patience: Duration) -> Result<Self, RemoteError> {
        Ok(Self {
            stream: Stream::new(stream).map_err(|_| RemoteError::Gone)?,
            incoming: Mutex::default(),
            // An earlier life may have left an answer behind: its number is hardly the first that is used here.
            next_id: AtomicU16::new(std::process::id() as u16),
            gone: AtomicBool::new(false),
            patience,
        })
    }

    /// Throws away what came for an earlier life of this process, which may have read the half of it.
    pub(super) fn forget(&self) -> Result<(), RemoteError> {
        let mut bytes = [0; 4096];
        loop {
            match self.stream.receive(&mut bytes) {
                Ok(Received::Nothing) => return Ok(()),
                Ok(Received::Bytes(..) | Received::FdsLost) => {}
                Ok(Received::End) | Err(_) => return Err(RemoteError::Gone),
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
        let deadline = Instant::now() + self.patience;
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
                // Of an exchange that an earlier life of this process did not end.
                true => {}
                // The server asks for memory, all of which it has files of.
                false => self.refuse(&message)?,
            }
        }
    }

    /// Sends a request that nobody answers.
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
        self.stream.send_with(&parts, fds, self.patience).map_err(|error| {
            self.give_up();
            match error.kind() {
                io::ErrorKind::TimedOut => RemoteError::Silent { command, within: self.patience },
                _ => RemoteError::Gone,
            }
        })?;
        Ok(id)
    }

    /// The next message, whatever it is.
    fn next(&self, framer: &mut Framer, command: Command, deadline: Instant) -> Result<Message, RemoteError> {
        loop {
            let received = self.stream.receive(framer.space()).map_err(|_| RemoteError::Gone)?;
            let (bytes, fds) = match received {
                Received::Bytes(bytes, fds) => (bytes, fds),
                Received::FdsLost => return Err(RemoteError::Nonsense { command }),
                Received::End => return Err(RemoteError::Gone),
                Received::Nothing => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(RemoteError::Silent { command, within: self.patience });
                    }
                    self.stream.wait(None, Some(left)).map_err(|_| RemoteError::Gone)?;
                    continue;
                }
            };
            let advanced = framer.advance(bytes, fds).map_err(|_| RemoteError::Nonsense { command })?;
            if let Some(message) = advanced {
                return Ok(message);
            }
        }
    }

    fn refuse(&self, request: &Message) -> Result<(), RemoteError> {
        if !request.wants_reply() {
            return Ok(());
        }
        let reply = request.error(Errno::NOTSUP);
        let sent = self.stream.send_with(&[reply.header.as_bytes()], &[], self.patience);
        sent.map_err(|_| RemoteError::Gone).inspect_err(|_| self.give_up())
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
