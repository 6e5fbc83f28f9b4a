//! What the PCI transport says on the bus, and what it makes of a device that does not do as it should.

use std::{rc::Rc, time::Duration};

use super::*;
use crate::{
    bus::Bus,
    memory::DmaMemory,
    pci::enumerate,
    queue::{Queue, RingOptions},
    test_bus::{Access, COMMON, DEVICE, ISR, Misdeed, NOTIFY, TABLE, TestBus, TestFunction},
};

const RING_RESET: u64 = 1 << 40;
const NOTIFICATION_DATA: u64 = 1 << 38;

fn function(features: u64) -> TestFunction {
    let config = (0..60).collect();
    TestFunction::new(2, 0x0100, features, config)
}

fn transport(bus: &Rc<TestBus>) -> PciTransport<Rc<TestBus>> {
    let function = enumerate(&**bus).unwrap().remove(0);
    let transport = PciTransport::new(Rc::clone(bus), function).unwrap();
    bus.take_log();
    transport
}

/// Accesses relative to a structure.
fn at(log: &[Access], base: u64) -> Vec<Access> {
    log.iter().map(|(offset, width, value)| (offset.wrapping_sub(base), *width, *value)).collect()
}

#[test]
fn a_queue_is_set_up_field_by_field_with_the_widths_of_4_1_4_3() {
    let bus = TestBus::with(function(0));
    let mut transport = transport(&bus);
    transport.queue_set(1, 256, 0x1_2345_6000, 0x2_0000_1000, 0x3_0000_2000);
    let expected = [
        (22, 2, Some(1)),
        (24, 2, Some(256)),
        (32, 4, Some(0x2345_6000)),
        (36, 4, Some(1)),
        (40, 4, Some(0x1000)),
        (44, 4, Some(2)),
        (48, 4, Some(0x2000)),
        (52, 4, Some(3)),
        (26, 2, Some(2)),
        (26, 2, None),
        (30, 2, None),
        (28, 2, Some(1)),
        (28, 2, None),
    ];
    assert_eq!(at(&bus.take_log(), COMMON), expected);
}

#[test]
fn negotiation_goes_step_by_step_as_3_1_1_says() {
    let bus = TestBus::with(function(1 << 9 | 1 << 13));
    let mut transport = transport(&bus);
    assert_eq!(transport.negotiate(1 << 9 | 1 << 14), Ok(1 << 32 | 1 << 9));
    let writes: Vec<_> =
        at(&bus.take_log(), COMMON).into_iter().filter(|(_, _, value)| value.is_some()).collect();
    let expected = [
        (20, 1, Some(0)),
        (20, 1, Some(1)),
        (20, 1, Some(3)),
        (16, 2, Some(0)),
        (0, 4, Some(0)),
        (0, 4, Some(1)),
        (8, 4, Some(0)),
        (12, 4, Some(1 << 9)),
        (8, 4, Some(1)),
        (12, 4, Some(1)),
        (20, 1, Some(11)),
    ];
    assert_eq!(writes, expected);
}

#[test]
fn device_configuration_is_read_with_the_width_of_its_fields() {
    let bus = TestBus::with(function(0));
    let mut transport = transport(&bus);
    assert_eq!(transport.read_config_space::<u64>(8), Ok(0x0F0E_0D0C_0B0A_0908));
    assert_eq!(transport.read_config_space::<u32>(4), Ok(0x0706_0504));
    assert_eq!(transport.read_config_space::<u16>(6), Ok(0x0706));
    assert_eq!(transport.read_config_space::<[u8; 3]>(1), Ok([1, 2, 3]));
    transport.write_config_space(32, 1u8).unwrap();
    let expected = [
        (8, 4, None),
        (12, 4, None),
        (4, 4, None),
        (6, 2, None),
        (1, 1, None),
        (2, 1, None),
        (3, 1, None),
        (32, 1, Some(1)),
    ];
    assert_eq!(at(&bus.take_log(), DEVICE), expected);

    assert_eq!(transport.read_config_space::<u32>(58), Err(virtio_drivers::Error::ConfigSpaceTooSmall));
    assert_eq!(
        transport.read_config_space::<u32>(usize::MAX),
        Err(virtio_drivers::Error::ConfigSpaceTooSmall)
    );
    assert_eq!(transport.read_config_space::<u32>(2), Err(virtio_drivers::Error::InvalidParam));
    assert!(bus.take_log().is_empty());
}

#[test]
fn a_doorbell_is_two_bytes_and_four_with_notification_data() {
    for (features, expected) in [(0, (24, 2, Some(3))), (NOTIFICATION_DATA, (24, 4, Some(0x8001_0003)))] {
        let bus = TestBus::with(function(features));
        let mut transport = transport(&bus);
        transport.negotiate(NOTIFICATION_DATA).unwrap();
        // The available ring at 0x4000 says that its index is 0x8001.
        vm_memory::Bytes::write_obj(bus.memory(), 0x8001_u16, vm_memory::GuestAddress(0x4002)).unwrap();
        transport.queue_set(3, 16, 0x3000, 0x4000, 0x5000);
        bus.take_log();
        transport.notify(3);
        assert_eq!(at(&bus.take_log(), NOTIFY), [expected], "queue_notify_off 3, multiplier 8");
        transport.notify(2);
        assert!(bus.take_log().is_empty(), "a queue that is not set up has no doorbell");
    }
}

#[test]
fn the_msix_table_is_programmed_and_enabled() {
    let bus = TestBus::with(function(0));
    let found = enumerate(&*bus).unwrap().remove(0);
    bus.take_log();
    let id = found.id;
    let transport = PciTransport::new(Rc::clone(&bus), found).unwrap();
    let table = at(&bus.take_log()[1..], TABLE);
    let entry = |vector: u16| {
        let at = u64::from(vector) * 16;
        [(0, 0xFEE0_0000), (4, 0), (8, message_data(id, vector)), (12, 0)]
            .map(|(reg, value)| (at + reg, 4, Some(value)))
    };
    assert_eq!(table, [entry(0), entry(1), entry(2), entry(3)].concat(), "four vectors for five purposes");
    assert!(transport.function().to_string().contains("MSI-X: Enable+ Count=4 Masked-"));
}

#[test]
fn reading_the_isr_is_one_byte() {
    let bus = TestBus::with(function(0));
    let mut transport = transport(&bus);
    assert!(transport.ack_interrupt().contains(virtio_drivers::transport::InterruptStatus::QUEUE_INTERRUPT));
    assert_eq!(bus.take_log(), [(ISR, 1, None)]);
}

#[test]
fn a_queue_is_reset_alone_where_that_was_negotiated() {
    for (features, left) in [(0, true), (RING_RESET, false)] {
        let bus = TestBus::with(function(features));
        let mut transport = transport(&bus);
        transport.negotiate(RING_RESET).unwrap();
        transport.queue_set(0, 16, 0x3000, 0x4000, 0x5000);
        transport.queue_unset(0);
        assert_eq!(transport.queue_used(0), left);
    }
}

fn fault_of(misdeed: Misdeed) -> Option<TransportError> {
    let mut function = function(0);
    function.misdeed = misdeed;
    let bus = TestBus::with(function);
    let mut transport = transport(&bus);
    let memory = DmaMemory::new(bus.memory()).unwrap();
    let features = transport.negotiate(0).map_err(Some);
    let queue = features.and_then(|features| {
        Queue::<16>::new(&mut transport, &memory, 0, features, RingOptions::default()).map_err(|_| None)
    });
    match queue {
        Ok(_) => transport.activate().err(),
        Err(fault) => fault.or_else(|| transport.fault()),
    }
}

#[test]
fn a_device_that_does_as_it_should_has_no_fault() {
    assert_eq!(fault_of(Misdeed::None), None);
}

#[test]
fn a_device_that_refuses_is_reported() {
    let device = || "function 0".to_string();
    let what = "configuration changes".to_string();
    let refused = TransportError::VectorRefused { device: device(), what, vector: 0 };
    assert_eq!(fault_of(Misdeed::RefuseVectors), Some(refused));
    let refused = TransportError::FeaturesRefused { device: device(), offered: 1 << 32, accepted: 1 << 32 };
    assert_eq!(fault_of(Misdeed::RefuseFeatures), Some(refused));
    let refused = TransportError::QueueRefused { device: device(), queue: 0 };
    assert_eq!(fault_of(Misdeed::RefuseQueues), Some(refused));
    let gone = TransportError::Gone { device: device(), what: "a field that a reset clears" };
    assert_eq!(fault_of(Misdeed::Gone), Some(gone));
}

#[test]
fn a_device_that_stays_as_it_was_is_reported_in_bounded_time() {
    let bus = TestBus::with(function(0));
    let mut transport = transport(&bus);
    transport.negotiate(0).unwrap();
    transport.set_reset_timeout(Duration::from_millis(5));
    bus.functions.borrow_mut()[0].as_mut().unwrap().misdeed = Misdeed::NeverReset;
    let status = DeviceStatus::ACKNOWLEDGE | DeviceStatus::DRIVER | DeviceStatus::FEATURES_OK;
    let stuck = TransportError::ResetStuck { device: "function 0".into(), status };
    assert_eq!(transport.negotiate(0), Err(stuck));
    assert!(bus.relaxed.get() > 0, "it waited without letting the device run");
}

#[test]
fn a_device_without_version_1_is_not_driven() {
    let mut function = function(0);
    function.offered = 1 << 28;
    let bus = TestBus::with(function);
    let refused = transport(&bus).negotiate(0);
    assert_eq!(refused, Err(TransportError::NoVersion1 { device: "function 0".into(), offered: 1 << 28 }));
}

#[test]
fn a_function_without_its_structures_is_refused() {
    let bus = TestBus::with(TestFunction::bare(2, 0x0100));
    let function = enumerate(&*bus).unwrap().remove(0);
    let refused = PciTransport::new(bus, function).err();
    assert!(matches!(refused, Some(TransportError::Pci(PciError::Missing { .. }))), "{refused:?}");
}
