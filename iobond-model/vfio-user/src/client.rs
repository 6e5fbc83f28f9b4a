//! The client of a function: messages in order of arrival for the socket's thread, and what the function may
//! ask of the client from any thread.

use std::{
    io,
    os::{fd::AsFd, unix::net::UnixStream},
    sync::{
        Mutex, PoisonError, TryLockError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::io::Errno;
use unix_service::StopFlag;
use zerocopy::IntoBytes;

use crate::{
    Description, Irq,
    dma::{Accesses, Asked},
    inbox::{End, Inbox},
    interrupts::Interrupts,
    message::{Message, Reply},
    protocol::{Command, DmaAccess, Header, MAX_DATA, REQUEST},
    stream::Stream,
};

/// How long a client may take to answer an access to its memory, all chunks together.
const DMA_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a client may take to read an answer. QEMU waits as long for one by default (`x-msg-timeout`).
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a thread that waits for something else receives from the socket at a time.
const GLANCE: Duration = Duration::from_micros(50);

/// Why an access to the client's memory failed: that of `len` bytes from `address` on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are those of the message")]
pub enum DmaError {
    /// There is no client any more.
    #[error("DMA of {len} bytes at {address:#x}: the client has gone")]
    Gone { address: u64, len: usize },
    /// The client refused: the memory is not there (QEMU: `EFAULT`) or the function may not master the bus
    /// (`ENODEV`).
    #[error("DMA of {len} bytes at {address:#x}: the client refused: {errno}")]
    Refused { address: u64, len: usize, errno: Errno },
    /// The client took longer than a second.
    #[error("DMA of {len} bytes at {address:#x}: no answer from the client within a second")]
    TimedOut { address: u64, len: usize },
    /// The range reaches beyond the last address.
    #[error("DMA of {len} bytes at {address:#x}: wraps")]
    Wraps { address: u64, len: usize },
}

/// The client that uses a function, from the agreement on a version until
/// [`Function::detach`](crate::Function::detach). After that everything here is without effect.
#[derive(Debug)]
pub struct Client {
    stream: Stream,
    inbox: Mutex<Inbox>,
    accesses: Accesses,
    interrupts: Interrupts,
    /// The most bytes of data in a message; agreed on with the version.
    max_data: AtomicU32,
    /// Whether it was given up because it does not take requests for its memory, or leaves out the answers.
    deaf: AtomicBool,
}

impl Client {
    /// The client at the other end of `socket`, of a function with this description.
    ///
    /// # Errors
    /// When the socket cannot be set up.
    pub fn new(socket: UnixStream, description: &Description) -> io::Result<Self> {
        Ok(Self {
            stream: Stream::new(socket)?,
            inbox: Mutex::default(),
            accesses: Accesses::default(),
            interrupts: Interrupts::new(description),
            max_data: AtomicU32::new(MAX_DATA),
            deaf: AtomicBool::new(false),
        })
    }

    /// Raises `vector` of `irq`. Never blocks.
    ///
    /// A vector that is masked or has no eventfd stays pending and fires when that changes. INTx masks itself
    /// when it fires; [`Function::intx_asserted`](crate::Function::intx_asserted) says whether it fires again
    /// once unmasked, so set that before. A vector that was not described is not raised.
    pub fn trigger(&self, irq: Irq, vector: u16) {
        self.interrupts.trigger(irq, vector);
    }

    /// Reads `into.len()` bytes of the client's memory at `address`, through the client: for memory that came
    /// without a file. Slow (tens of microseconds), in chunks of what both sides can take; takes a second at
    /// most.
    ///
    /// # Errors
    /// When the client refuses, takes too long or is gone. `into` may be partly filled then.
    pub fn dma_read(&self, address: u64, into: &mut [u8]) -> Result<(), DmaError> {
        let whole = Whole::new(address, into.len())?;
        for (at, chunk) in whole.chunks(into.chunks_mut(self.chunk())) {
            let data = self.access(Command::DmaRead, at, chunk.len(), &[], &whole)?;
            // Its length was held against the request.
            chunk.copy_from_slice(&data);
        }
        Ok(())
    }

    /// Writes `from` to the client's memory at `address`, as [`dma_read`](Self::dma_read).
    ///
    /// # Errors
    /// When the client refuses, takes too long or is gone. Part of `from` may be written then.
    pub fn dma_write(&self, address: u64, from: &[u8]) -> Result<(), DmaError> {
        let whole = Whole::new(address, from.len())?;
        for (at, chunk) in whole.chunks(from.chunks(self.chunk())) {
            self.access(Command::DmaWrite, at, chunk.len(), chunk, &whole)?;
        }
        Ok(())
    }

    /// One message and its answer.
    fn access(
        &self,
        command: Command,
        address: u64,
        count: usize,
        data: &[u8],
        whole: &Whole,
    ) -> Result<Vec<u8>, DmaError> {
        let access = DmaAccess { address, count: count as u64 };
        let id = self.accesses.open(Asked { command, access }).ok_or(whole.gone())?;
        let size = (size_of::<Header>() + size_of::<DmaAccess>() + data.len()) as u32;
        let header = Header { id, command: command as u16, size, flags: REQUEST, error: 0 };
        let sent = self.stream.send(&[header.as_bytes(), access.as_bytes(), data], whole.left());
        if let Err(error) = sent {
            self.accesses.abandon(id);
            if error.kind() == io::ErrorKind::TimedOut {
                self.give_up();
            }
            return Err(whole.gone());
        }
        loop {
            if let Some(answer) = self.accesses.take(id) {
                let (address, len) = (whole.address, whole.len);
                let answer = answer.ok_or(whole.gone())?;
                return answer.map_err(|errno| DmaError::Refused { address, len, errno });
            }
            if whole.left().is_zero() {
                if self.accesses.abandon(id) {
                    self.give_up();
                }
                return Err(DmaError::TimedOut { address: whole.address, len: whole.len });
            }
            // Mostly the socket's thread waits at the socket and brings the answer. While it meets a request,
            // this thread receives instead, and lets the socket go in between for that thread to come back.
            self.look_after();
            self.accesses.sleep(id, GLANCE);
        }
    }

    /// The socket's thread sees the end of the stream, and this as the reason.
    fn give_up(&self) {
        self.deaf.store(true, Ordering::Relaxed);
        self.stream.shut_down();
    }

    fn chunk(&self) -> usize {
        self.max_data.load(Ordering::Relaxed) as usize
    }

    /// No access to memory carries more than `max_data` bytes, which is not 0.
    pub(crate) fn limit(&self, max_data: u32) {
        self.max_data.store(max_data, Ordering::Relaxed);
    }

    pub(crate) fn interrupts(&self) -> &Interrupts {
        &self.interrupts
    }

    /// The next request. Waits for it until the server stops, or until `deadline`.
    pub(crate) fn next_request(&self, stop: &StopFlag, deadline: Option<Instant>) -> Result<Message, End> {
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if stop.is_set() {
                return Err(End::Stopped);
            }
            match inbox.next() {
                Ok(None) => {}
                Ok(Some(request)) => return Ok(request),
                Err(_) if self.deaf.load(Ordering::Relaxed) => return Err(End::Deaf),
                Err(end) => return Err(end),
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(End::Silent);
            }
            if !inbox.take_in(&self.stream, &self.accesses, 1) {
                self.stream.wait(Some(stop.as_fd()), left)?;
            }
        }
    }

    /// Sends an answer within [`SEND_TIMEOUT`].
    pub(crate) fn send(&self, reply: &Reply) -> Result<(), End> {
        let sent = self.stream.send(&[reply.header.as_bytes(), &reply.payload], SEND_TIMEOUT);
        sent.map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut => End::Unread(SEND_TIMEOUT),
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => End::Closed,
            _ => End::Socket(error),
        })
    }

    /// Sleeps some 50 us at most, and looks after the socket meanwhile.
    pub(crate) fn glance(&self) {
        if !self.look_after() {
            thread::sleep(GLANCE);
        }
    }

    /// Takes in what comes within some 50 us: answers go to the thread that asked, requests are kept. `false`
    /// without waiting when another thread receives already, or no more can be kept.
    fn look_after(&self) -> bool {
        let mut inbox = match self.inbox.try_lock() {
            Ok(inbox) => inbox,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        let open = inbox.is_open();
        if open && !inbox.take_in(&self.stream, &self.accesses, usize::MAX) {
            // If that fails it fails again for the socket's thread, which tells.
            let _ = self.stream.wait(None, Some(GLANCE));
            inbox.take_in(&self.stream, &self.accesses, usize::MAX);
        }
        open
    }

    /// The client has gone: nothing is raised any more, and threads that wait for its memory are woken.
    pub(crate) fn close(&self) {
        self.interrupts.close();
        self.accesses.close();
        self.stream.shut_down();
    }
}

/// A whole access to memory, of which each message is a chunk.
struct Whole {
    address: u64,
    len: usize,
    deadline: Instant,
}

impl Whole {
    fn new(address: u64, len: usize) -> Result<Self, DmaError> {
        match (len as u64).checked_sub(1).map(|more| address.checked_add(more)) {
            Some(None) => Err(DmaError::Wraps { address, len }),
            Some(Some(_)) | None => Ok(Self { address, len, deadline: Instant::now() + DMA_TIMEOUT }),
        }
    }

    /// `chunks` with the address of each.
    fn chunks<C: AsRef<[u8]>>(&self, chunks: impl Iterator<Item = C>) -> impl Iterator<Item = (u64, C)> {
        chunks.scan(self.address, |next, chunk| {
            let address = *next;
            *next = next.wrapping_add(chunk.as_ref().len() as u64);
            Some((address, chunk))
        })
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    fn gone(&self) -> DmaError {
        DmaError::Gone { address: self.address, len: self.len }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn pair() -> (Client, UnixStream) {
        let (socket, peer) = UnixStream::pair().unwrap();
        (Client::new(socket, &Description::default()).unwrap(), peer)
    }

    #[test]
    fn a_client_that_says_nothing_is_waited_for_until_the_deadline() {
        let (client, mut peer) = pair();
        let stop = StopFlag::new().unwrap();
        let soon = || Some(Instant::now() + Duration::from_millis(20));
        assert!(matches!(client.next_request(&stop, soon()), Err(End::Silent)));
        peer.write_all(&[0; 8]).unwrap();
        assert!(matches!(client.next_request(&stop, soon()), Err(End::Silent)), "half a header");
        stop.set();
        assert!(matches!(client.next_request(&stop, None), Err(End::Stopped)));
    }

    #[test]
    fn requests_that_came_before_the_end_are_still_met() {
        let (client, mut peer) = pair();
        let stop = StopFlag::new().unwrap();
        let header = |id| Header { id, command: 13, size: 16, flags: 0, error: 0 };
        peer.write_all(&[header(1).as_bytes(), header(2).as_bytes(), &[1]].concat()).unwrap();
        drop(peer);
        client.glance();
        let id = || client.next_request(&stop, None).map(|request| request.header.id);
        assert!(matches!((id(), id()), (Ok(1), Ok(2))));
        assert!(matches!(id(), Err(End::Cut)));
    }

    #[test]
    fn a_client_that_takes_no_requests_is_given_up() {
        let (client, peer) = pair();
        let stop = StopFlag::new().unwrap();
        let address = 0x1000;
        let big = vec![0; 4 << 20];
        let len = big.len();
        assert_eq!(client.dma_write(address, &big), Err(DmaError::Gone { address, len }));
        assert!(matches!(client.next_request(&stop, None), Err(End::Deaf)));
        drop(peer);
    }
}
