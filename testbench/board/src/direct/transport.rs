//! `virtio_drivers::transport::Transport` by vhost-user messages.

use std::{
    cell::RefCell,
    io::ErrorKind,
    net::Shutdown,
    os::unix::net::UnixStream,
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use vhost::{
    VhostBackend, VhostUserMemoryRegionInfo, VringConfigData,
    vhost_user::{
        Frontend, VhostUserFrontend,
        message::{
            VhostUserConfigFlags, VhostUserHeaderFlag, VhostUserProtocolFeatures, VhostUserVirtioFeatures,
        },
    },
};
use virtio_drivers::{
    Error, PhysAddr,
    transport::{DeviceStatus, DeviceType, InterruptStatus, Transport},
};
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{BackEnd, DeviceConfig};
use crate::transport::{BoardTransport, TransportError};

/// How long one exchange may take.
const MESSAGE_TIME: Duration = Duration::from_secs(2);
/// Bytes of `struct virtio_blk_config` up to and including those of WRITE_ZEROES (virtio 1.3, 5.2.4).
const BLK_CONFIG: usize = 60;
/// `VHOST_F_LOG_ALL`: for migration, and none of a driver's business.
const LOG_ALL: u64 = 1 << 26;

/// A vring as the back end was told of it.
#[derive(Debug, Default)]
struct Ring {
    size: u16,
    /// Board addresses of descriptor table, available and used ring, once the driver has set them.
    areas: Option<[PhysAddr; 3]>,
    kick: Option<EventFd>,
    running: bool,
}

/// A vhost-user back end as a virtio device. `relax` is what a waiting driver does meanwhile.
#[allow(missing_debug_implementations, reason = "Frontend has none")]
pub struct DirectTransport<R> {
    front_end: Frontend,
    /// The connection, to end a wait on it.
    stream: UnixStream,
    back_end: BackEnd,
    memory: GuestMemoryMmap,
    offered: u64,
    accepted: u64,
    status: DeviceStatus,
    rings: Vec<Ring>,
    config: Vec<u8>,
    relax: R,
    fault: RefCell<Option<TransportError>>,
}

impl<R: Fn()> DirectTransport<R> {
    /// Connects to a back end and learns what it offers. `memory` must be a memfd, as
    /// [`crate::memory::create`] makes it.
    ///
    /// # Errors
    /// [`TransportError::VhostUser`] with the message that failed.
    pub fn connect(back_end: BackEnd, memory: &GuestMemoryMmap, relax: R) -> Result<Self, TransportError> {
        let failed = |message, reason: String| TransportError::VhostUser {
            socket: back_end.socket.clone(),
            message,
            reason,
        };
        let stream =
            UnixStream::connect(&back_end.socket).map_err(|error| failed("connect", error.to_string()))?;
        let watched = stream.try_clone().map_err(|error| failed("connect", error.to_string()))?;
        let front_end = Frontend::from_stream(stream, u64::from(back_end.queues));
        let rings = (0..back_end.queues).map(|_| Ring::default()).collect();
        let mut transport = Self {
            front_end,
            stream: watched,
            memory: memory.clone(),
            offered: 0,
            accepted: 0,
            status: DeviceStatus::empty(),
            rings,
            config: Vec::new(),
            relax,
            fault: RefCell::new(None),
            back_end,
        };
        transport.introduce()?;
        Ok(transport)
    }

    fn introduce(&mut self) -> Result<(), TransportError> {
        self.ask("SET_OWNER", |front_end| front_end.set_owner())?;
        self.offered = self.ask("GET_FEATURES", |front_end| front_end.get_features())?;
        let wanted = VhostUserProtocolFeatures::MQ
            | VhostUserProtocolFeatures::CONFIG
            | VhostUserProtocolFeatures::REPLY_ACK;
        let offered = self.ask("GET_PROTOCOL_FEATURES", |front_end| front_end.get_protocol_features())?;
        self.ask("SET_PROTOCOL_FEATURES", |front_end| front_end.set_protocol_features(offered & wanted))?;
        if offered.contains(VhostUserProtocolFeatures::REPLY_ACK) {
            self.front_end.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
        }
        self.config = match &self.back_end.config {
            DeviceConfig::Given(bytes) => bytes.clone(),
            DeviceConfig::BackEnd => {
                let blank = [0; BLK_CONFIG];
                let flags = VhostUserConfigFlags::empty();
                let get =
                    |front_end: &mut Frontend| front_end.get_config(0, BLK_CONFIG as u32, flags, &blank);
                self.ask("GET_CONFIG", get)?.1
            }
        };
        Ok(())
    }

    /// One exchange, in bounded time. Crate `vhost` takes a wait up again when a socket time-out ends it, so
    /// the bound comes from outside: an exchange that is overdue loses its connection.
    fn ask<V>(
        &self,
        message: &'static str,
        exchange: impl FnOnce(&mut Frontend) -> vhost::Result<V>,
    ) -> Result<V, TransportError> {
        let (done, overdue) = mpsc::channel::<()>();
        let (mut front_end, stream) = (self.front_end.clone(), &self.stream);
        let (answer, late) = thread::scope(|scope| {
            let watch = scope.spawn(move || {
                let late = overdue.recv_timeout(MESSAGE_TIME) == Err(RecvTimeoutError::Timeout);
                late && stream.shutdown(Shutdown::Both).is_ok()
            });
            let answer = exchange(&mut front_end);
            drop(done);
            (answer, watch.join().unwrap_or(false))
        });
        answer.map_err(|error| match late {
            true => self.failed(message, format!("no answer within {MESSAGE_TIME:?}")),
            false => self.failed(message, error.to_string()),
        })
    }

    fn failed(&self, message: &'static str, reason: String) -> TransportError {
        TransportError::VhostUser { socket: self.back_end.socket.clone(), message, reason }
    }

    fn keep(&self, result: Result<(), TransportError>) {
        if let Err(fault) = result {
            self.fault.borrow_mut().get_or_insert(fault);
        }
    }

    fn set_features(&self) -> Result<(), TransportError> {
        let own = self.accepted & self.offered;
        let features = own | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
        self.ask("SET_FEATURES", |front_end| front_end.set_features(features))
    }

    /// Hands memory and every ring that the driver has set up to the back end.
    fn start(&mut self) -> Result<(), TransportError> {
        let mut regions = Vec::new();
        for region in self.memory.iter() {
            let described = VhostUserMemoryRegionInfo::from_guest_region(region);
            regions.push(described.map_err(|error| self.failed("describing memory", error.to_string()))?);
        }
        self.ask("SET_MEM_TABLE", |front_end| front_end.set_mem_table(&regions))?;
        for queue in 0..self.rings.len() {
            self.start_ring(queue)?;
        }
        Ok(())
    }

    fn start_ring(&mut self, queue: usize) -> Result<(), TransportError> {
        let Ring { size, areas: Some(areas), running: false, .. } = self.rings[queue] else { return Ok(()) };
        let mut host = [0; 3];
        for (host, address) in host.iter_mut().zip(areas) {
            let found = self.memory.get_host_address(GuestAddress(address));
            *host = found.map_err(|error| self.failed("finding a ring", error.to_string()))? as u64;
        }
        let [desc_table_addr, avail_ring_addr, used_ring_addr] = host;
        let config = VringConfigData {
            queue_max_size: self.back_end.queue_size,
            queue_size: size,
            flags: 0,
            desc_table_addr,
            used_ring_addr,
            avail_ring_addr,
            log_addr: None,
        };
        let event = || EventFd::new(EFD_NONBLOCK).map_err(|error| self.failed("eventfd", error.to_string()));
        // The driver polls and does not read the call eventfd; the back end holds it from here on.
        let (kick, call) = (event()?, event()?);
        self.ask("SET_VRING_NUM", |front_end| front_end.set_vring_num(queue, size))?;
        self.ask("SET_VRING_BASE", |front_end| front_end.set_vring_base(queue, 0))?;
        self.ask("SET_VRING_ADDR", |front_end| front_end.set_vring_addr(queue, &config))?;
        self.ask("SET_VRING_CALL", |front_end| front_end.set_vring_call(queue, &call))?;
        self.ask("SET_VRING_KICK", |front_end| front_end.set_vring_kick(queue, &kick))?;
        self.ask("SET_VRING_ENABLE", |front_end| front_end.set_vring_enable(queue, true))?;
        self.rings[queue] = Ring { size, areas: Some(areas), kick: Some(kick), running: true };
        Ok(())
    }

    /// Stops a ring; when GET_VRING_BASE is answered, the back end does not touch it any more.
    fn stop_ring(&mut self, queue: usize) -> Result<(), TransportError> {
        let Some(ring) = self.rings.get_mut(queue) else { return Ok(()) };
        if !std::mem::take(ring).running {
            return Ok(());
        }
        self.ask("SET_VRING_ENABLE", |front_end| front_end.set_vring_enable(queue, false))?;
        self.ask("GET_VRING_BASE", |front_end| front_end.get_vring_base(queue)).map(drop)
    }
}

impl<R: Fn()> Transport for DirectTransport<R> {
    fn device_type(&self) -> DeviceType {
        self.back_end.device
    }

    fn read_device_features(&mut self) -> u64 {
        let own = self.offered & !(VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits() | LOG_ALL);
        own | self.back_end.features
    }

    fn write_driver_features(&mut self, features: u64) {
        self.accepted = features;
    }

    fn max_queue_size(&mut self, queue: u16) -> u32 {
        if queue < self.back_end.queues { u32::from(self.back_end.queue_size) } else { 0 }
    }

    fn notify(&mut self, queue: u16) {
        let Some(kick) = self.rings.get(usize::from(queue)).and_then(|ring| ring.kick.as_ref()) else {
            return;
        };
        // An eventfd that is full has been kicked often enough.
        if let Err(error) = kick.write(1)
            && error.kind() != ErrorKind::WouldBlock
        {
            self.keep(Err(self.failed("kick", error.to_string())));
        }
    }

    fn get_status(&self) -> DeviceStatus {
        self.status
    }

    fn set_status(&mut self, status: DeviceStatus) {
        let before = std::mem::replace(&mut self.status, status);
        let added = |bit| status.contains(bit) && !before.contains(bit);
        if status.is_empty() {
            self.fault.replace(None);
            for queue in 0..self.rings.len() {
                let stopped = self.stop_ring(queue);
                self.keep(stopped);
            }
        } else if added(DeviceStatus::FEATURES_OK) {
            self.keep(self.set_features());
        } else if added(DeviceStatus::DRIVER_OK) {
            let started = self.start();
            self.keep(started);
        }
    }

    fn set_guest_page_size(&mut self, _: u32) {
        // Only a legacy device (virtio 0.9.5) has a page size.
    }

    fn requires_legacy_layout(&self) -> bool {
        false
    }

    fn queue_set(
        &mut self,
        queue: u16,
        size: u32,
        desc: PhysAddr,
        driver_area: PhysAddr,
        device_area: PhysAddr,
    ) {
        if let Some(ring) = self.rings.get_mut(usize::from(queue)) {
            *ring =
                Ring { size: size as u16, areas: Some([desc, driver_area, device_area]), ..Ring::default() };
        }
    }

    fn queue_unset(&mut self, queue: u16) {
        let stopped = self.stop_ring(usize::from(queue));
        self.keep(stopped);
    }

    fn queue_used(&mut self, queue: u16) -> bool {
        self.rings.get(usize::from(queue)).is_some_and(|ring| ring.areas.is_some())
    }

    fn ack_interrupt(&mut self) -> InterruptStatus {
        InterruptStatus::empty()
    }

    fn read_config_generation(&self) -> u32 {
        0
    }

    fn read_config_space<T: FromBytes + IntoBytes>(&self, offset: usize) -> virtio_drivers::Result<T> {
        let field = self.config.get(offset..).ok_or(Error::ConfigSpaceTooSmall)?;
        T::read_from_prefix(field).map(|(value, _)| value).map_err(|_| Error::ConfigSpaceTooSmall)
    }

    fn write_config_space<T: IntoBytes + Immutable>(&mut self, _: usize, _: T) -> virtio_drivers::Result<()> {
        Err(Error::Unsupported)
    }
}

impl<R: Fn()> BoardTransport for DirectTransport<R> {
    fn name(&self) -> String {
        self.back_end.socket.display().to_string()
    }

    fn relax(&self) {
        (self.relax)();
    }

    fn fault(&self) -> Option<TransportError> {
        self.fault.borrow().clone()
    }
}
