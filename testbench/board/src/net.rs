//! Network driver of the board (virtio 1.3, 5.1): one pair of queues, frames with their header in one buffer.
//!
//! No offload is negotiated: a frame on the wire is a frame in memory, and one receive buffer holds any frame
//! of [`MAX_FRAME`] bytes.

use std::rc::Rc;

use virtio_bindings::virtio_net::{VIRTIO_NET_F_MAC, VIRTIO_NET_F_STATUS};
use virtio_drivers::transport::{DeviceStatus, DeviceType};

use super::{
    memory::DmaMemory,
    queue::{Chain, Queue, QueueError, RingOptions},
    transport::{BoardTransport, TransportError},
};

/// receiveq1 and transmitq1 (virtio 1.3, 5.1.2).
const RECEIVE: u16 = 0;
const TRANSMIT: u16 = 1;
/// `struct virtio_net_hdr` of a modern device, `num_buffers` included (virtio 1.3, 5.1.6.1).
const HEADER: usize = 12;
/// Bytes of an Ethernet header, and of the shortest frame.
const SHORTEST_FRAME: usize = 14;
/// Longest frame that is sent or received: 1500 bytes of payload behind an Ethernet header with a VLAN tag.
pub const MAX_FRAME: usize = 1518;
/// Receive buffers are at least this long without MRG_RXBUF (virtio 1.3, 5.1.6.3.1: "at least 1526 bytes"),
/// here rounded up to what is bounced anyway.
const RECEIVE_BUFFER: usize = 2048;
/// Frames that are sent before the device is notified of them.
const TRANSMIT_BATCH: usize = 16;
/// Offset in `struct virtio_net_config` (virtio 1.3, 5.1.4).
const CONFIG_MAC: usize = 0;

/// A network device that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are those of the message")]
pub enum NetError {
    #[error("{device}: is a {found:?} device, not a network device")]
    NotNetwork { device: String, found: DeviceType },
    #[error("{device}: has no MAC address")]
    NoAddress { device: String },
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error("{device}: {source}")]
    Queue { device: String, source: QueueError },
    #[error("{device}: cannot read its configuration: {source}")]
    Config { device: String, source: virtio_drivers::Error },
    #[error("{device}: a frame of {bytes} bytes is not between {SHORTEST_FRAME} and {MAX_FRAME}")]
    Length { device: String, bytes: usize },
    #[error("{device}: the device received {written} bytes, less than a header of {HEADER}")]
    NoHeader { device: String, written: u32 },
}

/// A frame in a buffer that begins with the header: one that was received, or one that is to be sent.
#[derive(Debug)]
pub struct Frame {
    buffer: Vec<u8>,
    end: usize,
}

impl Frame {
    /// The frame from its destination address on.
    pub fn bytes(&self) -> &[u8] {
        self.buffer.get(HEADER..self.end).unwrap_or_default()
    }

    /// The frame, to be filled in.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.buffer.get_mut(HEADER..self.end).unwrap_or_default()
    }
}

/// A network device with queues of `SIZE` entries.
#[derive(Debug)]
pub struct Net<T: BoardTransport, const SIZE: usize = 256> {
    transport: T,
    receive: Queue<SIZE>,
    transmit: Queue<SIZE>,
    features: u64,
    mac: [u8; 6],
    /// Transmit buffers to use again.
    spare: Vec<Vec<u8>>,
    /// Frames queued since the last notification.
    unannounced: usize,
}

impl<T: BoardTransport, const SIZE: usize> Net<T, SIZE> {
    /// Resets and sets up the network device behind `transport`, and gives it a queue full of receive
    /// buffers.
    ///
    /// # Errors
    /// [`NetError`] of the first step that failed.
    pub fn new(mut transport: T, memory: &Rc<DmaMemory>, options: RingOptions) -> Result<Self, NetError> {
        let device = transport.name();
        if transport.device_type() != DeviceType::Network {
            return Err(NetError::NotNetwork { device, found: transport.device_type() });
        }
        // STATUS as Linux asks for it; a change of the link is an interrupt then, which is all that is tried
        // here.
        let wanted = options.features() | 1 << VIRTIO_NET_F_MAC | 1 << VIRTIO_NET_F_STATUS;
        let features = transport.negotiate(wanted)?;
        if features & 1 << VIRTIO_NET_F_MAC == 0 {
            return Err(NetError::NoAddress { device });
        }
        let mac = transport
            .read_consistent(|| transport.read_config_space::<[u8; 6]>(CONFIG_MAC))
            .map_err(|source| NetError::Config { device: device.clone(), source })?;
        let queues = Queue::new(&mut transport, memory, RECEIVE, features, options).and_then(|receive| {
            Ok((receive, Queue::new(&mut transport, memory, TRANSMIT, features, options)?))
        });
        let (receive, transmit) = match queues {
            Ok(queues) => queues,
            Err(source) => {
                transport.check()?;
                return Err(NetError::Queue { device, source });
            }
        };
        transport.activate()?;
        let spare = Vec::new();
        let mut net = Self { transport, receive, transmit, features, mac, spare, unannounced: 0 };
        while net.receive.has_free(1) {
            net.post(vec![0; RECEIVE_BUFFER])?;
        }
        net.kick();
        Ok(net)
    }

    /// The device's MAC address.
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// The features that were negotiated.
    pub fn features(&self) -> u64 {
        self.features
    }

    /// The transport, for what it can tell.
    pub fn transport(&self) -> &T {
        &self.transport
    }

    /// A frame of `length` bytes, all zero, to be filled in and given to [`Net::queue`].
    pub fn frame(&mut self, length: usize) -> Frame {
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.clear();
        // An all-zero header: no checksum to complete, no segmentation (virtio 1.3, 5.1.6.2).
        buffer.resize(HEADER + length, 0);
        Frame { buffer, end: HEADER + length }
    }

    /// Queues a frame; false when the queue is full. The device hears of it with [`Net::kick`], or when a
    /// batch is full.
    ///
    /// # Errors
    /// [`NetError::Length`] or [`NetError::Queue`].
    pub fn queue(&mut self, frame: Frame) -> Result<bool, NetError> {
        let bytes = frame.bytes().len();
        if !(SHORTEST_FRAME..=MAX_FRAME).contains(&bytes) {
            return Err(NetError::Length { device: self.transport.name(), bytes });
        }
        self.reap()?;
        if !self.transmit.has_free(1) {
            self.spare.push(frame.buffer);
            return Ok(false);
        }
        let chain = Chain { readable: [frame.buffer, Vec::new()], writable: Default::default() };
        self.transmit
            .submit(chain)
            .map_err(|source| NetError::Queue { device: self.transport.name(), source })?;
        self.unannounced += 1;
        if self.unannounced >= TRANSMIT_BATCH {
            self.kick();
        }
        Ok(true)
    }

    /// Whether a frame can be queued now.
    ///
    /// # Errors
    /// [`NetError::Queue`] when the device used something that it does not have.
    pub fn can_transmit(&mut self) -> Result<bool, NetError> {
        self.reap()?;
        Ok(self.transmit.has_free(1))
    }

    /// Queues `frame` and notifies the device at once; false when the queue is full.
    ///
    /// # Errors
    /// As [`Net::queue`].
    pub fn send(&mut self, frame: &[u8]) -> Result<bool, NetError> {
        let mut queued = self.frame(frame.len());
        queued.bytes_mut().copy_from_slice(frame);
        let queued = self.queue(queued)?;
        self.kick();
        Ok(queued)
    }

    /// The next received frame, if there is one.
    ///
    /// # Errors
    /// [`NetError::Queue`] or [`NetError::NoHeader`] when the device lies.
    pub fn receive(&mut self) -> Result<Option<Frame>, NetError> {
        let used =
            self.receive.pop().map_err(|source| NetError::Queue { device: self.transport.name(), source })?;
        let Some(used) = used else { return Ok(None) };
        let [buffer, _] = used.chain.writable;
        if (used.written as usize) < HEADER {
            return Err(NetError::NoHeader { device: self.transport.name(), written: used.written });
        }
        Ok(Some(Frame { buffer, end: used.written as usize }))
    }

    /// Lets a received frame's buffer receive again. The device hears of it with [`Net::kick`].
    ///
    /// # Errors
    /// [`NetError::Queue`].
    pub fn recycle(&mut self, frame: Frame) -> Result<(), NetError> {
        self.post(frame.buffer)
    }

    /// Tells the device of queued frames and receive buffers, if it wants to know.
    pub fn kick(&mut self) {
        self.unannounced = 0;
        self.transmit.kick(&mut self.transport);
        self.receive.kick(&mut self.transport);
    }

    /// Lets time pass; for callers that wait with [`Net::receive`].
    pub fn relax(&self) {
        self.transport.relax();
    }

    fn post(&mut self, buffer: Vec<u8>) -> Result<(), NetError> {
        let chain = Chain { readable: Default::default(), writable: [buffer, Vec::new()] };
        let posted = self.receive.submit(chain);
        posted.map(drop).map_err(|source| NetError::Queue { device: self.transport.name(), source })
    }

    /// Takes back the buffers of frames that were sent.
    fn reap(&mut self) -> Result<(), NetError> {
        loop {
            let used = self
                .transmit
                .pop()
                .map_err(|source| NetError::Queue { device: self.transport.name(), source })?;
            let Some(used) = used else { return Ok(()) };
            let [buffer, _] = used.chain.readable;
            self.spare.push(buffer);
        }
    }
}

impl<T: BoardTransport, const SIZE: usize> Drop for Net<T, SIZE> {
    /// Resets the device, so that it lets go of the rings before their memory is given back.
    fn drop(&mut self) {
        self.transport.set_status(DeviceStatus::empty());
    }
}
