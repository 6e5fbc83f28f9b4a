//! A front end whose rings are polled by one thread for all of a device, and how it gets to that thread.
//!
//! The session's thread of the rings hands them over once, as a [`Link`], and wakes the device's thread at
//! each kick from then on. The session gets them back when the device's thread says so.

use std::fmt::Display;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::{debug, warn};
use vhost::vhost_user::message::VhostUserProtocolFeatures;
use vhost_user_backend::VringT;
use virtio_queue::{Queue, QueueT};
use vm_memory::{GuestAddressSpace, GuestMemoryMmap};

use crate::ring::{self, Memory, Vring};
use crate::session::{Backend, VHOST_USER_F_PROTOCOL_FEATURES};

/// Longest virtqueue. The largest that DPDK's and Linux's drivers use by themselves.
const MAX_QUEUE_SIZE: u16 = 1024;

/// Longest configuration space that front ends ask for (VHOST_USER_MAX_CONFIG_SIZE) in bytes.
pub(crate) const CONFIG_SPACE: usize = 256;

/// A front end's rings and memory, in the hands of the device's thread.
pub(crate) struct Link {
    port: usize,
    vrings: Vec<Vring>,
    memory: Memory,
    features: Arc<AtomicU64>,
    kicked: Arc<AtomicBool>,
}

/// What the device's thread is told by the threads of the front ends, which wake it after each.
pub(crate) enum Event {
    /// A front end has connected to the port.
    Attach(usize, Link),
    /// It has disconnected. The device's thread touches its rings no more when it answers.
    Detach(usize, SyncSender<()>),
    /// The process is about to end.
    Quit,
}

/// A ring that is not running: not started, not enabled, or broken.
#[derive(Debug)]
pub(crate) struct Stopped;

impl Link {
    /// Virtio features that the driver accepted, one bit each.
    pub(crate) fn features(&self) -> u64 {
        self.features.load(Ordering::Relaxed)
    }

    /// Whether a ring was kicked or enabled since this was last asked.
    pub(crate) fn was_kicked(&self) -> bool {
        self.kicked.load(Ordering::Relaxed) && self.kicked.swap(false, Ordering::Relaxed)
    }

    /// Runs `action` on ring number `ring` if it is started and enabled. An error stops the ring.
    pub(crate) fn on_queue<T, E: Display>(
        &self,
        ring: usize,
        action: impl FnOnce(&mut Queue, &GuestMemoryMmap) -> Result<T, E>,
    ) -> Result<T, Stopped> {
        let mut state = self.vrings.get(ring).ok_or(Stopped)?.get_mut();
        if !state.is_enabled() || !state.get_queue().ready() {
            return Err(Stopped);
        }
        action(state.get_queue_mut(), self.memory.memory().deref()).map_err(|error| {
            warn!("port {}: queue {ring} stops until its front end starts it again: {error}", self.port);
            state.get_queue_mut().set_ready(false);
            Stopped
        })
    }

    /// Interrupts the driver if it wants that for what was used since `before`, and can be reached.
    pub(crate) fn interrupt(&self, ring: usize, before: u16) {
        let Some(vring) = self.vrings.get(ring) else { return };
        let state = vring.get_ref();
        if state.get_call().is_some()
            && ring::wants_interrupt(state.get_queue(), &self.memory.memory(), before).unwrap_or(false)
            && let Err(error) = state.signal_used_queue()
        {
            debug!("port {}: its front end cannot be interrupted: {error}", self.port);
        }
    }
}

/// How the device's thread is reached.
#[derive(Clone)]
pub(crate) struct Line {
    events: Sender<Event>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

impl Line {
    /// `wake` makes the thread that receives `events` look for them, and at its rings.
    pub(crate) fn new(events: Sender<Event>, wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self { events, wake: Arc::new(wake) }
    }

    pub(crate) fn send(&self, event: Event) {
        // The thread outlives every front end; if it is gone the process is ending.
        let _ = self.events.send(event);
        (self.wake)();
    }
}

/// What a device offers to each front end.
#[derive(Debug, Clone)]
pub(crate) struct Offer {
    pub(crate) queues: usize,
    /// Virtio features, one bit each.
    pub(crate) features: u64,
    /// Configuration space, if it is the device's and not the front end's. Zeroes follow it.
    pub(crate) config: Option<Vec<u8>>,
}

/// Whether the device's thread has the rings.
enum Stage {
    Fresh,
    Attached,
    /// An event that comes late must not attach them again.
    Closed,
}

/// A front end and what it negotiated.
pub(crate) struct Connection {
    port: usize,
    offer: Offer,
    line: Line,
    memory: Memory,
    features: Arc<AtomicU64>,
    kicked: Arc<AtomicBool>,
    stage: Mutex<Stage>,
}

impl Connection {
    pub(crate) fn new(port: usize, offer: Offer, line: Line, memory: Memory) -> Self {
        Self {
            port,
            offer,
            line,
            memory,
            features: Arc::default(),
            kicked: Arc::default(),
            stage: Mutex::new(Stage::Fresh),
        }
    }

    /// Returns when the device's thread has let go of the rings.
    pub(crate) fn close(&self) {
        let (done, is_done) = sync_channel(1);
        let mut stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock: a kick that is being handled attaches the rings before this or not at all, so that
        // the answer to this event is the end of their use.
        *stage = Stage::Closed;
        self.line.send(Event::Detach(self.port, done));
        drop(stage);
        // An error means that the thread is gone, and with it its hold on the rings.
        let _ = is_done.recv();
    }
}

impl Backend for Connection {
    fn queues(&self) -> usize {
        self.offer.queues
    }

    fn max_queue_size(&self) -> u16 {
        MAX_QUEUE_SIZE
    }

    fn features(&self) -> u64 {
        self.offer.features | VHOST_USER_F_PROTOCOL_FEATURES
    }

    fn accept(&self, features: u64) {
        self.features.store(features, Ordering::Relaxed);
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        let mut features = VhostUserProtocolFeatures::MQ
            | VhostUserProtocolFeatures::REPLY_ACK
            | VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS;
        features.set(VhostUserProtocolFeatures::CONFIG, self.offer.config.is_some());
        features
    }

    fn config(&self, offset: u32, len: u32) -> Vec<u8> {
        let config = self.offer.config.as_deref().unwrap_or_default();
        let end = u64::from(offset) + u64::from(len);
        let range = if end > CONFIG_SPACE as u64 { 0..0 } else { offset as usize..end as usize };
        range.map(|at| config.get(at).copied().unwrap_or(0)).collect()
    }

    fn set_config(&self, offset: u32, bytes: &[u8]) {
        debug!("ignored a write of {} bytes at {offset} of the configuration space", bytes.len());
    }

    fn queues_per_thread(&self) -> Vec<u64> {
        vec![u64::MAX]
    }

    /// The first time is also the first time that we see the rings.
    fn work(&self, _: usize, vrings: &[Vring]) {
        let mut stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        self.kicked.store(true, Ordering::Relaxed);
        if matches!(*stage, Stage::Fresh) {
            *stage = Stage::Attached;
            let link = Link {
                port: self.port,
                vrings: vrings.to_vec(),
                memory: self.memory.clone(),
                features: Arc::clone(&self.features),
                kicked: Arc::clone(&self.kicked),
            };
            self.line.send(Event::Attach(self.port, link));
        } else {
            (self.line.wake)();
        }
    }

    fn stop(&self, _: usize) {
        // The device's thread holds the vring's lock while it works it, and has looked before whether it
        // runs.
    }
}
