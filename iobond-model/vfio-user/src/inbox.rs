//! Messages as they come in: answers go to the thread that asked, requests are kept in order for the socket's
//! thread.

use std::{collections::VecDeque, io, time::Duration};

use crate::{
    Violation,
    dma::Accesses,
    message::{Framer, Message},
    protocol::{MAX_FDS, MAX_MESSAGE},
    stream::{Received, Stream},
};

/// Requests that are kept while an earlier one is being met. What is more stays in the socket and holds the
/// client up.
const MOST_KEPT: usize = 256;
/// Bytes of their payloads, not counting the last.
const MOST_KEPT_BYTES: usize = MAX_MESSAGE;
/// Their descriptors, not counting those of the last: few beside what a process may have open (1024 by
/// default).
const MOST_KEPT_FDS: usize = 4 * MAX_FDS;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum End {
    #[error("the client closed the connection")]
    Closed,
    #[error("the client closed the connection in the middle of a message")]
    Cut,
    #[error("the client broke the protocol: {0}")]
    Violation(#[from] Violation),
    #[error("the socket failed: {0}")]
    Socket(#[from] io::Error),
    #[error("the client proposed no version in time")]
    Silent,
    #[error("the client did not read an answer within {} s", .0.as_secs())]
    Unread(Duration),
    #[error("the client does not take or does not answer requests for its memory")]
    Deaf,
    #[error("the server stops")]
    Stopped,
}

/// Messages that came in and were not met yet.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    framer: Framer,
    kept: VecDeque<Message>,
    kept_bytes: usize,
    kept_fds: usize,
    /// Why no more messages come.
    end: Option<End>,
}

impl Inbox {
    /// The next request, in the order in which they came; after the last one why there is none.
    pub(crate) fn next(&mut self) -> Result<Option<Message>, End> {
        match self.kept.pop_front() {
            Some(request) => {
                self.kept_bytes -= request.payload.len();
                self.kept_fds -= request.fds.len();
                Ok(Some(request))
            }
            None => self.end.take().map_or(Ok(None), Err),
        }
    }

    /// Whether more can be taken in.
    pub(crate) fn is_open(&self) -> bool {
        let is_below = self.kept.len() < MOST_KEPT && self.kept_bytes < MOST_KEPT_BYTES;
        self.end.is_none() && is_below && self.kept_fds < MOST_KEPT_FDS
    }

    /// Takes in what is there, without waiting, until `enough` requests are kept or no more may
    /// be. Whether there was anything.
    pub(crate) fn take_in(&mut self, stream: &Stream, accesses: &Accesses, enough: usize) -> bool {
        let mut any = false;
        while self.is_open() && self.kept.len() < enough {
            match self.take_in_some(stream, accesses) {
                Ok(true) => any = true,
                Ok(false) => break,
                Err(end) => {
                    self.end = Some(end);
                    any = true;
                    // Threads that wait for answers wake: none can come.
                    accesses.close();
                }
            }
        }
        any
    }

    fn take_in_some(&mut self, stream: &Stream, accesses: &Accesses) -> Result<bool, End> {
        let (bytes, fds) = match stream.receive(self.framer.space())? {
            Received::Bytes(bytes, fds) => (bytes, fds),
            Received::FdsLost => return Err(Violation::FdsLost.into()),
            Received::Nothing => return Ok(false),
            Received::End if self.framer.is_amid() => return Err(End::Cut),
            Received::End => return Err(End::Closed),
        };
        match self.framer.advance(bytes, fds)? {
            Some(reply) if reply.is_reply() => accesses.complete(&reply)?,
            Some(request) => {
                self.kept_bytes += request.payload.len();
                self.kept_fds += request.fds.len();
                self.kept.push_back(request);
            }
            None => {}
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{IoSlice, Write},
        mem::MaybeUninit,
        os::{fd::AsFd, unix::net::UnixStream},
    };

    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    use zerocopy::IntoBytes;

    use super::*;
    use crate::protocol::Header;

    /// Takes in what may be kept of what `send` sends; how many requests that is.
    fn kept(send: impl FnOnce(&mut UnixStream)) -> usize {
        let (socket, mut peer) = UnixStream::pair().unwrap();
        let stream = Stream::new(socket).unwrap();
        send(&mut peer);
        let (mut inbox, accesses) = (Inbox::default(), Accesses::default());
        assert!(inbox.take_in(&stream, &accesses, usize::MAX));
        assert!(!inbox.is_open() && !inbox.take_in(&stream, &accesses, usize::MAX));
        let kept = inbox.kept.len();
        assert!(inbox.next().unwrap().is_some());
        assert!(inbox.take_in(&stream, &accesses, usize::MAX), "more may be kept again");
        kept
    }

    #[test]
    fn requests_are_kept_up_to_a_bound() {
        let reset = Header { id: 1, command: 13, size: 16, flags: 0, error: 0 };
        assert_eq!(kept(|peer| peer.write_all(&reset.as_bytes().repeat(MOST_KEPT + 9)).unwrap()), MOST_KEPT);
    }

    #[test]
    fn descriptors_are_kept_up_to_a_bound() {
        let set = Header { id: 1, command: 8, size: 16, flags: 0, error: 0 };
        let send = |peer: &mut UnixStream| {
            let file = std::fs::File::open("/dev/null").unwrap();
            let fds = [file.as_fd(); MAX_FDS];
            for _ in 0..9 {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
                let mut control = SendAncillaryBuffer::new(&mut space);
                assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
                sendmsg(&mut *peer, &[IoSlice::new(set.as_bytes())], &mut control, SendFlags::empty())
                    .unwrap();
            }
        };
        assert_eq!(kept(send), MOST_KEPT_FDS / MAX_FDS);
    }
}
