//! A back end on a shadow vring: takes chains with the ring code of crate `virtio-queue`, as any vhost-user
//! back end would, and completes them in whatever order it is told.

use iobond_model::shadow::{Context, Ring};
use iobond_spec::{
    address::{Address, BaseAddr},
    ring::split::{IDX, UsedElement, used_element_offset},
};
use virtio_queue::{DescriptorChain, Queue, QueueOwnedT, QueueT, desc::split::Descriptor};
use vm_memory::{Address as _, Bytes, GuestAddress, GuestMemoryMmap};
use zerocopy::IntoBytes;

/// `virtio-queue`'s view of a ring.
pub fn foreign_queue<A: Copy + Into<Address>>(ring: &Ring<A>, event_idx: bool) -> Queue {
    let raw = |at: A| match at.into() {
        Address::Board(at) => GuestAddress(at.0),
        Address::Base(at) => GuestAddress(at.0),
    };
    let mut queue = Queue::new(ring.size).unwrap();
    queue.try_set_desc_table_address(raw(ring.desc)).unwrap();
    queue.try_set_avail_ring_address(raw(ring.avail)).unwrap();
    queue.try_set_used_ring_address(raw(ring.used)).unwrap();
    queue.set_event_idx(event_idx);
    queue.set_ready(true);
    queue
}

/// A range of memory: address and length.
pub type Extent = (u64, u32);

/// A chain as `virtio-queue` reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub head: u16,
    /// Readable bytes, concatenated.
    pub readable: Vec<u8>,
    /// Writable buffers.
    pub writable: Vec<Extent>,
}

impl Held {
    /// Writable bytes.
    pub fn writable(&self) -> u64 {
        self.writable.iter().map(|&(_, len)| u64::from(len)).sum()
    }

    /// Reads the payload of a parsed chain.
    pub fn read(memory: &GuestMemoryMmap, head: u16, descriptors: &[Descriptor]) -> Self {
        let mut held = Self { head, readable: Vec::new(), writable: Vec::new() };
        for descriptor in descriptors {
            if descriptor.is_write_only() {
                held.writable.push((descriptor.addr().raw_value(), descriptor.len()));
            } else {
                let start = held.readable.len();
                held.readable.resize(start + descriptor.len() as usize, 0);
                memory.read_slice(&mut held.readable[start..], descriptor.addr()).unwrap();
            }
        }
        held
    }
}

/// A back end of one queue.
pub struct BackEnd<'a> {
    memory: &'a GuestMemoryMmap,
    queue: Queue,
    ring: Ring<BaseAddr>,
    /// Chains that it has taken and not completed.
    pub held: Vec<Held>,
    /// Its used index.
    pub used: u16,
}

impl<'a> BackEnd<'a> {
    pub fn new(memory: &'a GuestMemoryMmap, context: &Context) -> Self {
        let ring = context.shadow;
        Self { memory, queue: foreign_queue(&ring, false), ring, held: Vec::new(), used: 0 }
    }

    /// Takes every chain that has become available; how many.
    pub fn take(&mut self) -> usize {
        let before = self.held.len();
        let chains: Vec<DescriptorChain<_>> = self.queue.iter(self.memory).unwrap().collect();
        self.held.extend(chains.into_iter().map(|chain| {
            let head = chain.head_index();
            let descriptors: Vec<Descriptor> = chain.collect();
            let whole = descriptors.last().is_some_and(|last| !last.has_next());
            assert!(whole, "the shadow chain at {head} is broken off: {descriptors:?}");
            Held::read(self.memory, head, &descriptors)
        }));
        self.held.len() - before
    }

    /// Completes the `nth` chain it holds, saying that it wrote `len` bytes; what stands in the writable
    /// bytes then. It writes all of them, whatever it says: only what it says may reach the guest.
    pub fn complete(&mut self, nth: usize, len: u32, seed: u8) -> (Held, Vec<u8>) {
        let chain = self.held.remove(nth);
        let payload: Vec<u8> = (0..chain.writable()).map(|i| seed.wrapping_add((i * 3) as u8)).collect();
        let mut rest = &payload[..];
        for &(at, len) in &chain.writable {
            let (first, more) = rest.split_at(len as usize);
            self.memory.write_slice(first, GuestAddress(at)).unwrap();
            rest = more;
        }
        self.push_used(u32::from(chain.head), len);
        (chain, payload)
    }

    /// Writes a used element, true or not.
    pub fn push_used(&mut self, id: u32, len: u32) {
        let element = UsedElement { id: id.into(), len: len.into() };
        let at = self.ring.used.0 + used_element_offset(self.used, self.ring.size);
        self.memory.write_slice(element.as_bytes(), GuestAddress(at)).unwrap();
        self.used = self.used.wrapping_add(1);
        self.memory.write_obj(self.used, GuestAddress(self.ring.used.0 + IDX)).unwrap();
    }
}
