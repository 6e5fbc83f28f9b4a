//! The oracle: what crate `virtio-queue` makes of a guest ring, and where IO-Bond is stricter than it.
//!
//! `virtio-queue` ends a chain that it does not like without a word, and lets some things pass that the
//! specification forbids a driver to do. IO-Bond stops the queue instead, so that a broken driver is noticed
//! where it breaks. Each difference stands in [`Oracle::verdicts`] with its clause.

use iobond_model::shadow::Context;
use iobond_spec::{
    registers::components::queue_error_e::QueueErrorE as Code,
    ring::split::{DESC_INDIRECT, DESC_NEXT, DESC_SIZE, Descriptor},
};
use virtio_queue::{DescriptorChain, Queue, QueueOwnedT, QueueT, desc::split::Descriptor as Foreign};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};
use zerocopy::{FromZeros, IntoBytes};

use super::{
    BOARD, LANE, LANES, Rig,
    back_end::{Extent, Held, foreign_queue},
};

/// Longest indirect table that IO-Bond walks.
const MAX_INDIRECT: u32 = 1024;

/// What should become of a chain.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// It goes up, and is this.
    Forward(Held),
    /// It stops the queue, for one of these reasons; which comes first depends on the order of the walk.
    Refuse(Vec<Code>),
}

impl Verdict {
    /// Why the chain stops the queue, if it does.
    pub fn reasons(&self) -> &[Code] {
        match self {
            Self::Forward(_) => &[],
            Self::Refuse(reasons) => reasons,
        }
    }
}

/// Whether slots and shadow table can ever hold a chain of buffers of these lengths: as a chain, or as a
/// table in a slot of its own.
pub fn fits(context: &Context, lengths: impl Iterator<Item = u32>) -> bool {
    let &Context { slot_size, slot_count, shadow, features, .. } = context;
    let pieces: u64 = lengths.map(|len| u64::from(len.div_ceil(slot_size))).sum();
    pieces <= u64::from(slot_count.min(shadow.size))
        || features.shadow_indirect
            && pieces < u64::from(slot_count)
            && pieces * DESC_SIZE <= u64::from(slot_size)
}

/// `virtio-queue` on a snapshot of board memory.
pub struct Oracle {
    pub snapshot: GuestMemoryMmap,
    pub queue: Queue,
    context: Context,
}

impl Oracle {
    pub fn new(context: &Context) -> Self {
        let range = (GuestAddress(BOARD), (LANES * LANE) as usize);
        Self {
            snapshot: GuestMemoryMmap::from_ranges(&[range]).unwrap(),
            queue: foreign_queue(&context.guest, context.features.event_idx),
            context: *context,
        }
    }

    /// Looks at board memory as it is now.
    pub fn look(&mut self, rig: &Rig) {
        let mut bytes = vec![0; (LANES * LANE) as usize];
        rig.board.read_slice(&mut bytes, GuestAddress(BOARD)).unwrap();
        self.snapshot.write_slice(&bytes, GuestAddress(BOARD)).unwrap();
    }

    /// What should become of every chain from free-running index `next` on; `None` when the available index
    /// has jumped, of which both say the same.
    pub fn verdicts(&mut self, next: u16) -> Option<Vec<Verdict>> {
        self.queue.set_next_avail(next);
        let chains: Vec<_> = self.queue.iter(&self.snapshot).ok()?.collect();
        Some(chains.into_iter().map(|chain| self.verdict(chain)).collect())
    }

    fn verdict(&self, chain: DescriptorChain<&GuestMemoryMmap>) -> Verdict {
        let head = chain.head_index();
        let descriptors: Vec<Foreign> = chain.collect();
        let mut reasons = Vec::new();
        // virtio 1.3, 2.7.13.1: an available entry is the index of a descriptor. virtio-queue yields an empty
        // chain.
        if head >= self.context.guest.size {
            return Verdict::Refuse(vec![Code::BadHead]);
        }
        // virtio 1.3, 2.7.5.2: no loops; 2.7.5.3.1: no nested tables, and `next` stays inside of its table.
        // virtio-queue breaks the chain off: its last descriptor still says that there is a next one. It also
        // does where the bytes of a chain pass 2^32 (2.7.5.2), and does not see what stands behind; IO-Bond
        // walks on and objects to that, or to the length.
        if descriptors.last().is_none_or(Foreign::has_next) {
            reasons.extend([
                Code::BadNext,
                Code::BadOrder,
                Code::ChainTooLong,
                Code::BadIndirect,
                Code::ZeroLength,
                Code::BoardFault,
            ]);
        }
        if let Some(table) = self.table_of(head) {
            let (len, flags) = (table.len.get(), table.flags.get());
            // virtio 1.3, 2.7.5.3.1: no table without VIRTIO_F_INDIRECT_DESC, none longer than the queue
            // (here: than what drivers of small queues really do), and not both flags. virtio-queue takes all
            // three.
            if !self.context.features.indirect
                || flags & DESC_NEXT != 0
                || len / DESC_SIZE as u32 > MAX_INDIRECT.max(u32::from(self.context.guest.size))
            {
                reasons.push(Code::BadIndirect);
            }
        }
        // A buffer of no bytes is nothing that a device can read or write; a driver has no reason to send
        // one. virtio-queue hands it on.
        if descriptors.iter().any(|descriptor| descriptor.len() == 0) {
            reasons.push(Code::ZeroLength);
        }
        // virtio 1.3, 2.7.4.2: the device-writable part comes after the device-readable one. virtio-queue
        // does not look.
        let first_write = descriptors.iter().position(Foreign::is_write_only).unwrap_or(descriptors.len());
        if descriptors[first_write..].iter().any(|descriptor| !descriptor.is_write_only()) {
            reasons.push(Code::BadOrder);
        }
        if !fits(&self.context, descriptors.iter().map(Foreign::len)) {
            reasons.push(Code::ChainTooLong);
        }
        // IO-Bond reads what is readable when it forwards; virtio-queue leaves that to the device.
        let readable = |d: &&Foreign| !d.is_write_only() && d.len() > 0;
        if descriptors.iter().filter(readable).any(|d| !self.in_memory((d.addr().0, d.len()))) {
            reasons.push(Code::BoardFault);
        }
        if reasons.is_empty() {
            Verdict::Forward(Held::read(&self.snapshot, head, &descriptors))
        } else {
            Verdict::Refuse(reasons)
        }
    }

    /// The descriptor of the chain at `head` that names an indirect table: `virtio-queue` does not tell.
    fn table_of(&self, head: u16) -> Option<Descriptor> {
        let ring = &self.context.guest;
        let mut index = head;
        for _ in 0..ring.size {
            let mut descriptor = Descriptor::new_zeroed();
            let at = GuestAddress(ring.desc.0 + u64::from(index) * DESC_SIZE);
            self.snapshot.read_slice(descriptor.as_mut_bytes(), at).unwrap();
            let flags = descriptor.flags.get();
            if flags & DESC_INDIRECT != 0 {
                return Some(descriptor);
            }
            index = descriptor.next.get();
            if flags & DESC_NEXT == 0 || index >= ring.size {
                return None;
            }
        }
        None
    }

    fn in_memory(&self, (at, len): Extent) -> bool {
        self.snapshot.check_range(GuestAddress(at), len as usize)
    }

    /// Does to the snapshot what returning `chain` should do to board memory: exactly the first
    /// `payload.len()` writable bytes and a used element that says `len`. `false` when a writable buffer is
    /// not in board memory; what comes before it, slot by slot, is written all the same, and there is no used
    /// element.
    pub fn give_back(&mut self, chain: &Held, payload: &[u8], len: u32) -> bool {
        let mut rest = payload;
        for &(start, buffer) in &chain.writable {
            for offset in (0..buffer).step_by(self.context.slot_size as usize) {
                let piece = (buffer - offset).min(self.context.slot_size) as usize;
                let (now, later) = rest.split_at(piece.min(rest.len()));
                let at = GuestAddress(start.wrapping_add(u64::from(offset)));
                if !now.is_empty() && self.snapshot.check_range(at, now.len()) {
                    self.snapshot.write_slice(now, at).unwrap();
                } else if !now.is_empty() {
                    return false;
                }
                rest = later;
            }
        }
        self.queue.add_used(&self.snapshot, chain.head, len).unwrap();
        true
    }
}
