//! Messages, and how a stream of bytes is cut into them. There is no socket here: the caller brings the
//! bytes.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::{
    Violation,
    protocol::{Header, HeaderFlags, MAX_FDS, MAX_MESSAGE, REPLY, REQUEST, TYPE},
};

/// A message that came whole.
#[derive(Debug)]
pub struct Message {
    /// Its header, whose size and type are right.
    pub header: Header,
    /// What is behind the header.
    pub payload: Vec<u8>,
    /// File descriptors that came with it.
    pub fds: Vec<OwnedFd>,
}

impl Message {
    /// Whether it answers something.
    pub fn is_reply(&self) -> bool {
        self.header.flags & TYPE == REPLY
    }

    /// Whether it wants an answer.
    pub fn wants_reply(&self) -> bool {
        !self.has(HeaderFlags::NO_REPLY)
    }

    /// Whether it says that something failed.
    pub fn is_error(&self) -> bool {
        self.has(HeaderFlags::ERROR)
    }

    /// The answer `payload` to this message.
    pub fn reply(&self, payload: Vec<u8>) -> Reply {
        let size = (size_of::<Header>() + payload.len()) as u32;
        Reply { header: Header { size, flags: REPLY, error: 0, ..self.header }, payload }
    }

    /// The answer to this message that it failed.
    pub fn error(&self, errno: Errno) -> Reply {
        let size = size_of::<Header>() as u32;
        let flags = REPLY | HeaderFlags::ERROR.bits();
        let error = errno.raw_os_error().unsigned_abs();
        Reply { header: Header { size, flags, error, ..self.header }, payload: Vec::new() }
    }

    fn has(&self, flags: HeaderFlags) -> bool {
        HeaderFlags::from_bits_retain(self.header.flags).contains(flags)
    }
}

/// An answer, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Its header.
    pub header: Header,
    /// What is behind the header.
    pub payload: Vec<u8>,
}

/// The structure that `payload` consists of, neither more nor less.
pub(crate) fn exactly<T: FromBytes>(message: &Message) -> Result<T, Violation> {
    T::read_from_bytes(&message.payload).map_err(|_| wrong_size(message, size_of::<T>()))
}

/// The structure that `payload` begins with, and what follows it.
pub(crate) fn beginning<T: FromBytes>(message: &Message) -> Result<(T, &[u8]), Violation> {
    T::read_from_prefix(&message.payload).map_err(|_| wrong_size(message, size_of::<T>()))
}

/// `message` does not have the payload of `expected` bytes that it should have.
pub(crate) fn wrong_size(message: &Message, expected: usize) -> Violation {
    let command = message.header.command;
    Violation::PayloadSize { command, found: message.payload.len(), expected }
}

/// The bytes of `structure` and then `data`.
pub(crate) fn bytes(structure: &(impl IntoBytes + Immutable), data: &[u8]) -> Vec<u8> {
    [structure.as_bytes(), data].concat()
}

/// Cuts a stream into messages.
///
/// Bring bytes into [`space`](Self::space) and say with [`advance`](Self::advance) how many: space never
/// reaches beyond the message at hand, so that file descriptors that come with bytes belong to the message of
/// those bytes. What a message claims to hold is bounded, and so is what is kept here.
#[derive(Debug, Default)]
pub struct Framer {
    header: [u8; size_of::<Header>()],
    /// Only once the header is there.
    payload: Vec<u8>,
    filled: usize,
    fds: Vec<OwnedFd>,
}

impl Framer {
    /// Where the next bytes belong. Never empty.
    pub fn space(&mut self) -> &mut [u8] {
        match self.filled.checked_sub(self.header.len()) {
            None => &mut self.header[self.filled..],
            Some(filled) => &mut self.payload[filled..],
        }
    }

    /// `bytes` bytes of the space were filled, and `fds` came with them. A message, when that completes it.
    ///
    /// # Errors
    /// When the header cannot be right or too many descriptors came. Nothing after that has a meaning.
    ///
    /// # Panics
    /// When more bytes were filled than there was space.
    pub fn advance(
        &mut self,
        bytes: usize,
        fds: impl IntoIterator<Item = OwnedFd>,
    ) -> Result<Option<Message>, Violation> {
        assert!(bytes <= self.space().len(), "{bytes} bytes in a space for {}", self.space().len());
        self.fds.extend(fds);
        if self.fds.len() > MAX_FDS {
            return Err(Violation::TooManyFds { found: self.fds.len() });
        }
        self.filled += bytes;
        if self.filled < self.header.len() {
            return Ok(None);
        }
        let header: Header = zerocopy::transmute!(self.header);
        if self.filled == self.header.len() && bytes > 0 {
            self.payload = vec![0; payload_size(&header)?];
        }
        if self.filled < self.header.len() + self.payload.len() {
            return Ok(None);
        }
        let Self { payload, fds, .. } = std::mem::take(self);
        Ok(Some(Message { header, payload, fds }))
    }

    /// Whether a message has begun and is not whole.
    pub fn is_amid(&self) -> bool {
        self.filled > 0
    }
}

fn payload_size(header: &Header) -> Result<usize, Violation> {
    let Header { size, flags, command, .. } = *header;
    if !matches!(flags & TYPE, REQUEST | REPLY) {
        return Err(Violation::MessageType { flags });
    }
    (size as usize)
        .checked_sub(size_of::<Header>())
        .filter(|_| size as usize <= MAX_MESSAGE)
        .ok_or(Violation::MessageSize { command, size })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(size: u32, flags: u32) -> Header {
        Header { id: 7, command: 9, size, flags, error: 0 }
    }

    /// Brings `stream` in pieces of at most `piece` bytes.
    fn cut(stream: &[u8], piece: usize) -> Result<Vec<Message>, Violation> {
        let mut framer = Framer::default();
        let mut messages = Vec::new();
        let mut rest = stream;
        while !rest.is_empty() {
            let space = framer.space();
            let bytes = space.len().min(piece).min(rest.len());
            space[..bytes].copy_from_slice(&rest[..bytes]);
            rest = &rest[bytes..];
            messages.extend(framer.advance(bytes, [])?);
        }
        assert!(!framer.is_amid());
        Ok(messages)
    }

    #[test]
    fn messages_are_the_same_however_they_are_cut() {
        let stream =
            [bytes(&header(19, 0), b"abc"), bytes(&header(16, 1), b""), bytes(&header(17, 0x10), b"d")]
                .concat();
        for piece in 1..=stream.len() {
            let messages = cut(&stream, piece).unwrap();
            let payloads: Vec<_> = messages.iter().map(|message| &*message.payload).collect();
            assert_eq!(payloads, [&b"abc"[..], b"", b"d"], "in pieces of {piece}");
            assert!(messages[1].is_reply() && !messages[2].is_reply());
            assert!(messages[0].wants_reply() && !messages[2].wants_reply());
        }
    }

    #[test]
    fn sizes_that_cannot_be_end_the_stream() {
        for size in [0, 15, MAX_MESSAGE as u32 + 1, u32::MAX] {
            let violation = cut(header(size, 0).as_bytes(), 16).unwrap_err();
            assert!(matches!(violation, Violation::MessageSize { command: 9, size: found } if found == size));
        }
        let violation = cut(header(16, 2).as_bytes(), 16).unwrap_err();
        assert!(matches!(violation, Violation::MessageType { flags: 2 }));
    }

    #[test]
    fn descriptors_belong_to_the_message_whose_bytes_they_came_with() {
        let fd = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let mut framer = Framer::default();
        for byte in header(17, 0).as_bytes() {
            framer.space()[0] = *byte;
            assert!(framer.advance(1, []).unwrap().is_none());
        }
        assert_eq!(framer.space().len(), 1);
        let message = framer.advance(1, [fd(), fd()]).unwrap().unwrap();
        assert_eq!(message.fds.len(), 2);
        let violation = framer.advance(1, (0..=MAX_FDS).map(|_| fd())).unwrap_err();
        assert!(matches!(violation, Violation::TooManyFds { found: 17 }));
    }
}
