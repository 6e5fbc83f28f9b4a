//! Guest to base: fetch what the guest made available, carry its readable payload into slots, publish shadow
//! chains.

use iobond_spec::{
    address::{Address, BaseAddr},
    ring::split::{DESC_INDIRECT, DESC_NEXT, DESC_SIZE, DESC_WRITE, Descriptor, avail_event_offset},
};
use zerocopy::little_endian::U16;

use super::{
    BURST, Progress, Queue, QueueError,
    chains::Chain,
    descriptors::{Prefetch, descriptor_address},
    entries::Entries,
    gather::Segment,
    read_ahead::SpeculativeRead,
    slots::{NONE, Piece},
};
use crate::fabric::{Copy, Direction, Fabric};

/// Chains that one call forwards at most, so that no queue keeps the others waiting.
const BOUND: u16 = 4 * BURST as u16;

/// What is known of the guest's available ring before [`Queue::forward`] reads it.
#[derive(Clone, Copy, Debug)]
pub enum Seen<'s> {
    /// Nothing: the available index is read first.
    Nothing,
    /// The available index, as NOTIFICATION_DATA carried it (virtio 1.3, 2.9).
    Index(u16),
    /// Index, entries and descriptors that were read ahead.
    Ahead(&'s SpeculativeRead),
}

/// How a chain finds its place in the shadow vring.
enum Place {
    /// As a chain of shadow descriptors.
    Direct,
    /// As one shadow descriptor that names a table in a slot.
    Indirect,
    /// Not now: slots or shadow descriptors are missing.
    Stall,
}

impl Queue {
    /// Forwards what the guest has made available, at most `most` chains. `seen` saves reads; `head_at` is
    /// where HEAD is mirrored in the status page.
    ///
    /// # Errors
    /// A [`QueueError`]; the queue does nothing any more afterwards.
    #[inline]
    pub async fn forward<F: Fabric>(
        &mut self,
        fabric: &F,
        seen: Seen<'_>,
        head_at: Option<BaseAddr>,
        most: u16,
    ) -> Result<Progress, QueueError> {
        if self.failed {
            return Ok(Progress::default());
        }
        let result = self.fetch(fabric, seen, head_at, most).await;
        self.failed = result.is_err();
        result
    }

    #[inline]
    async fn fetch<F: Fabric>(
        &mut self,
        fabric: &F,
        seen: Seen<'_>,
        head_at: Option<BaseAddr>,
        most: u16,
    ) -> Result<Progress, QueueError> {
        let stalled = std::mem::take(&mut self.stalled);
        let bound = BOUND.min(most);
        let mut progress = Progress::default();
        // The index is read before anything that it vouches for: the driver writes descriptors and entries
        // first and the index last (virtio 1.3, 2.7.13), and `load` keeps later reads behind it. An index
        // that came with a notification is as good, since the driver stored it before it sent the
        // notification.
        let (mut avail, mut ahead) = match seen {
            // After a stall what was seen may be older than what was known then, and the driver, whose chains
            // were all announced before, need not notify again: only memory says how far it got.
            Seen::Index(index) if !stalled => (self.announced_index(index)?, None),
            Seen::Ahead(ahead) if !stalled => (self.announced_index(ahead.avail())?, Some(ahead)),
            _ => (fabric.load(self.context.guest.avail_idx()).await?, None),
        };
        loop {
            let mut pending = self.pending(avail)?;
            // Once there is nothing left, and once per index: to ask while chains wait would bring
            // notifications of what is about to be fetched anyway.
            if pending == 0 && self.context.features.event_idx && self.armed != Some(self.next_avail) {
                avail = self.arm(fabric).await?;
                pending = self.pending(avail)?;
            }
            if pending == 0 || self.stalled {
                return Ok(progress);
            }
            if progress.chains >= bound {
                // Not armed: the caller comes back without a notification.
                progress.more = true;
                return Ok(progress);
            }
            pending = pending.min(bound - progress.chains);
            let (chains, bytes) = self.burst(fabric, pending, ahead.take(), head_at).await?;
            progress.chains += chains;
            progress.bytes += bytes;
        }
    }

    /// How many chains wait between the next one to fetch and `avail`.
    fn pending(&self, avail: u16) -> Result<u16, QueueError> {
        let (next, size) = (self.next_avail, self.context.guest.size);
        let pending = avail.wrapping_sub(next);
        if pending > size {
            return Err(QueueError::AvailJump { avail, next, size });
        }
        Ok(pending)
    }

    /// The available index that a notification claims. It may come late, after its chains were found by
    /// reading the index; then it says nothing new.
    fn announced_index(&self, index: u16) -> Result<u16, QueueError> {
        let (next, size) = (self.next_avail, self.context.guest.size);
        if index.wrapping_sub(next) <= size {
            Ok(index)
        } else if next.wrapping_sub(index) <= size {
            Ok(next)
        } else {
            Err(QueueError::BadDoorbell { avail: index, next, size })
        }
    }

    /// Asks for a notification at the next chain (virtio 1.3, 2.7.10), then reads the index again: the guest
    /// may have decided not to notify just before it could see the request. The fence is this side's half of
    /// the driver's barrier (2.7.13.4.1).
    async fn arm<F: Fabric>(&mut self, fabric: &F) -> Result<u16, QueueError> {
        let guest = &self.context.guest;
        let at = Address::from(guest.used).wrapping_add(avail_event_offset(guest.size));
        fabric.store(at, self.next_avail).await?;
        self.armed = Some(self.next_avail);
        fabric.fence();
        Ok(fabric.load(guest.avail_idx()).await?)
    }

    /// Forwards up to [`BURST`] of `pending` chains and publishes them at once. How many there were, and
    /// their payload bytes.
    #[inline]
    async fn burst<F: Fabric>(
        &mut self,
        fabric: &F,
        pending: u16,
        ahead: Option<&SpeculativeRead>,
        head_at: Option<BaseAddr>,
    ) -> Result<(u16, u64), QueueError> {
        let mut heads = [U16::ZERO; BURST];
        let heads = &mut heads[..usize::from(pending).min(BURST)];
        let guest = &self.context.guest;
        let available = Entries { ring: guest.avail.into(), size: guest.size, first: self.next_avail };
        if !ahead.is_some_and(|ahead| ahead.entries(self.next_avail, heads)) {
            available.read(fabric, heads).await?;
        }

        let (wanted, most) = (heads.len() as u32, self.gather.prefetch);
        let mut guest_table = Prefetch::new(guest.desc.into(), guest.size.into(), wanted, most);
        if let Some(ahead) = ahead {
            guest_table = guest_table.having_seen(ahead.descriptors());
        }
        // What is used is what was checked: `heads` and `gather` are copies, since the guest may change its
        // memory meanwhile and a second read would undo the check.
        let mut done = 0;
        for entry in heads.iter_mut() {
            let head = entry.get();
            self.gather.chain(fabric, &self.context, head, &mut guest_table).await?;
            let shadow_head = match self.place(head)? {
                Place::Direct => self.carry_direct(head),
                Place::Indirect => self.carry_indirect(head),
                Place::Stall => {
                    // Nothing of the chain was taken yet. It is walked again when a chain has been returned.
                    self.stalled = true;
                    self.counters.stalls = self.counters.stalls.wrapping_add(1);
                    break;
                }
            };
            *entry = U16::new(shadow_head);
            done += 1;
        }
        // The order that the back end relies on (virtio 1.3, 2.7.13): payload, descriptors, entries, index.
        // Posted writes do not pass one another (PCIe 5.0, 2.4.1), so none of these waits for the one before;
        // the shadow index comes last, once per burst, and until it is there a back end looks at none of
        // this. An error before leaves the index where it was.
        let bytes = self.copy_payload(fabric, Direction::Up).await?;
        self.counters.bytes_up = self.counters.bytes_up.wrapping_add(bytes as u32);
        self.shadow_descriptors.write(fabric).await?;
        self.publish(fabric, &heads[..done], head_at).await?;
        Ok((done as u16, bytes))
    }

    /// Decides how the chain that was gathered last goes into the shadow vring.
    #[inline]
    fn place(&self, head: u16) -> Result<Place, QueueError> {
        let (pieces, count) = (self.gather.pieces, u64::from(self.context.slot_count));
        let as_chain = pieces <= count && pieces <= u64::from(self.context.shadow.size);
        let as_table = self.context.features.shadow_indirect
            && pieces < count
            && pieces <= u64::from(self.context.table_capacity());
        if !as_chain && !as_table {
            let limit = self.context.slot_count.min(self.context.shadow.size);
            return Err(QueueError::ChainTooLong { head, limit: u32::from(limit) });
        }
        let (slots, descriptors) = (self.slots.available() as u64, self.chains.descriptors() as u64);
        if as_chain && pieces <= slots && pieces <= descriptors {
            Ok(Place::Direct)
        } else if as_table && pieces < slots && descriptors > 0 {
            Ok(Place::Indirect)
        } else {
            Ok(Place::Stall)
        }
    }

    /// Carries the gathered chain as shadow descriptors; `place` found them and the slots free. Returns the
    /// shadow head.
    #[inline]
    fn carry_direct(&mut self, guest_head: u16) -> u16 {
        let shadow_head = self.chains.take_descriptor();
        let first = self.carry(self.context.shadow.desc, shadow_head, false);
        self.chains
            .start(shadow_head, Chain { first, guest_head, table: NONE, writable: self.gather.writable });
        shadow_head
    }

    /// Carries the gathered chain as one shadow descriptor and a table in a slot of its own.
    fn carry_indirect(&mut self, guest_head: u16) -> u16 {
        let shadow_head = self.chains.take_descriptor();
        let table = self.slots.take();
        let table_at = self.slot_address(table);
        let first = self.carry(table_at, 0, true);
        let descriptor = Descriptor {
            addr: table_at.0.into(),
            len: (self.gather.pieces as u32 * DESC_SIZE as u32).into(),
            flags: DESC_INDIRECT.into(),
            next: U16::ZERO,
        };
        self.shadow_descriptors.add(descriptor_address(self.context.shadow.desc, shadow_head), descriptor);
        self.chains.start(shadow_head, Chain { first, guest_head, table, writable: self.gather.writable });
        shadow_head
    }

    /// Finds a slot for every piece of the gathered chain, and notes what is to be copied there and which
    /// descriptors are to name them: those of the table at `table` from `descriptor` on. In an indirect table
    /// consecutive descriptors follow, in the shadow vring whichever are free. Returns the slot of the first
    /// piece.
    #[inline]
    fn carry(&mut self, table: BaseAddr, mut descriptor: u16, indirect: bool) -> u16 {
        // Nothing here touches memory or fails: `place` found slots and descriptors enough, and what is noted
        // is copied and written once for the whole burst. The back end is given addresses of slots only;
        // where a piece came from stays in `slots`, which neither it nor the guest can reach, so that
        // returning trusts none of what they wrote meanwhile.
        let (mut first, mut last, mut left) = (NONE, NONE, self.gather.pieces);
        for &Segment { guest, len, write } in &self.gather.segments {
            let mut offset = 0;
            while offset < len {
                let part = (len - offset).min(self.context.slot_size);
                let (slot, from) = (self.slots.take(), guest.wrapping_add(u64::from(offset)));
                let at = self.context.slot_address(slot);
                // Of a writable piece nothing goes up. What its slot still holds of an earlier chain of this
                // queue goes down only as far as the back end says that it wrote over it, but for the quirk
                // `copy_all`.
                if !write {
                    self.payload.push(Copy { board: from, base: at, len: part });
                }
                left -= 1;
                let next = match (left > 0, indirect) {
                    (false, _) => 0,
                    (true, true) => descriptor + 1,
                    (true, false) => self.chains.take_descriptor(),
                };
                let flags = (DESC_WRITE * u16::from(write)) | (DESC_NEXT * u16::from(left > 0));
                self.shadow_descriptors.add(
                    descriptor_address(table, descriptor),
                    Descriptor {
                        addr: at.0.into(),
                        len: part.into(),
                        flags: flags.into(),
                        next: next.into(),
                    },
                );
                let named_by = if indirect { NONE } else { descriptor };
                *self.slots.piece(slot) = Piece::new(from, part, write, named_by);
                match last {
                    NONE => first = slot,
                    last => self.slots.piece(last).next = slot,
                }
                (last, descriptor, offset) = (slot, next, offset + part);
            }
        }
        first
    }

    /// Makes shadow chains available: entries, then the index, then HEAD.
    #[inline]
    async fn publish<F: Fabric>(
        &mut self,
        fabric: &F,
        heads: &[U16],
        head_at: Option<BaseAddr>,
    ) -> Result<(), QueueError> {
        if heads.is_empty() {
            return Ok(());
        }
        let shadow = &self.context.shadow;
        let available = Entries { ring: shadow.avail.into(), size: shadow.size, first: self.head };
        available.write(fabric, heads).await?;
        let chains = heads.len() as u16;
        self.head = self.head.wrapping_add(chains);
        self.next_avail = self.next_avail.wrapping_add(chains);
        self.counters.forwarded = self.counters.forwarded.wrapping_add(u32::from(chains));
        fabric.store(self.context.shadow.avail_idx(), self.head).await?;
        if let Some(at) = head_at {
            fabric.store(at.into(), self.head).await?;
        }
        Ok(())
    }
}
