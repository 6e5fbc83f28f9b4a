//! One front end of a port: tells the switching thread of its rings and of its kicks.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Thread;

use vhost::vhost_user::message::VhostUserProtocolFeatures;
use vhost_user_backend::VhostUserBackend;
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_CSUM, VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_TSO4,
    VIRTIO_NET_F_GUEST_TSO6, VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_MAC,
    VIRTIO_NET_F_MQ, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_STATUS,
};
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::event::{EventConsumer, EventNotifier};

use super::port::Link;
use super::worker::Event;
use crate::VHOST_USER_F_PROTOCOL_FEATURES;
use crate::exit_event::ExitEvents;
use crate::ring::{Memory, Vring};

/// Longest virtqueue. The largest that DPDK's and Linux's drivers use by themselves.
const MAX_QUEUE_SIZE: usize = 1024;

/// Virtio features of a port.
///
/// MAC, STATUS and CTRL_VQ mean nothing here: configuration space and control queue belong to the front end.
/// They are offered so that it may hand over what its driver accepted as a whole.
const FEATURES: [u32; 14] = [
    VIRTIO_F_VERSION_1,
    VIRTIO_RING_F_INDIRECT_DESC,
    VIRTIO_RING_F_EVENT_IDX,
    VIRTIO_NET_F_CSUM,
    VIRTIO_NET_F_GUEST_CSUM,
    VIRTIO_NET_F_GUEST_TSO4,
    VIRTIO_NET_F_GUEST_TSO6,
    VIRTIO_NET_F_HOST_TSO4,
    VIRTIO_NET_F_HOST_TSO6,
    VIRTIO_NET_F_MRG_RXBUF,
    VIRTIO_NET_F_MQ,
    VIRTIO_NET_F_MAC,
    VIRTIO_NET_F_STATUS,
    VIRTIO_NET_F_CTRL_VQ,
];

/// How the threads of the front ends reach the switching thread.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) events: Sender<Event>,
    pub(crate) worker: Thread,
}

impl Line {
    pub(crate) fn send(&self, event: Event) {
        // The worker outlives every front end; if it is gone the process is ending.
        let _ = self.events.send(event);
        self.worker.unpark();
    }
}

/// Whether the switching thread has the rings.
enum Stage {
    Fresh,
    Attached,
    /// An event that comes late must not attach them again.
    Closed,
}

/// A front end and what it negotiated.
pub(crate) struct Connection {
    port: usize,
    pairs: usize,
    line: Line,
    memory: Memory,
    features: Arc<AtomicU64>,
    kicked: Arc<AtomicBool>,
    stage: Mutex<Stage>,
    exits: ExitEvents,
}

impl Connection {
    pub(crate) fn new(port: usize, pairs: usize, line: Line, memory: Memory) -> Self {
        Self {
            port,
            pairs,
            line,
            memory,
            features: Arc::default(),
            kicked: Arc::default(),
            stage: Mutex::new(Stage::Fresh),
            exits: ExitEvents::default(),
        }
    }

    /// Returns when the switching thread has let go of the rings.
    pub(crate) fn close(&self) {
        let (done, is_done) = sync_channel(1);
        let mut stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        *stage = Stage::Closed;
        self.line.send(Event::Detach(self.port, done));
        drop(stage);
        // An error means that the worker is gone, and with it its hold on the rings.
        let _ = is_done.recv();
    }
}

impl VhostUserBackend for Connection {
    type Bitmap = ();
    type Vring = Vring;

    fn num_queues(&self) -> usize {
        2 * self.pairs
    }

    fn max_queue_size(&self) -> usize {
        MAX_QUEUE_SIZE
    }

    fn features(&self) -> u64 {
        FEATURES.iter().fold(VHOST_USER_F_PROTOCOL_FEATURES, |features, bit| features | 1 << bit)
    }

    fn acked_features(&self, features: u64) {
        self.features.store(features, Ordering::Relaxed);
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        VhostUserProtocolFeatures::MQ
            | VhostUserProtocolFeatures::REPLY_ACK
            | VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS
    }

    fn set_event_idx(&self, _enabled: bool) {
        // Each queue knows.
    }

    fn update_memory(&self, _memory: Memory) -> io::Result<()> {
        // The table that we hold was replaced in place.
        Ok(())
    }

    fn queues_per_thread(&self) -> Vec<u64> {
        vec![u64::MAX]
    }

    fn exit_event(&self, _thread: usize) -> Option<(EventConsumer, EventNotifier)> {
        self.exits.issue()
    }

    /// A ring was kicked or enabled. The first time is also the first time that we see the rings.
    fn handle_event(&self, _: u16, _: EventSet, vrings: &[Vring], _: usize) -> io::Result<()> {
        let mut stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*stage, Stage::Fresh) {
            *stage = Stage::Attached;
            let link = Link {
                vrings: vrings.to_vec(),
                memory: self.memory.clone(),
                features: Arc::clone(&self.features),
                kicked: Arc::clone(&self.kicked),
            };
            self.line.send(Event::Attach(self.port, link));
        }
        self.kicked.store(true, Ordering::Relaxed);
        self.line.worker.unpark();
        Ok(())
    }
}
