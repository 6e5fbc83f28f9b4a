//! bm-hypervisor over the in-process IO-Bond as a library: polling registers instead of the status page, and mailboxes that
//! nobody answers.
//!
//! ```text
//!   Blk, raw accesses -- Bond == ModelPort -- Poller, Control == bmhive backend blk
//!                                 \__ or nobody
//! ```
#![allow(clippy::unwrap_used, reason = "a test's own functions fail as its tests do")]

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    fs::File,
    path::Path,
    rc::Rc,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bm_hypervisor::{
    Control, Poller,
    config::{BackEndConfig, BlkConfig, BoardConfig, FunctionConfig, PollMode},
};
use bmhive_server::BackEndProcess;
use iobond_model::{
    device::Access,
    front_end::Message,
    live::{Bond, Environment},
};
use iobond_spec::{
    address::{BoardAddr, FunctionId},
    function::{COMMON, ISR},
    offsets::{board, functions, mailbox, queues, status_page},
    register_access::RegisterIo,
};
use model_port::ModelPort;
use rig::{
    bmhive::program,
    home::{Home, random_bytes},
};
use software_board::{
    blk::{Blk, SECTOR},
    bus::Bus,
    memory::{self, DmaMemory},
    pci,
    queue::RingOptions,
    transport::{PciTransport, TransportError},
};
use vm_memory::GuestMemoryMmap;

#[derive(Default)]
struct Messages(Mutex<HashMap<u32, u64>>);

impl Environment for Messages {
    fn message(&self, message: Message) {
        *self.0.lock().unwrap().entry(message.data).or_default() += 1;
    }
}

/// A board whose base is passed over while it waits, as long as there is one.
struct Lone {
    bond: Arc<Bond>,
    memory: GuestMemoryMmap,
    messages: Arc<Messages>,
    poller: RefCell<Option<Poller<ModelPort>>>,
    waits: Cell<u64>,
}

impl Lone {
    fn new() -> Self {
        let messages = Arc::new(Messages::default());
        let bond = Bond::new(Arc::<Messages>::clone(&messages) as _);
        let memory = memory::create(32).unwrap();
        bond.map_board_memory(&memory).unwrap();
        Self { bond: Arc::new(bond), memory, messages, poller: RefCell::new(None), waits: Cell::new(0) }
    }

    /// Starts its bm-hypervisor.
    fn serve(&self, poll: PollMode, deadline_us: u32, socket: &Path) -> Control {
        let disk = FunctionConfig::Blk(BlkConfig::new(BackEndConfig::new(socket)));
        let mut config = BoardConfig::new("lone", vec![disk]);
        (config.poll, config.mailbox_deadline_us) = (poll, deadline_us);
        let port = Arc::new(ModelPort(Arc::clone(&self.bond)));
        let (poller, control) = bm_hypervisor::start(config, port).unwrap();
        self.poller.replace(Some(poller));
        control
    }

    fn mailbox(&self, register: u32) -> u32 {
        self.bond.read32(mailbox::BASE + register)
    }
}

impl Bus for Lone {
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
        self.bond.access(Access::MemoryWrite { address, width, value }, &mut || self.relax());
    }

    fn memory(&self) -> &GuestMemoryMmap {
        &self.memory
    }

    fn relax(&self) {
        self.waits.set(self.waits.get() + 1);
        self.bond.pass();
        if let Some(poller) = &mut *self.poller.borrow_mut() {
            poller.pass();
        }
        std::thread::yield_now();
    }

    fn messages(&self, data: u32) -> u64 {
        self.messages.0.lock().unwrap().get(&data).copied().unwrap_or(0)
    }
}

/// A disk of 1 MiB in a process of its own.
fn disk_at(home: &Home) -> (BackEndProcess, std::path::PathBuf) {
    let (image, socket) = (home.path("image"), home.path("socket"));
    File::create(&image).unwrap().set_len(1 << 20).unwrap();
    let args =
        ["blk".as_ref(), "--socket".as_ref(), socket.as_os_str(), "--image".as_ref(), image.as_os_str()];
    (BackEndProcess::start("disk", program(), args, 1, &|| false).unwrap(), socket)
}

/// Both modes do the same; in one of them IO-Bond writes no status page that the hypervisor would look at.
#[test]
fn a_hypervisor_that_polls_registers_serves_a_disk() {
    for poll in [PollMode::Registers, PollMode::StatusPage] {
        let home = Home::new();
        let (back_end, socket) = disk_at(&home);
        let board = Rc::new(Lone::new());
        let control = board.serve(poll, 5_000_000, &socket);
        if poll == PollMode::Registers {
            // The page is of no use to this mode: without it everything goes on.
            board.bond.write32(status_page::BASE + status_page::CONTROL, 0);
        }
        let found = pci::enumerate(&*board).unwrap();
        let memory = DmaMemory::new(board.memory()).unwrap();
        let transport = PciTransport::new(Rc::clone(&board), found[0].clone()).unwrap();
        let mut disk: Blk<_> = Blk::new(transport, &memory, RingOptions::default()).unwrap();
        let contents = random_bytes(1 << 20, 1);
        for (sector, chunk) in (0..).step_by(64).zip(contents.chunks(64 * SECTOR)) {
            disk.write(sector, chunk).unwrap();
        }
        disk.flush().unwrap();
        let mut read = vec![0; 64 * SECTOR];
        disk.read(64, &mut read).unwrap();
        assert!(read == contents[64 * SECTOR..][..64 * SECTOR]);
        assert!(std::fs::read(home.path("image")).unwrap() == contents);

        // A driver's mistake is noticed in either mode, and a reset mends it.
        let bytes = board.bond.read32(queues::BASE + queues::GUEST_AVAIL_LO);
        vm_memory::Bytes::write_obj(
            board.memory(),
            0x7777_u16,
            vm_memory::GuestAddress(u64::from(bytes) + 2),
        )
        .unwrap();
        board.mmio_write(
            BoardAddr(found[0].bars[0].address.0 + u64::from(iobond_spec::function::NOTIFY)),
            2,
            0,
        );
        let start = Instant::now();
        while control.statistics().functions[0].last_queue_error.is_none() {
            assert!(
                start.elapsed() < Duration::from_secs(5),
                "the stopped queue was not noticed with {poll:?}"
            );
            board.relax();
        }
        drop(disk);
        let transport = PciTransport::new(Rc::clone(&board), found[0].clone()).unwrap();
        let mut disk: Blk<_> = Blk::new(transport, &memory, RingOptions::default()).unwrap();
        disk.read(64, &mut read).unwrap();
        drop(disk);
        board.poller.replace(None);
        let statistics = control.stop().unwrap();
        assert!(statistics.poll.published > 0 && statistics.poll.returned > 0, "{statistics:?}");
        drop(back_end);
        home.await_quiet();
    }
}

/// A board with a function, and nobody at its mailbox: the base has programmed it and gone.
fn deserted(deadline_us: u32) -> Lone {
    const BAR0: u32 = 0x10 / 4;
    let board_ = Lone::new();
    let write = |at, value| board_.bond.write32(at, value);
    write(functions::BASE + functions::CONFIG, 0x1042_1AF4);
    write(functions::BASE + functions::MASK + 4, 0b110);
    write(functions::BASE + functions::CONFIG + 4 * BAR0, 0b100);
    write(functions::BASE + functions::MASK + 4 * BAR0, 0xFFFF_8000);
    write(functions::BASE + functions::MASK + 4 * (BAR0 + 1), u32::MAX);
    write(functions::BASE + functions::CONTROL, 1);
    write(mailbox::BASE + mailbox::DEADLINE, deadline_us);
    write(board::BASE + board::CONTROL, 1);
    board_.config_write(FunctionId::all().next().unwrap(), 4 * BAR0 as u16, 4, 0xE000_0000);
    board_.config_write(FunctionId::all().next().unwrap(), 4, 2, 0b110);
    board_
}

const BAR: u64 = 0xE000_0000;

#[test]
fn a_read_that_nobody_answers_completes_with_all_ones_after_the_deadline() {
    const DEADLINE_US: u32 = 20_000;
    let deadline = Duration::from_micros(DEADLINE_US.into());
    let board = deserted(DEADLINE_US);
    for (turn, (offset, width, ones)) in (1..).zip([(0, 4, u32::MAX), (0x14, 1, 0xFF), (0x12, 2, 0xFFFF)]) {
        let start = Instant::now();
        let value = board.mmio_read(BoardAddr(BAR + u64::from(COMMON) + offset), width);
        let took = start.elapsed();
        assert_eq!(value & ones, ones, "{width} bytes");
        assert!(took >= deadline && took < 20 * deadline, "{took:?} with a deadline of {deadline:?}");
        assert_eq!(board.mailbox(mailbox::EXPIRED_READS), turn);
    }
    // What IO-Bond answers by itself does not wait.
    let start = Instant::now();
    assert_eq!(board.mmio_read(BoardAddr(BAR + u64::from(ISR)), 1), 0);
    assert!(start.elapsed() < deadline);
}

/// Posted writes do not wait until the mailbox is full; then each expires in its turn, and none is lost without being counted.
#[test]
fn writes_that_nobody_takes_expire_one_after_the_other() {
    const DEADLINE_US: u32 = 2_000;
    const WRITES: u32 = 200;
    let deadline = Duration::from_micros(DEADLINE_US.into());
    let board = deserted(DEADLINE_US);
    let start = Instant::now();
    for value in 0..WRITES {
        board.mmio_write(BoardAddr(BAR + u64::from(COMMON) + 8), 4, value);
    }
    assert!(board.waits.get() > 0, "the mailbox took them all");
    assert!(start.elapsed() < WRITES * 20 * deadline);
    // A read goes behind them all.
    assert_eq!(board.mmio_read(BoardAddr(BAR + u64::from(COMMON)), 4), u32::MAX);
    assert_eq!(board.mailbox(mailbox::EXPIRED_WRITES), WRITES);
    assert_eq!(board.mailbox(mailbox::EXPIRED_READS), 1);
}

/// A hypervisor that is not passed over is as good as none; its driver is told so, and served when it is passed over again.
#[test]
fn a_driver_of_a_hypervisor_that_sleeps_is_told_that_the_device_is_gone() {
    let home = Home::new();
    let (back_end, socket) = disk_at(&home);
    let board = Rc::new(Lone::new());
    let control = board.serve(PollMode::StatusPage, 20_000, &socket);
    let found = pci::enumerate(&*board).unwrap();
    let memory = DmaMemory::new(board.memory()).unwrap();
    let sleeping = board.poller.take();
    let mut transport = PciTransport::new(Rc::clone(&board), found[0].clone()).unwrap();
    transport.set_patience(Duration::from_millis(100));
    let start = Instant::now();
    let refused: Result<Blk<_>, _> = Blk::new(transport, &memory, RingOptions::default());
    let Err(error) = refused else { panic!("a disk without a base") };
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(
        matches!(&error, software_board::blk::BlkError::Transport(TransportError::Gone { .. })),
        "{error}: {error:?}"
    );
    assert!(board.mailbox(mailbox::EXPIRED_READS) > 0);

    board.poller.replace(sleeping);
    board.bond.write32(mailbox::BASE + mailbox::DEADLINE, 5_000_000);
    let transport = PciTransport::new(Rc::clone(&board), found[0].clone()).unwrap();
    let mut disk: Blk<_> = Blk::new(transport, &memory, RingOptions::default()).unwrap();
    disk.write(0, &[1; SECTOR]).unwrap();
    drop(disk);
    board.poller.replace(None);
    let expired = board.mailbox(mailbox::EXPIRED_READS) + board.mailbox(mailbox::EXPIRED_WRITES);
    assert_eq!(control.stop().unwrap().mailbox.expired, u64::from(expired), "what the base is told of it");
    drop(back_end);
    home.await_quiet();
}
