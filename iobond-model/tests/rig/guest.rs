//! The driver's side of a guest ring: makes chains available and takes them back (virtio 1.3, 2.7.13 and
//! 2.7.14).

use iobond_model::shadow::{Context, Ring};
use iobond_spec::{
    address::BoardAddr,
    ring::split::{
        DESC_INDIRECT, DESC_NEXT, DESC_SIZE, DESC_WRITE, Descriptor, FLAGS, UsedElement, avail_entry_offset,
        used_element_offset, used_event_offset,
    },
};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use zerocopy::{FromZeros, IntoBytes};

use super::{ARENA, ARENAS, TABLE_BYTES};

/// A buffer of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer {
    pub len: u32,
    pub write: bool,
}

/// A chain to offer.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Buffers, the readable ones first; together they fit into an arena.
    pub buffers: Vec<Buffer>,
    /// How many of them, the last ones, stand in an indirect table.
    pub in_table: usize,
    /// What the readable bytes are made of.
    pub seed: u8,
}

/// A readable buffer of `len` bytes.
pub const fn out(len: u32) -> Buffer {
    Buffer { len, write: false }
}

/// A writable buffer of `len` bytes.
pub const fn writable(len: u32) -> Buffer {
    Buffer { len, write: true }
}

/// A chain of direct descriptors.
pub fn direct(buffers: &[Buffer]) -> Plan {
    Plan { buffers: buffers.to_vec(), in_table: 0, seed: 0x5A }
}

/// A chain that is one indirect table.
pub fn indirect(buffers: &[Buffer]) -> Plan {
    Plan { buffers: buffers.to_vec(), in_table: buffers.len(), seed: 0xA5 }
}

impl Plan {
    fn direct_descriptors(&self) -> usize {
        self.buffers.len() - self.in_table + usize::from(self.in_table > 0)
    }
}

/// A descriptor, in plain numbers.
pub fn descriptor(addr: u64, len: u32, flags: u16, next: u16) -> Descriptor {
    Descriptor { addr: addr.into(), len: len.into(), flags: flags.into(), next: next.into() }
}

/// A guest's driver of one queue.
pub struct Guest<'a> {
    pub memory: &'a GuestMemoryMmap,
    pub ring: Ring<BoardAddr>,
    arenas: u64,
    free: Vec<u16>,
    /// Descriptors of the chain at each head.
    taken: Vec<Vec<u16>>,
    /// Its available index.
    pub avail: u16,
    /// How far it has looked at the used ring.
    pub used: u16,
}

impl<'a> Guest<'a> {
    pub fn new(memory: &'a GuestMemoryMmap, context: &Context) -> Self {
        let ring = context.guest;
        Self {
            memory,
            ring,
            arenas: ring.desc.0 - 0x1000 + ARENAS,
            free: (0..ring.size).rev().collect(),
            taken: vec![Vec::new(); usize::from(ring.size)],
            avail: 0,
            used: 0,
        }
    }

    /// Start of the arena of `head`.
    pub fn arena(&self, head: u16) -> u64 {
        self.arenas + u64::from(head) * ARENA
    }

    /// Writes the chain and makes it available; its head, or nothing where descriptors are short.
    pub fn offer(&mut self, plan: &Plan) -> Option<u16> {
        let wanted = plan.direct_descriptors();
        let first = self.free.len().checked_sub(wanted)?;
        let mut taken = self.free.split_off(first);
        taken.reverse();
        let head = taken[0];
        self.write_chain(plan, &taken);
        self.taken[usize::from(head)] = taken;
        self.publish(head);
        Some(head)
    }

    fn write_chain(&self, plan: &Plan, taken: &[u16]) {
        let arena = self.arena(taken[0]);
        let mut at = arena + TABLE_BYTES;
        let mut descriptors = Vec::new();
        for buffer in &plan.buffers {
            let flags = if buffer.write { DESC_WRITE } else { 0 };
            let fill: Vec<u8> = (0..buffer.len).map(|i| plan.seed.wrapping_add((i * 7) as u8)).collect();
            self.memory.write_slice(&fill, GuestAddress(at)).unwrap();
            descriptors.push(descriptor(at, buffer.len, flags, 0));
            at += u64::from(buffer.len);
        }
        assert!(at <= arena + ARENA, "the plan does not fit into an arena");
        if plan.in_table > 0 {
            let mut table = descriptors.split_off(descriptors.len() - plan.in_table);
            link(&mut table, |n| n as u16);
            self.memory.write_slice(table.as_bytes(), GuestAddress(arena)).unwrap();
            descriptors.push(descriptor(arena, table.len() as u32 * DESC_SIZE as u32, DESC_INDIRECT, 0));
        }
        link(&mut descriptors, |n| taken[n]);
        for (&index, descriptor) in taken.iter().zip(descriptors) {
            self.set_descriptor(index, descriptor);
        }
    }

    /// Puts `head` into the available ring and moves the index.
    pub fn publish(&mut self, head: u16) {
        self.set_available(self.avail, head);
        self.avail = self.avail.wrapping_add(1);
        self.set_avail_index(self.avail);
    }

    /// Overwrites a descriptor of the ring's table.
    pub fn set_descriptor(&self, index: u16, descriptor: Descriptor) {
        let at = self.ring.desc.0 + u64::from(index) * DESC_SIZE;
        self.memory.write_slice(descriptor.as_bytes(), GuestAddress(at)).unwrap();
    }

    /// Reads a descriptor of the ring's table back.
    pub fn descriptor(&self, index: u16) -> Descriptor {
        let mut descriptor = Descriptor::new_zeroed();
        let at = self.ring.desc.0 + u64::from(index) * DESC_SIZE;
        self.memory.read_slice(descriptor.as_mut_bytes(), GuestAddress(at)).unwrap();
        descriptor
    }

    /// Overwrites the available entry of free-running `index`.
    pub fn set_available(&self, index: u16, head: u16) {
        let at = self.ring.avail.0 + avail_entry_offset(index, self.ring.size);
        self.memory.write_obj(head, GuestAddress(at)).unwrap();
    }

    /// Overwrites the available index, as a guest that lies does.
    pub fn set_avail_index(&self, index: u16) {
        self.memory.write_obj(index, GuestAddress(self.ring.avail.0 + 2)).unwrap();
    }

    /// Sets `used_event` (virtio 1.3, 2.7.7).
    pub fn set_used_event(&self, index: u16) {
        let at = self.ring.avail.0 + used_event_offset(self.ring.size);
        self.memory.write_obj(index, GuestAddress(at)).unwrap();
    }

    /// Sets the flags of the available ring.
    pub fn set_flags(&self, flags: u16) {
        self.memory.write_obj(flags, GuestAddress(self.ring.avail.0 + FLAGS)).unwrap();
    }

    /// The used index that the device has published.
    pub fn used_index(&self) -> u16 {
        self.memory.read_obj(GuestAddress(self.ring.used.0 + 2)).unwrap()
    }

    /// Takes used chains back: (head, bytes written), in order.
    pub fn collect(&mut self) -> Vec<(u16, u32)> {
        let mut collected = Vec::new();
        while self.used != self.used_index() {
            let mut element = UsedElement::default();
            let at = self.ring.used.0 + used_element_offset(self.used, self.ring.size);
            self.memory.read_slice(element.as_mut_bytes(), GuestAddress(at)).unwrap();
            let head = element.id.get() as u16;
            self.free.append(&mut self.taken[usize::from(head)]);
            self.used = self.used.wrapping_add(1);
            collected.push((head, element.len.get()));
        }
        collected
    }
}

fn link(descriptors: &mut [Descriptor], name: impl Fn(usize) -> u16) {
    for n in 1..descriptors.len() {
        let before = &mut descriptors[n - 1];
        before.flags = (before.flags.get() | DESC_NEXT).into();
        before.next = name(n).into();
    }
}
