//! Block driver of the board (virtio 1.3, 5.2).
//!
//! `virtio-drivers`' `VirtIOBlk` has one queue of 16 entries, knows neither DISCARD nor WRITE_ZEROES, and its
//! waits have no bound. This one keeps as many requests in flight as its queue holds, and waits with
//! [`BoardTransport::relax`] and a deadline.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_RO, VIRTIO_BLK_F_SEG_MAX,
    VIRTIO_BLK_F_WRITE_ZEROES, VIRTIO_BLK_ID_BYTES, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP,
    VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT,
    VIRTIO_BLK_T_WRITE_ZEROES,
};
use virtio_drivers::transport::{DeviceStatus, DeviceType};
use zerocopy::{
    Immutable, IntoBytes,
    little_endian::{U32, U64},
};

use super::{
    memory::DmaMemory,
    queue::{Chain, Queue, QueueError, RingOptions, Used},
    transport::{BoardTransport, TransportError},
};

/// Bytes of a sector, the unit of every address here whatever the device's block size (virtio 1.3, 5.2.4).
pub const SECTOR: usize = 512;
/// Queue that requests go to; further ones, with VIRTIO_BLK_F_MQ, are not used.
const REQUEST_QUEUE: u16 = 0;
/// Offset of `capacity` in `struct virtio_blk_config` (virtio 1.3, 5.2.4).
const CAPACITY: usize = 0;
/// What a driver presets the status byte to: no value that a device returns.
const PENDING: u8 = 0xFF;

/// `struct virtio_blk_req` up to its data (virtio 1.3, 5.2.6).
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Header {
    kind: U32,
    reserved: U32,
    sector: U64,
}

/// `struct virtio_blk_discard_write_zeroes` (virtio 1.3, 5.2.6).
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Range {
    sector: U64,
    sectors: U32,
    flags: U32,
}

const _: () = assert!(size_of::<Header>() == 16 && size_of::<Range>() == 16);

/// WRITE_ZEROES flag: the device may deallocate the range (virtio 1.3, 5.2.6).
const UNMAP: u32 = 1;

/// A request that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are those of the message")]
pub enum BlkError {
    #[error("{device}: is a {found:?} device, not a block device")]
    NotBlock { device: String, found: DeviceType },
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error("{device}: {source}")]
    Queue { device: String, source: QueueError },
    #[error("{device}: cannot read its configuration: {source}")]
    Config { device: String, source: virtio_drivers::Error },
    #[error("{device}: a buffer of {bytes} bytes is not a positive multiple of {SECTOR}")]
    Length { device: String, bytes: usize },
    #[error("{device}: {what} at sector {sector} failed with status {status}")]
    Status { device: String, what: &'static str, sector: u64, status: u8 },
    #[error("{device}: the device has no {what}")]
    Unsupported { device: String, what: &'static str },
    #[error("{device}: {what} at sector {sector} wrote {written} of {expected} bytes")]
    Short { device: String, what: &'static str, sector: u64, written: u32, expected: usize },
    #[error(
        "{device}: {what} at sector {sector} was not answered within {waited:?}; device status {status:?}"
    )]
    Timeout { device: String, what: &'static str, sector: u64, waited: Duration, status: DeviceStatus },
}

/// A request that the device has finished, with the buffer that it was given.
#[derive(Debug, PartialEq, Eq)]
pub struct Completion {
    /// What submitting it returned.
    pub token: u16,
    /// The buffer that was submitted; after a read, with what was read.
    pub buffer: Vec<u8>,
    /// Whether the device did it.
    pub outcome: Result<(), BlkError>,
}

/// What is known of a request in flight.
#[derive(Clone, Copy, Debug)]
struct Request {
    what: &'static str,
    sector: u64,
}

/// A block device with a queue of `SIZE` entries.
#[derive(Debug)]
pub struct Blk<T: BoardTransport, const SIZE: usize = 128> {
    transport: T,
    queue: Queue<SIZE>,
    features: u64,
    capacity: u64,
    /// How long a blocking call waits for its answer.
    timeout: Duration,
    in_flight: Vec<Option<Request>>,
    /// What finished while a blocking call waited for something else.
    finished: Vec<Completion>,
    /// Header and status buffers to use again.
    spare: Vec<(Vec<u8>, Vec<u8>)>,
}

impl<T: BoardTransport, const SIZE: usize> Blk<T, SIZE> {
    /// Resets and sets up the block device behind `transport`.
    ///
    /// # Errors
    /// [`BlkError`] of the first step that failed.
    pub fn new(mut transport: T, memory: &Rc<DmaMemory>, options: RingOptions) -> Result<Self, BlkError> {
        let device = transport.name();
        if transport.device_type() != DeviceType::Block {
            return Err(BlkError::NotBlock { device, found: transport.device_type() });
        }
        let wanted = [
            VIRTIO_BLK_F_SEG_MAX,
            VIRTIO_BLK_F_RO,
            VIRTIO_BLK_F_BLK_SIZE,
            VIRTIO_BLK_F_FLUSH,
            VIRTIO_BLK_F_DISCARD,
            VIRTIO_BLK_F_WRITE_ZEROES,
        ];
        let wanted = wanted.iter().fold(options.features(), |bits, bit| bits | 1 << bit);
        let features = transport.negotiate(wanted)?;
        let queue = match Queue::new(&mut transport, memory, REQUEST_QUEUE, features, options) {
            Ok(queue) => queue,
            Err(source) => {
                transport.check()?;
                return Err(BlkError::Queue { device, source });
            }
        };
        let capacity = transport
            .read_consistent(|| transport.read_config_space::<u64>(CAPACITY))
            .map_err(|source| BlkError::Config { device, source })?;
        transport.activate()?;
        let in_flight = vec![None; SIZE];
        Ok(Self {
            transport,
            queue,
            features,
            capacity,
            timeout: Duration::from_secs(10),
            in_flight,
            finished: Vec::new(),
            spare: Vec::new(),
        })
    }

    /// Size of the device in sectors.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Whether the device refuses writes.
    pub fn read_only(&self) -> bool {
        self.has(VIRTIO_BLK_F_RO)
    }

    /// The features that were negotiated.
    pub fn features(&self) -> u64 {
        self.features
    }

    /// The transport, for what it can tell.
    pub fn transport(&self) -> &T {
        &self.transport
    }

    fn has(&self, feature: u32) -> bool {
        self.features & 1 << feature != 0
    }

    /// Starts a read of `buffer.len()` bytes from `sector`. The device hears of it with [`Blk::kick`].
    ///
    /// # Errors
    /// [`BlkError::Length`] or [`BlkError::Queue`], also when [`Blk::can_submit`] is false; the buffer is
    /// dropped then.
    pub fn submit_read(&mut self, sector: u64, buffer: Vec<u8>) -> Result<u16, BlkError> {
        self.check_length(&buffer)?;
        self.submit(VIRTIO_BLK_T_IN, Request { what: "read", sector }, Vec::new(), buffer)
    }

    /// Starts a write of `buffer` to `sector`. The device hears of it with [`Blk::kick`].
    ///
    /// # Errors
    /// As [`Blk::submit_read`].
    pub fn submit_write(&mut self, sector: u64, buffer: Vec<u8>) -> Result<u16, BlkError> {
        self.check_length(&buffer)?;
        self.submit(VIRTIO_BLK_T_OUT, Request { what: "write", sector }, buffer, Vec::new())
    }

    /// Starts committing what was written to stable storage. The device hears of it with [`Blk::kick`].
    ///
    /// # Errors
    /// [`BlkError::Unsupported`] or [`BlkError::Queue`].
    pub fn submit_flush(&mut self) -> Result<u16, BlkError> {
        self.need(VIRTIO_BLK_F_FLUSH, "FLUSH")?;
        self.submit(VIRTIO_BLK_T_FLUSH, Request { what: "flush", sector: 0 }, Vec::new(), Vec::new())
    }

    /// Whether one more request can be started.
    pub fn can_submit(&self) -> bool {
        self.queue.has_free(3)
    }

    /// Tells the device of requests that were started since the last time, if it wants to know.
    pub fn kick(&mut self) {
        self.queue.kick(&mut self.transport);
    }

    /// Hands every request that has finished to `done`, in the order in which the device used them, and tells
    /// how many.
    ///
    /// # Errors
    /// [`BlkError::Queue`] when the device used something that it does not have.
    pub fn poll_completions(&mut self, mut done: impl FnMut(Completion)) -> Result<usize, BlkError> {
        let mut count = self.finished.len();
        self.finished.drain(..).for_each(&mut done);
        while let Some(used) = self.pop()? {
            done(self.complete(used));
            count += 1;
        }
        Ok(count)
    }

    /// Lets time pass; for callers that wait with [`Blk::poll_completions`].
    pub fn relax(&self) {
        self.transport.relax();
    }

    /// Reads into `buffer` from `sector` and waits for it.
    ///
    /// # Errors
    /// [`BlkError`]; the buffer is unchanged then.
    pub fn read(&mut self, sector: u64, buffer: &mut [u8]) -> Result<(), BlkError> {
        let token = self.submit_read(sector, vec![0; buffer.len()])?;
        buffer.copy_from_slice(&self.wait(token)?);
        Ok(())
    }

    /// Writes `buffer` to `sector` and waits for it.
    ///
    /// # Errors
    /// [`BlkError`].
    pub fn write(&mut self, sector: u64, buffer: &[u8]) -> Result<(), BlkError> {
        let token = self.submit_write(sector, buffer.to_vec())?;
        self.wait(token).map(drop)
    }

    /// Commits what was written to stable storage and waits for it.
    ///
    /// # Errors
    /// [`BlkError::Unsupported`] or as [`Blk::write`].
    pub fn flush(&mut self) -> Result<(), BlkError> {
        let token = self.submit_flush()?;
        self.wait(token).map(drop)
    }

    /// Says that `sectors` sectors from `sector` are not needed any more.
    ///
    /// # Errors
    /// [`BlkError::Unsupported`] or as [`Blk::write`].
    pub fn discard(&mut self, sector: u64, sectors: u32) -> Result<(), BlkError> {
        self.need(VIRTIO_BLK_F_DISCARD, "DISCARD")?;
        self.range(VIRTIO_BLK_T_DISCARD, Request { what: "discard", sector }, sectors, 0)
    }

    /// Makes `sectors` sectors from `sector` read as zeroes; `unmap` allows the device to deallocate them.
    ///
    /// # Errors
    /// [`BlkError::Unsupported`] or as [`Blk::write`].
    pub fn write_zeroes(&mut self, sector: u64, sectors: u32, unmap: bool) -> Result<(), BlkError> {
        self.need(VIRTIO_BLK_F_WRITE_ZEROES, "WRITE_ZEROES")?;
        let flags = if unmap { UNMAP } else { 0 };
        self.range(VIRTIO_BLK_T_WRITE_ZEROES, Request { what: "write zeroes", sector }, sectors, flags)
    }

    /// The device's serial number, at most 20 characters.
    ///
    /// # Errors
    /// As [`Blk::read`].
    pub fn serial(&mut self) -> Result<String, BlkError> {
        let buffer = vec![0; VIRTIO_BLK_ID_BYTES as usize];
        let request = Request { what: "serial number", sector: 0 };
        let token = self.submit(VIRTIO_BLK_T_GET_ID, request, Vec::new(), buffer)?;
        let serial = self.wait(token)?;
        let end = serial.iter().position(|byte| *byte == 0).unwrap_or(serial.len());
        Ok(String::from_utf8_lossy(&serial[..end]).into_owned())
    }

    fn need(&self, feature: u32, what: &'static str) -> Result<(), BlkError> {
        if self.has(feature) {
            return Ok(());
        }
        Err(BlkError::Unsupported { device: self.transport.name(), what })
    }

    fn check_length(&self, buffer: &[u8]) -> Result<(), BlkError> {
        if buffer.is_empty() || !buffer.len().is_multiple_of(SECTOR) {
            return Err(BlkError::Length { device: self.transport.name(), bytes: buffer.len() });
        }
        Ok(())
    }

    fn range(&mut self, kind: u32, request: Request, sectors: u32, flags: u32) -> Result<(), BlkError> {
        let range = Range { sector: request.sector.into(), sectors: sectors.into(), flags: flags.into() };
        // The sector is in the range; the one of the header is unused (virtio 1.3, 5.2.6).
        let token = self.submit(kind, request, range.as_bytes().to_vec(), Vec::new())?;
        self.wait(token).map(drop)
    }

    /// Header, then what the device reads; what it writes, then the status byte.
    fn submit(
        &mut self,
        kind: u32,
        request: Request,
        readable: Vec<u8>,
        writable: Vec<u8>,
    ) -> Result<u16, BlkError> {
        let sector = if matches!(kind, VIRTIO_BLK_T_IN | VIRTIO_BLK_T_OUT) { request.sector } else { 0 };
        let header = Header { kind: kind.into(), reserved: 0.into(), sector: sector.into() };
        let (mut head, mut status) =
            self.spare.pop().unwrap_or((Vec::with_capacity(16), Vec::with_capacity(1)));
        head.clear();
        head.extend_from_slice(header.as_bytes());
        status.clear();
        status.push(PENDING);
        let writable = if writable.is_empty() { [status, Vec::new()] } else { [writable, status] };
        let chain = Chain { readable: [head, readable], writable };
        let token = self.queue.submit(chain).map_err(|source| self.queue_error(source))?;
        if let Some(slot) = self.in_flight.get_mut(usize::from(token)) {
            *slot = Some(request);
        }
        Ok(token)
    }

    fn queue_error(&self, source: QueueError) -> BlkError {
        BlkError::Queue { device: self.transport.name(), source }
    }

    fn pop(&mut self) -> Result<Option<Used>, BlkError> {
        self.queue.pop().map_err(|source| BlkError::Queue { device: self.transport.name(), source })
    }

    /// Splits a used chain into the caller's buffer and how the request went.
    fn complete(&mut self, used: Used) -> Completion {
        let slot = self.in_flight.get_mut(usize::from(used.token));
        let Request { what, sector } =
            slot.and_then(Option::take).unwrap_or(Request { what: "request", sector: 0 });
        let Chain { readable: [header, readable], writable: [first, second] } = used.chain;
        let (data, status) = if second.is_empty() { (Vec::new(), first) } else { (first, second) };
        let device = || self.transport.name();
        let expected = data.len() + status.len();
        let code = status.first().copied().map_or(PENDING, |code| code);
        let outcome = match u32::from(code) {
            VIRTIO_BLK_S_OK if (used.written as usize) < expected => {
                Err(BlkError::Short { device: device(), what, sector, written: used.written, expected })
            }
            VIRTIO_BLK_S_OK => Ok(()),
            VIRTIO_BLK_S_UNSUPP => Err(BlkError::Unsupported { device: device(), what }),
            _ => Err(BlkError::Status { device: device(), what, sector, status: code }),
        };
        self.spare.push((header, status));
        Completion { token: used.token, buffer: if data.is_empty() { readable } else { data }, outcome }
    }

    /// Waits for `token`; what finishes before it is kept for [`Blk::poll_completions`].
    fn wait(&mut self, token: u16) -> Result<Vec<u8>, BlkError> {
        self.kick();
        let start = Instant::now();
        loop {
            if let Some(used) = self.pop()? {
                let completion = self.complete(used);
                if completion.token == token {
                    return completion.outcome.map(|()| completion.buffer);
                }
                self.finished.push(completion);
            }
            if start.elapsed() > self.timeout {
                return Err(self.timeout(token, start.elapsed()));
            }
            self.transport.relax();
        }
    }

    /// What to say of request `token` after `waited` without an answer.
    pub fn timeout(&self, token: u16, waited: Duration) -> BlkError {
        let request = self.in_flight.get(usize::from(token)).copied().flatten();
        let Request { what, sector } = request.unwrap_or(Request { what: "request", sector: 0 });
        let status = self.transport.get_status();
        match self.transport.check() {
            Err(fault) => fault.into(),
            Ok(()) => BlkError::Timeout { device: self.transport.name(), what, sector, waited, status },
        }
    }
}

impl<T: BoardTransport, const SIZE: usize> Drop for Blk<T, SIZE> {
    /// Resets the device, so that it lets go of the ring before its memory is given back.
    fn drop(&mut self) {
        self.transport.set_status(DeviceStatus::empty());
    }
}

#[cfg(test)]
mod tests;
