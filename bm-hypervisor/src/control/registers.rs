//! IO-Bond's registers as the control thread reads them, and writes to them off the fast path.

use std::sync::Arc;

use iobond_spec::{
    ALL_ONES, MAGIC,
    address::{BaseAddr, FunctionId},
    offsets::queues,
    queue_context::QueueContext,
    register_access::{Over, RegisterIo, decode, encode},
    registers::components::{ident_t, queue_error_e::QueueErrorE, queue_state_e::QueueStateE, queue_t},
};

use crate::{
    Error,
    config::Rates,
    port::Port,
    register_writes::{self, Write, queue},
};

/// Version of the register map that this program knows (`ident.version.major`).
const VERSION: u16 = 1;

/// The registers of one IO-Bond.
pub(super) struct Registers<P>(Over<Shared<P>>);

struct Shared<P>(Arc<P>);

impl<P: Port> RegisterIo for Shared<P> {
    fn read32(&self, offset: u32) -> u32 {
        self.0.read32(offset)
    }

    fn write32(&self, offset: u32, value: u32) {
        self.0.write32(offset, value);
    }
}

/// What an IO-Bond is and has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Identity {
    pub(super) sizes: ident_t::sizes::Sizes,
    pub(super) features: ident_t::features::Features,
}

impl<P: Port> Registers<P> {
    pub(super) fn new(port: Arc<P>) -> Self {
        Self(Over(Shared(port)))
    }

    /// Writes to registers, in order.
    pub(super) fn write(&self, writes: impl IntoIterator<Item = Write>) {
        for (offset, value) in writes {
            self.0.0.write32(offset, value);
        }
    }

    /// Reads what device this is, and refuses any but an IO-Bond of this version.
    pub(super) fn identify(&self) -> Result<Identity, Error> {
        let ident = self.0.registers().ident();
        match ident.magic().read().value() {
            MAGIC => {}
            ALL_ONES => return Err(Error::DeviceGone),
            other => return Err(Error::NotAnIoBond(other)),
        }
        let found = ident.version().read().major();
        if found != VERSION {
            return Err(Error::Version { found, known: VERSION });
        }
        Ok(Identity { sizes: ident.sizes().read(), features: ident.features().read() })
    }

    /// Whether the device still answers.
    pub(super) fn is_there(&self) -> bool {
        self.0.registers().ident().magic().read().value() == MAGIC
    }

    /// Whether a previous process programmed the device for a pool of `length` bytes at `at`, and it was not
    /// reset since.
    pub(super) fn is_programmed_for(&self, at: BaseAddr, length: u64) -> bool {
        let registers = self.0.registers();
        let [window, ..] = registers.windows();
        let wide = |low: u32, high: u32| u64::from(high) << 32 | u64::from(low);
        let address = wide(window.address_lo().read().value(), window.address_hi().read().value());
        let granted = wide(window.length_lo().read().value(), window.length_hi().read().value());
        window.control().read().grant() && (address, granted) == (at.0, length)
    }

    /// Whether the board has power.
    pub(super) fn has_power(&self) -> bool {
        self.0.registers().board().state().read().powered()
    }

    /// Which queue of which function runs in a context, or is in error there; none if it is disabled.
    pub(super) fn tenant(&self, number: u8) -> Option<(u8, u16)> {
        let state = self.queue_state(number);
        if matches!(state.state(), Ok(QueueStateE::Disabled) | Err(_)) {
            return None;
        }
        let control: queue_t::control::Control = decode(self.queue_register(number, queues::CONTROL));
        Some((control.function_id(), control.index()))
    }

    /// How far IO-Bond was told that used buffers may be returned.
    pub(super) fn tail(&self, number: u8) -> u16 {
        self.queue_register(number, queues::TAIL) as u16
    }

    /// What a function is held to, and how often a queue of it had to wait.
    pub(super) fn limits(&self, id: FunctionId) -> (Option<Rates>, u32) {
        let files = self.0.registers().qos();
        let Some(qos) = files.get(id.index()) else { return (None, 0) };
        let rate =
            |low: u32, high: u32| Some(u64::from(high) << 32 | u64::from(low)).filter(|&rate| rate != 0);
        let (operations, bytes) = (
            rate(qos.operations_lo().read().value(), qos.operations_hi().read().value()),
            rate(qos.bytes_lo().read().value(), qos.bytes_hi().read().value()),
        );
        let rates = qos.control().read().enable().then(|| Rates {
            operations_per_second: operations,
            operations_burst: qos.operations_burst().read().value(),
            bytes_per_second: bytes,
            bytes_burst: qos.bytes_burst().read().value(),
        });
        (rates, qos.delays().read().count())
    }

    /// The request word of the oldest access that was not answered, the one in the mailbox's registers.
    pub(super) fn request(&self) -> u32 {
        encode(self.0.registers().mailbox().request().read())
    }

    /// How many reads, and how many posted writes, ended at their deadline; both wrap.
    pub(super) fn expired_registers(&self) -> [u32; 2] {
        let mailbox = self.0.registers().mailbox();
        [mailbox.expired_reads().read().count(), mailbox.expired_writes().read().count()]
    }

    /// Writes a queue's context and enables it.
    ///
    /// # Errors
    /// The state's error field, if IO-Bond did not take it.
    pub(super) fn start_queue(&self, number: u8, context: &QueueContext) -> Result<(), QueueErrorE> {
        self.write(register_writes::start_queue(number, context));
        let state = self.queue_state(number);
        match state.state() {
            Ok(QueueStateE::Running) => Ok(()),
            Ok(QueueStateE::Error) => Err(state.error().unwrap_or(QueueErrorE::BadContext)),
            // The device did not even take the enable bit.
            Ok(QueueStateE::Disabled) | Err(_) => Err(QueueErrorE::BadContext),
        }
    }

    /// Has IO-Bond forget a queue. When this returns, all that it wrote for the queue has arrived: a read's
    /// completion passes no write that was posted before it (PCIe 5.0, 2.4.1).
    pub(super) fn stop_queue(&self, number: u8) {
        self.write(register_writes::stop_queue(number));
        self.queue_state(number);
    }

    /// Why IO-Bond stopped a queue, if it did.
    pub(super) fn queue_error(&self, number: u8) -> Option<QueueErrorE> {
        let state = self.queue_state(number);
        let stopped = matches!(state.state(), Ok(QueueStateE::Error));
        stopped.then(|| state.error().unwrap_or(QueueErrorE::None))
    }

    pub(super) fn queue_state(&self, number: u8) -> queue_t::state::State {
        decode(self.queue_register(number, queues::STATE))
    }

    /// A register of a queue context.
    pub(super) fn queue_register(&self, number: u8, register: u32) -> u32 {
        self.0.0.read32(queue(number) + register)
    }
}
