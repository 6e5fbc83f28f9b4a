//! A live IO-Bond with one function, and all that a test wants of it.

use std::{
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use iobond_model::{
    device::Access,
    front_end::Message,
    live::{Bond, Environment, MapError, Mapping},
    shadow::Context,
};
use iobond_spec::{
    address::{BaseAddr, BoardAddr},
    function::{MSIX_CAP, MSIX_TABLE},
    register_access::{Over, RegisterIo},
    registers::components::{queue_error_e::QueueErrorE as Error, queue_state_e::QueueStateE as State},
    status_page,
};
use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemoryMmap};

use super::{
    BASE, LANE, LANES, Rig, STATUS_PAGE, Shape, board_ring,
    registers::{bar, boot, disable, enable, function, grant, power, present, show_status},
};

pub const PAGE: u64 = BASE + STATUS_PAGE;
pub const LENGTH: usize = (LANES * LANE) as usize;

/// The board's interrupt controller, and the base's.
#[derive(Default)]
pub struct Controller {
    pub messages: Mutex<Vec<Message>>,
    /// Interrupts of the base.
    pub raised: AtomicU32,
}

impl Environment for Controller {
    fn message(&self, message: Message) {
        self.messages.lock().unwrap().push(message);
    }

    fn has_base_interrupt(&self) -> bool {
        true
    }

    fn interrupt_base(&self) {
        self.raised.fetch_add(1, Ordering::Relaxed);
    }
}

/// The base's registers, over a bond that several threads share.
pub struct Registers<'a>(&'a Bond);

impl RegisterIo for Registers<'_> {
    fn read32(&self, offset: u32) -> u32 {
        self.0.read32(offset)
    }
    fn write32(&self, offset: u32, value: u32) {
        self.0.write32(offset, value);
    }
}

/// A bond with one function and all of base memory mapped and granted, and the base's own view of that
/// memory.
pub struct Live {
    pub bond: Bond,
    pub controller: Arc<Controller>,
    pub board: GuestMemoryMmap,
    pub memfd: OwnedFd,
    pub base: GuestMemoryMmap,
}

impl Live {
    pub fn new() -> Self {
        let memfd = rustix::fs::memfd_create("base memory", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&memfd, LENGTH as u64).unwrap();
        let file = FileOffset::new(memfd.try_clone().unwrap().into(), 0);
        let base =
            GuestMemoryMmap::from_ranges_with_files([(GuestAddress(BASE), LENGTH, Some(file))]).unwrap();
        let controller = Arc::new(Controller::default());
        let board = Rig::default().board;
        let bond = Bond::new(Arc::clone(&controller) as _);
        bond.map_board_memory(&board).unwrap();
        let live = Self { bond, controller, board, memfd, base };
        live.map(BASE, 0, LENGTH).unwrap();
        let over = live.over();
        power(&over.registers());
        present(&over.registers(), 0);
        live.boot();
        grant(&over.registers(), 0, BaseAddr(BASE), LENGTH as u64);
        live
    }

    /// The board's firmware sets up function 0.
    pub fn boot(&self) {
        boot(0, |offset, width, value| self.config_write(offset, width, value));
    }

    /// The board writes configuration space of function 0.
    pub fn config_write(&self, offset: u16, width: u8, value: u32) {
        self.bond.access(Access::ConfigWrite { function: function(0), offset, width, value }, &mut || ());
    }

    pub fn over(&self) -> Over<Registers<'_>> {
        Over(Registers(&self.bond))
    }

    pub fn map(&self, iova: u64, file_offset: u64, length: usize) -> Result<(), MapError> {
        self.bond.map(&Mapping { file: self.memfd.as_fd(), file_offset, length, iova: BaseAddr(iova) })
    }

    /// Clears the rings and enables queue context 0 for them.
    pub fn start(&self) -> Context {
        let context = Shape::default().context(0);
        for area in board_ring(&context) {
            let zeroes = vec![0; (area.end - area.start) as usize];
            self.board.write_slice(&zeroes, GuestAddress(area.start)).unwrap();
        }
        self.base.write_slice(&vec![0; 0x1_0000], GuestAddress(BASE)).unwrap();
        enable(&self.over(), 0, &context);
        context
    }

    /// Disables queue context 0 and enables it anew, with whatever is in its rings.
    pub fn start_again(&self, context: &Context) {
        disable(&self.over().registers(), 0);
        enable(&self.over(), 0, context);
    }

    pub fn in_error(&self) -> bool {
        self.over().registers().board().state().read().queue_error()
    }

    /// Switches the status page on, in a page that was dirty before.
    pub fn show_status(&self) {
        self.base.write_slice(&[0xEE; status_page::SIZE as usize], GuestAddress(PAGE)).unwrap();
        show_status(&self.over().registers(), BaseAddr(PAGE));
    }

    /// A word of the status page.
    pub fn status(&self, offset: u64) -> u32 {
        self.base.load(GuestAddress(PAGE + offset), Ordering::Acquire).unwrap()
    }

    /// The board sets up MSI-X, with every vector's data its number.
    pub fn open_msix(&self) {
        self.config_write(MSIX_CAP + 2, 2, 0x8000);
        for vector in 0..8u32 {
            for (word, value) in (0..).zip([0xFEE0_0000, 0, vector, 0]) {
                self.write(MSIX_TABLE + 16 * vector + 4 * word, 4, value);
            }
        }
    }

    /// The board writes into the BAR.
    pub fn write(&self, offset: u32, width: u8, value: u32) {
        let address = BoardAddr(bar(0) + u64::from(offset));
        self.bond.access(Access::MemoryWrite { address, width, value }, &mut || ());
    }

    pub fn read(&self, offset: u32, relax: &mut dyn FnMut()) -> u32 {
        self.bond
            .access(Access::MemoryRead { address: BoardAddr(bar(0) + u64::from(offset)), width: 4 }, relax)
    }

    pub fn state(&self, queue: usize) -> (State, Error) {
        let state = self.over().registers().queues()[queue].state().read();
        (state.state().unwrap(), state.error().unwrap())
    }

    /// Passes until there is nothing more to do; a bounded number of times.
    pub fn settle(&self) {
        let calm = (0..100).find(|_| !self.bond.pass());
        assert!(calm.is_some(), "there is always more to do");
    }
}
