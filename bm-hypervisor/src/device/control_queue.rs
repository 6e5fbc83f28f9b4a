//! The control queue of a network device (virtio 1.3, 5.1.6.5), worked by bm-hypervisor itself.
//!
//! To IO-Bond and the poll pass it is a shadow vring like any other; its back end is [`ControlQueue`], on the
//! control thread: a kick wakes that thread, and an interrupt the poll thread. Only the number of queue pairs
//! can be set; any other command is answered VIRTIO_NET_ERR.

use std::sync::{
    Arc,
    atomic::{AtomicU16, Ordering, fence},
};

use iobond_spec::ring::split::{
    AVAIL_NO_INTERRUPT, DESC_INDIRECT, DESC_NEXT, DESC_SIZE, DESC_WRITE, Descriptor, FLAGS, IDX, UsedElement,
    avail_entry_offset, used_element_offset,
};
use virtio_bindings::virtio_net::{
    VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, VIRTIO_NET_ERR, VIRTIO_NET_OK,
};
use zerocopy::{FromZeros, IntoBytes};

use crate::pool::{IOVA, Mapping, Place};

/// Class, command and number of pairs: the longest command that is understood.
const COMMAND_SIZE: usize = 4;

/// The device's half of a control queue, over its shadow vring.
pub(crate) struct ControlQueue {
    mapping: Arc<Mapping>,
    place: Place,
    /// Chains taken, which is also chains used: they are worked one after the other.
    taken: u16,
}

/// What a chain holds: the first bytes to read, and where in the pool to answer.
struct Chain {
    command: [u8; COMMAND_SIZE],
    length: usize,
    answer: Option<u64>,
}

impl ControlQueue {
    /// The queue at `place`, on rings of zeroes.
    pub(crate) fn new(mapping: Arc<Mapping>, place: &Place) -> Self {
        Self { mapping, place: *place, taken: 0 }
    }

    /// The queue at `place`, as a previous process left it: a command that was not used by then is worked
    /// once more.
    pub(crate) fn resumed(mapping: Arc<Mapping>, place: &Place) -> Self {
        let mut queue = Self::new(mapping, place);
        queue.taken = queue.index(place.used).map_or(0, |used| used.load(Ordering::Acquire));
        queue
    }

    /// Works every command that is there, at most a ring of them, and interrupts if that is wanted. The
    /// number of pairs that the driver chose, if it did: 1 to `most`.
    pub(crate) fn serve(&mut self, most: u16, interrupt: impl FnOnce()) -> Option<u16> {
        let published = self.index(self.place.avail)?.load(Ordering::Acquire);
        let waiting = published.wrapping_sub(self.taken).min(self.place.sizes.shadow);
        let mut chosen = None;
        for _ in 0..waiting {
            let pairs = self.work_one(most);
            chosen = pairs.or(chosen);
            self.taken = self.taken.wrapping_add(1);
        }
        if waiting > 0 {
            self.index(self.place.used)?.store(self.taken, Ordering::Release);
            // The used index before the flags (virtio 1.3, 2.7.7.2).
            fence(Ordering::SeqCst);
            if self.word(self.place.avail + FLAGS)?.load(Ordering::Relaxed) & AVAIL_NO_INTERRUPT == 0 {
                interrupt();
            }
        }
        chosen
    }

    fn work_one(&self, most: u16) -> Option<u16> {
        let size = self.place.sizes.shadow;
        let mut head = [0; 2];
        self.mapping.read(self.place.avail + avail_entry_offset(self.taken, size), &mut head);
        let head = u16::from_le_bytes(head);
        let chain = self.read_chain(head);
        let chosen = chain.pairs().filter(|pairs| (1..=most).contains(pairs));
        let ack = if chosen.is_some() { VIRTIO_NET_OK } else { VIRTIO_NET_ERR };
        let written = chain.answer.is_some_and(|answer| self.mapping.write(answer, &[ack as u8]));
        let used = UsedElement { id: u32::from(head).into(), len: u32::from(written).into() };
        self.mapping.write(self.place.used + used_element_offset(self.taken, size), used.as_bytes());
        chosen
    }

    /// Follows a chain through the descriptor table, for at most as many steps as that is long.
    fn read_chain(&self, head: u16) -> Chain {
        let mut chain = Chain { command: [0; COMMAND_SIZE], length: 0, answer: None };
        let mut next = head;
        for _ in 0..self.place.sizes.shadow {
            let Some(descriptor) = self.descriptor(next) else { break };
            let flags = descriptor.flags.get();
            let (at, length) = (descriptor.addr.get().wrapping_sub(IOVA.0), descriptor.len.get());
            match self.place.has_slots(at, length) {
                true if flags & DESC_WRITE != 0 => chain.answer = chain.answer.or(Some(at)),
                true => self.append(&mut chain, at, length),
                // Not IO-Bond's doing: a back end wrote into the ring. Without a place for the answer it is
                // not a command.
                false => {}
            }
            if flags & (DESC_NEXT | DESC_INDIRECT) != DESC_NEXT {
                break;
            }
            next = descriptor.next.get();
        }
        chain
    }

    fn append(&self, chain: &mut Chain, at: u64, length: u32) {
        let rest = chain.command.get_mut(chain.length..).unwrap_or_default();
        let take = rest.len().min(length as usize);
        if self.mapping.read(at, &mut rest[..take]) {
            chain.length += take;
        }
    }

    fn descriptor(&self, index: u16) -> Option<Descriptor> {
        let mut descriptor = Descriptor::new_zeroed();
        let at = self.place.desc + DESC_SIZE * u64::from(index);
        (index < self.place.sizes.shadow && self.mapping.read(at, descriptor.as_mut_bytes()))
            .then_some(descriptor)
    }

    /// The free-running index of the ring at `ring`.
    fn index(&self, ring: u64) -> Option<&AtomicU16> {
        self.word(ring + IDX)
    }

    /// The 16-bit word at `offset` in the pool.
    fn word(&self, offset: u64) -> Option<&AtomicU16> {
        self.mapping.words16().get((offset / 2) as usize)
    }
}

impl Chain {
    /// The number of pairs to set, if that is the command (virtio 1.3, 5.1.6.5.5).
    fn pairs(&self) -> Option<u16> {
        const SET: [u8; 2] = [VIRTIO_NET_CTRL_MQ as u8, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET as u8];
        let [class, command, low, high] = self.command;
        (self.length == COMMAND_SIZE && [class, command] == SET && self.answer.is_some())
            .then_some(u16::from_le_bytes([low, high]))
    }
}
