//! One front end of the disk: a thread per vring, which polls for a while before it sleeps.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::{debug, info, warn};
use vhost::vhost_user::message::VhostUserProtocolFeatures;
use vhost_user_backend::VringT;
use virtio_queue::{DescriptorChain, Queue, QueueT};
use vm_memory::{GuestAddressSpace, GuestMemoryMmap};

use super::config::{Negotiated, Shape};
use super::disk::Disk;
use crate::chain::Buffers;
use crate::inflight::{Part, Region, Replay, Tracker};
use crate::ring::{self, Memory, RingError, Vring};
use crate::session::Backend;

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
    /// The front end has disconnected: leave the rings alone.
    closing: AtomicBool,
    /// Held by the thread of a vring while it may have a request in hand.
    busy: Vec<Mutex<InFlight>>,
    malformed_reported: AtomicBool,
}

/// What a ring's thread knows of the requests in flight on it.
#[derive(Default)]
struct InFlight {
    /// Where the front end keeps them, if it does.
    region: Option<Arc<Region>>,
    /// Takes notes there. There is none until the ring has been taken up after its start.
    tracker: Option<Tracker<Part>>,
    /// What an earlier server left undone.
    replay: Option<Replay>,
}

/// What a look at a ring found.
enum Pass {
    Worked,
    Idle,
    Stopped,
}

impl Connection {
    pub(crate) fn new(disk: Arc<Disk>, shape: Shape, poll: Duration, memory: Memory) -> Self {
        let negotiated = Negotiated::new(shape, disk.look_again());
        Self {
            disk,
            shape,
            negotiated,
            memory,
            poll,
            closing: AtomicBool::new(false),
            busy: (0..shape.queues).map(|_| Mutex::default()).collect(),
            malformed_reported: AtomicBool::new(false),
        }
    }

    /// Makes every thread leave its ring soon, whatever the front end keeps writing to it.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    /// Serves `vring`, whose index is `queue`, until it has been idle for the polling time or stops.
    ///
    /// The driver is asked not to kick meanwhile. Before sleeping it is asked to again, and the ring is
    /// looked at once more, since a buffer may have become available in between (virtio 1.3, 2.7.10.2).
    fn serve(&self, vring: &Vring, queue: usize, in_flight: &mut InFlight) -> Result<(), RingError> {
        let mut polling = ring::polling(self.poll);
        self.take_up(vring, queue, in_flight)?;
        while self.do_again(vring, in_flight)? {}
        self.on_queue(vring, |queue, memory| Ok(queue.disable_notification(memory)?))?;
        loop {
            match self.pass(vring, in_flight)? {
                Pass::Stopped => return Ok(()),
                Pass::Worked => polling.worked(),
                Pass::Idle if polling.idle(Instant::now).pause() => {}
                Pass::Idle => {
                    // A chain that became available before the driver saw that it is to kick comes without a
                    // kick.
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

    /// Finds out, at the first look at a started ring, what an earlier server left in flight on it.
    fn take_up(&self, vring: &Vring, queue: usize, in_flight: &mut InFlight) -> Result<(), RingError> {
        let (Some(region), None) = (&in_flight.region, &in_flight.tracker) else { return Ok(()) };
        let taken_up = self.on_queue(vring, |ring, memory| {
            let Some(part) = region.part(queue, ring.size()) else { return Ok(None) };
            let used = ring.used_idx(memory, Ordering::Acquire)?.0;
            let (tracker, heads) = Tracker::recover(part, ring.size(), used)?;
            // Also when there are none: the front end may have looked at the used index before the last
            // server was done.
            ring.set_next_avail(used.wrapping_add(heads.len() as u16));
            if heads.is_empty() {
                return Ok(Some((tracker, None)));
            }
            info!("queue {queue}: does {} requests again that an earlier server left", heads.len());
            Ok(Some((tracker, Some(Replay::new(ring, memory, &heads)?))))
        })?;
        if let Some(Some((tracker, replay))) = taken_up {
            (in_flight.tracker, in_flight.replay) = (Some(tracker), replay);
        }
        Ok(())
    }

    /// Does one request again, as long as the ring runs; whether there may be more of them.
    fn do_again(&self, vring: &Vring, in_flight: &mut InFlight) -> Result<bool, RingError> {
        let InFlight { tracker, replay: Some(replay), .. } = in_flight else { return Ok(false) };
        if self.on_queue(vring, |_, _| Ok(()))?.is_none() {
            return Ok(false);
        }
        let Some(chain) = replay.pop()? else {
            in_flight.replay = None;
            return Ok(false);
        };
        let memory = self.memory.memory();
        let (head, written) = (chain.head_index(), self.answer(&mut Buffers::default(), chain, &memory));
        self.complete(vring, &memory, tracker.as_ref(), (head, written))?;
        Ok(true)
    }

    /// Answers what is available, up to a batch. The ring is locked to take and to return a chain, not while
    /// the image is at work: the control socket wants the lock as well.
    fn pass(&self, vring: &Vring, in_flight: &mut InFlight) -> Result<Pass, RingError> {
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
            // Noted before anything is done for it: a write that is repeated does no harm, one that is lost
            // does.
            if let Some(tracker) = &mut in_flight.tracker {
                tracker.taken(head);
            }
            let written = self.answer(&mut buffers, chain, &memory);
            self.complete(vring, &memory, in_flight.tracker.as_ref(), (head, written))?;
        }
        Ok(Pass::Worked)
    }

    /// Carries out one chain; the bytes written to it.
    fn answer<'m>(
        &self,
        buffers: &mut Buffers<'m>,
        chain: DescriptorChain<&'m GuestMemoryMmap>,
        memory: &'m GuestMemoryMmap,
    ) -> u32 {
        let head = chain.head_index();
        buffers
            .collect(chain, memory, MAX_DESCRIPTORS)
            .map_err(|error| error.to_string())
            .and_then(|()| self.disk.answer(buffers, &self.negotiated).map_err(|error| error.to_string()))
            .unwrap_or_else(|why| self.hand_back_unused(head, &why))
    }

    /// Puts one chain into the used ring and interrupts the driver if it wants that and can be reached.
    fn complete(
        &self,
        vring: &Vring,
        memory: &GuestMemoryMmap,
        tracker: Option<&Tracker<Part>>,
        used: (u16, u32),
    ) -> Result<(), RingError> {
        // The process may end between any two of these stores, and the next server repeats what is still
        // noted: the chain is the last of its batch before the used index moves, and is struck out only after
        // that. A used index that is ahead of the notes names the batch to strike out (vhost-user, Inflight
        // I/O tracking).
        let mut state = vring.get_mut();
        let queue = state.get_queue_mut();
        let before = queue.next_used();
        if let Some(tracker) = tracker {
            tracker.returning(used.0);
        }
        ring::publish(queue, memory, &[used])?;
        if let Some(tracker) = tracker {
            tracker.returned(used.0, queue.next_used());
        }
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
                "the chain at descriptor {head} is not a block request: {why}; it goes back unused, further ones are not reported"
            );
        }
        0
    }
}

impl Backend for Connection {
    fn queues(&self) -> usize {
        self.shape.queues.into()
    }

    fn max_queue_size(&self) -> u16 {
        self.shape.queue_size
    }

    fn features(&self) -> u64 {
        self.negotiated.offered()
    }

    fn accept(&self, features: u64) {
        self.negotiated.accept(features);
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        VhostUserProtocolFeatures::CONFIG
            | VhostUserProtocolFeatures::MQ
            | VhostUserProtocolFeatures::REPLY_ACK
            | VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS
            | VhostUserProtocolFeatures::INFLIGHT_SHMFD
    }

    fn config(&self, offset: u32, len: u32) -> Vec<u8> {
        // A front end that asks may have been told that the disk was resized.
        self.negotiated.resize(self.disk.look_again());
        self.negotiated.read(offset, len)
    }

    fn set_config(&self, offset: u32, bytes: &[u8]) {
        if !self.negotiated.write(offset, bytes) {
            debug!("ignored a write of {} bytes at {offset} of the configuration space", bytes.len());
        }
    }

    fn queues_per_thread(&self) -> Vec<u64> {
        (0..self.shape.queues).map(|queue| 1 << queue).collect()
    }

    fn work(&self, queue: usize, vrings: &[Vring]) {
        let (Some(vring), Some(busy)) = (vrings.get(queue), self.busy.get(queue)) else { return };
        let mut in_flight = busy.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = self.serve(vring, queue, &mut in_flight) {
            warn!("queue {queue} stops until its front end starts it again: {error}");
            vring.get_mut().get_queue_mut().set_ready(false);
        }
    }

    /// Returns when its last request is in the used ring.
    fn stop(&self, queue: usize) {
        if let Some(busy) = self.busy.get(queue) {
            let mut in_flight = busy.lock().unwrap_or_else(PoisonError::into_inner);
            // The next start finds out by itself what is left.
            (in_flight.tracker, in_flight.replay) = (None, None);
        }
    }

    fn track(&self, region: &Arc<Region>) {
        for busy in &self.busy {
            let region = Some(Arc::clone(region));
            *busy.lock().unwrap_or_else(PoisonError::into_inner) = InFlight { region, ..InFlight::default() };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use virtio_bindings::virtio_ring::{VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};
    use virtio_queue::desc::{RawDescriptor, split::Descriptor};
    use virtio_queue::mock::MockSplitQueue;
    use vm_memory::{GuestAddress, GuestMemoryRegion, GuestRegionMmap};

    use super::*;
    use crate::blk::image::Image;

    const SIZE: u16 = 16;
    const HEADER: u64 = 0x8000;
    const DATA: u64 = 0x1_0000;

    /// A ring at 0 with one request at [`HEADER`], which reads a sector to [`DATA`].
    fn ring(memory: &Memory) -> Vring {
        let guest = memory.memory();
        let mock = MockSplitQueue::new(guest.deref(), SIZE);
        let table = [
            Descriptor::new(HEADER, 16, VRING_DESC_F_NEXT as u16, 1),
            Descriptor::new(DATA, 513, VRING_DESC_F_WRITE as u16, 0),
        ];
        for (index, descriptor) in (0..).zip(table) {
            mock.desc_table().store(index, RawDescriptor::from(descriptor)).unwrap();
        }
        mock.avail().idx().store(1u16.to_le());
        let vring = Vring::new(memory.clone(), SIZE).unwrap();
        let [desc, avail, used] =
            [mock.desc_table_addr(), mock.avail_addr(), mock.used_addr()].map(|at| at.0);
        vring.set_queue_size(SIZE);
        vring.set_queue_info(desc, avail, used).unwrap();
        vring.set_queue_ready(true);
        vring.set_enabled(true);
        vring
    }

    /// earlier server: takes the request | this one: takes the ring up, the memory changes, does the request
    /// again
    #[test]
    fn what_is_done_again_is_written_to_the_memory_of_now() {
        let region = |at, size| Arc::new(GuestRegionMmap::from_range(GuestAddress(at), size, None).unwrap());
        let (rings, [removed, current]) =
            (region(0, DATA as usize), [region(DATA, 0x1000), region(DATA, 0x1000)]);
        let with = |data: &Arc<GuestRegionMmap>| {
            GuestMemoryMmap::from_arc_regions(vec![Arc::clone(&rings), Arc::clone(data)]).unwrap()
        };
        let memory = Memory::new(with(&removed));
        let vring = ring(&memory);
        let notes = Arc::new(Region::create(1, SIZE).unwrap().0);
        Tracker::recover(notes.part(0, SIZE).unwrap(), SIZE, 0).unwrap().0.taken(0);

        let mut image = tempfile::NamedTempFile::new().unwrap();
        image.write_all(&[0xaa; 512]).unwrap();
        let disk = Arc::new(Disk::new(Image::open(image.path(), false).unwrap(), ""));
        let shape = Shape { read_only: false, queues: 1, queue_size: SIZE };
        let connection = Connection::new(disk, shape, Duration::ZERO, memory.clone());
        connection.track(&notes);
        let mut in_flight = connection.busy[0].lock().unwrap();
        connection.take_up(&vring, 0, &mut in_flight).unwrap();
        memory.lock().unwrap().replace(with(&current));
        assert!(connection.do_again(&vring, &mut in_flight).unwrap());
        assert!(!connection.do_again(&vring, &mut in_flight).unwrap());

        let bytes = |region: &GuestRegionMmap| {
            let mut bytes = [0u8; 513];
            region.as_volatile_slice().unwrap().copy_to(&mut bytes);
            bytes
        };
        assert!(bytes(&current).starts_with(&[0xaa; 512]), "it is read to where it was asked to");
        assert!(bytes(&removed) == [0; 513], "what the front end took away is left alone");
    }
}
