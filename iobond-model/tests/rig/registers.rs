//! What the base writes into the register file, and a synchronous device to write it to.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
};

use iobond_model::{
    device::{Access, Device, Effect, Outcome, QueueReport},
    mailbox::Ticket,
    shadow::Context,
};
use iobond_spec::{
    address::{BaseAddr, BoardAddr, FunctionId},
    function::{MSIX_CAP, PCI_ACCESS_CAP},
    offsets,
    queue_context::DESCRIPTION,
    register_access::{Over, RegisterIo},
    registers::Iobond,
};

/// Where the BAR of `function` is, once [`boot`] has put it there.
pub const fn bar(function: u8) -> u64 {
    0xE000_0000 + 0x10_0000 * function as u64
}

/// Function `id`.
pub fn function(id: u8) -> FunctionId {
    FunctionId::new(id).unwrap()
}

/// A [`Device`] with a clock, a log of its effects, and what its queues' engines would say.
#[derive(Default)]
pub struct TestDevice {
    pub device: RefCell<Device>,
    pub effects: RefCell<Vec<Effect>>,
    pub now: Cell<u64>,
    pub reports: RefCell<HashMap<usize, QueueReport>>,
}

impl RegisterIo for TestDevice {
    fn read32(&self, offset: u32) -> u32 {
        let reports = self.reports.borrow();
        let report = |queue| reports.get(&queue).copied().unwrap_or_default();
        self.device.borrow_mut().register_read(self.now.get(), offset, report)
    }

    fn write32(&self, offset: u32, value: u32) {
        self.act(|device, now, effects| device.register_write(now, offset, value, effects));
    }
}

impl TestDevice {
    /// Does something to the device, now.
    pub fn act<T>(&self, act: impl FnOnce(&mut Device, u64, &mut Vec<Effect>) -> T) -> T {
        act(&mut self.device.borrow_mut(), self.now.get(), &mut self.effects.borrow_mut())
    }

    /// Effects since the last call.
    pub fn take_effects(&self) -> Vec<Effect> {
        self.effects.take()
    }

    /// The board makes an access.
    pub fn access(&self, access: Access) -> Outcome {
        self.act(|device, now, effects| device.access(|| now, access, effects))
    }

    pub fn config_read(&self, id: u8, offset: u16, width: u8) -> Outcome {
        self.access(Access::ConfigRead { function: function(id), offset, width })
    }

    pub fn config_write(&self, id: u8, offset: u16, width: u8, value: u32) -> Outcome {
        self.access(Access::ConfigWrite { function: function(id), offset, width, value })
    }

    /// The board reads at `offset` of the BAR of function `id`.
    pub fn bar_read(&self, id: u8, offset: u32, width: u8) -> Outcome {
        let at = BoardAddr(bar(id) + u64::from(offset));
        self.access(Access::MemoryRead { address: at, width })
    }

    pub fn bar_write(&self, id: u8, offset: u32, width: u8, value: u32) -> Outcome {
        let at = BoardAddr(bar(id) + u64::from(offset));
        self.access(Access::MemoryWrite { address: at, width, value })
    }

    /// A read that the base has to answer.
    pub fn forwarded_read(&self, id: u8, offset: u32, width: u8) -> Ticket {
        match self.bar_read(id, offset, width) {
            Outcome::Waiting(ticket) => ticket,
            other => panic!("{other:?}"),
        }
    }

    pub fn collect(&self, ticket: Ticket) -> Option<u32> {
        self.act(|device, now, effects| device.collect(now, ticket, effects))
    }

    /// Resets the base function.
    pub fn reset(&self) {
        self.act(|device, _, effects| device.reset(effects));
    }

    /// Lets `nanoseconds` pass.
    pub fn wait(&self, nanoseconds: u64) {
        self.now.set(self.now.get() + nanoseconds);
        self.act(|device, now, effects| device.tick(now, effects));
    }
}

/// A device whose board is powered, with the first `functions` functions present and set up by the board's
/// firmware.
pub fn booted(functions: u8) -> Over<TestDevice> {
    let over = Over(TestDevice::default());
    power(&over.registers());
    for id in 0..functions {
        present(&over.registers(), id);
        boot(id, |offset, width, value| {
            over.0.config_write(id, offset, width, value);
        });
    }
    over.0.take_effects();
    over
}

/// Powers the board.
pub fn power<T: RegisterIo>(registers: &Iobond<'_, Over<T>>) {
    registers.board().control().write(|r| r.set_power(true));
}

/// Makes function `id` present, with the image of a virtio function.
pub fn present<T: RegisterIo>(registers: &Iobond<'_, Over<T>>, id: u8) {
    let file = &registers.functions()[usize::from(id)];
    let (mut image, mut mask) = ([0u8; 256], [0u8; 256]);
    image[..4].copy_from_slice(&[0xF4, 0x1A, 0x41, 0x10]);
    image[0x10] = 0x04; // BAR 0: 64 bits
    mask[4..6].copy_from_slice(&[0x06, 0x04]); // memory, bus master; INTx disable
    mask[0x11..0x18].copy_from_slice(&[0x80, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]);
    mask[usize::from(MSIX_CAP) + 3] = 0xC0;
    mask[usize::from(PCI_ACCESS_CAP) + 4] = 0xFF;
    mask[usize::from(PCI_ACCESS_CAP) + 8..][..8].fill(0xFF);
    for n in 0..64 {
        let word = |bytes: &[u8; 256]| u32::from_le_bytes(bytes[4 * n..][..4].try_into().unwrap());
        file.config()[n].write(|r| r.set_value(word(&image)));
        file.mask()[n].write(|r| r.set_value(word(&mask)));
    }
    file.control().write(|r| r.set_present(true));
}

/// What a board's firmware writes into configuration space: the BAR, memory space and bus mastering.
pub fn boot(id: u8, config_write: impl Fn(u16, u8, u32)) {
    config_write(0x10, 4, bar(id) as u32);
    config_write(0x14, 4, (bar(id) >> 32) as u32);
    config_write(0x04, 2, 0x0006);
}

/// Writes `context` into queue context `n`, without enabling it.
pub fn describe<T: RegisterIo>(over: &Over<T>, n: usize, context: &Context) {
    let words = context.to_words();
    DESCRIPTION.step_by(4).for_each(|at| over.0.write32(queue(n) + at, words[(at / 4) as usize]));
}

/// Writes `context` into queue context `n` and enables it.
pub fn enable<T: RegisterIo>(over: &Over<T>, n: usize, context: &Context) {
    describe(over, n, context);
    over.0.write32(queue(n) + offsets::queues::CONTROL, context.to_words()[0]);
}

const fn queue(n: usize) -> u32 {
    offsets::queues::BASE + n as u32 * offsets::queues::STRIDE
}

/// Disables queue context `n`.
pub fn disable<T: RegisterIo>(registers: &Iobond<'_, Over<T>>, n: usize) {
    registers.queues()[n].control().modify(|r| r.set_enable(false));
}

/// Grants `length` bytes at `at` as window `n`.
pub fn grant<T: RegisterIo>(registers: &Iobond<'_, Over<T>>, n: usize, at: BaseAddr, length: u64) {
    let window = &registers.windows()[n];
    window.address_lo().write(|r| r.set_value(at.0 as u32));
    window.address_hi().write(|r| r.set_value((at.0 >> 32) as u32));
    window.length_lo().write(|r| r.set_value(length as u32));
    window.length_hi().write(|r| r.set_value((length >> 32) as u32));
    window.control().write(|r| r.set_grant(true));
}

/// Takes window `n` back.
pub fn revoke<T: RegisterIo>(registers: &Iobond<'_, Over<T>>, n: usize) {
    registers.windows()[n].control().write(|r| r.set_grant(false));
}

/// Switches the status page on, at `at`.
pub fn show_status<T: RegisterIo>(registers: &Iobond<'_, Over<T>>, at: BaseAddr) {
    let page = registers.status_page();
    page.address_lo().write(|r| r.set_value(at.0 as u32));
    page.address_hi().write(|r| r.set_value((at.0 >> 32) as u32));
    page.control().write(|r| r.set_enable(true));
}
