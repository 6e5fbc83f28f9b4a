//! A bus for tests, with virtio functions on it that are laid out unlike IO-Bond's: other BARs, other
//! offsets, other capabilities in between. A driver that assumed any of them would not find its device.

mod function;
mod ring;

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, VecDeque},
    rc::Rc,
};

use iobond_spec::address::{BoardAddr, FunctionId};
use vm_memory::GuestMemoryMmap;

pub use self::function::{BAR, COMMON, DEVICE, ISR, Misdeed, NOTIFY, TABLE, TestFunction};
use super::{bus::Bus, memory};

/// One MMIO access: offset in the BAR, width, and the value if it was a write.
pub type Access = (u64, u8, Option<u32>);

/// What the functions' devices are connected to.
#[derive(Default)]
pub struct World {
    /// Contents of a block device.
    pub disk: Vec<u8>,
    /// Frames on their way to each of two network devices.
    pub wire: [VecDeque<Vec<u8>>; 2],
}

/// A board's bus. Devices run when the board relaxes.
pub struct TestBus {
    memory: GuestMemoryMmap,
    pub functions: RefCell<Vec<Option<TestFunction>>>,
    pub log: RefCell<Vec<Access>>,
    pub relaxed: Cell<u64>,
    messages: RefCell<HashMap<u32, u64>>,
    world: Rc<RefCell<World>>,
}

impl TestBus {
    /// A board with 8 MiB and these functions from id 0 on.
    pub fn new(functions: Vec<Option<TestFunction>>, world: &Rc<RefCell<World>>) -> Self {
        Self {
            memory: memory::create(8).unwrap(),
            functions: RefCell::new(functions),
            log: RefCell::default(),
            relaxed: Cell::new(0),
            messages: RefCell::default(),
            world: Rc::clone(world),
        }
    }

    /// A board with one function and nothing else in the world.
    pub fn with(function: TestFunction) -> Rc<Self> {
        Rc::new(Self::new(vec![Some(function)], &Rc::default()))
    }

    /// MMIO accesses since the last time.
    pub fn take_log(&self) -> Vec<Access> {
        self.log.take()
    }

    fn on<R>(&self, function: FunctionId, absent: R, action: impl FnOnce(&mut TestFunction) -> R) -> R {
        match self.functions.borrow_mut().get_mut(function.index()) {
            Some(Some(function)) => action(function),
            _ => absent,
        }
    }

    fn decode<R>(
        &self,
        address: BoardAddr,
        absent: R,
        action: impl FnOnce(&mut TestFunction, u64) -> R,
    ) -> R {
        let mut functions = self.functions.borrow_mut();
        let found = functions.iter_mut().flatten().find_map(|function| {
            let offset = function.decode(address.0)?;
            Some((function, offset))
        });
        found.map_or(absent, |(function, offset)| action(function, offset))
    }
}

impl Bus for TestBus {
    fn config_read(&self, function: FunctionId, offset: u16, width: u8) -> u32 {
        self.on(function, u32::MAX >> (32 - 8 * width), |function| function.config_read(offset, width))
    }

    fn config_write(&self, function: FunctionId, offset: u16, width: u8, value: u32) {
        self.on(function, (), |function| function.config_write(offset, width, value));
    }

    fn mmio_read(&self, address: BoardAddr, width: u8) -> u32 {
        self.decode(address, u32::MAX, |function, offset| {
            self.log.borrow_mut().push((offset, width, None));
            function.read(offset, width)
        })
    }

    fn mmio_write(&self, address: BoardAddr, width: u8, value: u32) {
        self.decode(address, (), |function, offset| {
            self.log.borrow_mut().push((offset, width, Some(value)));
            function.write(offset, width, value);
        });
    }

    fn memory(&self) -> &GuestMemoryMmap {
        &self.memory
    }

    fn relax(&self) {
        self.relaxed.set(self.relaxed.get() + 1);
        for function in self.functions.borrow_mut().iter_mut().flatten() {
            for data in ring::run(function, &self.memory, &mut self.world.borrow_mut()) {
                *self.messages.borrow_mut().entry(data).or_default() += 1;
            }
        }
    }

    fn messages(&self, data: u32) -> u64 {
        self.messages.borrow().get(&data).copied().unwrap_or(0)
    }
}
