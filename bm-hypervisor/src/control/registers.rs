//! What the control thread does with IO-Bond's registers, off the fast path.

use std::{cell::RefCell, sync::Arc};

use iobond_spec::{
    ALL_ONES, MAGIC,
    address::{BaseAddr, BoardAddr, FunctionId},
    offsets,
    register_access::{Over, RegisterIo, decode, encode},
    registers::components::{
        function_t, ident_t, queue_error_e::QueueErrorE, queue_state_e::QueueStateE, queue_t,
    },
};

use super::counters::Tallies;
use crate::{Error, config::Rates, port::Port, virtio_pci::config_image::ConfigImage};

/// Version of the register map that this program knows (`ident.version.major`).
const VERSION: u16 = 1;

/// The registers of one IO-Bond.
pub(super) struct Registers<P> {
    map: Over<Shared<P>>,
    /// What was counted of each queue context. The control thread alone looks at registers through this.
    pub(super) tallies: RefCell<Tallies>,
}

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

/// Everything that IO-Bond has to know of a queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context {
    pub(super) function: FunctionId,
    pub(super) index: u16,
    pub(super) vector: u16,
    pub(super) guest_size: u16,
    pub(super) guest: [BoardAddr; 3],
    pub(super) shadow_size: u16,
    /// Descriptors, available ring, used ring.
    pub(super) shadow: [BaseAddr; 3],
    pub(super) slots: BaseAddr,
    pub(super) slot_size: u32,
    pub(super) slot_count: u16,
    pub(super) features: queue_t::features::Features,
}

impl<P: Port> Registers<P> {
    pub(super) fn new(port: Arc<P>) -> Self {
        Self { map: Over(Shared(port)), tallies: RefCell::default() }
    }

    /// Reads who is there, and refuses who is not an IO-Bond of this version.
    pub(super) fn identify(&self) -> Result<Identity, Error> {
        let ident = self.map.registers().ident();
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
        self.map.registers().ident().magic().read().value() == MAGIC
    }

    /// Whether an earlier life programmed the device for a pool of `length` bytes at `at`, and nobody reset it since.
    pub(super) fn is_programmed_for(&self, at: BaseAddr, length: u64) -> bool {
        let registers = self.map.registers();
        let [window, ..] = registers.windows();
        let wide = |low: u32, high: u32| u64::from(high) << 32 | u64::from(low);
        let address = wide(window.address_lo().read().value(), window.address_hi().read().value());
        let granted = wide(window.length_lo().read().value(), window.length_hi().read().value());
        window.control().read().grant() && (address, granted) == (at.0, length)
    }

    /// Whether the board has power.
    pub(super) fn has_power(&self) -> bool {
        self.map.registers().board().state().read().powered()
    }

    /// Which queue of which function runs in a context, or is in error there; none if it is disabled.
    pub(super) fn tenant(&self, number: u8) -> Option<(u8, u16)> {
        let state = self.queue_state(number);
        if matches!(state.state(), Ok(QueueStateE::Disabled) | Err(_)) {
            return None;
        }
        let control: queue_t::control::Control =
            decode(self.map.0.read32(self.queue(number) + offsets::queues::CONTROL));
        Some((control.function_id(), control.index()))
    }

    /// How far IO-Bond was told that used buffers may be returned.
    pub(super) fn tail(&self, number: u8) -> u16 {
        self.map.0.read32(self.queue(number) + offsets::queues::TAIL) as u16
    }

    /// Undoes whatever an earlier hypervisor may have left: no power, no queue, no function, no memory.
    pub(super) fn quiesce(&self, identity: &Identity) {
        let registers = self.map.registers();
        registers.board().control().write(|r| r.set_power(false));
        for queue in registers.queues().iter().take(identity.sizes.queues().into()) {
            queue.control().write(|r| r.set_enable(false));
        }
        for function in registers.functions().iter().take(identity.sizes.functions().into()) {
            function.control().write(|r| r.set_present(false));
        }
        if identity.features.limits() {
            registers.qos().iter().for_each(|qos| qos.control().write(|r| r.set_enable(false)));
        }
        registers.status_page().control().write(|r| r.set_enable(false));
        for window in registers.windows().iter().take(identity.sizes.windows().into()) {
            window.control().write(|r| r.set_grant(false));
        }
    }

    /// Grants the first DMA window, and has the status page kept at its beginning.
    pub(super) fn grant(&self, at: BaseAddr, length: u64) {
        let registers = self.map.registers();
        let [window, ..] = registers.windows();
        window.address_lo().write(|r| r.set_value(at.0 as u32));
        window.address_hi().write(|r| r.set_value((at.0 >> 32) as u32));
        window.length_lo().write(|r| r.set_value(length as u32));
        window.length_hi().write(|r| r.set_value((length >> 32) as u32));
        window.control().write(|r| r.set_grant(true));
        let page = registers.status_page();
        page.address_lo().write(|r| r.set_value(at.0 as u32));
        page.address_hi().write(|r| r.set_value((at.0 >> 32) as u32));
        page.control().write(|r| r.set_enable(true));
    }

    pub(super) fn set_mailbox_deadline(&self, microseconds: u32) {
        self.map.registers().mailbox().deadline().write(|r| r.set_microseconds(microseconds));
    }

    pub(super) fn set_power(&self, on: bool) {
        self.map.registers().board().control().write(|r| r.set_power(on));
    }

    /// Resets every function, as a conventional reset does. The board keeps its power.
    pub(super) fn reset_board(&self) {
        self.map.registers().board().control().write(|r| {
            r.set_power(true);
            r.set_reset(true);
        });
    }

    /// The board does not find a function any more; its queues are forgotten.
    pub(super) fn withdraw(&self, id: FunctionId) {
        if let Some(function) = self.map.registers().functions().get(id.index()) {
            function.control().write(|r| r.set_present(false));
        }
    }

    /// Programs a function and lets the board find it.
    pub(super) fn present(&self, id: FunctionId, space: &ConfigImage) {
        let base = offsets::functions::BASE + id.index() as u32 * offsets::functions::STRIDE;
        for (bytes, at) in
            [(&space.image, offsets::functions::CONFIG), (&space.mask, offsets::functions::MASK)]
        {
            let (words, _) = bytes.as_chunks::<4>();
            for (index, word) in words.iter().enumerate() {
                self.map.0.write32(base + at + 4 * index as u32, u32::from_le_bytes(*word));
            }
        }
        let mut control = function_t::control::Control::default();
        control.set_present(true);
        self.map.0.write32(base + offsets::functions::CONTROL, encode(control));
    }

    /// Holds a function to `rates`, or to nothing.
    pub(super) fn limit(&self, id: FunctionId, rates: Option<&Rates>) {
        let files = self.map.registers().qos();
        let Some(qos) = files.get(id.index()) else { return };
        qos.control().write(|r| r.set_enable(false));
        let Some(rates) = rates else { return };
        let base = offsets::qos::BASE + id.index() as u32 * offsets::qos::STRIDE;
        self.write64(base + offsets::qos::OPERATIONS_LO, rates.operations_per_second.unwrap_or(0));
        self.write64(base + offsets::qos::BYTES_LO, rates.bytes_per_second.unwrap_or(0));
        qos.operations_burst().write(|r| r.set_value(rates.operations_burst));
        qos.bytes_burst().write(|r| r.set_value(rates.bytes_burst));
        qos.control().write(|r| r.set_enable(true));
    }

    /// What a function is held to, and how often a queue of it had to wait.
    pub(super) fn limits(&self, id: FunctionId) -> (Option<Rates>, u32) {
        let files = self.map.registers().qos();
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

    /// Raises a configuration change interrupt (virtio 1.3, 4.1.4.5.2).
    pub(super) fn inject_config_change(&self, id: FunctionId, vector: u16) {
        let functions = self.map.registers().functions();
        if let Some(function) = functions.get(id.index()) {
            function.inject().write(|r| {
                r.set_vector(vector);
                r.set_configuration(true);
            });
        }
    }

    /// The request that stands in the mailbox.
    pub(super) fn request(&self) -> u32 {
        encode(self.map.registers().mailbox().request().read())
    }

    /// Answers the request numbered `sequence`: a read with `data`.
    pub(super) fn answer(&self, sequence: u16, data: Option<u32>) {
        let mailbox = self.map.registers().mailbox();
        if let Some(data) = data {
            mailbox.answer_data().write(|r| r.set_value(data));
        }
        mailbox.answer().write(|r| r.set_sequence(sequence));
    }

    /// How many reads, and how many posted writes, ended at their deadline; both wrap.
    pub(super) fn expired_registers(&self) -> [u32; 2] {
        let mailbox = self.map.registers().mailbox();
        [mailbox.expired_reads().read().count(), mailbox.expired_writes().read().count()]
    }

    /// Writes a queue's context and enables it.
    ///
    /// # Errors
    /// The state's error field, if IO-Bond did not take it.
    pub(super) fn start_queue(&self, number: u8, context: &Context) -> Result<(), QueueErrorE> {
        use offsets::queues::*;
        let base = self.queue(number);
        self.restart_tally(number);
        let mut sizes = queue_t::sizes::Sizes::default();
        sizes.set_guest(context.guest_size);
        sizes.set_shadow(context.shadow_size);
        self.map.0.write32(base + SIZES, encode(sizes));
        self.map.0.write32(base + FEATURES, encode(context.features));
        for (address, at) in context.guest.iter().zip([GUEST_DESC_LO, GUEST_AVAIL_LO, GUEST_USED_LO]) {
            self.write64(base + at, address.0);
        }
        for (address, at) in context.shadow.iter().zip([SHADOW_DESC_LO, SHADOW_AVAIL_LO, SHADOW_USED_LO]) {
            self.write64(base + at, address.0);
        }
        self.write64(base + SLOTS_LO, context.slots.0);
        self.map.0.write32(base + SLOT_SIZE, context.slot_size);
        self.map.0.write32(base + SLOT_COUNT, context.slot_count.into());
        let mut control = queue_t::control::Control::default();
        control.set_enable(true);
        control.set_function_id(context.function.index() as u8);
        control.set_index(context.index);
        control.set_vector(context.vector);
        self.map.0.write32(base + CONTROL, encode(control));
        let state = self.queue_state(number);
        match state.state() {
            Ok(QueueStateE::Running) => Ok(()),
            Ok(QueueStateE::Error) => Err(state.error().unwrap_or(QueueErrorE::BadContext)),
            // It did not even take note of the enable bit.
            Ok(QueueStateE::Disabled) | Err(_) => Err(QueueErrorE::BadContext),
        }
    }

    /// Has IO-Bond forget a queue. When this returns, all that it wrote for the queue has arrived: a read's completion passes no
    /// write that was posted before it (PCIe 5.0, 2.4.1).
    pub(super) fn stop_queue(&self, number: u8) {
        self.fold(number);
        self.map.0.write32(
            self.queue(number) + offsets::queues::CONTROL,
            encode(queue_t::control::Control::default()),
        );
        self.queue_state(number);
    }

    /// Tells IO-Bond how far used buffers may be returned, for a queue that nobody polls.
    pub(super) fn set_tail(&self, number: u8, used: u16) {
        self.map.0.write32(self.queue(number) + offsets::queues::TAIL, used.into());
    }

    /// Why IO-Bond stopped a queue, if it did.
    pub(super) fn queue_error(&self, number: u8) -> Option<QueueErrorE> {
        let state = self.queue_state(number);
        let stopped = matches!(state.state(), Ok(QueueStateE::Error));
        stopped.then(|| state.error().unwrap_or(QueueErrorE::None))
    }

    pub(super) fn queue_state(&self, number: u8) -> queue_t::state::State {
        decode(self.map.0.read32(self.queue(number) + offsets::queues::STATE))
    }

    /// A register of a queue context.
    pub(super) fn queue_register(&self, number: u8, register: u32) -> u32 {
        self.map.0.read32(self.queue(number) + register)
    }

    fn queue(&self, number: u8) -> u32 {
        offsets::queues::BASE + u32::from(number) * offsets::queues::STRIDE
    }

    /// Writes a `_lo`/`_hi` pair.
    fn write64(&self, low: u32, value: u64) {
        self.map.0.write32(low, value as u32);
        self.map.0.write32(low + 4, (value >> 32) as u32);
    }
}
