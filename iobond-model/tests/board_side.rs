//! The board's side of a device: configuration space, BAR, mailbox, interrupts and resets, without time and
//! without threads.
//!
//! ```text
//!   board --- access ---> front end --- forwarded ---> mailbox ---> base
//!     ^                      |                            |           |
//!     +----- local ----------+        deadline: all ones -+- answer --+
//! ```

#![allow(clippy::unwrap_used)] // of enumerations that the register file fills

mod rig;

use iobond_model::{
    device::{self, Effect, Outcome},
    front_end::Message,
    shadow::{Context, QueueFeatures},
};
use iobond_spec::{
    ALL_ONES,
    address::BoardAddr,
    function::{
        BAR_SIZE, COMMON, DEVICE, ISR, MSIX_CAP, MSIX_PBA, MSIX_TABLE, NO_VECTOR, NOTIFY, PCI_ACCESS_CAP,
        PCI_ACCESS_DATA, PCI_ACCESS_LENGTH, PCI_ACCESS_OFFSET, PCIE_CAP,
    },
    register_access::{Over, RegisterIo},
    registers::components::{mailbox_kind_e::MailboxKindE as Kind, queue_state_e::QueueStateE as State},
};
use proptest::prelude::*;
use rig::{
    Shape,
    registers::{TestDevice, bar, booted, disable, enable, function, present},
};

/// The reset value of the mailbox deadline, in nanoseconds.
const DEADLINE: u64 = 50_000_000;

fn context() -> Context {
    Shape::default().context(0)
}

/// The request at the front of the mailbox: kind, function, offset, width, data.
fn front(over: &Over<TestDevice>) -> (Kind, u8, u32, u8, u32) {
    let registers = over.registers();
    let mailbox = registers.mailbox();
    let request = mailbox.request().read();
    let (offset, data) = (mailbox.offset().read().value(), mailbox.data().read().value());
    (request.kind(), request.function_id(), offset, request.width(), data)
}

/// The base answers the front.
fn answer(over: &Over<TestDevice>, data: u32) {
    let registers = over.registers();
    let mailbox = registers.mailbox();
    let sequence = mailbox.request().read().sequence();
    mailbox.answer_data().write(|r| r.set_value(data));
    mailbox.answer().write(|r| r.set_sequence(sequence));
}

fn unsupported(over: &Over<TestDevice>) -> u32 {
    over.registers().board().unsupported_requests().read().count()
}

fn is_running(over: &Over<TestDevice>, queue: usize) -> bool {
    over.registers().queues()[queue].state().read().state().unwrap() == State::Running
}

// Forwarded accesses.

#[test]
fn a_read_waits_for_its_answer() {
    let over = booted(2);
    let ticket = over.0.forwarded_read(1, DEVICE + 4, 2);
    assert_eq!(over.0.take_effects(), [Effect::Mailbox]);
    assert_eq!(front(&over), (Kind::Read, 1, DEVICE + 4, 2, 0));
    assert_eq!(over.0.collect(ticket), None);
    answer(&over, 0xBEEF);
    assert_eq!(over.0.collect(ticket), Some(0xBEEF));
    assert_eq!((front(&over).0, over.0.take_effects()), (Kind::None, vec![Effect::Mailbox]));
}

#[test]
fn posted_writes_arrive_in_order_and_a_read_passes_none() {
    let over = booted(1);
    for n in 0..3 {
        assert_eq!(over.0.bar_write(0, COMMON + 4 * n, 4, 100 + n), Outcome::Done(0));
    }
    let ticket = over.0.forwarded_read(0, COMMON, 4);
    for n in 0..3 {
        assert_eq!(front(&over), (Kind::Write, 0, COMMON + 4 * n, 4, 100 + n));
        assert_eq!(over.0.collect(ticket), None);
        answer(&over, 0);
    }
    assert_eq!(front(&over).0, Kind::Read);
    answer(&over, 5);
    assert_eq!(over.0.collect(ticket), Some(5));
}

#[test]
fn a_narrow_access_carries_no_more_than_its_width() {
    let over = booted(1);
    over.0.bar_write(0, COMMON + 0x14, 1, 0xFFFF_FF0F);
    assert_eq!(front(&over), (Kind::Write, 0, COMMON + 0x14, 1, 0x0F));
    answer(&over, 0);
    let ticket = over.0.forwarded_read(0, COMMON + 0x14, 1);
    answer(&over, 0xFFFF_FF0F);
    assert_eq!(over.0.collect(ticket), Some(0x0F));
}

#[test]
fn an_unanswered_read_is_all_ones_at_its_deadline() {
    let over = booted(1);
    let ticket = over.0.forwarded_read(0, COMMON, 4);
    let sequence = over.registers().mailbox().request().read().sequence();
    over.0.wait(DEADLINE - 1);
    assert_eq!(over.0.collect(ticket), None);
    over.0.wait(1);
    assert_eq!(over.0.collect(ticket), Some(ALL_ONES));
    assert_eq!(over.registers().mailbox().expired_reads().read().count(), 1);
    // The answer comes too late, and completes nothing else.
    let next = over.0.forwarded_read(0, COMMON + 4, 4);
    over.registers().mailbox().answer().write(|r| r.set_sequence(sequence));
    assert_eq!(over.registers().mailbox().late_answers().read().count(), 1);
    assert_eq!(over.0.collect(next), None);
}

#[test]
fn the_deadline_is_a_register() {
    let over = booted(1);
    over.registers().mailbox().deadline().write(|r| r.set_microseconds(7));
    let ticket = over.0.forwarded_read(0, COMMON, 4);
    over.0.bar_write(0, COMMON, 4, 1);
    over.0.wait(7_000);
    assert_eq!(over.0.collect(ticket), Some(ALL_ONES));
    let registers = over.registers();
    let mailbox = registers.mailbox();
    assert_eq!((mailbox.expired_reads().read().count(), mailbox.expired_writes().read().count()), (1, 1));
    assert_eq!(mailbox.fill().read().waiting(), 0);
}

#[test]
fn a_full_mailbox_stalls_the_board_and_loses_nothing() {
    let over = booted(1);
    let capacity = u32::from(over.registers().mailbox().fill().read().capacity());
    for n in 0..capacity {
        assert_eq!(over.0.bar_write(0, DEVICE, 4, n), Outcome::Done(0));
    }
    assert_eq!(over.0.bar_write(0, DEVICE, 4, capacity), Outcome::Full);
    assert_eq!(over.0.bar_read(0, DEVICE, 4), Outcome::Full);
    // Local accesses need no mailbox.
    assert_eq!(over.0.bar_read(0, ISR, 1), Outcome::Done(0));
    answer(&over, 0);
    assert_eq!(over.0.bar_write(0, DEVICE, 4, capacity), Outcome::Done(0));
    for n in 1..=capacity {
        assert_eq!(front(&over).4, n);
        answer(&over, 0);
    }
    assert_eq!(front(&over).0, Kind::None);
}

// Accesses that nothing answers.

#[test]
fn what_nothing_decodes_is_an_unsupported_request() {
    let over = booted(1);
    let holes = [
        (COMMON + 1, 2),
        (COMMON, 8),
        (COMMON, 3),
        (COMMON, 0),
        (ISR, 4),
        (NOTIFY, 1),
        (NOTIFY + 2, 2),
        (MSIX_TABLE, 2),
        (MSIX_PBA + 8, 4),
        (BAR_SIZE - 4, 4),
        (BAR_SIZE - 1, 2),
        (BAR_SIZE, 4),
    ];
    for (offset, width) in holes {
        let before = unsupported(&over);
        assert_eq!(
            over.0.bar_read(0, offset, width),
            Outcome::Done(ALL_ONES),
            "{width} bytes at {offset:#x}"
        );
        assert_eq!(over.0.bar_write(0, offset, width, 0), Outcome::Done(ALL_ONES));
        assert_eq!(unsupported(&over), before + 2, "{width} bytes at {offset:#x}");
    }
    assert_eq!(over.0.take_effects(), []);
}

#[test]
fn a_bar_answers_only_with_memory_space_enabled() {
    let over = booted(1);
    over.0.config_write(0, 4, 2, 0x0004);
    assert_eq!(over.0.bar_read(0, ISR, 1), Outcome::Done(ALL_ONES));
    over.0.config_write(0, 4, 2, 0x0006);
    assert_eq!(over.0.bar_read(0, ISR, 1), Outcome::Done(0));
}

#[test]
fn configuration_requests_of_a_bad_width_do_nothing() {
    let over = booted(1);
    let data = PCI_ACCESS_CAP + PCI_ACCESS_DATA;
    over.0.config_write(0, PCI_ACCESS_CAP + PCI_ACCESS_LENGTH, 4, 4);
    over.0.config_write(0, PCI_ACCESS_CAP + PCI_ACCESS_OFFSET, 4, COMMON);
    for (offset, width) in
        [(0, 0), (0, 3), (0, 8), (1, 2), (2, 4), (4096, 4), (0xFFFE, 4), (data, 3), (data, 8)]
    {
        assert_eq!(
            over.0.config_read(0, offset, width),
            Outcome::Done(ALL_ONES),
            "{width} bytes at {offset:#x}"
        );
        over.0.config_write(0, offset, width, ALL_ONES);
    }
    assert_eq!((front(&over).0, over.0.take_effects()), (Kind::None, vec![]));
    // Beyond the image there is nothing, which reads as zero: no extended capability.
    assert_eq!(over.0.config_read(0, 256, 4), Outcome::Done(0));
}

// Doorbells.

#[test]
fn a_doorbell_finds_its_queue() {
    let over = booted(2);
    enable(&over, 9, &Context { index: 2, ..context() });
    assert_eq!(over.0.bar_write(0, NOTIFY + 8, 2, 2), Outcome::Doorbell { queue: 9, data: None });
    assert_eq!(over.0.bar_write(0, NOTIFY + 8, 4, 0x0007_0002), Outcome::Doorbell { queue: 9, data: None });
    assert_eq!(over.registers().queues()[9].doorbells().read().count(), 2);
    // Of another virtqueue, of another function, and once the queue is gone: nothing.
    assert_eq!(over.0.bar_write(0, NOTIFY + 4, 2, 1), Outcome::Done(0));
    assert_eq!(over.0.bar_write(1, NOTIFY + 8, 2, 2), Outcome::Done(0));
    assert_eq!(over.0.bar_write(0, NOTIFY + 0xFFC, 4, 0), Outcome::Done(0));
    disable(&over.registers(), 9);
    assert_eq!(over.0.bar_write(0, NOTIFY + 8, 2, 2), Outcome::Done(0));
}

#[test]
fn notification_data_carries_the_index() {
    let over = booted(1);
    let features = QueueFeatures { notification_data: true, ..QueueFeatures::default() };
    enable(&over, 0, &Context { features, ..context() });
    let doorbell = |width, value| over.0.bar_write(0, NOTIFY, width, value);
    assert_eq!(doorbell(4, 0x1234_0000), Outcome::Doorbell { queue: 0, data: Some(0x1234) });
    assert_eq!(doorbell(2, 0), Outcome::Doorbell { queue: 0, data: None });
}

// The access window in configuration space (virtio 1.3, 4.1.4.9).

#[test]
fn the_pci_access_capability_reaches_the_bar() {
    let over = booted(1);
    let aim = |offset, length| {
        over.0.config_write(0, PCI_ACCESS_CAP + PCI_ACCESS_OFFSET, 4, offset);
        over.0.config_write(0, PCI_ACCESS_CAP + PCI_ACCESS_LENGTH, 4, length);
    };
    let data = PCI_ACCESS_CAP + PCI_ACCESS_DATA;
    // It works before memory space is enabled: that is what it is for.
    over.0.config_write(0, 4, 2, 0);
    aim(COMMON + 0x14, 1);
    over.0.config_write(0, data, 1, 0x0F);
    assert_eq!(front(&over), (Kind::Write, 0, COMMON + 0x14, 1, 0x0F));
    answer(&over, 0);
    let Outcome::Waiting(ticket) = over.0.config_read(0, data, 1) else { panic!("not forwarded") };
    answer(&over, 0x0B);
    assert_eq!(over.0.collect(ticket), Some(0x0B));
    // A length that is none, an offset that nothing decodes, and a BAR that is not there reach nothing.
    aim(COMMON, 3);
    over.0.config_write(0, data, 4, 1);
    aim(BAR_SIZE, 4);
    assert_eq!(over.0.config_read(0, data, 4), Outcome::Done(ALL_ONES));
    over.0.config_write(0, PCI_ACCESS_CAP + 4, 1, 1);
    aim(COMMON, 4);
    over.0.config_write(0, data, 4, 1);
    assert_eq!(front(&over).0, Kind::None);
}

// Interrupts.

/// Writes the MSI-X table entry of `vector`.
fn program(over: &Over<TestDevice>, vector: u32, message: Message, masked: u32) {
    let words = [message.address as u32, (message.address >> 32) as u32, message.data, masked];
    for (word, value) in (0..).zip(words) {
        over.0.bar_write(0, MSIX_TABLE + 16 * vector + 4 * word, 4, value);
    }
}

fn inject(over: &Over<TestDevice>, vector: u16, configuration: bool) -> Vec<Effect> {
    over.0.take_effects();
    over.registers().functions()[0].inject().write(|r| {
        r.set_vector(vector);
        r.set_configuration(configuration);
    });
    over.0.take_effects()
}

fn msix_control(over: &Over<TestDevice>, high: u32) -> Vec<Effect> {
    over.0.take_effects();
    over.0.config_write(0, MSIX_CAP + 2, 2, high << 8);
    over.0.take_effects()
}

const MESSAGE: Message = Message { address: 0x1_FEE0_0000, data: 0x41 };

#[test]
fn msix_waits_for_enable_function_mask_vector_mask_and_bus_mastering() {
    let over = booted(1);
    let pending = || over.0.bar_read(0, MSIX_PBA, 4);
    program(&over, 5, MESSAGE, 1);
    msix_control(&over, 0xC0);
    //  enabled and function masked, vector masked: pending
    assert_eq!((inject(&over, 5, false), pending()), (vec![], Outcome::Done(1 << 5)));
    //  function unmasked: the vector still is
    assert_eq!(msix_control(&over, 0x80), []);
    //  bus mastering off: a message is a memory write
    over.0.config_write(0, 4, 2, 0x0002);
    over.0.bar_write(0, MSIX_TABLE + 16 * 5 + 12, 4, 0);
    assert_eq!((over.0.take_effects(), pending()), (vec![], Outcome::Done(1 << 5)));
    //  bus mastering on: now it goes, once
    over.0.config_write(0, 4, 2, 0x0006);
    assert_eq!((over.0.take_effects(), pending()), (vec![Effect::Message(MESSAGE)], Outcome::Done(0)));
    //  all open: it goes at once
    assert_eq!(inject(&over, 5, true), [Effect::Message(MESSAGE)]);
    assert_eq!(over.registers().functions()[0].interrupts().read().count(), 2);
    assert!(over.registers().functions()[0].state().read().msix_enable());
    // With MSI-X the ISR stays silent (virtio 1.3, 4.1.5.4).
    assert_eq!(over.0.bar_read(0, ISR, 1), Outcome::Done(0));
    // No vector, or one that is not there, raises nothing.
    assert_eq!((inject(&over, NO_VECTOR, true), inject(&over, 64, false)), (vec![], vec![]));
}

#[test]
fn intx_follows_the_isr() {
    let over = booted(1);
    assert_eq!(inject(&over, 5, false), [Effect::Intx(function(0))]);
    assert_eq!(inject(&over, NO_VECTOR, true), [], "asserted already");
    assert_eq!(over.0.config_read(0, 6, 2), Outcome::Done(8), "Interrupt Status");
    assert_eq!(
        (over.0.bar_read(0, ISR, 1), over.0.bar_read(0, ISR, 1)),
        (Outcome::Done(3), Outcome::Done(0))
    );
    assert_eq!(over.0.config_read(0, 6, 2), Outcome::Done(0));
    // Disabled, it waits; enabled again, it is asserted (PCIe 5.0, 7.5.1.1.3).
    over.0.config_write(0, 4, 2, 0x0406);
    assert_eq!(inject(&over, 5, false), []);
    over.0.config_write(0, 4, 2, 0x0006);
    assert_eq!(over.0.take_effects(), [Effect::Intx(function(0))]);
    assert_eq!(over.registers().functions()[0].interrupts().read().count(), 2);
}

// Resets.

/// A device with two functions and a queue each, and one more on the first.
fn with_queues() -> Over<TestDevice> {
    let over = booted(2);
    enable(&over, 0, &context());
    enable(&over, 1, &Context { index: 1, ..context() });
    enable(&over, 2, &Context { function: function(1), ..context() });
    over.0.take_effects();
    over
}

#[test]
fn an_flr_stops_the_functions_queues_and_tells_the_base() {
    let over = with_queues();
    over.0.bar_write(0, COMMON, 4, 1);
    over.0.take_effects();
    over.0.config_write(0, PCIE_CAP + 8, 2, 0x8000);
    assert_eq!(over.0.take_effects(), [Effect::Disable { queue: 0 }, Effect::Disable { queue: 1 }]);
    assert_eq!([0, 1, 2].map(|n| is_running(&over, n)), [false, false, true]);
    // What the board set is gone; the neighbour's is not.
    assert_eq!(over.0.bar_read(0, ISR, 1), Outcome::Done(ALL_ONES));
    assert_eq!(over.0.bar_read(1, ISR, 1), Outcome::Done(0));
    // The base hears of it after the write before it, and however late.
    assert_eq!(front(&over).0, Kind::Write);
    answer(&over, 0);
    over.0.wait(100 * DEADLINE);
    let (kind, id, ..) = front(&over);
    assert_eq!((kind, id), (Kind::Reset, 0));
    answer(&over, 0);
    assert_eq!(front(&over).0, Kind::None);
    // A doorbell under way while the queue goes finds none.
    assert_eq!(over.0.bar_write(1, NOTIFY + 4, 2, 1), Outcome::Done(0));
}

#[test]
fn each_reset_reaches_the_base_after_what_came_before_it() {
    let over = booted(1);
    let flr = || over.0.config_write(0, PCIE_CAP + 8, 2, 0x8000);
    let status = |value| {
        over.0.config_write(0, PCI_ACCESS_CAP + PCI_ACCESS_OFFSET, 4, COMMON + 0x14);
        over.0.config_write(0, PCI_ACCESS_CAP + PCI_ACCESS_LENGTH, 4, 1);
        over.0.config_write(0, PCI_ACCESS_CAP + PCI_ACCESS_DATA, 1, value);
    };
    status(1);
    flr();
    status(3);
    flr();
    flr();
    let expected = [(Kind::Write, 1), (Kind::Reset, 0), (Kind::Write, 3), (Kind::Reset, 0), (Kind::None, 0)];
    for (kind, data) in expected {
        let (stands, _, _, _, carries) = front(&over);
        assert_eq!((stands, carries), (kind, data));
        answer(&over, 0);
    }
}

#[test]
fn a_read_in_flight_survives_an_flr_until_its_answer_or_deadline() {
    let over = booted(1);
    let ticket = over.0.forwarded_read(0, COMMON, 4);
    over.0.config_write(0, PCIE_CAP + 8, 2, 0x8000);
    assert_eq!(over.0.collect(ticket), None);
    over.0.wait(DEADLINE);
    assert_eq!(over.0.collect(ticket), Some(ALL_ONES));
}

#[test]
fn a_board_without_power_is_not_there() {
    let over = with_queues();
    over.registers().board().control().write(|r| r.set_power(false));
    assert_eq!([0, 1, 2].map(|n| is_running(&over, n)), [false; 3]);
    assert!(!over.registers().board().state().read().powered());
    for id in 0..2 {
        assert_eq!(over.0.config_read(id, 0, 4), Outcome::Done(ALL_ONES));
        assert_eq!(over.0.bar_read(id, COMMON, 4), Outcome::Done(ALL_ONES));
        let (kind, which, ..) = front(&over);
        assert_eq!((kind, which), (Kind::Reset, id));
        answer(&over, 0);
    }
    assert_eq!(inject(&over, 5, false), [], "an interrupt of a board without power");
    // Power on: the functions are there, as after reset.
    over.registers().board().control().write(|r| r.set_power(true));
    assert_eq!(over.0.config_read(0, 0, 4), Outcome::Done(0x1041_1AF4));
    assert_eq!(over.0.config_read(0, 4, 2), Outcome::Done(0));
}

#[test]
fn a_reset_pulse_resets_every_function_and_reads_as_zero() {
    let over = with_queues();
    over.registers().board().control().modify(|r| r.set_reset(true));
    let control = over.registers().board().control().read();
    assert!(control.power() && !control.reset());
    assert_eq!([0, 1, 2].map(|n| is_running(&over, n)), [false; 3]);
    assert_eq!(over.registers().mailbox().fill().read().waiting(), 2);
    assert_eq!(over.0.config_read(1, 4, 2), Outcome::Done(0));
}

// Anything at all.

/// An access of the board's.
#[derive(Clone, Copy, Debug)]
enum Access {
    Config {
        id: u8,
        offset: u16,
        width: u8,
        write: Option<u32>,
    },
    Memory {
        at: u64,
        width: u8,
        write: Option<u32>,
    },
    /// The base answers what stands, or something else.
    Answer(Option<u16>),
    Wait(u32),
}

fn accesses() -> impl Strategy<Value = Access> {
    let width = || prop_oneof![8 => prop::sample::select(vec![1u8, 2, 4]), 1 => any::<u8>()];
    let write = || prop::option::of(prop_oneof![any::<u32>(), 0u32..16]);
    let near_bar =
        (0u8..3, 0..u64::from(BAR_SIZE) + 8).prop_map(|(id, offset)| bar(id) + (offset & !3 | offset & 1));
    let at = prop_oneof![8 => near_bar, 1 => any::<u64>()];
    prop_oneof![
        4 => (0u8..4, prop_oneof![8 => 0u16..260, 1 => any::<u16>()], width(), write())
            .prop_map(|(id, offset, width, write)| Access::Config { id, offset, width, write }),
        8 => (at, width(), write()).prop_map(|(at, width, write)| Access::Memory { at, width, write }),
        3 => prop::option::weighted(0.2, any::<u16>()).prop_map(Access::Answer),
        1 => (0u32..100_000_000).prop_map(Access::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whatever the board does: no panic, every read ends, the mailbox stays within its bound, the base's
    /// registers keep telling what is true, and nothing that the board may not write has changed.
    #[test]
    fn the_board_can_do_what_it_likes(accesses in prop::collection::vec(accesses(), 1..400)) {
        let over = booted(2);
        enable(&over, 0, &context());
        let mut tickets = Vec::new();
        for access in accesses {
            let outcome = match access {
                Access::Config { id, offset, width, write: None } => over.0.config_read(id, offset, width),
                Access::Config { id, offset, width, write: Some(value) } => {
                    over.0.config_write(id, offset, width, value)
                }
                Access::Memory { at, width, write: None } => {
                    over.0.access(device::Access::MemoryRead { address: BoardAddr(at), width })
                }
                Access::Memory { at, width, write: Some(value) } => {
                    over.0.access(device::Access::MemoryWrite { address: BoardAddr(at), width, value })
                }
                Access::Answer(None) => { answer(&over, 7); Outcome::Done(0) }
                Access::Answer(Some(sequence)) => {
                    over.registers().mailbox().answer().write(|r| r.set_sequence(sequence));
                    Outcome::Done(0)
                }
                Access::Wait(time) => { over.0.wait(u64::from(time)); Outcome::Done(0) }
            };
            match outcome {
                Outcome::Waiting(ticket) => tickets.push(ticket),
                Outcome::Doorbell { queue, .. } => prop_assert_eq!(queue, 0),
                Outcome::Done(_) | Outcome::Full => {}
            }
            let fill = over.registers().mailbox().fill().read();
            prop_assert!(fill.waiting() <= fill.capacity() + 9, "{} wait", fill.waiting());
            prop_assert_eq!(front(&over).0 == Kind::None, fill.waiting() == 0);
            let state = over.registers().functions()[0].state().read();
            prop_assert_eq!(over.0.device.borrow().bus_master(function(0)), state.bus_master());
            // Vendor and device are not the board's to write.
            prop_assert_eq!(over.0.config_read(0, 0, 4), Outcome::Done(0x1041_1AF4));
        }
        over.0.wait(2 * DEADLINE);
        for ticket in tickets {
            prop_assert!(over.0.collect(ticket).is_some(), "a read never ended");
        }
        prop_assert_eq!(over.registers().board().refused_accesses().read().count(), 0);
        // Still a working device: reset, set up again, a doorbell.
        over.registers().board().control().modify(|r| r.set_reset(true));
        present(&over.registers(), 0);
        enable(&over, 1, &context());
        prop_assert!(is_running(&over, 1));
        prop_assert_eq!(over.0.read32(0), iobond_spec::MAGIC);
    }
}
