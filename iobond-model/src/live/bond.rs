//! One IO-Bond in the `live` world: a [`Device`], its queues' engines, and the two memories.
//!
//! The poll thread calls [`Bond::pass`], or a board that waits for an answer. Board and base may call in from
//! any thread at the same time. A notification or a TAIL only sets a bit; everything else takes the device's
//! lock.
//!
//! Locks are taken in one order: device, then base memory, then a queue, then a function's limits. A pass
//! holds base memory and one queue while it copies, and takes the device's lock only with those released.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering, fence},
    },
    time::Instant,
};

use super::{
    dma_memory::{Backing, BaseMemory, BoardMemory, DmaMapError, MapError, Mapping, Permission},
    environment::Environment,
    grants::Grants,
    limits::{Throttle, Work},
};
use crate::{
    device::{Device, Effect, QueueReport, tail_of},
    shadow::Queue,
};
use iobond_spec::{
    MAX_FUNCTIONS, MAX_QUEUES,
    address::{BaseAddr, FunctionId},
    register_access::RegisterIo,
};
use vm_memory::GuestMemoryMmap;

/// Marks that [`Bond::doorbell_data`] holds an index.
pub(super) const HAS_DATA: u32 = 1 << 16;
/// "The mailbox has no deadline."
pub(super) const NEVER: u64 = u64::MAX;

/// One IO-Bond, to be shared by the threads of board and base.
pub struct Bond {
    pub(super) device: Mutex<Device>,
    pub(super) grants: RwLock<Grants>,
    pub(super) base: BaseMemory,
    pub(super) queues: [Mutex<Option<Queue>>; MAX_QUEUES],
    board: [BoardMemory; MAX_FUNCTIONS],
    pub(super) environment: Arc<dyn Environment>,
    base_has_interrupt: bool,
    /// The base wants its interrupt (`board.wake`).
    armed: AtomicBool,
    started: Instant,
    /// One bit per queue that was notified.
    pub(super) doorbells: AtomicU64,
    pub(super) doorbell_data: [AtomicU32; MAX_QUEUES],
    /// One bit per queue whose TAIL was written.
    pub(super) tails: AtomicU64,
    pub(super) tail_index: [AtomicU32; MAX_QUEUES],
    /// One bit per function that may master the bus.
    pub(super) bus_masters: AtomicU8,
    /// When the mailbox next ends an access, in nanoseconds since `started`.
    pub(super) deadline: AtomicU64,
    pub(super) throttle: Throttle,
}

impl Bond {
    /// An IO-Bond in `environment`, without power, whose functions reach no board memory yet.
    pub fn new(environment: Arc<dyn Environment>) -> Self {
        Self {
            device: Mutex::default(),
            grants: RwLock::default(),
            base: BaseMemory::default(),
            queues: std::array::from_fn(|_| Mutex::new(None)),
            board: std::array::from_fn(|_| BoardMemory::default()),
            base_has_interrupt: environment.has_base_interrupt(),
            environment,
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

    /// Whether the base function may master the bus (PCIe 5.0, 7.5.1.1.3); at first it may. When it may not,
    /// nothing of base memory is touched once this returns.
    pub fn set_base_mastering(&self, mastering: bool) {
        write(&self.grants).set_mastering(mastering);
    }

    /// Resets the base function (PCIe 5.0, 6.6.2): power-on state. When it returns, base memory is not
    /// touched any more. What is mapped stays mapped.
    pub fn reset_base(&self) {
        self.armed.store(false, Ordering::Relaxed);
        self.with_device(|device, _, effects| device.reset(effects));
    }

    /// Bytes that this IO-Bond takes, the memories apart.
    pub fn footprint(&self) -> usize {
        let queues = self.queues.iter().map(|queue| lock(queue).as_ref().map_or(0, Queue::footprint));
        size_of::<Self>() + queues.sum::<usize>()
    }

    /// Notes an available buffer notification. With the device locked: the queue is still the one that was
    /// notified.
    pub(super) fn notify_queue(&self, _: &Device, queue: usize, data: Option<u16>) {
        let data = data.map_or(0, |index| HAS_DATA | u32::from(index));
        self.doorbell_data[queue].store(data, Ordering::Relaxed);
        self.doorbells.fetch_or(1 << queue, Ordering::Release);
        self.environment.wake_poller();
    }

    /// Interrupts the base if it asked for that: something that it polls has changed, and was written before.
    pub(super) fn tell_base(&self) {
        if !self.base_has_interrupt {
            return;
        }
        // The base arms and then looks once more; here the change is written, and then `armed` is read. The
        // fence keeps that order, so that one of the two sees what the other stored and no change is slept
        // through.
        fence(Ordering::SeqCst);
        if self.armed.load(Ordering::Relaxed) && self.armed.swap(false, Ordering::Relaxed) {
            self.environment.interrupt_base();
        }
    }

    /// Does something to the device and then what the device wants done.
    pub(super) fn with_device<T>(&self, act: impl FnOnce(&mut Device, u64, &mut Vec<Effect>) -> T) -> T {
        let now = self.now();
        let mut effects = Vec::new();
        let mut device = lock(&self.device);
        let result = act(&mut device, now, &mut effects);
        self.settle(&device, effects);
        result
    }

    /// Does what the device wants done, and notes what passes look at without its lock.
    pub(super) fn settle(&self, device: &Device, effects: Vec<Effect>) {
        for effect in effects {
            self.perform(device, effect);
        }
        self.deadline.store(device.next_deadline().unwrap_or(NEVER), Ordering::Relaxed);
        let masters = FunctionId::all().filter(|&function| device.bus_master(function));
        self.bus_masters.store(masters.fold(0, |bits, f| bits | 1 << f.index()), Ordering::Relaxed);
    }

    fn perform(&self, device: &Device, effect: Effect) {
        match effect {
            Effect::Enable { queue, context } => self.replace(queue, Some(Queue::new(context))),
            Effect::Disable { queue } => self.replace(queue, None),
            Effect::Message(message) => self.environment.message(message),
            Effect::Intx(function) => self.environment.intx(function),
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
                self.environment.wake_poller();
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
                self.environment.wake_poller();
            }
            Effect::Wake => self.armed.store(true, Ordering::SeqCst),
            Effect::QueueErrors => {
                read(&self.grants).write_queue_errors(&self.base, device.queue_errors());
                self.tell_base();
                self.environment.wake_poller();
            }
        }
    }

    /// Starts or stops a queue. What was pending for its predecessor is forgotten, and its HEAD is 0 again.
    fn replace(&self, number: usize, queue: Option<Queue>) {
        let grants = read(&self.grants);
        let mut slot = lock(&self.queues[number]);
        self.doorbells.fetch_and(!(1 << number), Ordering::Relaxed);
        self.tails.fetch_and(!(1 << number), Ordering::Relaxed);
        self.tail_index[number].store(0, Ordering::Relaxed);
        self.doorbell_data[number].store(0, Ordering::Relaxed);
        grants.write_head(&self.base, number, 0);
        if queue.is_some() {
            // The guest may have made buffers available, and notified, before the base enabled the queue.
            self.doorbells.fetch_or(1 << number, Ordering::Release);
            self.environment.wake_poller();
        }
        *slot = queue;
    }

    /// The queue of a piece of work, and where it is noted that there is such work.
    pub(super) fn place_of(&self, work: Work) -> (usize, &AtomicU64) {
        match work {
            Work::Forward(number) => (number, &self.doorbells),
            Work::Retire(number) => (number, &self.tails),
        }
    }

    /// The base wrote TAIL: used buffers up to `index` may be returned to the guest.
    fn write_tail(&self, queue: usize, index: u16) {
        self.tail_index[queue].store(u32::from(index), Ordering::Release);
        self.tails.fetch_or(1 << queue, Ordering::Release);
        self.environment.wake_poller();
    }

    fn report(&self, number: usize) -> QueueReport {
        let tail = self.tail_index[number].load(Ordering::Relaxed) as u16;
        let queue = lock(&self.queues[number]);
        let disabled = QueueReport { tail, ..QueueReport::default() };
        queue.as_ref().map_or(disabled, |queue| QueueReport {
            head: queue.head(),
            tail,
            counters: queue.counters(),
        })
    }

    /// Nanoseconds since the IO-Bond was made: the clock of its device.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

impl RegisterIo for Bond {
    fn read32(&self, offset: u32) -> u32 {
        self.with_device(|device, now, _| device.register_read(now, offset, |n| self.report(n)))
    }

    fn write32(&self, offset: u32, value: u32) {
        match tail_of(offset) {
            Some(queue) => self.write_tail(queue, value as u16),
            None => {
                self.with_device(|device, now, effects| device.register_write(now, offset, value, effects))
            }
        }
    }
}

/// A panic while a lock was held is a bug that has been reported where it happened; the state behind it is
/// still memory safe, and other boards' threads must not end with it.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
