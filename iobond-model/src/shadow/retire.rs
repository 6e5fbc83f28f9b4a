//! Base to guest: return what the back end has used, with exactly the bytes it wrote.

use iobond_spec::{
    address::Address,
    ring::split::{AVAIL_NO_INTERRUPT, FLAGS, UsedElement, need_event, used_event_offset},
};

use super::{BURST, Progress, Queue, QueueError, chains::Chain, entries::Entries, slots::NONE};
use crate::fabric::{Copy, Direction, Fabric};

/// Chains that one call returns at most, so that no queue keeps the others waiting.
const BOUND: u16 = 4 * BURST as u16;

impl Queue {
    /// Returns to the guest what the back end has used up to `tail`, the shadow used index that the base
    /// vouches for, at most `most` chains, and interrupts the guest unless it does not want that.
    ///
    /// # Errors
    /// A [`QueueError`]; the queue does nothing any more afterwards.
    #[inline]
    pub async fn retire<F: Fabric>(
        &mut self,
        fabric: &F,
        tail: u16,
        most: u16,
    ) -> Result<Progress, QueueError> {
        if self.failed {
            return Ok(Progress::default());
        }
        let result = self.settle(fabric, tail, most).await;
        self.failed = result.is_err();
        result
    }

    #[inline]
    async fn settle<F: Fabric>(&mut self, fabric: &F, tail: u16, most: u16) -> Result<Progress, QueueError> {
        // TAIL stands for the back end's used index: the base read it, so the elements before it are there
        // (virtio 1.3, 2.7.14) and are not looked for here. It is the base's word all the same, and may not
        // name more than can be in flight.
        let pending = tail.wrapping_sub(self.next_used);
        if pending > self.context.shadow.size {
            return Err(QueueError::TailJump { tail, next: self.next_used, size: self.context.shadow.size });
        }
        // Bounded, so that other queues have their turn; the caller sees `more`.
        let chains = pending.min(BOUND).min(most);
        let mut bytes = 0;
        let before = self.guest_used;
        let mut left = chains;
        while left > 0 {
            let burst = left.min(BURST as u16).min(self.context.guest.size);
            bytes += self.return_burst(fabric, burst).await?;
            left -= burst;
        }
        // Once per call, for everything since `before`: with EVENT_IDX the guest names one index, which any
        // of the bursts may have passed (virtio 1.3, 2.7.7.2), and without it one interrupt says as much as
        // several.
        if chains > 0 && self.wants_interrupt(fabric, before).await? {
            fabric.interrupt(self.context.function, self.context.vector);
            self.counters.interrupts = self.counters.interrupts.wrapping_add(1);
        }
        Ok(Progress { chains, bytes, more: pending > chains })
    }

    /// Returns `count` chains, at most [`BURST`], and publishes them at once. How many payload bytes there
    /// were.
    #[inline]
    async fn return_burst<F: Fabric>(&mut self, fabric: &F, count: u16) -> Result<u64, QueueError> {
        let mut used = [UsedElement::default(); BURST];
        let used = &mut used[..usize::from(count)];
        let (shadow, guest) = (&self.context.shadow, &self.context.guest);
        let by_back_end = Entries { ring: shadow.used.into(), size: shadow.size, first: self.next_used };
        let for_guest = Entries { ring: guest.used.into(), size: guest.size, first: self.guest_used };
        by_back_end.read(fabric, used).await?;
        for element in used.iter_mut() {
            *element = self.return_chain(*element)?;
        }
        // Payload, elements, index, in this order: a guest that sees the index finds all of it (virtio 1.3,
        // 2.7.8.2).
        let bytes = self.copy_payload(fabric, Direction::Down).await?;
        self.counters.bytes_down = self.counters.bytes_down.wrapping_add(bytes as u32);
        for_guest.write(fabric, used).await?;
        self.next_used = self.next_used.wrapping_add(count);
        self.guest_used = self.guest_used.wrapping_add(count);
        self.counters.retired = self.counters.retired.wrapping_add(u32::from(count));
        fabric.store(self.context.guest.used_idx(), self.guest_used).await?;
        Ok(bytes)
    }

    /// Returns the chain that the back end used; what the guest is told of it.
    #[inline]
    fn return_chain(&mut self, element: UsedElement) -> Result<UsedElement, QueueError> {
        let (id, len) = (element.id.get(), element.len.get());
        let size = self.context.shadow.size;
        let chain = self.chains.get(id).ok_or(QueueError::BadUsed { id, size })?;
        let copy_all = self.context.features.copy_all;
        if u64::from(len) > chain.writable && !copy_all {
            return Err(QueueError::BadUsedLength { id, len, writable: chain.writable });
        }
        self.release(id, &chain, if copy_all { chain.writable } else { u64::from(len) });
        let told = u64::from(len).min(chain.writable) as u32;
        Ok(UsedElement { id: u32::from(chain.guest_head).into(), len: told.into() })
    }

    /// Frees what `chain` held, and notes that its first `written` writable bytes are to be copied back.
    #[inline]
    fn release(&mut self, id: u32, chain: &Chain, written: u64) {
        let mut left = written;
        let mut slot = chain.first;
        while slot != NONE {
            let piece = *self.slots.piece(slot);
            if piece.is_write() && left > 0 {
                let len = left.min(u64::from(piece.len())) as u32;
                self.payload.push(Copy { board: piece.guest, base: self.context.slot_address(slot), len });
                left -= u64::from(len);
            }
            if piece.descriptor != NONE {
                self.chains.give_descriptor(piece.descriptor);
            }
            self.slots.give(slot);
            slot = piece.next;
        }
        if chain.table != NONE {
            self.slots.give(chain.table);
            self.chains.give_descriptor(id as u16);
        }
        self.chains.finish(id);
    }

    /// Whether the guest wants to be interrupted for used indices since `before` (virtio 1.3, 2.7.7.2). The
    /// used index must be visible before the guest's wish is read, or both sides may wait for each other.
    async fn wants_interrupt<F: Fabric>(&self, fabric: &F, before: u16) -> Result<bool, QueueError> {
        fabric.fence();
        let guest = &self.context.guest;
        let avail = Address::from(guest.avail);
        if self.context.features.event_idx {
            let event = fabric.load(avail.wrapping_add(used_event_offset(guest.size))).await?;
            Ok(need_event(event, self.guest_used, before))
        } else {
            Ok(fabric.load(avail.wrapping_add(FLAGS)).await? & AVAIL_NO_INTERRUPT == 0)
        }
    }
}
