//! The base's side of a device: the register file of `iobond.rdl`, typed, without time and without threads.

#![allow(clippy::unwrap_used)] // of enumerations that the register file fills

mod rig;

use iobond_model::{
    device::{Effect, QueueReport, tail_of},
    shadow::{Context, Counters, QueueError},
};
use iobond_spec::{
    ALL_ONES, MAGIC, MAX_QUEUES,
    address::BaseAddr,
    offsets::{self, board, functions, ident, mailbox, qos, queues, status_page, windows},
    register_access::{Over, RegisterIo},
    registers::components::{queue_error_e::QueueErrorE as Error, queue_state_e::QueueStateE as State},
};
use proptest::prelude::*;
use rig::{
    Shape,
    registers::{
        TestDevice, booted, describe, disable, enable, function, grant, power, present, revoke, show_status,
    },
};

fn context() -> Context {
    Shape::default().context(0)
}

fn state(over: &Over<TestDevice>, queue: usize) -> (State, Error) {
    let state = over.registers().queues()[queue].state().read();
    (state.state().unwrap(), state.error().unwrap())
}

fn refused(over: &Over<TestDevice>) -> u32 {
    over.registers().board().refused_accesses().read().count()
}

fn enabled(effects: &[Effect]) -> Vec<(usize, Context)> {
    let enable = |effect: &Effect| match *effect {
        Effect::Enable { queue, context } => Some((queue, context)),
        _ => None,
    };
    effects.iter().filter_map(enable).collect()
}

fn disabled(effects: &[Effect]) -> Vec<usize> {
    let disable = |effect: &Effect| match *effect {
        Effect::Disable { queue } => Some(queue),
        _ => None,
    };
    effects.iter().filter_map(disable).collect()
}

// Identification.

#[test]
fn a_device_says_what_it_is() {
    let over = booted(0);
    let ident = over.registers().ident();
    assert_eq!(ident.magic().read().value(), MAGIC);
    assert_eq!((ident.version().read().major(), ident.version().read().minor()), (1, 2));
    let sizes = ident.sizes().read();
    assert_eq!((sizes.functions(), sizes.queues(), sizes.windows(), sizes.ring_log2()), (8, 64, 8, 15));
    let features = ident.features().read();
    assert!(features.split() && !features.packed() && features.indirect() && features.event_idx());
    assert!(features.notification_data() && features.ring_reset() && features.status_page());
    assert!(features.limits());
}

#[test]
fn reading_the_low_half_of_the_time_latches_the_high_half() {
    let over = booted(0);
    let ident = over.registers().ident();
    over.0.now.set(0x1_FFFF_FFFF);
    assert_eq!(ident.time_lo().read().value(), u32::MAX);
    over.0.now.set(0x2_0000_0000);
    assert_eq!(ident.time_hi().read().value(), 1);
    assert_eq!((ident.time_lo().read().value(), ident.time_hi().read().value()), (0, 2));
}

#[test]
fn scratch_holds_what_is_written() {
    let over = booted(0);
    for value in [0xDEAD_BEEF, 0, u32::MAX] {
        over.registers().ident().scratch().write(|r| r.set_value(value));
        assert_eq!(over.registers().ident().scratch().read().value(), value);
    }
}

// Accesses that are refused.

#[test]
fn what_is_misaligned_or_undefined_reads_all_ones_and_swallows_writes() {
    let over = booted(1);
    let nowhere = [
        1,
        2,
        ident::STRIDE,
        0x3C,
        board::BASE + board::STRIDE,
        mailbox::BASE + mailbox::STRIDE,
        status_page::BASE + status_page::STRIDE,
        windows::BASE + windows::CONTROL + 4,
        windows::BASE + windows::COUNT * windows::STRIDE,
        functions::BASE + 0x10,
        functions::BASE + functions::MASK + 0x100,
        qos::BASE + qos::COUNT * qos::STRIDE,
        queues::BASE + queues::INTERRUPTS + 4,
        queues::BASE + queues::COUNT * queues::STRIDE,
        offsets::BAR0_SIZE,
        u32::MAX,
        u32::MAX - 3,
    ];
    for (n, offset) in nowhere.into_iter().enumerate() {
        let before = refused(&over);
        assert_eq!(over.0.read32(offset), ALL_ONES, "{offset:#x}");
        over.0.write32(offset, 0);
        assert_eq!(refused(&over), before + 2, "{offset:#x}, the {n}th");
    }
    assert_eq!(over.0.take_effects(), []);
}

#[test]
fn read_only_registers_refuse_writes() {
    let over = booted(1);
    enable(&over, 0, &context());
    over.0.take_effects();
    let function = functions::BASE;
    let queue = queues::BASE;
    let read_only = [
        qos::BASE + qos::DELAYS,
        ident::MAGIC,
        ident::VERSION,
        ident::SIZES,
        ident::FEATURES,
        ident::TIME_LO,
        ident::TIME_HI,
        board::BASE + board::STATE,
        board::BASE + board::UNSUPPORTED_REQUESTS,
        board::BASE + board::REFUSED_ACCESSES,
        board::BASE + board::DMA_FAULTS,
        mailbox::BASE + mailbox::REQUEST,
        mailbox::BASE + mailbox::OFFSET,
        mailbox::BASE + mailbox::DATA,
        mailbox::BASE + mailbox::FILL,
        mailbox::BASE + mailbox::EXPIRED_READS,
        mailbox::BASE + mailbox::LATE_ANSWERS,
        function + functions::STATE,
        function + functions::INTERRUPTS,
        queue + queues::STATE,
        queue + queues::HEAD,
        queue + queues::FORWARDED,
        queue + queues::RETIRED,
        queue + queues::BYTES_UP,
        queue + queues::BYTES_DOWN,
        queue + queues::STALLS,
        queue + queues::DOORBELLS,
        queue + queues::INTERRUPTS,
    ];
    for offset in read_only {
        let (before, count) = (over.0.read32(offset), refused(&over));
        over.0.write32(offset, !before);
        assert_eq!(refused(&over), count + 1, "{offset:#x}");
        if offset != board::BASE + board::REFUSED_ACCESSES {
            assert_eq!(over.0.read32(offset), before, "{offset:#x}");
        }
    }
    assert_eq!(over.0.take_effects(), []);
}

#[test]
fn write_only_registers_refuse_reads() {
    let over = booted(1);
    for offset in [mailbox::BASE + mailbox::ANSWER, functions::BASE + functions::INJECT] {
        let before = refused(&over);
        assert_eq!((over.0.read32(offset), refused(&over)), (ALL_ONES, before + 1));
    }
}

// Queue contexts.

#[test]
fn a_queue_is_enabled_with_what_was_written() {
    let over = booted(1);
    let wanted = Context { index: 3, vector: 7, ..context() };
    enable(&over, 5, &wanted);
    assert_eq!(enabled(&over.0.take_effects()), [(5, wanted)]);
    assert_eq!(state(&over, 5), (State::Running, Error::None));
}

#[test]
fn enabling_twice_is_refused_and_changes_nothing() {
    let over = booted(1);
    enable(&over, 0, &context());
    over.0.take_effects();
    let before = refused(&over);
    over.registers().queues()[0].control().modify(|r| r.set_vector(9));
    assert_eq!(refused(&over), before + 1);
    assert_eq!(over.registers().queues()[0].control().read().vector(), context().vector);
    assert_eq!((state(&over, 0), over.0.take_effects()), ((State::Running, Error::None), vec![]));
}

#[test]
fn fields_are_closed_while_the_queue_is_enabled() {
    let over = booted(1);
    enable(&over, 0, &context());
    over.0.take_effects();
    for at in (queues::SIZES..=queues::SLOT_COUNT).step_by(4) {
        let (before, count) = (over.0.read32(queues::BASE + at), refused(&over));
        over.0.write32(queues::BASE + at, !before);
        assert_eq!((over.0.read32(queues::BASE + at), refused(&over)), (before, count + 1), "{at:#x}");
    }
    disable(&over.registers(), 0);
    over.registers().queues()[0].slot_size().write(|r| r.set_bytes(4096));
    assert_eq!(over.registers().queues()[0].slot_size().read().bytes(), 4096);
}

#[test]
fn two_contexts_cannot_have_one_virtqueue() {
    let over = booted(1);
    enable(&over, 0, &context());
    enable(&over, 1, &context());
    assert_eq!(enabled(&over.0.take_effects()), [(0, context())]);
    assert_eq!(state(&over, 0), (State::Running, Error::None));
    assert_eq!(state(&over, 1), (State::Error, Error::BadContext));
    // Disabling the one that never ran leaves the other its doorbell.
    disable(&over.registers(), 1);
    assert!(disabled(&over.0.take_effects()).is_empty());
    enable(&over, 1, &context());
    assert_eq!(state(&over, 1), (State::Error, Error::BadContext));
    // Once the first lets go, the second may have it.
    disable(&over.registers(), 0);
    disable(&over.registers(), 1);
    enable(&over, 1, &context());
    assert_eq!(state(&over, 1), (State::Running, Error::None));
}

#[test]
fn a_virtqueue_beyond_the_doorbells_cannot_be() {
    let over = booted(1);
    enable(&over, 0, &Context { index: MAX_QUEUES as u16, ..context() });
    assert_eq!(state(&over, 0), (State::Error, Error::BadContext));
    enable(&over, 1, &Context { index: MAX_QUEUES as u16 - 1, ..context() });
    assert_eq!(state(&over, 1), (State::Running, Error::None));
}

#[test]
fn an_impossible_context_is_an_error_until_it_is_disabled() {
    let over = booted(1);
    let registers = over.registers();
    enable(&over, 7, &Context { slot_count: 0, ..context() });
    assert_eq!(over.0.take_effects(), [Effect::QueueErrors]);
    assert_eq!(
        (state(&over, 7), over.0.device.borrow().queue_errors()),
        ((State::Error, Error::BadContext), 1 << 7)
    );
    assert!(registers.board().state().read().queue_error());
    disable(&registers, 7);
    assert_eq!(over.0.take_effects(), [Effect::QueueErrors]);
    assert_eq!((state(&over, 7), over.0.device.borrow().queue_errors()), ((State::Disabled, Error::None), 0));
    assert!(!registers.board().state().read().queue_error());
}

#[test]
fn an_error_of_the_engine_shows_once_and_is_counted_when_it_is_a_fault() {
    let over = booted(1);
    let registers = over.registers();
    enable(&over, 0, &context());
    over.0.take_effects();
    let fault = iobond_model::fabric::Fault::Base { at: BaseAddr(0), len: 1 };
    let fail = |error: QueueError| over.0.act(|device, _, effects| device.fail_queue(0, &error, effects));
    fail(fault.into());
    fail(QueueError::ZeroLength { head: 0 });
    assert_eq!(
        (state(&over, 0), over.0.take_effects()),
        ((State::Error, Error::BaseFault), vec![Effect::QueueErrors])
    );
    assert_eq!(registers.board().dma_faults().read().count(), 1);
    disable(&registers, 0);
    fail(QueueError::ZeroLength { head: 0 });
    assert_eq!(state(&over, 0), (State::Disabled, Error::None));
}

#[test]
fn tail_is_the_worlds_and_the_device_only_reads_it() {
    let over = booted(1);
    enable(&over, 2, &Context { index: 2, ..context() });
    over.0.reports.borrow_mut().insert(2, QueueReport { tail: 0xFFFF, ..QueueReport::default() });
    let before = refused(&over);
    over.registers().queues()[2].tail().write(|r| r.set_index(9));
    assert_eq!((refused(&over) - before, over.registers().queues()[2].tail().read().index()), (1, 0xFFFF));
    assert_eq!(
        [queues::TAIL, queues::HEAD].map(|register| tail_of(queues::BASE + 2 * queues::STRIDE + register)),
        [Some(2), None]
    );
}

#[test]
fn head_and_counters_are_the_engines() {
    let over = booted(1);
    let counters =
        Counters { forwarded: 1, retired: 2, bytes_up: 3, bytes_down: 4, stalls: 5, interrupts: 6 };
    over.0.reports.borrow_mut().insert(9, QueueReport { head: 0xABCD, tail: 0, counters });
    let queue = &over.registers().queues()[9];
    assert_eq!((queue.head().read().index(), queue.forwarded().read().count()), (0xABCD, 1));
    assert_eq!((queue.retired().read().count(), queue.bytes_up().read().count()), (2, 3));
    assert_eq!((queue.bytes_down().read().count(), queue.stalls().read().count()), (4, 5));
    assert_eq!(queue.interrupts().read().count(), 6);
}

// Windows and the status page.

#[test]
fn a_window_is_taken_on_the_edge_and_closed_while_granted() {
    let over = booted(0);
    let grants = |at, len| over.0.device.borrow().windows().grants(BaseAddr(at), len);
    grant(&over.registers(), 3, BaseAddr(0x7000_0000_1000), 0x2000);
    assert_eq!(over.0.take_effects(), [Effect::Windows]);
    assert!(grants(0x7000_0000_1000, 0x2000) && !grants(0x7000_0000_0FFF, 1) && !grants(0x7000_0000_2FFF, 2));
    // Address and length are closed now; writing them is refused.
    let before = refused(&over);
    grant(&over.registers(), 3, BaseAddr(0), u64::MAX);
    assert_eq!((refused(&over), grants(0x1000, 1)), (before + 4, false));
    revoke(&over.registers(), 3);
    assert_eq!((over.0.take_effects(), grants(0x7000_0000_1000, 1)), (vec![Effect::Windows], false));
}

#[test]
fn a_window_that_wraps_grants_nothing() {
    let over = booted(0);
    grant(&over.registers(), 0, BaseAddr(u64::MAX - 0xFFF), 0x2000);
    let device = over.0.device.borrow();
    assert!(
        !device.windows().grants(BaseAddr(u64::MAX - 0xFFF), 1) && !device.windows().grants(BaseAddr(0), 1)
    );
}

#[test]
fn the_status_page_needs_a_window_and_follows_its_registers() {
    let over = booted(0);
    let registers = over.registers();
    let (here, there) = (BaseAddr(0x7000_0000_0000), BaseAddr(0x7000_0000_1000));
    let page = || over.0.device.borrow().status_page();
    show_status(&registers, here);
    assert_eq!((over.0.take_effects(), page()), (vec![Effect::StatusPage], None));
    grant(&registers, 0, here, 0x2000);
    assert_eq!(page(), Some(here));
    // The address is closed while the page is on.
    let before = refused(&over);
    registers.status_page().address_lo().write(|r| r.set_value(there.0 as u32));
    assert_eq!((refused(&over), page()), (before + 1, Some(here)));
    over.0.take_effects();
    registers.status_page().control().write(|r| r.set_enable(false));
    assert_eq!((over.0.take_effects(), page()), (vec![Effect::StatusPage], None));
    show_status(&registers, there);
    assert_eq!(page(), Some(there));
    revoke(&registers, 0);
    assert_eq!(page(), None);
}

#[test]
fn a_status_page_that_is_not_aligned_is_none() {
    let over = booted(0);
    grant(&over.registers(), 0, BaseAddr(0x1000), 0x4000);
    show_status(&over.registers(), BaseAddr(0x1010));
    assert_eq!(over.0.device.borrow().status_page(), None);
}

// Functions.

#[test]
fn the_image_is_taken_when_the_function_becomes_present() {
    let over = booted(1);
    let registers = over.registers();
    registers.functions()[0].config()[0].write(|r| r.set_value(0x1234_5678));
    assert_eq!(over.0.config_read(0, 0, 4), iobond_model::device::Outcome::Done(0x1041_1AF4));
    registers.functions()[0].control().write(|r| r.set_present(false));
    assert_eq!(over.0.config_read(0, 0, 4), iobond_model::device::Outcome::Done(ALL_ONES));
    registers.functions()[0].control().write(|r| r.set_present(true));
    assert_eq!(over.0.config_read(0, 0, 4), iobond_model::device::Outcome::Done(0x1234_5678));
}

#[test]
fn removing_a_function_stops_its_queues_and_no_others() {
    let over = booted(2);
    let registers = over.registers();
    enable(&over, 0, &context());
    enable(&over, 1, &Context { index: 1, ..context() });
    enable(&over, 2, &Context { function: function(1), ..context() });
    over.0.take_effects();
    registers.functions()[0].control().write(|r| r.set_present(false));
    assert_eq!(disabled(&over.0.take_effects()), [0, 1]);
    assert_eq!([0, 1, 2].map(|n| state(&over, n).0), [State::Disabled, State::Disabled, State::Running]);
    // Its virtqueues are free again.
    present(&registers, 0);
    enable(&over, 3, &context());
    assert_eq!(state(&over, 3).0, State::Running);
}

// Anything at all.

/// A register access of the base.
#[derive(Clone, Copy, Debug)]
enum Access {
    Read(u32),
    Write(u32, u32),
    /// An engine reports an error.
    Fail(usize),
}

fn accesses() -> impl Strategy<Value = Access> {
    let queue = (
        0u32..4,
        prop::sample::select(vec![queues::CONTROL, queues::SIZES, queues::SLOT_SIZE, queues::TAIL]),
    )
        .prop_map(|(n, at)| queues::BASE + n * queues::STRIDE + at);
    let offset = || {
        prop_oneof![
            3 => queue.clone(),
            6 => (0u32..offsets::BAR0_SIZE / 4).prop_map(|word| 4 * word),
            1 => any::<u32>(),
        ]
    };
    let value = prop_oneof![any::<u32>(), 0u32..4, Just(1), Just(0x0008_0008), Just(64)];
    prop_oneof![
        2 => offset().prop_map(Access::Read),
        4 => (offset(), value).prop_map(|(offset, value)| Access::Write(offset, value)),
        1 => (0usize..4).prop_map(Access::Fail),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whatever the base writes, the register file stays consistent with itself and with what it has told the
    /// world.
    #[test]
    fn the_register_file_stays_consistent(accesses in prop::collection::vec(accesses(), 1..300)) {
        let over = booted(2);
        for n in 0..3 {
            describe(&over, n, &Context { index: n as u16, ..context() });
        }
        let mut running = [false; MAX_QUEUES];
        for access in accesses {
            match access {
                Access::Read(offset) => drop(over.0.read32(offset)),
                Access::Write(offset, value) => over.0.write32(offset, value),
                Access::Fail(queue) => {
                    let error = QueueError::BadHead { head: 0, size: 0 };
                    over.0.act(|device, _, effects| device.fail_queue(queue, &error, effects));
                }
            }
            for effect in over.0.take_effects() {
                match effect {
                    Effect::Enable { queue, .. } => {
                        prop_assert!(!std::mem::replace(&mut running[queue], true), "queue {queue} started twice");
                    }
                    Effect::Disable { queue } => {
                        prop_assert!(std::mem::replace(&mut running[queue], false), "queue {queue} stopped twice");
                    }
                    _ => {}
                }
            }
            let errors = over.0.device.borrow().queue_errors();
            for (n, running) in running.into_iter().enumerate().take(6) {
                let (state, error) = state(&over, n);
                prop_assert_eq!(errors >> n & 1 == 1, state == State::Error);
                prop_assert_eq!(state == State::Error, error != Error::None);
                prop_assert!(running || state != State::Running, "queue {} runs and no effect told so", n);
                prop_assert!(!running || state != State::Disabled, "queue {} was disabled and no effect told so", n);
                let enable = over.registers().queues()[n].control().read().enable();
                prop_assert_eq!(enable, state != State::Disabled);
            }
            prop_assert_eq!(over.registers().board().state().read().queue_error(), errors != 0);
        }
    }

    /// What software may write and nothing else changes reads back, in the bits that mean something.
    #[test]
    fn what_is_written_reads_back(value in any::<u32>(), queue in 0u32..64, window in 0u32..8, word in 0u32..64) {
        let over = booted(0);
        let limits = qos::BASE + window * qos::STRIDE;
        let (queue, window) = (queues::BASE + queue * queues::STRIDE, windows::BASE + window * windows::STRIDE);
        let word = functions::BASE + 3 * functions::STRIDE + 4 * word;
        let whole = [
            (ident::SCRATCH, u32::MAX),
            (mailbox::BASE + mailbox::ANSWER_DATA, u32::MAX),
            (mailbox::BASE + mailbox::DEADLINE, u32::MAX),
            (status_page::BASE + status_page::ADDRESS_LO, u32::MAX),
            (status_page::BASE + status_page::ADDRESS_HI, u32::MAX),
            (window + windows::ADDRESS_LO, u32::MAX),
            (window + windows::ADDRESS_HI, u32::MAX),
            (window + windows::LENGTH_LO, u32::MAX),
            (window + windows::LENGTH_HI, u32::MAX),
            (word + functions::CONFIG, u32::MAX),
            (word + functions::MASK, u32::MAX),
            (queue + queues::SIZES, u32::MAX),
            (queue + queues::FEATURES, 0x3F),
            (limits + qos::OPERATIONS_HI, u32::MAX),
            (limits + qos::BYTES_BURST, u32::MAX),
            (queue + queues::GUEST_DESC_LO, u32::MAX),
            (queue + queues::SHADOW_USED_HI, u32::MAX),
            (queue + queues::SLOTS_HI, u32::MAX),
            (queue + queues::SLOT_SIZE, u32::MAX),
            (queue + queues::SLOT_COUNT, 0xFFFF),
        ];
        for (offset, bits) in whole {
            over.0.write32(offset, value);
            prop_assert_eq!(over.0.read32(offset), value & bits, "{:#x}", offset);
        }
        prop_assert_eq!(refused(&over), 0);
    }
}

// The base function as a whole.

#[test]
fn a_reset_of_the_base_function_is_a_power_on() {
    let over = booted(2);
    grant(&over.registers(), 0, BaseAddr(0), u64::MAX);
    enable(&over, 3, &context());
    over.registers().mailbox().deadline().write(|r| r.set_microseconds(7));
    over.registers().ident().scratch().write(|r| r.set_value(7));
    over.registers().qos()[1].control().write(|r| r.set_enable(true));
    let read = over.0.forwarded_read(1, 0, 4);
    over.0.take_effects();
    over.0.reset();
    let effects = over.0.take_effects();
    assert_eq!(disabled(&effects), (0..MAX_QUEUES).collect::<Vec<_>>(), "whether they run or not");
    assert!(effects.contains(&Effect::Windows) && effects.contains(&Effect::StatusPage));
    assert!(effects.contains(&Effect::Limits { function: function(1), limits: None }));
    assert_eq!(over.0.collect(read), Some(ALL_ONES), "the board is not left waiting");
    let fresh = booted(0);
    power(&over.registers());
    over.0.take_effects();
    for offset in (0..queues::BASE + MAX_QUEUES as u32 * queues::STRIDE).step_by(4) {
        let time = [ident::TIME_LO, ident::TIME_HI].contains(&offset);
        assert!(time || over.0.read32(offset) == fresh.0.read32(offset), "{offset:#x}");
    }
}

#[test]
fn a_base_that_arms_is_woken_once_asked() {
    let over = booted(0);
    over.registers().board().wake().write(|r| r.set_arm(false));
    assert_eq!(over.0.take_effects(), []);
    over.registers().board().wake().write(|r| r.set_arm(true));
    assert_eq!(over.0.take_effects(), [Effect::Wake]);
    assert_eq!(over.0.read32(board::BASE + board::WAKE), ALL_ONES, "there is nothing to read");
}
