//! The front end's half of vhost-user: hands shadow vrings to a back end.
//!
//! Built on crate `vhost`. Every exchange is bounded in time, in both socket roles; every answer is hostile.
//! Requests ask for a reply where the back end can give one, so that a refusal is noticed at the message that
//! it is about.
//!
//! A [`BackEnd`] is one connection. What outlives it, the pool and the notes of what is in flight, is handed
//! to its successor.
//!
//! Left out: requests from the back end.

mod error;
mod in_flight;
mod socket;
mod successor;
mod watchdog;

use std::{
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::net::UnixStream,
    },
    path::Path,
};

use rustix::net::{RecvFlags, recv};
use vhost::{
    Error as VhostError, VhostBackend, VhostUserMemoryRegionInfo, VringConfigData,
    vhost_user::{
        Error as VhostUserError, Frontend, VhostUserFrontend, VhostUserProtocolFeatures,
        message::{VHOST_USER_MAX_VRINGS, VhostUserConfigFlags, VhostUserHeaderFlag},
    },
};
use virtio_bindings::{
    virtio_config::VIRTIO_F_VERSION_1,
    virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC},
};
use vmm_sys_util::eventfd::EventFd;

pub use self::error::{BackEndError, Problem};
pub(crate) use self::in_flight::InFlightPlace;
pub(crate) use self::socket::Socket;
use self::{in_flight::InFlight, watchdog::Watchdog};
use crate::{
    config::{BackEndConfig, Notify},
    device::{
        Offer,
        features::{VHOST_USER_F_PROTOCOL_FEATURES, has, mask},
    },
    event::event_fd,
    pool::{IOVA, Place, Pool},
};

/// Protocol features that this front end has a use for.
const PROTOCOL: VhostUserProtocolFeatures = VhostUserProtocolFeatures::MQ
    .union(VhostUserProtocolFeatures::REPLY_ACK)
    .union(VhostUserProtocolFeatures::CONFIG)
    .union(VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS)
    .union(IN_FLIGHT);
/// The protocol feature of a back end that notes what is in flight where its successor finds it.
const IN_FLIGHT: VhostUserProtocolFeatures = VhostUserProtocolFeatures::INFLIGHT_SHMFD;

/// Features of the shadow vring itself. They are between bm-hypervisor and the back end, whatever the guest's
/// ring has.
const RING: u64 = mask(&[VIRTIO_F_VERSION_1, VIRTIO_RING_F_INDIRECT_DESC, VIRTIO_RING_F_EVENT_IDX]);

/// Features of the shadow vrings that this back end works.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingFeatures {
    /// It takes indirect tables.
    pub indirect: bool,
    /// Either side suppresses notifications by index.
    pub event_idx: bool,
}

/// A connected back end.
pub struct BackEnd {
    config: BackEndConfig,
    stream: UnixStream,
    front_end: Frontend,
    watchdog: Watchdog,
    offer: Offer,
    /// What the back end's interrupts go to; it is asked for some only when the poll thread is about to
    /// sleep.
    call: EventFd,
    memory_shared: bool,
    in_flight: Option<InFlight>,
}

impl BackEnd {
    /// Waits for the connection, and learns what the back end offers.
    pub(crate) fn open(socket: Socket<'_>, config: &BackEndConfig) -> Result<Self, BackEndError> {
        Self::meet(socket.open()?, config)
    }

    /// Learns what the back end at the other end of a connection offers.
    pub(crate) fn meet(stream: UnixStream, config: &BackEndConfig) -> Result<Self, BackEndError> {
        let system = |error: io::Error| BackEndError { socket: config.socket.clone(), problem: error.into() };
        let clone = || stream.try_clone().map_err(system);
        let mut back_end = Self {
            front_end: Frontend::from_stream(clone()?, VHOST_USER_MAX_VRINGS),
            watchdog: Watchdog::new(clone()?, config.timeout()).map_err(system)?,
            call: event_fd().map_err(system)?,
            stream,
            config: config.clone(),
            offer: Offer {
                features: 0,
                protocol: VhostUserProtocolFeatures::empty(),
                queues: 2,
                memory_slots: None,
            },
            memory_shared: false,
            in_flight: None,
        };
        back_end.negotiate()?;
        Ok(back_end)
    }

    fn negotiate(&mut self) -> Result<(), BackEndError> {
        self.ask("SET_OWNER", |front_end| front_end.set_owner())?;
        self.offer.features = self.ask("GET_FEATURES", |front_end| front_end.get_features())?;
        if !has(self.offer.features, VHOST_USER_F_PROTOCOL_FEATURES) {
            return Ok(());
        }
        let protocol = self.ask("GET_PROTOCOL_FEATURES", |front_end| front_end.get_protocol_features())?;
        self.offer.protocol = protocol;
        // A back end that has accepted it and is not given the region fails at the start of a vring, as
        // QEMU's library does.
        let useless = if self.may_return() { VhostUserProtocolFeatures::empty() } else { IN_FLIGHT };
        let wanted = protocol & PROTOCOL & !useless;
        self.ask("SET_PROTOCOL_FEATURES", |front_end| front_end.set_protocol_features(wanted))?;
        if protocol.contains(VhostUserProtocolFeatures::REPLY_ACK) {
            self.front_end.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
        }
        if protocol.contains(VhostUserProtocolFeatures::MQ) {
            self.offer.queues = self.ask("GET_QUEUE_NUM", |front_end| front_end.get_queue_num())?;
        }
        if protocol.contains(VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS) {
            self.offer.memory_slots =
                Some(self.ask("GET_MAX_MEM_SLOTS", |front_end| front_end.get_max_mem_slots())?);
        }
        Ok(())
    }

    /// What the back end offers.
    pub fn offer(&self) -> &Offer {
        &self.offer
    }

    /// The connection, to be watched for its end.
    pub fn connection(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Path of its socket.
    pub fn socket(&self) -> &Path {
        &self.config.socket
    }

    /// What its interrupts go to, those of all its vrings.
    pub(crate) fn call(&self) -> &EventFd {
        &self.call
    }

    /// What features its shadow vrings have.
    pub fn ring_features(&self) -> RingFeatures {
        RingFeatures {
            indirect: has(self.offer.features, VIRTIO_RING_F_INDIRECT_DESC),
            event_idx: has(self.offer.features, VIRTIO_RING_F_EVENT_IDX),
        }
    }

    /// The first `size` bytes of device configuration, or none if the back end has no protocol feature
    /// CONFIG.
    ///
    /// # Errors
    /// See [`Problem`].
    pub fn config_space(&mut self, size: u32) -> Result<Option<Vec<u8>>, BackEndError> {
        if !self.offer.protocol.contains(VhostUserProtocolFeatures::CONFIG) {
            return Ok(None);
        }
        let empty = vec![0; size as usize];
        let ask =
            |front_end: &mut Frontend| front_end.get_config(0, size, VhostUserConfigFlags::empty(), &empty);
        Ok(Some(self.ask("GET_CONFIG", ask)?.1))
    }

    /// Settles features, `device` ones and those of the ring, and shares the pool if that is not done yet,
    /// and the notes of what is in flight on its `queues` vrings of at most `size` descriptors. Before any
    /// vring is started.
    ///
    /// # Errors
    /// See [`Problem`].
    pub fn settle(&mut self, device: u64, pool: &Pool, queues: u16, size: u16) -> Result<(), BackEndError> {
        let ring = (RING | 1 << VHOST_USER_F_PROTOCOL_FEATURES) & self.offer.features;
        self.ask("SET_FEATURES", |front_end| front_end.set_features(device | ring))?;
        if !self.memory_shared {
            self.share_memory(pool)?;
        }
        self.share_in_flight(queues, size)
    }

    fn share_memory(&mut self, pool: &Pool) -> Result<(), BackEndError> {
        let region = VhostUserMemoryRegionInfo {
            guest_phys_addr: IOVA.0,
            memory_size: pool.length(),
            userspace_addr: pool.user_address(0),
            mmap_offset: 0,
            mmap_handle: pool.file().as_raw_fd(),
        };
        match self.offer.memory_slots {
            // Both return where the back end mapped the pool, but only in a migration.
            Some(1..) => self.ask("ADD_MEM_REG", |front_end| front_end.add_mem_region(&region).map(drop))?,
            _ => self.ask("SET_MEM_TABLE", |front_end| front_end.set_mem_table(&[region]).map(drop))?,
        }
        self.memory_shared = true;
        Ok(())
    }

    /// Starts vring `index` on the rings at `place`: fresh ones with indices of zero, or where another back
    /// end was lost, from available index `base` on. What to kick when buffers have become available, unless
    /// the back end polls.
    ///
    /// # Errors
    /// See [`Problem`].
    pub fn start_vring(
        &mut self,
        index: u16,
        place: &Place,
        pool: &Pool,
        base: u16,
    ) -> Result<Option<EventFd>, BackEndError> {
        let vring = usize::from(index);
        let size = place.sizes.shadow;
        let addresses = VringConfigData {
            queue_max_size: size,
            queue_size: size,
            flags: 0,
            desc_table_addr: pool.user_address(place.desc),
            used_ring_addr: pool.user_address(place.used),
            avail_ring_addr: pool.user_address(place.avail),
            log_addr: None,
        };
        let call = self.call.try_clone().map_err(|error| self.error(error.into()))?;
        // A back end that polls gets an event that is never written, since crate `vhost` cannot say that
        // there is none.
        let kick = event_fd().map_err(|error| self.error(error.into()))?;
        // SET_VRING_KICK starts the ring (vhost-user, "Ring states"), so it comes last: from then on the back
        // end reads descriptors, and has to know size, first index, addresses and where to interrupt. Where
        // it has REPLY_ACK, each message is answered before the next one is sent, so that a refusal leaves a
        // ring that was never started. With protocol features the ring starts disabled: whether it carries
        // traffic is for `enable_vring` to say, since a pair that its driver does not use must not.
        self.ask("SET_VRING_NUM", |front_end| front_end.set_vring_num(vring, size))?;
        self.ask("SET_VRING_BASE", |front_end| front_end.set_vring_base(vring, base))?;
        self.ask("SET_VRING_ADDR", |front_end| front_end.set_vring_addr(vring, &addresses))?;
        self.ask("SET_VRING_CALL", |front_end| front_end.set_vring_call(vring, &call))?;
        self.ask("SET_VRING_KICK", |front_end| front_end.set_vring_kick(vring, &kick))?;
        Ok(match self.config.notify {
            Notify::Kick => Some(kick),
            Notify::Poll => None,
        })
    }

    /// Lets a started vring carry traffic, or not. Without protocol features a vring is enabled from its
    /// start on.
    ///
    /// # Errors
    /// See [`Problem`].
    pub fn enable_vring(&mut self, index: u16, enable: bool) -> Result<(), BackEndError> {
        if !has(self.offer.features, VHOST_USER_F_PROTOCOL_FEATURES) {
            return Ok(());
        }
        self.ask("SET_VRING_ENABLE", |front_end| front_end.set_vring_enable(index.into(), enable))
    }

    /// Stops vring `index`. When it returns, the back end does not touch the ring any more, unless it broke
    /// the protocol: the answer to GET_VRING_BASE says that the ring is stopped and all that was taken is
    /// used.
    ///
    /// # Errors
    /// See [`Problem`].
    pub fn stop_vring(&mut self, index: u16) -> Result<(), BackEndError> {
        self.enable_vring(index, false)?;
        self.ask("GET_VRING_BASE", |front_end| front_end.get_vring_base(index.into()))?;
        Ok(())
    }

    /// What is wrong if the connection is readable although nothing was asked; none if it is not.
    pub fn look(&self) -> Option<BackEndError> {
        let mut byte = [0];
        match recv(&self.stream, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Ok((0, _)) => Some(self.error(Problem::Died)),
            Ok(_) => Some(self.error(Problem::Unasked)),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => None,
            Err(_) => Some(self.error(Problem::Died)),
        }
    }

    /// Names the socket in a problem.
    pub fn error(&self, problem: Problem) -> BackEndError {
        BackEndError { socket: self.config.socket.clone(), problem }
    }

    /// One exchange, within the bound.
    fn ask<T>(
        &mut self,
        message: &'static str,
        exchange: impl FnOnce(&mut Frontend) -> Result<T, VhostError>,
    ) -> Result<T, BackEndError> {
        let Self { front_end, watchdog, .. } = self;
        let answer = watchdog.bound(|| exchange(front_end));
        answer.map_err(|error| {
            let problem = match error {
                _ if self.watchdog.expired() => Problem::NoAnswer { message, within: self.watchdog.limit() },
                VhostError::VhostUserProtocol(
                    VhostUserError::Disconnected
                    | VhostUserError::PartialMessage
                    | VhostUserError::SocketBroken(_),
                ) => Problem::Closed { message },
                VhostError::VhostUserProtocol(VhostUserError::BackendInternalError) => {
                    Problem::Refused { message }
                }
                other => Problem::Nonsense { message, detail: other.to_string() },
            };
            self.error(problem)
        })
    }
}
