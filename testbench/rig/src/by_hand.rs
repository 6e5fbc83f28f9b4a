//! A queue whose rings are written by hand, as a hostile driver may.
//!
//! ```text
//!   four pages of board memory
//!   | descriptors | available ring | used ring | tables and buffers |
//! ```

use std::{rc::Rc, time::Instant};

use crate::live_world::{DEADLINE, Software, Transport};
use iobond_spec::{
    address::BoardAddr,
    function::{NOTIFY, NOTIFY_MULTIPLIER},
    ring::split::{self, Descriptor},
};
use software_board::{
    bus::Bus,
    memory::{DmaMemory, PAGE},
    transport::{BoardTransport, message_data},
};
use virtio_drivers::transport::{DeviceStatus, Transport as _};
use vm_memory::{Bytes, GuestAddress};

/// Entries of a ring by hand.
pub const SIZE: u16 = 16;

/// Three areas of a ring, in board memory.
#[derive(Clone, Copy, Debug)]
pub struct Areas {
    pub desc: u64,
    pub avail: u64,
    pub used: u64,
}

pub struct ByHand {
    pub transport: Transport,
    /// The rings in memory; a queue may be told of others.
    pub areas: Areas,
    /// A page for tables and buffers.
    pub arena: u64,
    memory: Rc<DmaMemory>,
    published: u16,
}

pub fn descriptor(addr: u64, len: u32, flags: u16, next: u16) -> Descriptor {
    Descriptor { addr: addr.into(), len: len.into(), flags: flags.into(), next: next.into() }
}

impl ByHand {
    /// Resets function `function` and negotiates `features`. Its queues are set up next, then
    /// [`ByHand::activate`].
    pub fn new(software: &Software, function: usize, features: u64) -> Self {
        let mut transport = software.transport(function);
        let accepted = transport.negotiate(features).unwrap();
        assert_eq!(accepted & features, features, "not all of {features:#x} was offered");
        let pages = software.memory.allocate(4).unwrap().0;
        software.memory.memory().write_slice(&[0; 4 * PAGE as usize], GuestAddress(pages)).unwrap();
        let areas = Areas { desc: pages, avail: pages + PAGE, used: pages + 2 * PAGE };
        Self { transport, areas, arena: pages + 3 * PAGE, memory: Rc::clone(&software.memory), published: 0 }
    }

    /// Enables queue 0 with rings at `areas`.
    pub fn enable_at(&mut self, areas: Areas) {
        self.transport.queue_set(0, SIZE.into(), areas.desc, areas.avail, areas.used);
    }

    /// Sets DRIVER_OK. The write is posted; a read waits until it was carried out.
    pub fn activate(&mut self) {
        self.transport.finish_init();
        assert!(self.transport.get_status().contains(DeviceStatus::DRIVER_OK));
    }

    pub fn write(&self, at: u64, bytes: &[u8]) {
        self.memory.memory().write_slice(bytes, GuestAddress(at)).unwrap();
    }

    pub fn set_descriptors(&self, table: u64, descriptors: &[Descriptor]) {
        for (index, descriptor) in descriptors.iter().enumerate() {
            let at = GuestAddress(table + index as u64 * split::DESC_SIZE);
            self.memory.memory().write_slice(zerocopy::IntoBytes::as_bytes(descriptor), at).unwrap();
        }
    }

    /// Puts `head` into the available ring and publishes it.
    pub fn publish(&mut self, head: u16) {
        let entry = self.areas.avail + split::avail_entry_offset(self.published, SIZE);
        self.write(entry, &head.to_le_bytes());
        self.published += 1;
        self.set_available_index(self.published);
    }

    pub fn set_available_index(&self, index: u16) {
        self.write(self.areas.avail + split::IDX, &index.to_le_bytes());
    }

    pub fn used_index(&self) -> u16 {
        let at = GuestAddress(self.areas.used + split::IDX);
        u16::from_le_bytes(self.memory.memory().read_obj(at).unwrap())
    }

    pub fn notify(&mut self) {
        self.transport.notify(0);
    }

    /// Notifies with a value of the test's own.
    pub fn notify_with(&self, value: u32) {
        let bar = self.transport.function().bars[0].address;
        self.transport.bus().mmio_write(BoardAddr(bar.0 + u64::from(NOTIFY)), NOTIFY_MULTIPLIER as u8, value);
    }

    /// Configuration change interrupts so far.
    pub fn configuration_messages(&self) -> u64 {
        self.transport.bus().messages(message_data(self.transport.function().id, 0))
    }

    /// Waits until the function asks for a reset.
    pub fn await_needs_reset(&self) {
        self.wait("DEVICE_NEEDS_RESET", || {
            self.transport.get_status().contains(DeviceStatus::DEVICE_NEEDS_RESET)
        });
    }

    pub fn wait(&self, what: &str, mut until: impl FnMut() -> bool) {
        let start = Instant::now();
        while !until() {
            assert!(start.elapsed() < DEADLINE, "no {what} after {DEADLINE:?}");
            self.transport.relax();
        }
    }
}

impl Drop for ByHand {
    fn drop(&mut self) {
        self.transport.set_status(DeviceStatus::empty());
        if !std::thread::panicking() {
            self.memory.free(BoardAddr(self.areas.desc), 4).unwrap();
        }
    }
}
