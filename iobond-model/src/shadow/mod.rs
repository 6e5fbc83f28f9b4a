//! The queue engine: keeps a shadow vring in base memory in step with a guest's ring in board memory.
//!
//! ```text
//!   board memory                        IO-Bond                         base memory
//!   guest ring   --- forward: chains, readable payload --->   slots, shadow vring, HEAD
//!   guest ring   <--- retire: writable payload, used ------   slots, shadow vring, TAIL
//! ```
//!
//! [`Queue::forward`] and [`Queue::retire`] are straight-line code over a [`crate::fabric::Fabric`]; each
//! does a bounded amount of work and says whether there is more. A queue that meets something impossible
//! returns a [`QueueError`] once and then does nothing: the device puts it in the error state until the base
//! disables it.
//!
//! Left out: packed rings, and telling the guest's driver not to notify through `VIRTQ_USED_F_NO_NOTIFY` (a
//! notification is a posted write; EVENT_IDX suppresses it where it was negotiated).

mod chains;
mod context;
mod descriptors;
mod entries;
mod error;
mod forward;
mod free_list;
mod gather;
mod read_ahead;
mod retire;
mod slots;

pub use context::check;
pub use error::QueueError;
pub use forward::Seen;
pub use iobond_spec::queue_context::{QueueContext as Context, QueueFeatures, Ring};
pub use read_ahead::{FetchCursor, MOST_AHEAD, SpeculativeRead};

use chains::Chains;
use descriptors::ShadowDescriptors;
use gather::Gather;
use iobond_spec::address::BaseAddr;
use slots::Slots;

use crate::fabric::{Copy, Direction, Fabric};

/// Ring entries that are read or written in one burst. 64 available entries are 128 bytes, the smallest PCIe
/// payload; more would only delay the first chain of a batch.
pub const BURST: usize = 64;

/// What one call did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Chains forwarded or retired.
    pub chains: u16,
    /// Payload bytes copied, of all these chains.
    pub bytes: u64,
    /// The call stopped at its bound: there is more to do right now.
    pub more: bool,
}

/// What a queue has done since it was enabled. Every count wraps, as the registers do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Chains published into the shadow vring.
    pub forwarded: u32,
    /// Chains returned to the guest.
    pub retired: u32,
    /// Payload bytes copied from board to base.
    pub bytes_up: u32,
    /// Payload bytes copied from base to board.
    pub bytes_down: u32,
    /// Times that fetching stopped for want of slots or shadow descriptors.
    pub stalls: u32,
    /// Interrupts for used buffers.
    pub interrupts: u32,
}

/// The engine of one enabled virtqueue.
#[derive(Debug)]
pub struct Queue {
    context: Context,
    /// Next entry of the guest's available ring to fetch, free-running as every index here.
    next_avail: u16,
    /// The guest's used index.
    guest_used: u16,
    /// Shadow available index, which is HEAD.
    head: u16,
    /// Next entry of the shadow used ring to return.
    next_used: u16,
    /// Fetching waits for slots or shadow descriptors to be freed.
    stalled: bool,
    failed: bool,
    /// The available index at which a notification was asked for last.
    armed: Option<u16>,
    slots: Slots,
    chains: Chains,
    gather: Gather,
    /// Payload that the burst at hand has still to copy. A slot is copied once in a burst, so there are never
    /// more than slots.
    payload: Vec<Copy>,
    /// Shadow descriptors that the burst at hand has still to write.
    shadow_descriptors: ShadowDescriptors,
    counters: Counters,
}

impl Queue {
    /// A queue for `context`, with both rings fresh: all indices zero. Everything it will ever need is
    /// allocated here.
    pub fn new(context: Context) -> Self {
        Self {
            slots: Slots::new(context.slot_count),
            chains: Chains::new(context.shadow.size),
            gather: Gather::new(&context),
            payload: Vec::with_capacity(usize::from(context.slot_count)),
            // Each takes a descriptor of the shadow vring, or names a slot from an indirect table.
            shadow_descriptors: ShadowDescriptors::new(
                usize::from(context.shadow.size) + usize::from(context.slot_count),
            ),
            context,
            next_avail: 0,
            guest_used: 0,
            head: 0,
            next_used: 0,
            stalled: false,
            failed: false,
            armed: None,
            counters: Counters::default(),
        }
    }

    /// The same with an engine that reads `most` descriptors at a time at most, where it would read more.
    #[must_use]
    pub fn prefetching(mut self, most: u8) -> Self {
        self.gather.prefetch = most;
        self
    }

    /// Where the engine fetches next, to read ahead from there.
    pub fn cursor(&self) -> FetchCursor {
        let ring = self.context.guest;
        FetchCursor { ring, next: self.next_avail, expected: self.gather.expected() & (ring.size - 1) }
    }

    /// What the queue was enabled with.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// HEAD, the shadow available index: how far chains have been published into the shadow vring.
    pub fn head(&self) -> u16 {
        self.head
    }

    /// What the queue has done since it was enabled.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Whether [`Queue::forward`] stopped for want of slots or shadow descriptors. Calling it again helps
    /// once [`Queue::retire`] has returned a chain.
    pub fn is_stalled(&self) -> bool {
        self.stalled
    }

    /// Whether [`Queue::forward`] or [`Queue::retire`] has returned an error.
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// Whether any chain in flight has writable bytes, so that returning may copy payload.
    pub fn has_writable_in_flight(&self) -> bool {
        self.chains.writable() > 0
    }

    /// Bytes that this queue takes besides the slots and rings themselves.
    pub fn footprint(&self) -> usize {
        let payload = self.payload.capacity() * size_of::<Copy>();
        let parts = self.slots.footprint() + self.chains.footprint() + self.gather.footprint();
        size_of::<Self>() + parts + payload + self.shadow_descriptors.footprint()
    }

    /// Copies the payload of a whole burst; how many bytes there were. On the way down the slots are free
    /// already, but are not taken before this is done.
    #[inline]
    async fn copy_payload<F: Fabric>(&mut self, fabric: &F, direction: Direction) -> Result<u64, QueueError> {
        if self.payload.is_empty() {
            return Ok(0);
        }
        fabric.copy_all(direction, &self.payload).await?;
        let bytes = self.payload.iter().map(|copy| u64::from(copy.len)).sum();
        self.payload.clear();
        Ok(bytes)
    }

    fn slot_address(&self, slot: u16) -> BaseAddr {
        self.context.slot_address(slot)
    }
}
