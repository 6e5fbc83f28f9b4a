//! bm-hypervisor over the in-process IO-Bond as a library: polling registers instead of the status page, and
//! mailboxes that are not answered.
//!
//! ```text
//!   Blk, raw accesses -- LiveBus -- Bond == ModelPort -- Poller, Control == bmhive backend blk
//!                                     \__ or no base
//! ```
#![allow(clippy::unwrap_used, reason = "a test's own functions fail as its tests do")]

use std::{
    cell::{Cell, RefCell},
    fs::{self, File},
    path::Path,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use bm_hypervisor::{
    Control, Poller, Statistics,
    config::{BackEndConfig, BlkConfig, BoardConfig, FunctionConfig, PollMode},
};
use bmhive_server::{BackEndProcess, LiveBus};
use iobond_model::live::Bond;
use iobond_spec::{
    address::{BoardAddr, FunctionId},
    function::{COMMON, ISR, NOTIFY},
    offsets::{board, functions, mailbox, queues, status_page},
    register_access::RegisterIo,
    ring::split,
};
use model_port::ModelPort;
use rig::{
    bmhive::program,
    live_world::DEADLINE,
    test_folder::{TestFolder, random_bytes},
};
use software_board::{
    blk::{Blk, BlkError, SECTOR},
    bus::Bus,
    memory::{self, DmaMemory},
    pci,
    queue::RingOptions,
    transport::{PciTransport, TransportError},
};
use vm_memory::{Bytes, GuestAddress};

/// A mailbox deadline that is not exceeded, in microseconds.
const LONG_US: u32 = 5_000_000;

/// A board whose base is passed over while it waits, as long as there is one.
struct Board {
    bus: Rc<LiveBus>,
    poller: Rc<RefCell<Option<Poller<ModelPort>>>>,
    waits: Rc<Cell<u64>>,
}

impl Board {
    fn new() -> Self {
        let bus = Rc::new(LiveBus::new(memory::create(32).unwrap(), None).unwrap());
        let (poller, waits) = (Rc::new(RefCell::new(None::<Poller<ModelPort>>)), Rc::new(Cell::new(0)));
        let (bond, polled, waited) = (Arc::clone(bus.bond()), Rc::clone(&poller), Rc::clone(&waits));
        bus.lend(move || {
            waited.set(waited.get() + 1);
            let up = bond.pass();
            up | polled.borrow_mut().as_mut().is_some_and(|poller| !poller.pass().is_idle())
        });
        Self { bus, poller, waits }
    }

    /// Starts its bm-hypervisor.
    fn serve(&self, poll: PollMode, deadline_us: u32, socket: &Path) -> Control {
        let disk = FunctionConfig::Blk(BlkConfig::new(BackEndConfig::new(socket)));
        let mut config = BoardConfig::new("lone", vec![disk]);
        (config.poll, config.mailbox_deadline_us) = (poll, deadline_us);
        let port = Arc::new(ModelPort(Arc::clone(self.bond())));
        let (poller, control) = bm_hypervisor::start(config, port).unwrap();
        self.poller.replace(Some(poller));
        control
    }

    fn bond(&self) -> &Arc<Bond> {
        self.bus.bond()
    }

    fn mailbox(&self, register: u32) -> u32 {
        self.bond().read32(mailbox::BASE + register)
    }
}

/// A disk of 1 MiB in a process of its own.
fn disk_at(folder: &TestFolder) -> (BackEndProcess, std::path::PathBuf) {
    let (image, socket) = (folder.path("image"), folder.path("socket"));
    File::create(&image).unwrap().set_len(1 << 20).unwrap();
    let args =
        ["blk".as_ref(), "--socket".as_ref(), socket.as_os_str(), "--image".as_ref(), image.as_os_str()];
    (BackEndProcess::start("disk", program(), args, 1, &|| false).unwrap(), socket)
}

/// A board with such a disk.
struct OneDisk {
    board: Board,
    function: pci::Function,
    memory: Rc<DmaMemory>,
    control: Control,
    back_end: BackEndProcess,
    folder: TestFolder,
}

impl OneDisk {
    fn start(poll: PollMode, deadline_us: u32) -> Self {
        let folder = TestFolder::new();
        let (back_end, socket) = disk_at(&folder);
        let board = Board::new();
        let control = board.serve(poll, deadline_us, &socket);
        if poll == PollMode::Registers {
            // The page is of no use to this mode, which works without it.
            board.bond().write32(status_page::BASE + status_page::CONTROL, 0);
        }
        let function = pci::enumerate(&*board.bus).unwrap().swap_remove(0);
        let memory = DmaMemory::new(board.bus.memory()).unwrap();
        Self { board, function, memory, control, back_end, folder }
    }

    fn transport(&self) -> PciTransport<Rc<LiveBus>> {
        PciTransport::new(Rc::clone(&self.board.bus), self.function.clone()).unwrap()
    }

    fn disk(&self) -> Blk<PciTransport<Rc<LiveBus>>> {
        Blk::new(self.transport(), &self.memory, RingOptions::default()).unwrap()
    }

    /// Ends it in order; what its bm-hypervisor has counted.
    fn end(self) -> Statistics {
        self.board.poller.replace(None);
        let statistics = self.control.stop().unwrap();
        drop(self.back_end);
        self.folder.await_quiet();
        statistics
    }
}

/// Writes the whole disk and reads a part of it.
fn a_disk_is_served_with(poll: PollMode) {
    let served = OneDisk::start(poll, LONG_US);
    let mut disk = served.disk();
    let contents = random_bytes(1 << 20, 1);
    for (sector, chunk) in (0..).step_by(64).zip(contents.chunks(64 * SECTOR)) {
        disk.write(sector, chunk).unwrap();
    }
    disk.flush().unwrap();
    let mut read = vec![0; 64 * SECTOR];
    disk.read(64, &mut read).unwrap();
    assert!(read == contents[64 * SECTOR..][..64 * SECTOR]);
    assert!(fs::read(served.folder.path("image")).unwrap() == contents);
    drop(disk);
    let statistics = served.end();
    assert!(statistics.poll.published > 0 && statistics.poll.returned > 0, "{statistics:?}");
}

#[test]
fn a_hypervisor_that_polls_registers_serves_a_disk() {
    a_disk_is_served_with(PollMode::Registers);
}

#[test]
fn a_hypervisor_that_polls_the_status_page_serves_a_disk() {
    a_disk_is_served_with(PollMode::StatusPage);
}

/// A driver publishes more than its ring holds: IO-Bond stops the queue, and a reset mends it.
fn a_stopped_queue_is_noticed_with(poll: PollMode) {
    let served = OneDisk::start(poll, LONG_US);
    let disk = served.disk();
    let board = &served.board;
    let available = board.bond().read32(queues::BASE + queues::GUEST_AVAIL_LO);
    let index = GuestAddress(u64::from(available) + split::IDX);
    board.bus.memory().write_obj(0x7777_u16, index).unwrap();
    board.bus.mmio_write(BoardAddr(served.function.bars[0].address.0 + u64::from(NOTIFY)), 2, 0);
    let start = Instant::now();
    while served.control.statistics().functions[0].last_queue_error.is_none() {
        assert!(start.elapsed() < DEADLINE, "the stopped queue was not noticed");
        board.bus.relax();
    }
    drop(disk);
    served.disk().read(64, &mut [0; SECTOR]).unwrap();
    served.end();
}

#[test]
fn a_hypervisor_that_polls_registers_notices_a_stopped_queue() {
    a_stopped_queue_is_noticed_with(PollMode::Registers);
}

#[test]
fn a_hypervisor_that_polls_the_status_page_notices_a_stopped_queue() {
    a_stopped_queue_is_noticed_with(PollMode::StatusPage);
}

/// A board with a function whose mailbox is not answered: the base has programmed it and gone.
fn deserted(deadline_us: u32) -> Board {
    const BAR0: u32 = 0x10 / 4;
    let deserted = Board::new();
    let write = |at, value| deserted.bond().write32(at, value);
    write(functions::BASE + functions::CONFIG, 0x1042_1AF4);
    write(functions::BASE + functions::MASK + 4, 0b110);
    write(functions::BASE + functions::CONFIG + 4 * BAR0, 0b100);
    write(functions::BASE + functions::MASK + 4 * BAR0, 0xFFFF_8000);
    write(functions::BASE + functions::MASK + 4 * (BAR0 + 1), u32::MAX);
    write(functions::BASE + functions::CONTROL, 1);
    write(mailbox::BASE + mailbox::DEADLINE, deadline_us);
    write(board::BASE + board::CONTROL, 1);
    let first = FunctionId::all().next().unwrap();
    deserted.bus.config_write(first, 4 * BAR0 as u16, 4, 0xE000_0000);
    deserted.bus.config_write(first, 4, 2, 0b110);
    deserted
}

const BAR: u64 = 0xE000_0000;

#[test]
fn a_read_that_is_not_answered_completes_with_all_ones_after_the_deadline() {
    const DEADLINE_US: u32 = 20_000;
    let board = deserted(DEADLINE_US);
    for (turn, (offset, width, ones)) in (1..).zip([(0, 4, u32::MAX), (0x14, 1, 0xFF), (0x12, 2, 0xFFFF)]) {
        let start = Instant::now();
        let value = board.bus.mmio_read(BoardAddr(BAR + u64::from(COMMON) + offset), width);
        let took = start.elapsed();
        assert_eq!(value & ones, ones, "{width} bytes");
        assert!(took >= Duration::from_micros(DEADLINE_US.into()) && took < DEADLINE, "{took:?}");
        assert_eq!(board.mailbox(mailbox::EXPIRED_READS), turn);
    }
}

#[test]
fn a_read_that_io_bond_answers_itself_does_not_wait_for_the_base() {
    let board = deserted(LONG_US);
    let waits = board.waits.get();
    assert_eq!(board.bus.mmio_read(BoardAddr(BAR + u64::from(ISR)), 1), 0);
    assert_eq!((board.waits.get(), board.mailbox(mailbox::EXPIRED_READS)), (waits, 0));
}

/// Posted writes do not wait until the mailbox is full; then each expires in its turn, and none is lost
/// without being counted.
#[test]
fn writes_that_are_not_taken_expire_one_after_the_other() {
    const WRITES: u32 = 200;
    let board = deserted(2_000);
    for value in 0..WRITES {
        board.bus.mmio_write(BoardAddr(BAR + u64::from(COMMON) + 8), 4, value);
    }
    assert!(board.waits.get() > 0, "the mailbox took them all");
    // A read goes behind them all.
    assert_eq!(board.bus.mmio_read(BoardAddr(BAR + u64::from(COMMON)), 4), u32::MAX);
    assert_eq!(board.mailbox(mailbox::EXPIRED_WRITES), WRITES);
    assert_eq!(board.mailbox(mailbox::EXPIRED_READS), 1);
}

/// A hypervisor that is not passed over is as good as none; its driver is told so, and served when it is
/// passed over again.
#[test]
fn a_driver_of_a_hypervisor_that_sleeps_is_told_that_the_device_is_gone() {
    let served = OneDisk::start(PollMode::StatusPage, 20_000);
    let board = &served.board;
    let sleeping = board.poller.take();
    let mut transport = served.transport();
    transport.set_reset_timeout(Duration::from_millis(100));
    let refused: Result<Blk<_>, _> = Blk::new(transport, &served.memory, RingOptions::default());
    let Err(error) = refused else { panic!("a disk without a base") };
    assert!(matches!(&error, BlkError::Transport(TransportError::Gone { .. })), "{error}: {error:?}");
    assert!(board.mailbox(mailbox::EXPIRED_READS) > 0);

    board.poller.replace(sleeping);
    board.bond().write32(mailbox::BASE + mailbox::DEADLINE, LONG_US);
    served.disk().write(0, &[1; SECTOR]).unwrap();
    let expired = board.mailbox(mailbox::EXPIRED_READS) + board.mailbox(mailbox::EXPIRED_WRITES);
    assert_eq!(served.end().mailbox.expired, u64::from(expired), "what the base is told of it");
}
