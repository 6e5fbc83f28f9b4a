//! One IO-Bond in the `live` world: a [`Device`], its queues' engines, and the two memories.
//!
//! Whoever has time calls [`Bond::pass`]: a worker thread, or a board that waits for an answer. Board and base may call in
//! from any thread at the same time. A doorbell or a TAIL only sets a bit; everything else takes the device's lock.
//!
//! Locks are taken in one order: device, then base memory, then a queue, then a function's limits. A pass holds base memory
//! and one queue while it copies, and takes the device's lock only with those released.

use std::{
    cell::Cell,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering, fence},
    },
    time::{Duration, Instant},
};

use super::{
    dma_memory::{Backing, BaseMemory, BoardMemory, DmaMapError, MapError, Mapping, Permission},
    grants::Grants,
    limits::{Admission, Throttle, Work},
    memory::{Interrupts, Memory, ready},
};
use crate::{
    device::{Device, Effect, QueueReport, tail_of},
    fabric::{Fabric, Gated},
    front_end::Message,
    shadow::{Progress, Queue, QueueError},
};
use iobond_spec::{
    MAX_FUNCTIONS, MAX_QUEUES,
    address::{BaseAddr, FunctionId},
    register_access::RegisterIo,
};
use vm_memory::GuestMemoryMmap;

/// The board's interrupt controller. It is called with locks held and must not call back into the IO-Bond.
pub trait BoardInterrupts: Send + Sync {
    /// An MSI-X message arrives.
    fn message(&self, message: Message);
    /// INTx of a function was asserted.
    fn intx(&self, function: FunctionId);
}

/// Hears what a pass did; for measurements. Called from within the pass, once for every queue and batch.
pub trait Observer: Send + Sync {
    /// Chains of queue context `queue` were published in its shadow vring.
    fn published(&self, queue: usize);
    /// Chains of queue context `queue` were returned to the guest.
    fn returned(&self, queue: usize);
}

/// Whoever passes over an IO-Bond, when it sleeps.
pub trait Bell: Send + Sync {
    /// There is something to do for [`Bond::pass`], or in the status page. Called often, also while nobody sleeps, and with
    /// locks held: it must neither wait nor call back.
    fn ring(&self);
}

/// The interrupt of the base function.
pub trait BaseInterrupt: Send + Sync {
    /// Something changed that the base polls, and it had asked to be told. Called with locks held: it must neither wait nor call
    /// back.
    fn raise(&self);
}

/// Marks that [`Bond::doorbell_data`] holds an index.
const HAS_DATA: u32 = 1 << 16;
/// "The mailbox has no deadline."
const NEVER: u64 = u64::MAX;

/// One IO-Bond.
pub struct Bond {
    pub(super) device: Mutex<Device>,
    grants: RwLock<Grants>,
    base: BaseMemory,
    queues: [Mutex<Option<Queue>>; MAX_QUEUES],
    board: [BoardMemory; MAX_FUNCTIONS],
    interrupts: Arc<dyn BoardInterrupts>,
    observer: Option<Arc<dyn Observer>>,
    bell: Option<Arc<dyn Bell>>,
    base_interrupt: Option<Arc<dyn BaseInterrupt>>,
    /// The base wants its interrupt (`board.wake`).
    armed: AtomicBool,
    started: Instant,
    /// One bit for every queue whose doorbell was rung.
    doorbells: AtomicU64,
    doorbell_data: [AtomicU32; MAX_QUEUES],
    /// One bit for every queue whose TAIL was written.
    tails: AtomicU64,
    tail_index: [AtomicU32; MAX_QUEUES],
    /// One bit for every function that may master the bus.
    bus_masters: AtomicU8,
    deadline: AtomicU64,
    throttle: Throttle,
}

impl Bond {
    /// An IO-Bond without power, whose functions reach no board memory yet.
    pub fn new(interrupts: Arc<dyn BoardInterrupts>) -> Self {
        Self {
            device: Mutex::default(),
            grants: RwLock::default(),
            base: BaseMemory::default(),
            queues: std::array::from_fn(|_| Mutex::new(None)),
            board: std::array::from_fn(|_| BoardMemory::default()),
            interrupts,
            observer: None,
            bell: None,
            base_interrupt: None,
            armed: AtomicBool::new(false),
            started: Instant::now(),
            doorbells: AtomicU64::new(0),
            doorbell_data: std::array::from_fn(|_| AtomicU32::new(0)),
            tails: AtomicU64::new(0),
            tail_index: std::array::from_fn(|_| AtomicU32::new(0)),
            bus_masters: AtomicU8::new(0),
            deadline: AtomicU64::new(NEVER),
            throttle: Throttle::default(),
        }
    }

    /// Tells `observer` what passes do.
    #[must_use]
    pub fn observed_by(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Wakes whoever sleeps behind `bell`.
    #[must_use]
    pub fn woken_by(mut self, bell: Arc<dyn Bell>) -> Self {
        self.bell = Some(bell);
        self
    }

    /// Interrupts the base with `interrupt`, when it asks.
    #[must_use]
    pub fn interrupting(mut self, interrupt: Arc<dyn BaseInterrupt>) -> Self {
        self.base_interrupt = Some(interrupt);
        self
    }

    /// What `function` reaches of the board's memory.
    pub fn board_memory(&self, function: FunctionId) -> &BoardMemory {
        &self.board[function.index()]
    }

    /// Lets every function reach all of `memory`, as on a board without an I/O MMU.
    ///
    /// # Errors
    /// [`DmaMapError::Overlap`] with what is mapped already.
    pub fn map_board_memory(&self, memory: &GuestMemoryMmap) -> Result<(), DmaMapError> {
        self.board.iter().try_for_each(|board| board.map_all(memory))
    }

    /// What the base function reaches of base memory. A DMA window has to grant it as well.
    pub fn base_memory(&self) -> &BaseMemory {
        &self.base
    }

    /// Makes `mapping` base memory, at its I/O virtual address. A DMA window has to grant it as well.
    ///
    /// # Errors
    /// [`MapError`]; nothing is mapped then.
    pub fn map(&self, mapping: &Mapping<'_>) -> Result<(), MapError> {
        let &Mapping { iova, length, .. } = mapping;
        let backing = Backing::Mapped(Arc::new(mapping.region()?), 0);
        let mapped = self.base.map(iova, length as u64, Permission::ALL, backing);
        mapped.map_err(|_| MapError::Overlap { iova, length })
    }

    /// Undoes [`Bond::map`]. When it returns, nothing of the IO-Bond touches that memory any more.
    ///
    /// # Errors
    /// [`MapError::NotMapped`].
    pub fn unmap(&self, iova: BaseAddr) -> Result<(), MapError> {
        let missing = MapError::NotMapped { iova };
        let Some(length) = self.base.length_at(iova) else { return Err(missing) };
        self.base.unmap(iova, length).map_err(|_| missing)
    }

    /// Whether the base function may master the bus (PCIe 5.0, 7.5.1.1.3); at first it may. When it may not, nothing of base
    /// memory is touched once this returns.
    pub fn set_base_mastering(&self, mastering: bool) {
        write(&self.grants).set_mastering(mastering);
    }

    /// Resets the base function (PCIe 5.0, 6.6.2): power-on state. When it returns, base memory is not touched any more. What is
    /// mapped stays mapped.
    pub fn reset_base(&self) {
        self.armed.store(false, Ordering::Relaxed);
        self.with_device(|device, _, effects| device.reset(effects));
    }

    /// Bytes that this IO-Bond takes, the memories apart.
    pub fn footprint(&self) -> usize {
        let queues = self.queues.iter().map(|queue| lock(queue).as_ref().map_or(0, Queue::footprint));
        size_of::<Self>() + queues.sum::<usize>()
    }

    /// Notes that a doorbell was rung. With the device locked: the queue is still the one that the doorbell is of.
    pub(super) fn ring(&self, _: &Device, queue: usize, data: Option<u16>) {
        let data = data.map_or(0, |index| HAS_DATA | u32::from(index));
        self.doorbell_data[queue].store(data, Ordering::Relaxed);
        self.doorbells.fetch_or(1 << queue, Ordering::Release);
        self.wake();
    }

    /// Something changed that the base polls, and was written before: the base arms, and then looks.
    fn tell_base(&self) {
        let Some(interrupt) = &self.base_interrupt else { return };
        fence(Ordering::SeqCst);
        if self.armed.load(Ordering::Relaxed) && self.armed.swap(false, Ordering::Relaxed) {
            interrupt.raise();
        }
    }

    fn wake(&self) {
        if let Some(bell) = &self.bell {
            bell.ring();
        }
    }

    /// One bounded pass over everything that waits. Returns whether there was anything to do.
    pub fn pass(&self) -> bool {
        let tails = take(&self.tails);
        let doorbells = take(&self.doorbells);
        let resumed = self.throttle.is_due(|| self.now()) && self.resume();
        bits(tails).for_each(|queue| self.run(Work::Retire(queue), false));
        bits(doorbells).for_each(|queue| self.run(Work::Forward(queue), false));
        let deadline = self.deadline.load(Ordering::Relaxed);
        if deadline != NEVER && deadline <= self.now() {
            self.with_device(|device, now, effects| device.tick(now, effects));
        }
        resumed || tails | doorbells != 0
    }

    /// How long it is until a [`Bond::pass`] has something to do that nobody rings for: queues that limits held up may go on,
    /// or an access ends at its deadline. Whoever passes and sleeps should not sleep longer.
    pub fn until_due(&self) -> Option<Duration> {
        let deadline = self.deadline.load(Ordering::Relaxed);
        let next = deadline.min(self.throttle.resume().unwrap_or(NEVER));
        (next != NEVER).then(|| Duration::from_nanos(next.saturating_sub(self.now())))
    }

    /// Gives everybody a turn who was held up by limits and has waited long enough. Whether there was anybody.
    #[cold]
    fn resume(&self) -> bool {
        let now = self.now();
        let mut any = false;
        for function in FunctionId::all() {
            for _ in 0..self.throttle.waiting(function) {
                let Some(work) = self.throttle.take_turn(function, now) else { break };
                self.run(work, true);
                any = true;
            }
            self.throttle.note_waiting(function);
        }
        any
    }

    fn forward(
        &self,
        number: usize,
        queue: &mut Queue,
        fabric: &impl Fabric,
        head_at: Option<BaseAddr>,
        most: u16,
    ) -> Result<Progress, QueueError> {
        // Looked at with the queue locked, so that it is this queue's and no predecessor's.
        let data = self.doorbell_data[number].swap(0, Ordering::Relaxed);
        let doorbell = (data & HAS_DATA != 0).then_some(data as u16);
        let progress = ready(queue.forward(fabric, doorbell, head_at, most))?;
        if progress.more {
            self.doorbells.fetch_or(1 << number, Ordering::Relaxed);
        }
        if progress.chains > 0 {
            self.tell_base();
        }
        self.observe(progress, |observer| observer.published(number));
        Ok(progress)
    }

    fn retire(
        &self,
        number: usize,
        queue: &mut Queue,
        fabric: &impl Fabric,
        most: u16,
    ) -> Result<Progress, QueueError> {
        let tail = self.tail_index[number].load(Ordering::Acquire) as u16;
        let progress = ready(queue.retire(fabric, tail, most))?;
        if progress.more {
            self.tails.fetch_or(1 << number, Ordering::Relaxed);
        }
        if queue.is_stalled() {
            self.doorbells.fetch_or(1 << number, Ordering::Relaxed);
        }
        self.observe(progress, |observer| observer.returned(number));
        Ok(progress)
    }

    fn observe(&self, progress: Progress, tell: impl FnOnce(&dyn Observer)) {
        if let Some(observer) = self.observer.as_deref().filter(|_| progress.chains > 0) {
            tell(observer);
        }
    }

    /// Does `work`, if its queue is enabled, and sees to what came of it once the queue is released. Work that has to wait for the
    /// board's host is noted as pending again, and work that has to wait for limits waits there, in front if it is its turn.
    fn run(&self, work: Work, in_turn: bool) {
        let (number, pending) = self.place_of(work);
        let interrupt = LastInterrupt::default();
        let result = {
            let grants = read(&self.grants);
            let mut queue = lock(&self.queues[number]);
            let Some(running) = queue.as_mut() else { return };
            let (function, cost) = (running.context().function, work.cost(running));
            let reached = self.board_memory(function);
            let board = reached.lease();
            if reached.is_being_remapped() && !board.holds_index(running.context().guest.avail) {
                // The host gives back in a moment what it took.
                pending.fetch_or(1 << number, Ordering::Relaxed);
                return;
            }
            let most = match self.throttle.admit(function, work, cost, in_turn, || self.now()) {
                Admission::Admitted(most) => most,
                Admission::Delayed => {
                    drop(board);
                    drop(queue);
                    drop(grants);
                    return self.delayed(function);
                }
                Admission::Waiting => return,
            };
            let base = self.base.lease();
            let memory = Memory::new(&board, &base, &interrupt);
            let bus_master = self.bus_masters.load(Ordering::Relaxed) & 1 << function.index() != 0;
            let fabric = Gated { fabric: &memory, windows: grants.windows(), bus_master };
            let result = match work {
                Work::Forward(_) => self.forward(number, running, &fabric, grants.head_address(number), most),
                Work::Retire(_) => self.retire(number, running, &fabric, most),
            };
            if let Ok(progress) = result {
                self.throttle.charge(function, cost, progress, || self.now());
            }
            result
        };
        if let Err(error) = result {
            self.with_device(|device, _, effects| {
                // The base may have replaced the queue since; its successor has done nothing wrong.
                if lock(&self.queues[number]).as_ref().is_some_and(Queue::has_failed) {
                    device.fail_queue(number, &error, effects);
                }
            });
        }
        if let Some((function, vector)) = interrupt.0.take() {
            self.with_device(|device, _, effects| effects.extend(device.raise(function, vector, false)));
        }
    }

    /// The queue of a piece of work, and where it is noted that there is such work.
    fn place_of(&self, work: Work) -> (usize, &AtomicU64) {
        match work {
            Work::Forward(number) => (number, &self.doorbells),
            Work::Retire(number) => (number, &self.tails),
        }
    }

    /// A queue of `function` waits for its limits from now on; who sleeps may have meant to sleep longer.
    #[cold]
    fn delayed(&self, function: FunctionId) {
        lock(&self.device).delay(function);
        self.wake();
    }

    /// Does something to the device and then what the device wants done.
    pub(super) fn with_device<T>(&self, act: impl FnOnce(&mut Device, u64, &mut Vec<Effect>) -> T) -> T {
        let now = self.now();
        let mut effects = Vec::new();
        let mut device = lock(&self.device);
        let result = act(&mut device, now, &mut effects);
        for effect in effects {
            self.perform(&device, effect);
        }
        self.deadline.store(device.next_deadline().unwrap_or(NEVER), Ordering::Relaxed);
        let masters = FunctionId::all().filter(|&function| device.bus_master(function));
        self.bus_masters.store(masters.fold(0, |bits, f| bits | 1 << f.index()), Ordering::Relaxed);
        result
    }

    fn perform(&self, device: &Device, effect: Effect) {
        match effect {
            Effect::Enable { queue, context } => self.replace(queue, Some(Queue::new(context))),
            Effect::Disable { queue } => self.replace(queue, None),
            Effect::Tail { queue, index } => self.returned(queue, index),
            Effect::Message(message) => self.interrupts.message(message),
            Effect::Intx(function) => self.interrupts.intx(function),
            Effect::Windows => {
                let mut grants = write(&self.grants);
                grants.set_windows(device.windows().clone());
                grants.set_status_page(device.status_page());
            }
            Effect::Limits { function, limits } => {
                for work in self.throttle.set(function, limits, self.now()) {
                    let (number, pending) = self.place_of(work);
                    pending.fetch_or(1 << number, Ordering::Release);
                }
                self.wake();
            }
            Effect::StatusPage => {
                let mut grants = write(&self.grants);
                grants.set_status_page(device.status_page());
                grants.write_mailbox(&self.base, &device.mailbox_request());
                grants.write_queue_errors(&self.base, device.queue_errors());
                for (number, queue) in self.queues.iter().enumerate() {
                    grants.write_head(&self.base, number, lock(queue).as_ref().map_or(0, Queue::head));
                }
            }
            Effect::Mailbox => {
                read(&self.grants).write_mailbox(&self.base, &device.mailbox_request());
                self.tell_base();
                self.wake();
            }
            Effect::Wake => self.armed.store(true, Ordering::SeqCst),
            Effect::QueueErrors => {
                read(&self.grants).write_queue_errors(&self.base, device.queue_errors());
                self.tell_base();
                self.wake();
            }
        }
    }

    /// Starts or stops a queue. Whatever was pending for its predecessor is forgotten, and its HEAD is 0 again.
    fn replace(&self, number: usize, queue: Option<Queue>) {
        let grants = read(&self.grants);
        let mut slot = lock(&self.queues[number]);
        self.doorbells.fetch_and(!(1 << number), Ordering::Relaxed);
        self.tails.fetch_and(!(1 << number), Ordering::Relaxed);
        self.tail_index[number].store(0, Ordering::Relaxed);
        self.doorbell_data[number].store(0, Ordering::Relaxed);
        grants.write_head(&self.base, number, 0);
        if queue.is_some() {
            // The guest may have made buffers available, and rung, before the base got here.
            self.doorbells.fetch_or(1 << number, Ordering::Release);
            self.wake();
        }
        *slot = queue;
    }

    fn returned(&self, queue: usize, index: u16) {
        self.tail_index[queue].store(u32::from(index), Ordering::Release);
        self.tails.fetch_or(1 << queue, Ordering::Release);
        self.wake();
    }

    fn report(&self, number: usize) -> QueueReport {
        let queue = lock(&self.queues[number]);
        queue.as_ref().map_or_else(QueueReport::default, |queue| QueueReport {
            head: queue.head(),
            counters: queue.counters(),
        })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

impl RegisterIo for Bond {
    fn read32(&self, offset: u32) -> u32 {
        match tail_of(offset) {
            Some(queue) => self.tail_index[queue].load(Ordering::Relaxed),
            None => self.with_device(|device, now, _| device.register_read(now, offset, |n| self.report(n))),
        }
    }

    fn write32(&self, offset: u32, value: u32) {
        match tail_of(offset) {
            Some(queue) => self.returned(queue, value as u16),
            None => {
                self.with_device(|device, now, effects| device.register_write(now, offset, value, effects))
            }
        }
    }
}

/// Keeps the interrupt that a queue raised until the queue's lock is released. A call raises one at most.
#[derive(Default)]
struct LastInterrupt(Cell<Option<(FunctionId, u16)>>);

impl Interrupts for LastInterrupt {
    fn raise(&self, function: FunctionId, vector: u16) {
        self.0.set(Some((function, vector)));
    }
}

/// A panic while a lock was held is a bug that has been reported where it happened; the state behind it is still memory safe,
/// and other boards' threads must not go down with it.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

/// Takes every bit that is set. Looking first keeps an idle pass from writing to a cache line that others write to.
fn take(set: &AtomicU64) -> u64 {
    if set.load(Ordering::Relaxed) == 0 { 0 } else { set.swap(0, Ordering::Acquire) }
}

fn bits(mut set: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lowest = (set != 0).then(|| set.trailing_zeros() as usize)?;
        set &= set - 1;
        Some(lowest)
    })
}
