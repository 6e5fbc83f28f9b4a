//! The driver's side of a split virtqueue (virtio 1.3, 2.7), by hand.

use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::{DEADLINE, EVENT_IDX, eventually};

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

/// A buffer of a chain.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    pub addr: u64,
    pub len: u32,
    pub writable: bool,
}

impl Part {
    pub fn readable(addr: u64, len: u32) -> Self {
        Self { addr, len, writable: false }
    }

    pub fn writable(addr: u64, len: u32) -> Self {
        Self { addr, len, writable: true }
    }
}

/// A ring with its notifications.
pub struct Ring {
    memory: GuestMemoryMmap,
    pub desc: u64,
    pub avail: u64,
    pub used: u64,
    indirect: u64,
    size: u16,
    event_idx: bool,
    next_desc: u16,
    pub next_avail: u16,
    next_used: u16,
    pub kick: EventFd,
    pub call: EventFd,
    /// Kicks that the device asked for.
    pub kicks: u64,
}

impl Ring {
    /// Bytes of guest memory for a ring of 1024, its tables for indirect descriptors included.
    pub const STRIDE: u64 = 0x4_0000;

    pub fn new(memory: GuestMemoryMmap, at: u64, size: u16, features: u64) -> Self {
        Self {
            memory,
            desc: at,
            avail: at + 0x8000,
            used: at + 0x1_0000,
            indirect: at + 0x2_0000,
            size,
            event_idx: features & EVENT_IDX != 0,
            next_desc: 0,
            next_avail: 0,
            next_used: 0,
            kick: EventFd::new(EFD_NONBLOCK).unwrap(),
            call: EventFd::new(EFD_NONBLOCK).unwrap(),
            kicks: 0,
        }
    }

    pub fn size(&self) -> u16 {
        self.size
    }

    fn write_u16(&self, at: u64, value: u16) {
        self.memory.store(value.to_le(), GuestAddress(at), Ordering::Release).unwrap();
    }

    fn read_u16(&self, at: u64) -> u16 {
        u16::from_le(self.memory.load(GuestAddress(at), Ordering::Acquire).unwrap())
    }

    /// Writes one descriptor, whatever it says, to `index` of the table at `table`.
    pub fn describe(&self, table: u64, index: u16, addr: u64, len: u32, flags: u16, next: u16) {
        let at = table + 16 * u64::from(index);
        self.memory.write_obj(addr.to_le(), GuestAddress(at)).unwrap();
        self.memory.write_obj(len.to_le(), GuestAddress(at + 8)).unwrap();
        self.memory.write_obj(flags.to_le(), GuestAddress(at + 12)).unwrap();
        self.memory.write_obj(next.to_le(), GuestAddress(at + 14)).unwrap();
    }

    /// Makes a chain available. Descriptors are taken in turn, so that at most `size` may be outstanding.
    pub fn add(&mut self, parts: &[Part]) -> u16 {
        let head = self.next_desc;
        for (index, part) in parts.iter().enumerate() {
            let here = self.next_desc;
            self.next_desc = (here + 1) % self.size;
            let last = index + 1 == parts.len();
            let flags = if part.writable { WRITE } else { 0 } | if last { 0 } else { NEXT };
            self.describe(self.desc, here, part.addr, part.len, flags, self.next_desc);
        }
        self.offer(head);
        head
    }

    /// Makes a chain available through an indirect table. One at a time.
    pub fn add_indirect(&mut self, parts: &[Part]) -> u16 {
        for (index, part) in parts.iter().enumerate() {
            let last = index + 1 == parts.len();
            let flags = if part.writable { WRITE } else { 0 } | if last { 0 } else { NEXT };
            self.describe(self.indirect, index as u16, part.addr, part.len, flags, index as u16 + 1);
        }
        let head = self.next_desc;
        self.next_desc = (head + 1) % self.size;
        self.describe(self.desc, head, self.indirect, 16 * parts.len() as u32, INDIRECT, 0);
        self.offer(head);
        head
    }

    /// Puts `head`, whatever it is, into the available ring.
    pub fn offer(&mut self, head: u16) {
        self.write_u16(self.avail + 4 + 2 * u64::from(self.next_avail % self.size), head);
        self.next_avail = self.next_avail.wrapping_add(1);
        self.write_u16(self.avail + 2, self.next_avail);
    }

    /// Kicks if the device wants it for the last `added` chains (2.7.10.2).
    pub fn notify(&mut self, added: u16) {
        fence(Ordering::SeqCst);
        let wanted = match self.event_idx {
            true => {
                let event = self.read_u16(self.used + 4 + 8 * u64::from(self.size));
                self.next_avail.wrapping_sub(event).wrapping_sub(1) < added
            }
            false => self.read_u16(self.used) & 1 == 0,
        };
        if wanted {
            self.kicks += 1;
            self.kick.write(1).unwrap();
        }
    }

    /// The next used chain: its head and the length that the device wrote.
    pub fn take_used(&mut self) -> Option<(u16, u32)> {
        if self.read_u16(self.used + 2) == self.next_used {
            return None;
        }
        let at = self.used + 4 + 8 * u64::from(self.next_used % self.size);
        let id: u32 = self.memory.read_obj(GuestAddress(at)).unwrap();
        let len: u32 = self.memory.read_obj(GuestAddress(at + 4)).unwrap();
        self.next_used = self.next_used.wrapping_add(1);
        if self.event_idx {
            self.write_u16(self.avail + 4 + 2 * u64::from(self.size), self.next_used);
        }
        Some((u32::from_le(id) as u16, u32::from_le(len)))
    }

    /// Waits for the next used chain.
    pub fn wait_used(&mut self) -> (u16, u32) {
        let start = Instant::now();
        loop {
            if let Some(used) = self.take_used() {
                return used;
            }
            assert!(start.elapsed() < DEADLINE, "the device does not answer");
            std::thread::yield_now();
        }
    }

    /// Whether nothing is used within `time`.
    pub fn stays_idle(&mut self, time: Duration) -> bool {
        let start = Instant::now();
        while start.elapsed() < time {
            if self.take_used().is_some() {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }

    /// Waits until the device interrupts.
    pub fn wait_call(&self) {
        eventually("an interrupt", || self.call.read().is_ok());
    }
}
