//! One front end of the disk: a thread per vring, which polls for a while before it sleeps.

use std::io;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing::{debug, warn};
use vhost::vhost_user::message::VhostUserProtocolFeatures;
use vhost_user_backend::{VhostUserBackend, VringT};
use virtio_queue::{Queue, QueueT};
use vm_memory::{GuestAddressSpace, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::event::{EventConsumer, EventNotifier};

use super::config::{Negotiated, Shape};
use super::disk::Disk;
use crate::chain::Buffers;
use crate::exit_event::ExitEvents;
use crate::idle::Idle;
use crate::ring::{self, Memory, RingError, Vring};

/// Most descriptors in a chain: what an indirect table can hold.
const MAX_DESCRIPTORS: usize = u16::MAX as usize;

/// Requests between two looks at the memory table, the connection and the clock.
const BATCH: usize = 32;

/// A front end and what it negotiated.
pub(crate) struct Connection {
    disk: Arc<Disk>,
    shape: Shape,
    negotiated: Negotiated,
    memory: Memory,
    poll: Duration,
    /// The front end is gone: leave the rings alone.
    closing: AtomicBool,
    /// Held by the thread of a vring while it may have a request in hand.
    busy: Vec<Mutex<()>>,
    malformed_reported: AtomicBool,
    exits: ExitEvents,
}

/// What a look at a ring found.
enum Pass {
    Worked,
    Idle,
    Stopped,
}

impl Connection {
    pub(crate) fn new(disk: Arc<Disk>, shape: Shape, poll: Duration, memory: Memory) -> Self {
        Self {
            disk,
            shape,
            negotiated: Negotiated::new(shape),
            memory,
            poll,
            closing: AtomicBool::new(false),
            busy: (0..shape.queues).map(|_| Mutex::default()).collect(),
            malformed_reported: AtomicBool::new(false),
            exits: ExitEvents::default(),
        }
    }

    /// Makes every thread leave its ring soon, whatever the front end keeps writing to it.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    /// Serves `vring` until it has been idle for the polling time or stops.
    ///
    /// The driver is asked not to kick meanwhile. Before sleeping it is asked to again, and the ring is
    /// looked at once more, since a buffer may have become available in between (virtio 1.3, 2.7.10.2).
    fn serve(&self, vring: &Vring) -> Result<(), RingError> {
        let mut idle = Idle::new(self.poll);
        self.on_queue(vring, |queue, memory| Ok(queue.disable_notification(memory)?))?;
        loop {
            match self.pass(vring)? {
                Pass::Stopped => return Ok(()),
                Pass::Worked => idle.interrupted(),
                Pass::Idle if idle.look_again() => {}
                Pass::Idle => {
                    let more =
                        self.on_queue(vring, |queue, memory| Ok(queue.enable_notification(memory)?))?;
                    if more != Some(true) {
                        return Ok(());
                    }
                    self.on_queue(vring, |queue, memory| Ok(queue.disable_notification(memory)?))?;
                }
            }
        }
    }

    /// Answers what is available, up to a batch. The ring is locked to take and to return a chain, not while
    /// the image is at work: the control socket wants the lock as well.
    fn pass(&self, vring: &Vring) -> Result<Pass, RingError> {
        let memory = self.memory.memory();
        let mut buffers = Buffers::default();
        for answered in 0..BATCH {
            let chain = match self.on_queue(vring, |queue, _| ring::pop(queue, memory.deref()))? {
                Some(Some(chain)) => chain,
                Some(None) if answered == 0 => return Ok(Pass::Idle),
                Some(None) => break,
                None => return Ok(Pass::Stopped),
            };
            let head = chain.head_index();
            let written = buffers
                .collect(chain, &memory, MAX_DESCRIPTORS)
                .map_err(|error| error.to_string())
                .and_then(|()| {
                    self.disk.answer(&buffers, &self.negotiated).map_err(|error| error.to_string())
                })
                .unwrap_or_else(|why| self.hand_back_unused(head, &why));
            self.complete(vring, &memory, head, written)?;
        }
        Ok(Pass::Worked)
    }

    /// Puts one chain into the used ring and interrupts the driver if it wants that and can be reached.
    fn complete(
        &self,
        vring: &Vring,
        memory: &GuestMemoryMmap,
        head: u16,
        written: u32,
    ) -> Result<(), RingError> {
        let mut state = vring.get_mut();
        let queue = state.get_queue_mut();
        let before = queue.next_used();
        ring::publish(queue, memory, &[(head, written)])?;
        if state.get_call().is_some()
            && ring::wants_interrupt(state.get_queue(), memory, before)?
            && let Err(error) = state.signal_used_queue()
        {
            debug!("a front end cannot be interrupted: {error}");
        }
        Ok(())
    }

    /// Runs `action` on the locked queue if the ring is started and enabled and the front end is still there.
    fn on_queue<T>(
        &self,
        vring: &Vring,
        action: impl FnOnce(&mut Queue, &GuestMemoryMmap) -> Result<T, RingError>,
    ) -> Result<Option<T>, RingError> {
        let mut state = vring.get_mut();
        if self.closing.load(Ordering::Acquire) || !state.is_enabled() || !state.get_queue().ready() {
            return Ok(None);
        }
        action(state.get_queue_mut(), &self.memory.memory()).map(Some)
    }

    /// Nothing can be said to the driver about a chain without a status byte. Returns the bytes written:
    /// none.
    fn hand_back_unused(&self, head: u16, why: &str) -> u32 {
        if !self.malformed_reported.swap(true, Ordering::Relaxed) {
            warn!(
                "the chain at descriptor {head} is no block request: {why}; it goes back unused, further ones are not reported"
            );
        }
        0
    }
}

impl VhostUserBackend for Connection {
    type Bitmap = ();
    type Vring = Vring;

    fn num_queues(&self) -> usize {
        self.shape.queues.into()
    }

    fn max_queue_size(&self) -> usize {
        self.shape.queue_size.into()
    }

    fn features(&self) -> u64 {
        self.negotiated.offered()
    }

    fn acked_features(&self, features: u64) {
        self.negotiated.accept(features);
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        VhostUserProtocolFeatures::CONFIG
            | VhostUserProtocolFeatures::MQ
            | VhostUserProtocolFeatures::REPLY_ACK
            | VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS
    }

    fn set_event_idx(&self, _enabled: bool) {
        // Each queue knows.
    }

    fn get_config(&self, offset: u32, size: u32) -> Vec<u8> {
        // A front end that asks may have been told that the disk was resized.
        self.negotiated.resize(self.disk.look_again());
        self.negotiated.read(offset, size)
    }

    fn set_config(&self, offset: u32, bytes: &[u8]) -> io::Result<()> {
        // An error would end the connection, and what is written here is up to the guest.
        if !self.negotiated.write(offset, bytes) {
            debug!("ignored a write of {} bytes at {offset} of the configuration space", bytes.len());
        }
        Ok(())
    }

    fn update_memory(&self, _memory: Memory) -> io::Result<()> {
        // The table that we hold was replaced in place.
        Ok(())
    }

    fn queues_per_thread(&self) -> Vec<u64> {
        (0..self.shape.queues).map(|queue| 1 << queue).collect()
    }

    fn exit_event(&self, _thread: usize) -> Option<(EventConsumer, EventNotifier)> {
        self.exits.issue()
    }

    /// The ring is marked stopped by now. Returns when its last request is in the used ring.
    fn stop_vring(&self, queue: u32) -> io::Result<()> {
        if let Some(busy) = self.busy.get(queue as usize) {
            drop(busy.lock().unwrap_or_else(PoisonError::into_inner));
        }
        Ok(())
    }

    /// An error from here would end the thread for good, so that there is none.
    fn handle_event(&self, event: u16, _: EventSet, vrings: &[Vring], thread: usize) -> io::Result<()> {
        let (Some(vring), Some(busy)) = (vrings.get(usize::from(event)), self.busy.get(thread)) else {
            return Ok(());
        };
        let _busy = busy.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = self.serve(vring) {
            warn!("queue {thread} stops until its front end starts it again: {error}");
            vring.get_mut().get_queue_mut().set_ready(false);
        }
        Ok(())
    }
}
