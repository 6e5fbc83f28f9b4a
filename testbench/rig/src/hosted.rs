//! A board that this process hosts over vfio-user, as a virtual machine monitor does: crate `vfio_user`'s
//! client on the sockets of a base server, with the software board's drivers on top.
//!
//! ```text
//!   Blk, Net -- HostedBus -- vfio-user -- IO-Bond -- bm-hypervisor == back ends
//!                 \__ emulates the MSI-X table, maps the board's memory
//! ```

use std::{
    cell::RefCell,
    collections::HashMap,
    os::fd::{AsRawFd, RawFd},
    path::{Path, PathBuf},
    rc::Rc,
    sync::mpsc,
    thread,
    time::Duration,
};

use crate::{bmhive::program, test_folder::TestFolder};
use bmhive_server::Served;
use iobond_spec::{
    ALL_ONES,
    address::{BoardAddr, FunctionId},
    function::{BAR_SIZE, MSIX_CAP, MSIX_TABLE, MSIX_VECTORS},
};
use scenario::{Backing, Device, Scenario};
use software_board::{
    blk::Blk,
    bus::Bus,
    memory::{self, DmaMemory},
    net::Net,
    pci,
    queue::RingOptions,
    transport::PciTransport,
};
use vfio_user::Client;
use vm_memory::{GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// No test with a served world takes as long; one that does hangs, and is ended with its back ends.
const LIFETIME: Duration = Duration::from_secs(60);
/// Indices of regions and interrupts, flags of `VFIO_USER_DEVICE_SET_IRQS` (`<linux/vfio.h>`).
const BAR0: u32 = 0;
const CONFIG: u32 = 7;
const MSIX: u32 = 2;
const DATA_EVENTFD: u32 = 1 << 2;
const ACTION_TRIGGER: u32 = 1 << 5;

pub type HostedTransport = PciTransport<Rc<HostedBus>>;

/// A base server with boards behind sockets, which a test that hangs is ended with.
pub struct ServedWorld {
    pub served: Served,
    scenario: Scenario,
    folder: TestFolder,
    _watchdog: mpsc::Sender<()>,
}

impl ServedWorld {
    /// Serves boards, given as in a scenario, with keys for `[server]`.
    pub fn start(server: &str, boards: &[String]) -> Self {
        let (watchdog, ended) = mpsc::channel();
        thread::spawn(move || {
            if ended.recv_timeout(LIFETIME) == Err(mpsc::RecvTimeoutError::Timeout) {
                eprintln!("a served world of {LIFETIME:?}: the test hangs");
                std::process::abort();
            }
        });
        let text = format!("[server]\nname = \"served\"\n{server}\n{}", boards.concat());
        let scenario = Scenario::parse("a test", &text, Path::new("/")).unwrap();
        let folder = TestFolder::new();
        let served = Served::start(&scenario, program(), &folder.path(""), &|| false).unwrap();
        Self { served, scenario, folder, _watchdog: watchdog }
    }

    /// Plugs a machine with 16 MiB into a board.
    pub fn host(&self, board: usize) -> Hosted {
        let hosted = Hosted::plug(self.served.boards()[board].function_sockets());
        assert_eq!(hosted.functions.len(), self.scenario.boards[board].functions.len());
        hosted
    }

    pub fn socket(&self, board: usize, function: usize) -> &Path {
        &self.served.boards()[board].function_sockets()[function]
    }

    /// The image on the host behind a disk.
    pub fn image(&self, board: usize, function: usize) -> PathBuf {
        let Device::Blk(disk) = &self.scenario.boards[board].functions[function].device else {
            panic!("function {function} of board {board}: not a disk")
        };
        match &disk.backing {
            Backing::Image(path) => path.clone(),
            scratch @ Backing::Scratch(_) => self.served.image(board, function, scratch),
        }
    }

    pub fn directory(&self) -> PathBuf {
        self.folder.path("")
    }
}

/// A machine in a board's place.
pub struct Hosted {
    pub bus: Rc<HostedBus>,
    pub memory: Rc<DmaMemory>,
    pub functions: Vec<pci::Function>,
}

impl Hosted {
    /// A machine with 16 MiB, with the functions at `sockets` plugged in.
    pub fn plug(sockets: &[PathBuf]) -> Self {
        let bus = Rc::new(HostedBus::plug(sockets));
        let memory = DmaMemory::new(bus.memory()).unwrap();
        let functions = pci::enumerate(&*bus).unwrap();
        Self { bus, memory, functions }
    }

    /// The same machine after its firmware has looked for functions once more.
    pub fn found_again(&self) -> Self {
        let functions = pci::enumerate(&*self.bus).unwrap();
        Self { bus: Rc::clone(&self.bus), memory: Rc::clone(&self.memory), functions }
    }

    pub fn transport(&self, function: usize) -> HostedTransport {
        PciTransport::new(Rc::clone(&self.bus), self.functions[function].clone()).unwrap()
    }

    pub fn disk(&self, function: usize) -> Blk<HostedTransport, 256> {
        Blk::new(self.transport(function), &self.memory, RingOptions::default()).unwrap()
    }

    pub fn net(&self, function: usize) -> Net<HostedTransport> {
        Net::new(self.transport(function), &self.memory, RingOptions::default()).unwrap()
    }
}

/// One function as its host sees it.
struct Plugged {
    client: Client,
    bar: u64,
    /// The MSI-X table as the driver wrote it, and the event of each vector.
    table: Vec<[u32; 4]>,
    events: Vec<EventFd>,
}

impl Plugged {
    fn new(socket: &Path, memory: &GuestMemoryMmap) -> Self {
        let mut client = Client::new(socket).unwrap();
        for region in memory.iter() {
            let file = region.file_offset().unwrap();
            let fd = file.file().as_raw_fd();
            client.dma_map(file.start(), region.start_addr().0, region.len(), fd).unwrap();
        }
        let events: Vec<_> = (0..MSIX_VECTORS).map(|_| EventFd::new(EFD_NONBLOCK).unwrap()).collect();
        Self { client, bar: 0, table: vec![[0, 0, 0, 1]; MSIX_VECTORS.into()], events }
    }

    /// Puts the events behind the vectors, as a host does when the driver enables MSI-X; a few at a time, as
    /// a message holds no more descriptors than the server takes.
    fn enable_msix(&mut self) {
        const AT_ONCE: usize = 8;
        let fds: Vec<RawFd> = self.events.iter().map(AsRawFd::as_raw_fd).collect();
        for (batch, fds) in fds.chunks(AT_ONCE).enumerate() {
            let (start, count) = ((batch * AT_ONCE) as u32, fds.len() as u32);
            self.client.set_irqs(MSIX, DATA_EVENTFD | ACTION_TRIGGER, start, count, fds).unwrap();
        }
    }

    fn read(&mut self, region: u32, offset: u64, width: u8) -> u32 {
        let mut bytes = [0; 4];
        match self.client.region_read(region, offset, &mut bytes[..width.into()]) {
            Ok(()) => u32::from_le_bytes(bytes),
            Err(_) => ALL_ONES,
        }
    }

    fn write(&mut self, region: u32, offset: u64, width: u8, value: u32) {
        self.client.region_write(region, offset, &value.to_le_bytes()[..width.into()]).unwrap();
    }

    fn entry(&mut self, offset: u64) -> Option<&mut u32> {
        let word = offset.checked_sub(MSIX_TABLE.into())? / 4;
        self.table.get_mut(word as usize / 4)?.get_mut(word as usize % 4)
    }
}

/// The board's side of its IO-Bond, over vfio-user.
pub struct HostedBus {
    functions: RefCell<Vec<Plugged>>,
    memory: GuestMemoryMmap,
    messages: RefCell<HashMap<u32, u64>>,
}

impl HostedBus {
    fn plug(sockets: &[PathBuf]) -> Self {
        let memory = memory::create(16).unwrap();
        let functions = sockets.iter().map(|socket| Plugged::new(socket, &memory)).collect();
        Self { functions: RefCell::new(functions), memory, messages: RefCell::default() }
    }

    /// Breaks the connection of every function, as a machine that is killed does.
    pub fn kill(&self) {
        self.functions.borrow_mut().clear();
    }

    /// Interrupts that arrived, whatever they were about.
    pub fn all_messages(&self) -> u64 {
        self.messages(0);
        self.messages.borrow().values().sum()
    }

    /// Has the host reset a function.
    pub fn reset(&self, function: usize) {
        self.functions.borrow_mut()[function].client.reset().unwrap();
    }

    fn on<T>(&self, function: FunctionId, absent: T, act: impl FnOnce(&mut Plugged) -> T) -> T {
        self.functions.borrow_mut().get_mut(function.index()).map_or(absent, act)
    }

    fn decoded<T>(&self, address: BoardAddr, absent: T, act: impl FnOnce(&mut Plugged, u64) -> T) -> T {
        let mut functions = self.functions.borrow_mut();
        let inside =
            |function: &&mut Plugged| (function.bar..function.bar + u64::from(BAR_SIZE)).contains(&address.0);
        let found = functions.iter_mut().find(inside);
        found.map_or(absent, |function| {
            let offset = address.0 - function.bar;
            act(function, offset)
        })
    }
}

impl Bus for HostedBus {
    fn config_read(&self, function: FunctionId, offset: u16, width: u8) -> u32 {
        self.on(function, u32::MAX >> (32 - 8 * width), |plugged| plugged.read(CONFIG, offset.into(), width))
    }

    fn config_write(&self, function: FunctionId, offset: u16, width: u8, value: u32) {
        self.on(function, (), |plugged| {
            plugged.write(CONFIG, offset.into(), width, value);
            match offset {
                0x10 => plugged.bar = plugged.bar >> 32 << 32 | u64::from(value & !0xf),
                0x14 => plugged.bar = plugged.bar & 0xffff_ffff | u64::from(value) << 32,
                at if at == MSIX_CAP + 2 && value & 0x8000 != 0 => plugged.enable_msix(),
                _ => {}
            }
        });
    }

    fn mmio_read(&self, address: BoardAddr, width: u8) -> u32 {
        self.decoded(address, ALL_ONES, |plugged, offset| match plugged.entry(offset) {
            Some(entry) => *entry,
            None => plugged.read(BAR0, offset, width),
        })
    }

    fn mmio_write(&self, address: BoardAddr, width: u8, value: u32) {
        self.decoded(address, (), |plugged, offset| match plugged.entry(offset) {
            Some(entry) => *entry = value,
            None => plugged.write(BAR0, offset, width, value),
        });
    }

    fn memory(&self) -> &GuestMemoryMmap {
        &self.memory
    }

    fn relax(&self) {
        thread::yield_now();
    }

    fn messages(&self, data: u32) -> u64 {
        let mut messages = self.messages.borrow_mut();
        for plugged in &*self.functions.borrow() {
            for ([_, _, data, _], event) in plugged.table.iter().zip(&plugged.events) {
                *messages.entry(*data).or_default() += event.read().unwrap_or(0);
            }
        }
        messages.get(&data).copied().unwrap_or(0)
    }
}
