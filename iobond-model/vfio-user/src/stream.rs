//! The socket: bytes and file descriptors, and never a wait without an end.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    net::Shutdown,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustix::{
    cmsg_space,
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags,
    },
};

use crate::protocol::MAX_FDS;

/// The most descriptors that Linux puts into one message (`SCM_MAX_FD`).
const SCM_MAX_FD: usize = 253;

/// What one look at the socket brought.
#[derive(Debug)]
pub(crate) enum Received {
    /// Bytes, and descriptors with them.
    Bytes(usize, Vec<OwnedFd>),
    /// Bytes, and descriptors that did not fit.
    FdsLost,
    /// Nothing yet.
    Nothing,
    /// The other side has closed.
    End,
}

/// A connected socket. Messages are sent whole from any thread.
#[derive(Debug)]
pub(crate) struct Stream {
    socket: UnixStream,
    sending: Mutex<()>,
}

impl Stream {
    pub(crate) fn new(socket: UnixStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { socket, sending: Mutex::new(()) })
    }

    /// Takes what is there, without waiting.
    pub(crate) fn receive(&self, space: &mut [u8]) -> io::Result<Received> {
        let mut control = [MaybeUninit::uninit(); cmsg_space!(ScmRights(SCM_MAX_FD))];
        let mut control = RecvAncillaryBuffer::new(&mut control);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let received = loop {
            match rustix::net::recvmsg(&self.socket, &mut [IoSliceMut::new(space)], &mut control, flags) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(Received::Nothing),
                received => break received?,
            }
        };
        let mut fds = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        Ok(match received.bytes {
            _ if received.flags.contains(ReturnFlags::CTRUNC) => Received::FdsLost,
            0 => Received::End,
            bytes => Received::Bytes(bytes, fds),
        })
    }

    /// Sends `parts` as one message.
    ///
    /// # Errors
    /// Also when the other side takes too little of it before `timeout` is over. Part of the message may be
    /// out then, so the connection is at an end: this side is shut down.
    pub(crate) fn send(&self, parts: &[&[u8]], timeout: Duration) -> io::Result<()> {
        self.send_with(parts, &[], timeout)
    }

    /// The same with descriptors, at most [`MAX_FDS`].
    pub(crate) fn send_with(
        &self,
        parts: &[&[u8]],
        fds: &[BorrowedFd<'_>],
        timeout: Duration,
    ) -> io::Result<()> {
        let _order = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = self.send_by(parts, fds, Instant::now() + timeout);
        if sent.is_err() {
            self.shut_down();
        }
        sent
    }

    fn send_by(&self, parts: &[&[u8]], fds: &[BorrowedFd<'_>], deadline: Instant) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut parts: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let mut rest = &mut parts[..];
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match rustix::net::sendmsg(&self.socket, rest, &mut control, flags) {
                Ok(bytes) => {
                    // The descriptors went with the first byte.
                    control.clear();
                    IoSlice::advance_slices(&mut rest, bytes);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if !ready(&mut [PollFd::new(&self.socket, PollFlags::OUT)], Some(left))? {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                }
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// Nothing goes in or out any more, and threads that wait are woken.
    pub(crate) fn shut_down(&self) {
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    /// Sleeps until there is something to receive or `other` can be read, `timeout` at most. Whether that
    /// came.
    pub(crate) fn wait(&self, other: Option<BorrowedFd<'_>>, timeout: Option<Duration>) -> io::Result<bool> {
        let socket = self.socket.as_fd();
        let read = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
        ready(&mut [read(socket), read(other.unwrap_or(socket))], timeout)
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Waits until one of `fds` is ready, `timeout` at most. Whether one is.
pub(crate) fn ready(fds: &mut [PollFd<'_>], timeout: Option<Duration>) -> io::Result<bool> {
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    match poll(fds, timeout.as_ref()) {
        Ok(ready) => Ok(ready > 0),
        // The caller asks again.
        Err(Errno::INTR) => Ok(true),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read, thread};

    use super::*;

    #[test]
    fn a_message_that_is_not_read_is_given_up() {
        let (socket, mut peer) = UnixStream::pair().unwrap();
        let stream = Stream::new(socket).unwrap();
        let big = vec![7; 8 << 20];
        let error = stream.send(&[b"head", &big], Duration::from_millis(20)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let mut sent = Vec::new();
        peer.read_to_end(&mut sent).unwrap();
        assert!(sent.starts_with(b"head\x07") && sent.len() < big.len(), "{} bytes", sent.len());
        assert!(stream.send(&[b"more"], Duration::from_secs(1)).is_err());
    }

    #[test]
    fn messages_of_several_threads_are_not_mixed() {
        let (socket, mut peer) = UnixStream::pair().unwrap();
        let stream = Stream::new(socket).unwrap();
        thread::scope(|scope| {
            for letter in [b'a', b'b', b'c'] {
                let stream = &stream;
                scope.spawn(move || {
                    for _ in 0..20 {
                        stream
                            .send(&[&[letter; 1000], &[], &[letter; 99_000]], Duration::from_secs(5))
                            .unwrap();
                    }
                });
            }
            let mut message = vec![0; 100_000];
            for _ in 0..60 {
                peer.read_exact(&mut message).unwrap();
                assert!(message.iter().all(|byte| *byte == message[0]));
            }
        });
    }
}
