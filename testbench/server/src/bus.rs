//! The board's side of a live IO-Bond, as a [`Bus`].

use std::{
    cell::RefCell,
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use iobond_model::{
    device::Access,
    front_end::Message,
    live::{Bond, DmaMapError, Environment, Idle},
};
use iobond_spec::address::{BoardAddr, FunctionId};
use results::measure::{Stage, StageClock};
use software_board::bus::Bus;
use vm_memory::GuestMemoryMmap;

use super::stamps::Stamps;

/// The board's interrupt controller, which counts what arrives, and stamps for what IO-Bond does.
#[derive(Debug)]
struct InterruptCounts {
    counts: Mutex<HashMap<u32, u64>>,
    stamps: Stamps,
}

impl InterruptCounts {
    fn new(stamps: Stamps) -> Self {
        Self { counts: Mutex::default(), stamps }
    }

    fn of(&self, data: u32) -> u64 {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).get(&data).copied().unwrap_or(0)
    }
}

impl Environment for InterruptCounts {
    fn message(&self, message: Message) {
        // A driver programs a bounded number of vectors, but may do so again and again: what it asks for
        // beyond is not kept.
        const MOST: usize = 4096;
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() < MOST || counts.contains_key(&message.data) {
            *counts.entry(message.data).or_default() += 1;
        }
    }

    fn published(&self, _: usize) {
        self.stamps.stamp(Stage::Shadow);
    }

    fn returned(&self, _: usize) {
        self.stamps.stamp(Stage::Guest);
    }
}

/// One pass over the base; whether there was anything to do.
type Pass = Box<dyn Fn() -> bool>;

/// A board's way to its IO-Bond.
pub struct LiveBus {
    bond: Arc<Bond>,
    memory: GuestMemoryMmap,
    interrupts: Arc<InterruptCounts>,
    /// What the processor is lent to while the board waits; none when the base has a thread of its own.
    base: RefCell<Option<Pass>>,
    clock: Option<Arc<StageClock>>,
    idle: Idle,
}

impl LiveBus {
    /// A board with `memory` and a new IO-Bond, which has no base yet. With a `clock`, the stages of requests
    /// are stamped on it.
    ///
    /// # Errors
    /// IO-Bond cannot reach the memory.
    pub fn new(memory: GuestMemoryMmap, clock: Option<Arc<StageClock>>) -> Result<Self, DmaMapError> {
        let interrupts = Arc::new(InterruptCounts::new(Stamps(clock.clone())));
        let bond = Bond::new(Arc::<InterruptCounts>::clone(&interrupts) as _);
        bond.map_board_memory(&memory)?;
        Ok(Self {
            bond: Arc::new(bond),
            memory,
            interrupts,
            base: RefCell::new(None),
            clock,
            idle: Idle::default(),
        })
    }

    /// The IO-Bond that it leads to.
    pub fn bond(&self) -> &Arc<Bond> {
        &self.bond
    }

    /// Lends the processor to the base from now on while the board waits: `pass` is one pass over it and
    /// returns whether there was anything to do.
    pub fn lend(&self, pass: impl Fn() -> bool + 'static) {
        self.base.replace(Some(Box::new(pass)));
    }

    /// Lends it no longer.
    pub(super) fn lend_no_longer(&self) {
        self.base.take();
    }
}

impl Bus for LiveBus {
    fn config_read(&self, function: FunctionId, offset: u16, width: u8) -> u32 {
        self.bond.access(Access::ConfigRead { function, offset, width }, &mut || self.relax())
    }

    fn config_write(&self, function: FunctionId, offset: u16, width: u8, value: u32) {
        self.bond.access(Access::ConfigWrite { function, offset, width, value }, &mut || self.relax());
    }

    fn mmio_read(&self, address: BoardAddr, width: u8) -> u32 {
        self.bond.access(Access::MemoryRead { address, width }, &mut || self.relax())
    }

    fn mmio_write(&self, address: BoardAddr, width: u8, value: u32) {
        // While requests are in flight, a driver writes nothing but doorbells.
        if let Some(clock) = &self.clock {
            clock.stamp(Stage::Doorbell);
        }
        self.bond.access(Access::MemoryWrite { address, width, value }, &mut || self.relax());
    }

    fn memory(&self) -> &GuestMemoryMmap {
        &self.memory
    }

    fn relax(&self) {
        self.idle.after(self.base.borrow().as_ref().is_some_and(|pass| pass()));
    }

    fn messages(&self, data: u32) -> u64 {
        self.interrupts.of(data)
    }
}
