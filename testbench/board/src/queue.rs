//! A virtqueue whose buffers it owns: crate `virtio-drivers`' split ring, made safe to use.
//!
//! The ring's own interface wants the same buffers at both ends of a request, unaliased in between, and
//! trusts its caller with the tokens that the device returns. Here a [`Chain`] is moved in and comes back
//! out, and what the device says is checked first.
//!
//! `virtio-drivers`' own devices ask [`VirtQueue::should_notify`] without a barrier after publishing a
//! buffer. A store may pass a later load even on x86, so driver and device can each miss the other's last
//! word, and the request waits for ever (virtio 1.3, 2.7.13.3.1 and 2.7.13.4.1 ask for the barrier). So
//! [`Queue::submit`] has it, and blk and net are built on this queue.

#![allow(
    unsafe_code,
    reason = "VirtQueue::add and VirtQueue::pop_used are unsafe: their buffers must outlive the call"
)]

use std::{
    mem::ManuallyDrop,
    rc::Rc,
    sync::atomic::{Ordering, fence},
};

use virtio_bindings::{
    virtio_config::{VIRTIO_F_NOTIFICATION_DATA, VIRTIO_F_RING_RESET},
    virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC},
};
use virtio_drivers::queue::VirtQueue;

use super::{
    hal::{BoardHal, bind},
    memory::{DmaMemory, MemoryError},
    transport::BoardTransport,
};

/// Bytes of a descriptor, of which an indirect table has one for each buffer (virtio 1.3, 2.7.5).
const DESCRIPTOR: usize = iobond_spec::ring::split::DESC_SIZE as usize;

/// Which ring features a driver asks for, where the device offers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingOptions {
    /// INDIRECT_DESC: a request of several buffers takes one descriptor and a table.
    pub indirect: bool,
    /// EVENT_IDX: each side says at which index it wants to be notified.
    pub event_idx: bool,
    /// NOTIFICATION_DATA: a doorbell carries the available index.
    pub notification_data: bool,
    /// Whether the device is to interrupt. Without EVENT_IDX only; with it, `virtio-drivers` always asks for
    /// interrupts.
    pub interrupts: bool,
}

impl Default for RingOptions {
    /// Everything that hardware drivers use.
    fn default() -> Self {
        Self { indirect: true, event_idx: true, notification_data: true, interrupts: true }
    }
}

impl RingOptions {
    /// What a driver asks for that polls and wants to be left alone: no EVENT_IDX, interrupts off.
    pub const POLLED: Self =
        Self { indirect: true, event_idx: false, notification_data: true, interrupts: false };

    /// The feature bits to ask for.
    pub fn features(self) -> u64 {
        let bit = |wanted, bit: u32| u64::from(wanted) << bit;
        bit(self.indirect, VIRTIO_RING_F_INDIRECT_DESC)
            | bit(self.event_idx, VIRTIO_RING_F_EVENT_IDX)
            | bit(self.notification_data, VIRTIO_F_NOTIFICATION_DATA)
            | bit(true, VIRTIO_F_RING_RESET)
    }
}

/// The buffers of one request: what the device reads, then what it writes. The first empty buffer ends its
/// half.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// Readable by the device.
    pub readable: [Vec<u8>; 2],
    /// Writable by the device.
    pub writable: [Vec<u8>; 2],
}

/// A chain that the device has used.
#[derive(Debug, PartialEq, Eq)]
pub struct Used {
    /// What [`Queue::submit`] returned for it.
    pub token: u16,
    /// Its buffers, as they were submitted; the device has written the writable ones.
    pub chain: Chain,
    /// Bytes that the device says it wrote, at most what the writable buffers hold.
    pub written: u32,
}

/// Why a queue stopped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are those of the message")]
pub enum QueueError {
    #[error("cannot set up queue {queue} with {size} entries: {source}")]
    Create { queue: u16, size: usize, source: virtio_drivers::Error },
    #[error("queue {queue}: {source}")]
    Memory { queue: u16, source: MemoryError },
    #[error("queue {queue}: cannot make a request available: {source}")]
    Submit { queue: u16, source: virtio_drivers::Error },
    #[error("queue {queue}: the device used chain {token}, which it does not have")]
    UnknownToken { queue: u16, token: u16 },
    #[error(
        "queue {queue}: the device says it wrote {written} bytes to chain {token}, whose writable buffers hold {capacity}"
    )]
    TooLong { queue: u16, token: u16, written: u32, capacity: usize },
    #[error("queue {queue}: cannot take chain {token} back: {source}")]
    Pop { queue: u16, token: u16, source: virtio_drivers::Error },
}

/// A split virtqueue of `SIZE` entries in a board's memory.
#[derive(Debug)]
pub struct Queue<const SIZE: usize> {
    index: u16,
    memory: Rc<DmaMemory>,
    ring: ManuallyDrop<VirtQueue<BoardHal, SIZE>>,
    /// What the device has, by token.
    chains: Vec<Option<Chain>>,
    kick: bool,
}

impl<const SIZE: usize> Queue<SIZE> {
    /// Sets queue `index` up and enables it; `features` are those that were negotiated.
    ///
    /// # Errors
    /// [`QueueError::Create`] when the queue is too small or memory is short; a transport's fault may say
    /// more.
    pub fn new(
        transport: &mut impl BoardTransport,
        memory: &Rc<DmaMemory>,
        index: u16,
        features: u64,
        options: RingOptions,
    ) -> Result<Self, QueueError> {
        let _bound = bind(memory);
        let has = |bit: u32| features & 1 << bit != 0;
        let (indirect, event_idx) = (has(VIRTIO_RING_F_INDIRECT_DESC), has(VIRTIO_RING_F_EVENT_IDX));
        let mut ring = VirtQueue::new(transport, index, indirect, event_idx)
            .map_err(|source| QueueError::Create { queue: index, size: SIZE, source })?;
        ring.set_dev_notify(options.interrupts);
        let chains = (0..SIZE).map(|_| None).collect();
        Ok(Self { index, memory: Rc::clone(memory), ring: ManuallyDrop::new(ring), chains, kick: false })
    }

    /// Whether a chain of `buffers` buffers can be submitted now.
    pub fn has_free(&self, buffers: usize) -> bool {
        self.ring.available_desc() >= buffers
    }

    /// Makes `chain` available. The device hears of it with the next [`Queue::kick`].
    ///
    /// # Errors
    /// [`QueueError::Memory`] or, when the queue is full, [`QueueError::Submit`]; the chain is dropped then.
    pub fn submit(&mut self, chain: Chain) -> Result<u16, QueueError> {
        let queue = self.index;
        let mut chain = chain;
        let lengths = chain.lengths();
        self.memory.reserve(&lengths).map_err(|source| QueueError::Memory { queue, source })?;
        let _bound = bind(&self.memory);
        let (readers, writers) = (used(&chain.readable), used(&chain.writable));
        let readable = chain.readable.each_ref().map(Vec::as_slice);
        let mut writable = chain.writable.each_mut().map(Vec::as_mut_slice);
        // SAFETY: the chain's buffers are on the heap and stay there, unused, in `chains` until `pop_used`
        // returns them.
        let token = unsafe { self.ring.add(&readable[..readers], &mut writable[..writers]) }
            .map_err(|source| QueueError::Submit { queue, source })?;
        if let Some(slot) = self.chains.get_mut(usize::from(token)) {
            *slot = Some(chain);
        }
        // Publish before looking whether the device sleeps. `should_notify` compares indices without regard
        // to their wrapping, so it is asked for each one: then the index after `avail_event` is never stepped
        // over.
        fence(Ordering::SeqCst);
        self.kick |= self.ring.should_notify();
        Ok(token)
    }

    /// Notifies the device of what was submitted since the last time, if it wants to know.
    pub fn kick(&mut self, transport: &mut impl BoardTransport) {
        if std::mem::take(&mut self.kick) {
            transport.notify(self.index);
        }
    }

    /// Takes back the next chain that the device has used, if there is one.
    ///
    /// # Errors
    /// [`QueueError::UnknownToken`] or [`QueueError::TooLong`] when the device lies; the queue is of no use
    /// then.
    pub fn pop(&mut self) -> Result<Option<Used>, QueueError> {
        let queue = self.index;
        let Some(token) = self.ring.peek_used() else { return Ok(None) };
        let slot = self.chains.get_mut(usize::from(token));
        let Some(mut chain) = slot.and_then(Option::take) else {
            return Err(QueueError::UnknownToken { queue, token });
        };
        let capacity = chain.writable.iter().map(Vec::len).sum();
        let _bound = bind(&self.memory);
        let (readers, writers) = (used(&chain.readable), used(&chain.writable));
        let readable = chain.readable.each_ref().map(Vec::as_slice);
        let mut writable = chain.writable.each_mut().map(Vec::as_mut_slice);
        // SAFETY: these are the buffers that `add` was given when it returned this token.
        let written = unsafe { self.ring.pop_used(token, &readable[..readers], &mut writable[..writers]) }
            .map_err(|source| QueueError::Pop { queue, token, source })?;
        if written as usize > capacity {
            return Err(QueueError::TooLong { queue, token, written, capacity });
        }
        Ok(Some(Used { token, chain, written }))
    }

    /// Chains that the device has.
    pub fn outstanding(&self) -> usize {
        self.chains.iter().flatten().count()
    }
}

impl<const SIZE: usize> Drop for Queue<SIZE> {
    /// Gives the ring's memory back; the device has been reset by then. Bounce buffers of outstanding chains
    /// stay taken.
    fn drop(&mut self) {
        let _bound = bind(&self.memory);
        // SAFETY: dropped here only, and not used afterwards.
        unsafe { ManuallyDrop::drop(&mut self.ring) };
    }
}

impl Chain {
    /// How many descriptors the chain needs when it is not indirect.
    pub fn buffers(&self) -> usize {
        used(&self.readable) + used(&self.writable)
    }

    /// Lengths of the buffers, and of the table should it become indirect.
    fn lengths(&self) -> [usize; 5] {
        let [[a, b], [c, d]] = [&self.readable, &self.writable].map(|half| half.each_ref().map(Vec::len));
        [a, b, c, d, self.buffers() * DESCRIPTOR]
    }
}

/// How many buffers of one half of a chain count.
fn used(half: &[Vec<u8>; 2]) -> usize {
    half.iter().take_while(|buffer| !buffer.is_empty()).count()
}
