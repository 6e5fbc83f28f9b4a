//! TCP on the board: crate `smoltcp` on the network driver, and streams of bytes as state machines.
//!
//! A [`Host`] is one interface. [`SendStream`] and [`ReceiveStream`] are stepped: each step moves what can be
//! moved now and never waits, so one thread can run several boards. [`Host::wait`] is the loop for a thread
//! with nothing else to do.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddrV4},
    time::{Duration, Instant},
};

use smoltcp::{
    iface::{Config, Interface, PollIngressSingleResult, SocketHandle, SocketSet},
    phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken},
    socket::tcp,
    wire::{EthernetAddress, HardwareAddress, IpCidr, Ipv4Cidr},
};

use super::{
    net::{Frame, Net, NetError},
    transport::BoardTransport,
};

/// Bytes of each socket's receive and transmit buffer.
pub const WINDOW: usize = 256 << 10;
/// Bytes of payload in an Ethernet frame.
pub const MTU: usize = 1500;
/// Ethernet header without a tag, which smoltcp counts in.
const ETHERNET_HEADER: usize = 14;
/// Frames taken in during one step, so that a step ends however fast they come.
const INGRESS_BUDGET: usize = 64;
/// A peer that is silent for so long is given up.
const PEER_TIMEOUT: smoltcp::time::Duration = smoltcp::time::Duration::from_secs(10);

/// Stands for a read that a signal interrupted.
const INTERRUPTED: usize = usize::MAX;

/// A stream that failed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are those of the message")]
pub enum TcpError {
    #[error(transparent)]
    Net(#[from] NetError),
    #[error("cannot connect to {to}: {reason}")]
    Connect { to: SocketAddrV4, reason: String },
    #[error("cannot listen on port {port}: {reason}")]
    Listen { port: u16, reason: String },
    #[error("{what}: the connection was lost after {bytes} bytes")]
    Lost { what: &'static str, bytes: u64 },
    #[error("{what}: {source} after {bytes} bytes")]
    Stream { what: &'static str, bytes: u64, source: std::io::Error },
    #[error("{what}: not finished after {waited:?}")]
    Timeout { what: &'static str, waited: Duration },
}

/// How far a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The stream has not ended: call `step` again.
    Running,
    /// Every byte has arrived (and, when sending, was acknowledged); so many there were.
    Done(u64),
}

/// Something that is stepped on a [`Host`] until it is done.
pub trait Stream<T: BoardTransport, const SIZE: usize> {
    /// Moves what can be moved now.
    ///
    /// # Errors
    /// [`TcpError`]; the stream is over then.
    fn step(&mut self, host: &mut Host<T, SIZE>) -> Result<Progress, TcpError>;

    /// What the stream is called in errors.
    fn name(&self) -> &'static str;
}

/// A board as a host on an IPv4 network.
#[allow(missing_debug_implementations, reason = "smoltcp's Interface has none")]
pub struct Host<T: BoardTransport, const SIZE: usize = 256> {
    device: NetDevice<T, SIZE>,
    interface: Interface,
    sockets: SocketSet<'static>,
    start: Instant,
}

impl<T: BoardTransport, const SIZE: usize> Host<T, SIZE> {
    /// A host with one address; `prefix` is the length of its network's prefix. `seed` makes its sequence
    /// numbers.
    pub fn new(net: Net<T, SIZE>, address: Ipv4Addr, prefix: u8, seed: u64) -> Self {
        let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress(net.mac())));
        config.random_seed = seed;
        let mut device = NetDevice { net, frame: None, fault: None };
        let mut interface = Interface::new(config, &mut device, smoltcp::time::Instant::ZERO);
        interface.update_ip_addrs(|list| {
            // The list is empty and holds at least one.
            let _ = list.push(IpCidr::Ipv4(Ipv4Cidr::new(address, prefix.min(32))));
        });
        Self { device, interface, sockets: SocketSet::new(Vec::new()), start: Instant::now() }
    }

    /// The network device that the host sends and receives with.
    pub fn net(&self) -> &Net<T, SIZE> {
        &self.device.net
    }

    /// Takes in and sends out what there is, within a bound.
    ///
    /// # Errors
    /// [`TcpError::Net`].
    pub fn poll(&mut self) -> Result<(), TcpError> {
        let now = smoltcp::time::Instant::from_micros(self.start.elapsed().as_micros() as i64);
        self.interface.poll_maintenance(now);
        for _ in 0..INGRESS_BUDGET {
            let result = self.interface.poll_ingress_single(now, &mut self.device, &mut self.sockets);
            if result == PollIngressSingleResult::None {
                break;
            }
        }
        self.interface.poll_egress(now, &mut self.device, &mut self.sockets);
        self.device.net.kick();
        self.device.fault.take().map_or(Ok(()), |fault| Err(fault.into()))
    }

    /// Steps `stream` until it is done, letting time pass in between.
    ///
    /// # Errors
    /// The stream's, or [`TcpError::Timeout`] after `deadline`.
    pub fn wait(&mut self, stream: &mut impl Stream<T, SIZE>, deadline: Duration) -> Result<u64, TcpError> {
        let start = Instant::now();
        loop {
            if let Progress::Done(bytes) = stream.step(self)? {
                return Ok(bytes);
            }
            if start.elapsed() > deadline {
                return Err(TcpError::Timeout { what: stream.name(), waited: start.elapsed() });
            }
            self.device.net.relax();
        }
    }

    /// Connects to `to` from `port`, and sends all that `reader` yields.
    ///
    /// # Errors
    /// [`TcpError::Connect`] when an address or port is 0.
    pub fn send_stream<R: Read>(
        &mut self,
        reader: R,
        to: SocketAddrV4,
        port: u16,
    ) -> Result<SendStream<R>, TcpError> {
        let mut socket = socket();
        socket
            .connect(self.interface.context(), (*to.ip(), to.port()), port)
            .map_err(|error| TcpError::Connect { to, reason: error.to_string() })?;
        let socket = self.sockets.add(socket);
        Ok(SendStream { socket, reader, sent: 0, end: false })
    }

    /// Listens on `port` for one connection, and writes all that it brings to `writer`.
    ///
    /// # Errors
    /// [`TcpError::Listen`] when the port is 0.
    pub fn receive_stream<W: Write>(&mut self, port: u16, writer: W) -> Result<ReceiveStream<W>, TcpError> {
        let mut socket = socket();
        socket.listen(port).map_err(|error| TcpError::Listen { port, reason: error.to_string() })?;
        Ok(ReceiveStream { socket: self.sockets.add(socket), writer, received: 0, connected: false })
    }
}

fn socket() -> tcp::Socket<'static> {
    let buffer = || tcp::SocketBuffer::new(vec![0; WINDOW]);
    let mut socket = tcp::Socket::new(buffer(), buffer());
    socket.set_timeout(Some(PEER_TIMEOUT));
    socket.set_nagle_enabled(false);
    socket
}

/// Sends all that a reader yields, then closes.
#[derive(Debug)]
pub struct SendStream<R> {
    socket: SocketHandle,
    reader: R,
    sent: u64,
    /// The reader has no more.
    end: bool,
}

impl<R: Read, T: BoardTransport, const SIZE: usize> Stream<T, SIZE> for SendStream<R> {
    fn step(&mut self, host: &mut Host<T, SIZE>) -> Result<Progress, TcpError> {
        const WHAT: &str = "sending by TCP";
        host.poll()?;
        let socket = host.sockets.get_mut::<tcp::Socket>(self.socket);
        while socket.can_send() && !self.end {
            let read = socket.send(|buffer| match self.reader.read(buffer) {
                Ok(read) => (read, Ok(read)),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => (0, Ok(INTERRUPTED)),
                Err(error) => (0, Err(error)),
            });
            let failed = |source| TcpError::Stream { what: WHAT, bytes: self.sent, source };
            match read.map_err(|_| TcpError::Lost { what: WHAT, bytes: self.sent })?.map_err(failed)? {
                0 => self.end = true,
                INTERRUPTED => {}
                read => self.sent += read as u64,
            }
        }
        if self.end && socket.state() == tcp::State::Established {
            socket.close();
        }
        // FIN-WAIT-2 and TIME-WAIT are reached when the peer has acknowledged the FIN, and with it every byte
        // before it.
        match socket.state() {
            tcp::State::FinWait2 | tcp::State::TimeWait if self.end => Ok(Progress::Done(self.sent)),
            tcp::State::Closed => Err(TcpError::Lost { what: WHAT, bytes: self.sent }),
            _ => Ok(Progress::Running),
        }
    }

    fn name(&self) -> &'static str {
        "sending by TCP"
    }
}

/// Writes all that one connection brings to a writer, until the peer closes.
#[derive(Debug)]
pub struct ReceiveStream<W> {
    socket: SocketHandle,
    writer: W,
    received: u64,
    connected: bool,
}

impl<W: Write, T: BoardTransport, const SIZE: usize> Stream<T, SIZE> for ReceiveStream<W> {
    fn step(&mut self, host: &mut Host<T, SIZE>) -> Result<Progress, TcpError> {
        const WHAT: &str = "receiving by TCP";
        host.poll()?;
        let socket = host.sockets.get_mut::<tcp::Socket>(self.socket);
        self.connected |= socket.is_active();
        while socket.can_recv() {
            let wrote = socket.recv(|data| {
                let wrote = self.writer.write_all(data);
                (data.len(), wrote.map(|()| data.len() as u64))
            });
            let lost = |_| TcpError::Lost { what: WHAT, bytes: self.received };
            let failed = |source| TcpError::Stream { what: WHAT, bytes: self.received, source };
            self.received += wrote.map_err(lost)?.map_err(failed)?;
        }
        if !self.connected || socket.may_recv() {
            return Ok(Progress::Running);
        }
        // CLOSE-WAIT: the peer's FIN is in, and no byte before it is missing.
        match socket.state() {
            tcp::State::CloseWait => socket.close(),
            tcp::State::SynReceived | tcp::State::Listen => return Ok(Progress::Running),
            _ => return Err(TcpError::Lost { what: WHAT, bytes: self.received }),
        }
        host.poll()?;
        Ok(Progress::Done(self.received))
    }

    fn name(&self) -> &'static str {
        "receiving by TCP"
    }
}

/// The network driver as smoltcp's device.
#[derive(Debug)]
struct NetDevice<T: BoardTransport, const SIZE: usize> {
    net: Net<T, SIZE>,
    /// The frame that smoltcp is looking at; its buffer goes back when it asks for the next.
    frame: Option<Frame>,
    /// What went wrong in a call that can return no error.
    fault: Option<NetError>,
}

impl<T: BoardTransport, const SIZE: usize> NetDevice<T, SIZE> {
    fn next(&mut self) -> Result<bool, NetError> {
        if let Some(frame) = self.frame.take() {
            self.net.recycle(frame)?;
        }
        if self.net.can_transmit()? {
            self.frame = self.net.receive()?;
        }
        Ok(self.frame.is_some())
    }
}

impl<T: BoardTransport, const SIZE: usize> Device for NetDevice<T, SIZE> {
    type RxToken<'a>
        = Received<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = Transmit<'a, T, SIZE>
    where
        Self: 'a;

    fn receive(&mut self, _: smoltcp::time::Instant) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        match self.next() {
            Ok(_) => {}
            Err(fault) => self.fault = Some(fault),
        }
        let frame = self.frame.as_ref()?;
        Some((Received(frame.bytes()), Transmit { net: &mut self.net, fault: &mut self.fault }))
    }

    fn transmit(&mut self, _: smoltcp::time::Instant) -> Option<Self::TxToken<'_>> {
        match self.net.can_transmit() {
            Ok(true) => Some(Transmit { net: &mut self.net, fault: &mut self.fault }),
            Ok(false) => None,
            Err(fault) => {
                self.fault = Some(fault);
                None
            }
        }
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = MTU + ETHERNET_HEADER;
        capabilities
    }
}

struct Received<'a>(&'a [u8]);

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

struct Transmit<'a, T: BoardTransport, const SIZE: usize> {
    net: &'a mut Net<T, SIZE>,
    fault: &'a mut Option<NetError>,
}

impl<T: BoardTransport, const SIZE: usize> TxToken for Transmit<'_, T, SIZE> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: F) -> R {
        let mut frame = self.net.frame(length);
        let result = fill(frame.bytes_mut());
        // A token is only given out when a descriptor is free, so the frame is queued or the device has
        // failed.
        if let Err(fault) = self.net.queue(frame) {
            *self.fault = Some(fault);
        }
        result
    }
}

#[cfg(test)]
mod tests;
