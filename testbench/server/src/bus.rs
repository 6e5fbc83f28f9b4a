//! The board's side of a live IO-Bond, as a [`Bus`].

use std::{
    cell::RefCell,
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use iobond_emulator::Base as _;
use iobond_model::{
    front_end::Message,
    live::{BoardInterrupts, Bond, Idle},
};
use iobond_spec::address::{BoardAddr, FunctionId};
use results::measure::{Stage, StageClock};
use software_board::bus::Bus;
use vm_memory::GuestMemoryMmap;

use super::base_core::Base;

/// The board's interrupt controller: counts what arrives.
#[derive(Debug, Default)]
pub(super) struct InterruptCounts(Mutex<HashMap<u32, u64>>);

impl InterruptCounts {
    fn of(&self, data: u32) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&data).copied().unwrap_or(0)
    }
}

impl BoardInterrupts for InterruptCounts {
    fn message(&self, message: Message) {
        // A driver programs a bounded number of vectors, but may do so again and again: what it asks for beyond is not kept.
        const MOST: usize = 4096;
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() < MOST || counts.contains_key(&message.data) {
            *counts.entry(message.data).or_default() += 1;
        }
    }

    /// The software board's drivers use MSI-X or poll.
    fn intx(&self, _: FunctionId) {}
}

/// A board's way to its IO-Bond.
pub struct LiveBus {
    bond: Arc<Bond>,
    memory: GuestMemoryMmap,
    interrupts: Arc<InterruptCounts>,
    /// Whom to lend the processor while the board waits; none when the base has a thread of its own.
    base: RefCell<Option<Arc<Base>>>,
    clock: Option<Arc<StageClock>>,
    idle: Idle,
}

impl LiveBus {
    pub(super) fn new(
        bond: Arc<Bond>,
        memory: GuestMemoryMmap,
        interrupts: Arc<InterruptCounts>,
        base: Option<Arc<Base>>,
        clock: Option<Arc<StageClock>>,
    ) -> Self {
        Self { bond, memory, interrupts, base: RefCell::new(base), clock, idle: Idle::default() }
    }

    /// The world ends: nobody is lent the processor any more.
    pub(super) fn end(&self) {
        self.base.take();
    }
}

impl Bus for LiveBus {
    fn config_read(&self, function: FunctionId, offset: u16, width: u8) -> u32 {
        self.bond.config_read(function, offset, width, &mut || self.relax())
    }

    fn config_write(&self, function: FunctionId, offset: u16, width: u8, value: u32) {
        self.bond.config_write(function, offset, width, value, &mut || self.relax());
    }

    fn mmio_read(&self, address: BoardAddr, width: u8) -> u32 {
        self.bond.memory_read(address, width, &mut || self.relax())
    }

    fn mmio_write(&self, address: BoardAddr, width: u8, value: u32) {
        // While requests are in flight, a driver writes nothing but doorbells.
        if let Some(clock) = &self.clock {
            clock.stamp(Stage::Doorbell);
        }
        self.bond.memory_write(address, width, value, &mut || self.relax());
    }

    fn memory(&self) -> &GuestMemoryMmap {
        &self.memory
    }

    fn relax(&self) {
        self.idle.after(self.base.borrow().as_ref().is_some_and(|base| base.pass()));
    }

    fn messages(&self, data: u32) -> u64 {
        self.interrupts.of(data)
    }
}
