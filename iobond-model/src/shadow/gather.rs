//! Walks one guest chain and says what it is made of. Nothing is reserved and nothing copied here, so that a
//! chain for which slots are missing now can be walked again later.

use iobond_spec::{
    address::BoardAddr,
    ring::split::{DESC_INDIRECT, DESC_NEXT, DESC_SIZE, DESC_WRITE, Descriptor},
};

use super::{Context, QueueError, descriptors::Prefetch};
use crate::fabric::Fabric;

/// Longest indirect table that is walked, whatever the ring size. A driver must not make a chain longer than
/// its queue (virtio 1.3, 2.7.5.3.1), yet drivers of small queues do; hardware needs a bound all the same.
const MAX_INDIRECT: u32 = 1024;

/// One buffer of a guest chain: what one descriptor names.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub(super) guest: BoardAddr,
    pub(super) len: u32,
    pub(super) write: bool,
}

/// The chain that was walked last.
#[derive(Debug)]
pub(super) struct Gather {
    pub(super) segments: Vec<Segment>,
    /// Slots that the payload takes.
    pub(super) pieces: u64,
    /// Device-writable bytes of all its segments.
    pub(super) writable: u64,
    /// Log2 of the slot size.
    slot_shift: u32,
    limit: u32,
    /// Descriptors that are read at a time at most.
    pub(super) prefetch: u8,
    /// Head of the chain that was walked last, and how far it was from the one before.
    head: u16,
    stride: u16,
}

impl Gather {
    pub(super) fn new(context: &Context) -> Self {
        let limit = u32::from(context.guest.size).max(MAX_INDIRECT);
        // A direct chain may end in an indirect table (virtio 1.3, 2.7.5.3.2).
        let most = usize::from(context.guest.size) + limit as usize;
        Self {
            segments: Vec::with_capacity(most),
            pieces: 0,
            writable: 0,
            slot_shift: context.slot_size.trailing_zeros(),
            limit,
            prefetch: u8::MAX,
            head: 0,
            stride: 0,
        }
    }

    /// The head of the next chain, if it is as far from the last as that was from the one before: drivers
    /// take descriptors in turn, or those again that were returned last.
    pub(super) fn expected(&self) -> u16 {
        self.head.wrapping_add(self.stride)
    }

    /// Walks the chain at `head` of the guest's table, of which `table` has read some.
    #[inline]
    pub(super) async fn chain<F: Fabric>(
        &mut self,
        fabric: &F,
        context: &Context,
        head: u16,
        table: &mut Prefetch,
    ) -> Result<(), QueueError> {
        let size = context.guest.size;
        if head >= size {
            return Err(QueueError::BadHead { head, size });
        }
        self.segments.clear();
        (self.pieces, self.writable) = (0, 0);
        (self.stride, self.head) = (head.wrapping_sub(self.head), head);
        let mut index = head;
        for _ in 0..size {
            let descriptor = match table.known(u32::from(index)) {
                Some(descriptor) => descriptor,
                None => table.get(fabric, u32::from(index)).await?,
            };
            let flags = descriptor.flags.get();
            if flags & DESC_INDIRECT != 0 {
                return self.indirect(fabric, context, head, descriptor).await;
            }
            self.add(head, descriptor)?;
            if flags & DESC_NEXT == 0 {
                return Ok(());
            }
            index = descriptor.next.get();
            if index >= size {
                return Err(QueueError::BadNext { next: index, size: u32::from(size) });
            }
        }
        Err(QueueError::ChainTooLong { head, limit: u32::from(size) })
    }

    /// Walks the indirect table that `outer` names. Its write flag means nothing (virtio 1.3, 2.7.5.3.2).
    async fn indirect<F: Fabric>(
        &mut self,
        fabric: &F,
        context: &Context,
        head: u16,
        outer: Descriptor,
    ) -> Result<(), QueueError> {
        let (len, flags) = (outer.len.get(), outer.flags.get());
        if len == 0 {
            return Err(QueueError::ZeroLength { head });
        }
        let size = len / DESC_SIZE as u32;
        let whole = len.is_multiple_of(DESC_SIZE as u32) && size <= self.limit;
        if !context.features.indirect || flags & DESC_NEXT != 0 || !whole {
            return Err(QueueError::BadIndirect { head, len, flags });
        }
        let mut table = Prefetch::new(BoardAddr(outer.addr.get()).into(), size, size, self.prefetch);
        let mut index = 0;
        for _ in 0..size {
            let descriptor = table.get(fabric, index).await?;
            let flags = descriptor.flags.get();
            if flags & DESC_INDIRECT != 0 {
                return Err(QueueError::BadIndirect { head, len, flags });
            }
            self.add(head, descriptor)?;
            if flags & DESC_NEXT == 0 {
                return Ok(());
            }
            index = u32::from(descriptor.next.get());
            if index >= size {
                return Err(QueueError::BadNext { next: descriptor.next.get(), size });
            }
        }
        Err(QueueError::ChainTooLong { head, limit: size })
    }

    #[inline]
    fn add(&mut self, head: u16, descriptor: Descriptor) -> Result<(), QueueError> {
        let (len, write) = (descriptor.len.get(), descriptor.flags.get() & DESC_WRITE != 0);
        if len == 0 {
            return Err(QueueError::ZeroLength { head });
        }
        if write {
            self.writable += u64::from(len);
        } else if self.writable > 0 {
            return Err(QueueError::BadOrder { head });
        }
        self.pieces += u64::from((len - 1) >> self.slot_shift) + 1;
        self.segments.push(Segment { guest: BoardAddr(descriptor.addr.get()), len, write });
        Ok(())
    }

    /// Bytes on the heap.
    pub(super) fn footprint(&self) -> usize {
        self.segments.capacity() * size_of::<Segment>()
    }
}
