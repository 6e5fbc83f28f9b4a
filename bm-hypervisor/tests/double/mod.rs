//! The surroundings of a hypervisor in these tests: an IO-Bond that is only a register file and a view of
//! base memory, moved by hand; and a driver that reaches functions through its mailbox.

// Each test program uses a part, and what fails here fails a test.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

pub mod api;
pub mod back_end;

use std::{
    collections::BTreeMap,
    fs::File,
    os::fd::{AsRawFd, OwnedFd},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bm_hypervisor::{
    Control, Poller,
    config::BoardConfig,
    port::{Port, PortError, Region},
};
use iobond_spec::{
    MAGIC,
    address::BaseAddr,
    offsets::{functions, ident, mailbox, queues},
    register_access::RegisterIo,
    ring::split,
    status_page,
};
use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

/// Longer than anything here takes; what waits so long has failed.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// The registers and the memory of an IO-Bond that does nothing by itself.
#[derive(Default)]
pub struct IoBond {
    registers: Mutex<BTreeMap<u32, u32>>,
    memory: Mutex<Option<(BaseAddr, GuestMemoryMmap<()>)>>,
    gone: std::sync::atomic::AtomicBool,
    sequence: Mutex<u16>,
    injected: Mutex<Vec<(u32, u32)>>,
}

impl IoBond {
    /// One that has everything that there can be.
    pub fn new() -> Arc<Self> {
        let bond = Self::default();
        for (offset, value) in [
            (ident::MAGIC, MAGIC),
            (ident::VERSION, 1 << 16),
            (ident::SIZES, 8 | 64 << 8 | 8 << 16 | 15 << 24),
            (ident::FEATURES, 0xFD),
        ] {
            bond.set(ident::BASE + offset, value);
        }
        Arc::new(bond)
    }

    pub fn set(&self, offset: u32, value: u32) {
        self.registers.lock().unwrap().insert(offset, value);
    }

    pub fn get(&self, offset: u32) -> u32 {
        self.registers.lock().unwrap().get(&offset).copied().unwrap_or(0)
    }

    /// From now on every register reads all ones.
    pub fn pull_out(&self) {
        self.gone.store(true, std::sync::atomic::Ordering::SeqCst);
    }

    pub fn is_mapped(&self) -> bool {
        self.memory.lock().unwrap().is_some()
    }

    /// Every register that was ever written, with its value.
    pub fn all(&self) -> BTreeMap<u32, u32> {
        self.registers.lock().unwrap().clone()
    }

    /// Interrupts that were injected, as function and register value.
    pub fn injected(&self) -> Vec<(u32, u32)> {
        self.injected.lock().unwrap().clone()
    }

    fn with_memory<T>(&self, what: impl FnOnce(BaseAddr, &GuestMemoryMmap<()>) -> T) -> T {
        let memory = self.memory.lock().unwrap();
        let (at, memory) = memory.as_ref().expect("the pool is mapped to the device");
        what(*at, memory)
    }

    /// DMA to base memory at an I/O virtual address.
    pub fn write(&self, iova: u64, bytes: &[u8]) {
        self.with_memory(|_, memory| memory.write_slice(bytes, GuestAddress(iova)).unwrap());
    }

    /// DMA from base memory.
    pub fn read<const N: usize>(&self, iova: u64) -> [u8; N] {
        let mut bytes = [0; N];
        self.with_memory(|_, memory| memory.read_slice(&mut bytes, GuestAddress(iova)).unwrap());
        bytes
    }

    fn page(&self) -> u64 {
        self.with_memory(|at, _| at.0)
    }

    /// Puts a forwarded access into the mailbox, as registers and in the status page; its number.
    pub fn request(&self, kind: u32, function: u32, offset: u32, width: u32, data: u32) -> u16 {
        let sequence = {
            let mut last = self.sequence.lock().unwrap();
            *last += 1;
            *last
        };
        let word = kind | width << 2 | function << 5 | u32::from(sequence) << 8;
        self.set(mailbox::BASE + mailbox::ANSWER, 0);
        for (at, value) in [(mailbox::OFFSET, offset), (mailbox::DATA, data), (mailbox::REQUEST, word)] {
            self.set(mailbox::BASE + at, value);
        }
        let page = self.page();
        self.write(page + status_page::MAILBOX, &offset.to_le_bytes());
        self.write(page + status_page::MAILBOX + 4, &data.to_le_bytes());
        self.write(page + status_page::MAILBOX_WORD, &word.to_le_bytes());
        sequence
    }

    /// The answer to request `sequence`, if it is there.
    pub fn answer(&self, sequence: u16) -> Option<u32> {
        (self.get(mailbox::BASE + mailbox::ANSWER) == u32::from(sequence))
            .then(|| self.get(mailbox::BASE + mailbox::ANSWER_DATA))
    }

    /// A register of queue context `n`.
    pub fn queue(&self, n: u32, register: u32) -> u32 {
        self.get(queues::BASE + n * queues::STRIDE + register)
    }

    pub fn is_enabled(&self, n: u32) -> bool {
        self.queue(n, queues::CONTROL) & 1 != 0
    }

    /// IO-Bond stops queue `n` with `error`.
    pub fn break_queue(&self, n: u32, error: u32) {
        self.set(queues::BASE + n * queues::STRIDE + queues::STATE, 2 | error << 2);
        self.write(self.page() + status_page::QUEUE_ERRORS, &(1u32 << n).to_le_bytes());
    }

    fn queue64(&self, n: u32, register: u32) -> u64 {
        u64::from(self.queue(n, register)) | u64::from(self.queue(n, register + 4)) << 32
    }

    /// Publishes in the shadow vring of context `n` a chain of one readable buffer with `bytes` and one
    /// writable one of `writable` bytes, each in a slot. It is chain number `index` since the queue was
    /// enabled.
    pub fn publish(&self, n: u32, index: u16, bytes: &[u8], writable: u32) {
        let [desc, avail, slots] =
            [queues::SHADOW_DESC_LO, queues::SHADOW_AVAIL_LO, queues::SLOTS_LO].map(|at| self.queue64(n, at));
        let size = (self.queue(n, queues::SIZES) >> 16) as u16;
        let slot = slots + u64::from(self.queue(n, queues::SLOT_SIZE));
        self.write(slots, bytes);
        for (at, addr, len, flags, next) in [
            (0, slots, bytes.len() as u32, split::DESC_NEXT, 1u16),
            (1, slot, writable, split::DESC_WRITE, 0),
        ] {
            let mut descriptor = addr.to_le_bytes().to_vec();
            descriptor.extend(len.to_le_bytes());
            descriptor.extend(flags.to_le_bytes());
            descriptor.extend(next.to_le_bytes());
            self.write(desc + 16 * at, &descriptor);
        }
        self.write(avail + split::avail_entry_offset(index, size), &0u16.to_le_bytes());
        let head = index.wrapping_add(1);
        self.write(avail + split::IDX, &head.to_le_bytes());
        self.write(self.page() + status_page::HEADS + 4 * u64::from(n), &u32::from(head).to_le_bytes());
    }

    /// The used index of the shadow vring, written as a back end would.
    pub fn set_used(&self, n: u32, index: u16) {
        self.write(self.queue64(n, queues::SHADOW_USED_LO) + split::IDX, &index.to_le_bytes());
    }

    /// The first bytes of the writable buffer that [`IoBond::publish`] made.
    pub fn written<const N: usize>(&self, n: u32) -> [u8; N] {
        self.read(self.queue64(n, queues::SLOTS_LO) + u64::from(self.queue(n, queues::SLOT_SIZE)))
    }
}

impl RegisterIo for IoBond {
    fn read32(&self, offset: u32) -> u32 {
        if self.gone.load(std::sync::atomic::Ordering::SeqCst) { u32::MAX } else { self.get(offset) }
    }

    fn write32(&self, offset: u32, value: u32) {
        self.set(offset, value);
        // A queue that is enabled runs, one that is disabled has no error.
        if (queues::BASE..queues::BASE + queues::COUNT * queues::STRIDE).contains(&offset)
            && (offset - queues::BASE) % queues::STRIDE == queues::CONTROL
        {
            self.set(offset + queues::STATE, value & 1);
        }
        let function = offset.wrapping_sub(functions::BASE) / functions::STRIDE;
        if function < functions::COUNT && (offset - functions::BASE) % functions::STRIDE == functions::INJECT
        {
            self.injected.lock().unwrap().push((function, value));
        }
    }
}

impl Port for IoBond {
    fn map_dma(&self, region: &Region<'_>) -> Result<(), PortError> {
        let file: OwnedFd = region.file.try_clone_to_owned().unwrap();
        let file = FileOffset::new(File::from(file), region.file_offset);
        let at = GuestAddress(region.iova.0);
        let memory =
            GuestMemoryMmap::from_ranges_with_files([(at, region.length as usize, Some(file))]).unwrap();
        *self.memory.lock().unwrap() = Some((region.iova, memory));
        Ok(())
    }

    fn unmap_dma(&self, iova: BaseAddr) -> Result<(), PortError> {
        self.memory.lock().unwrap().take().map(|_| ()).ok_or(PortError::NotMapped { iova })
    }

    fn reset(&self) -> Result<(), PortError> {
        Ok(())
    }
}

/// A hypervisor on an [`IoBond`], and a driver of its functions.
pub struct Bench<P: Port = IoBond> {
    pub bond: Arc<IoBond>,
    pub poller: Poller<P>,
    pub control: Control,
}

impl Bench {
    pub fn start(config: BoardConfig) -> Self {
        let bond = IoBond::new();
        let (poller, control) = bm_hypervisor::start(config, Arc::clone(&bond)).unwrap();
        Self { bond, poller, control }
    }
}

impl<P: Port> Bench<P> {
    /// Passes until `done`; fails after [`TIMEOUT`].
    pub fn pass_until(&mut self, what: &str, mut done: impl FnMut(&IoBond, &Control) -> bool) {
        let deadline = Instant::now() + TIMEOUT;
        while !done(&self.bond, &self.control) {
            assert!(
                Instant::now() < deadline,
                "{what}: not within {TIMEOUT:?}; {:?}",
                self.control.failure()
            );
            if self.poller.pass().is_idle() {
                std::thread::sleep(Duration::from_micros(50));
            }
        }
    }

    /// Passes until `done`, and sleeps in between whenever the poller allows it: only its waker wakes. For
    /// what back ends and the control thread do; what the test itself does as IO-Bond it does before.
    pub fn sleep_until(&mut self, what: &str, mut done: impl FnMut(&IoBond, &Poller<P>) -> bool) {
        let epoll = Epoll::new().unwrap();
        let readable = EpollEvent::new(EventSet::IN, 0);
        epoll.ctl(ControlOperation::Add, self.poller.waker().as_raw_fd(), readable).unwrap();
        loop {
            let idle = self.poller.pass().is_idle();
            if done(&self.bond, &self.poller) {
                return;
            }
            if idle && !self.poller.arm() {
                let woken = epoll.wait(TIMEOUT.as_millis() as i32, &mut [EpollEvent::default()]).unwrap();
                assert_eq!(
                    woken,
                    1,
                    "{what}: it was not woken within {TIMEOUT:?}; {:?}",
                    self.control.failure()
                );
            }
            self.poller.disarm();
        }
    }

    fn access(&mut self, kind: u32, function: u32, offset: u32, width: u32, data: u32) -> u32 {
        let sequence = self.bond.request(kind, function, offset, width, data);
        let mut answer = None;
        self.pass_until("an answer", |bond, _| {
            answer = bond.answer(sequence);
            answer.is_some()
        });
        answer.unwrap_or(u32::MAX)
    }

    /// A forwarded read of `width` bytes; what was answered.
    pub fn get(&mut self, function: u32, offset: u32, width: u32) -> u32 {
        self.access(1, function, offset, width, 0)
    }

    /// A forwarded write; when it returns, it was carried out.
    pub fn set(&mut self, function: u32, offset: u32, width: u32, data: u32) {
        self.access(2, function, offset, width, data);
    }

    /// A function level reset.
    pub fn reset(&mut self, function: u32) {
        self.access(3, function, 0, 0, 0);
    }

    pub fn status(&mut self, function: u32) -> u32 {
        self.get(function, 0x14, 1)
    }

    /// Negotiates `features` as far as they are offered, enables the first `queues` queues, sets DRIVER_OK;
    /// `device_status`.
    pub fn bring_up(&mut self, function: u32, features: u64, queues: u32) -> u32 {
        for status in [0, 1, 3] {
            self.set(function, 0x14, 1, status);
        }
        for half in 0..2 {
            self.set(function, 0x00, 4, half);
            let offered = self.get(function, 0x04, 4);
            self.set(function, 0x08, 4, half);
            self.set(function, 0x0C, 4, offered & (features >> (32 * half)) as u32);
        }
        self.set(function, 0x14, 1, 0xB);
        for queue in 0..queues {
            self.enable_queue(function, queue);
        }
        self.set(function, 0x14, 1, 0xF);
        self.status(function)
    }

    /// Sets up queue `queue` somewhere in board memory and enables it.
    pub fn enable_queue(&mut self, function: u32, queue: u32) {
        self.set(function, 0x16, 2, queue);
        self.set(function, 0x1A, 2, queue + 1);
        for (at, address) in [(0x20, 0x10_0000), (0x28, 0x11_0000), (0x30, 0x12_0000)] {
            self.set(function, at, 4, address + queue * 0x10_0000);
        }
        self.set(function, 0x1C, 2, 1);
    }

    /// Drops the poller, then stops.
    pub fn stop(self) -> Result<bm_hypervisor::Statistics, Arc<bm_hypervisor::Error>> {
        let Self { poller, control, .. } = self;
        drop(poller);
        control.stop()
    }
}
