//! The control plane as a driver finds it, a well-behaved and a hostile one.

mod linux;

use std::collections::BTreeMap;

use iobond_spec::{address::FunctionId, function::*};
use proptest::prelude::*;
use virtio_bindings::{virtio_blk::*, virtio_net::*};

use super::{config_image::ConfigImage, *};
use crate::{config::RingSizes, device::Kind};

const TRANSPORT: u64 = mask(&[
    VIRTIO_F_VERSION_1,
    VIRTIO_RING_F_INDIRECT_DESC,
    VIRTIO_RING_F_EVENT_IDX,
    VIRTIO_F_NOTIFICATION_DATA,
    VIRTIO_F_RING_RESET,
]);

fn net() -> Device {
    let features = mask(&[
        VIRTIO_NET_F_MAC,
        VIRTIO_NET_F_CSUM,
        VIRTIO_NET_F_HOST_TSO4,
        VIRTIO_NET_F_CTRL_VQ,
        VIRTIO_NET_F_MQ,
    ]);
    Device {
        kind: Kind::Net,
        features,
        config: (1..=12).collect(),
        back_end_queues: 4,
        sizes: RingSizes::NET,
    }
}

fn blk() -> Device {
    let features = mask(&[VIRTIO_BLK_F_FLUSH]);
    Device { kind: Kind::Blk, features, config: vec![0; 60], back_end_queues: 1, sizes: RingSizes::BLK }
}

/// A driver's view of a [`Function`].
struct Driver(Function);

impl Driver {
    fn new(device: Device) -> Self {
        Self(Function::new(device, TRANSPORT))
    }

    fn get(&mut self, offset: u32, width: u8) -> u32 {
        self.0.read(COMMON + offset, width)
    }

    fn set(&mut self, offset: u32, width: u8, value: u32) -> Effect {
        self.0.write(COMMON + offset, width, value)
    }

    /// Steps 1 to 5 of virtio 1.3, 3.1.1, accepting `features`; whether FEATURES_OK stands.
    fn negotiate(&mut self, features: u64) -> bool {
        self.set(0x14, 1, 0);
        self.set(0x14, 1, 1);
        self.set(0x14, 1, 3);
        for half in 0..2 {
            self.set(0x08, 4, half);
            self.set(0x0C, 4, (features >> (32 * half)) as u32);
        }
        self.set(0x14, 1, 0xB);
        self.get(0x14, 1) == 0xB
    }

    /// Sets up queue `index` with its areas at `at` and enables it.
    fn enable(&mut self, index: u32, at: u64) -> Effect {
        self.set(0x16, 2, index);
        for (field, address) in [(0x20, at), (0x28, at.wrapping_add(0x1000)), (0x30, at.wrapping_add(0x2000))]
        {
            self.set(field, 4, address as u32);
            self.set(field + 4, 4, (address >> 32) as u32);
        }
        self.set(0x1C, 2, 1)
    }
}

#[test]
fn a_driver_finds_every_structure_by_walking_the_capabilities() {
    let space = ConfigImage::new(&net(), FunctionId::new(0).unwrap(), 2);
    let byte = |at: usize| space.image[at];
    let word = |at: usize| u16::from_le_bytes([byte(at), byte(at + 1)]);
    let long = |at: usize| u32::from_le_bytes([byte(at), byte(at + 1), byte(at + 2), byte(at + 3)]);
    assert_eq!((word(0), word(2), byte(8), long(8) >> 8), (0x1AF4, 0x1041, 1, 0x02_00_00));
    assert_eq!((word(0x2C), word(0x2E)), (0x1AF4, 0x41));
    assert_eq!((byte(0x0E), word(6) & 0x10), (0x80, 0x10));

    let mut found = BTreeMap::new();
    let mut at = usize::from(byte(0x34));
    while at != 0 {
        assert!(at >= 0x40 && at % 4 == 0 && found.len() < 48);
        let kind = if byte(at) == 9 { u16::from(byte(at + 3)) << 8 | 9 } else { u16::from(byte(at)) };
        assert_eq!(found.insert(kind, at), None, "capability {kind:#x} stands twice");
        at = usize::from(byte(at + 1));
    }
    assert_eq!(found.keys().copied().collect::<Vec<_>>(), [0x10, 0x11, 0x109, 0x209, 0x309, 0x409, 0x509]);
    let structure = |kind: u16| (byte(found[&kind] + 4), long(found[&kind] + 8), long(found[&kind] + 12));
    assert_eq!(structure(0x109), (BAR, COMMON, COMMON_SIZE));
    assert_eq!(structure(0x209), (BAR, NOTIFY, 5 * NOTIFY_MULTIPLIER));
    assert_eq!(long(found[&0x209] + 16), NOTIFY_MULTIPLIER);
    assert_eq!(structure(0x309), (BAR, ISR, 1));
    assert_eq!(structure(0x409), (BAR, DEVICE, 12));
    let msix = found[&0x11];
    assert_eq!((word(msix + 2), long(msix + 4), long(msix + 8)), (MSIX_VECTORS - 1, MSIX_TABLE, MSIX_PBA));
    assert_ne!(long(found[&0x10] + 4) & 1 << 28, 0, "can be reset by FLR");
}

#[test]
fn a_driver_sizes_the_bar_and_changes_nothing_else_of_what_it_reads() {
    let space = ConfigImage::new(&blk(), FunctionId::new(1).unwrap(), 2);
    let sized: Vec<u8> = space.image.iter().zip(space.mask).map(|(image, mask)| image | mask).collect();
    let bar = u64::from_le_bytes(sized[0x10..0x18].try_into().unwrap());
    assert_eq!((bar & !0xF).wrapping_neg(), u64::from(BAR_SIZE));
    assert_eq!(bar & 0xF, 0b0100);
    let read_only = [0..4, 8..0x10, 0x18..0x3C, 0x3D..0x42, 0x44..0x58, 0x5A..0xD4];
    for at in read_only.into_iter().flatten() {
        assert_eq!(space.mask[at], 0, "{at:#x}");
    }
    assert_eq!(space.image[0x0E], 0, "only function 0 says that there are more");
}

#[test]
fn a_driver_comes_up_in_order() {
    let mut driver = Driver::new(net());
    assert_eq!(driver.get(0x12, 2), 5);
    assert!(driver.negotiate(mask(&[VIRTIO_F_VERSION_1, VIRTIO_NET_F_MAC])));
    for index in 0..2 {
        driver.set(0x16, 2, index);
        driver.set(0x1A, 2, index + 1);
        driver.set(0x18, 2, 64);
        assert_eq!(driver.enable(index, 0x10_0000), Effect::None);
        assert_eq!((driver.get(0x1E, 2), driver.get(0x1C, 2), driver.get(0x1A, 2)), (index, 1, index + 1));
    }
    assert_eq!(driver.set(0x14, 1, 0xF), Effect::Start);
    let queue = driver.0.queues()[1];
    assert_eq!((queue.size, queue.vector, queue.desc.0, queue.used.0), (64, 2, 0x10_0000, 0x10_2000));
    assert_eq!(driver.enable(2, 0x20_0000), Effect::EnableQueue(2), "enabled late, started at once");
    assert_eq!(driver.0.refused(), 0);
    assert_eq!(driver.set(0x14, 1, 0), Effect::Reset);
    assert!(driver.0.queues().iter().all(|queue| !queue.enabled) && driver.get(0x14, 1) == 0);
}

#[test]
fn a_function_with_nothing_behind_it_refuses_every_driver() {
    let mut driver = Driver::new(blk());
    let chosen = driver.0.offered();
    assert!(driver.negotiate(chosen));
    driver.0.withdraw();
    for _ in 0..2 {
        driver.set(0x14, 1, 0);
        assert!(!driver.negotiate(chosen));
    }
}

#[test]
fn features_that_do_not_work_are_refused() {
    let version = mask(&[VIRTIO_F_VERSION_1]);
    for (features, works) in [
        (version, true),
        (0, false),
        (version | mask(&[VIRTIO_NET_F_STATUS]), false),
        (version | mask(&[VIRTIO_NET_F_HOST_TSO4]), false),
        (version | mask(&[VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_CSUM]), true),
        (version | mask(&[VIRTIO_NET_F_MQ]), false),
        (version | TRANSPORT, true),
    ] {
        let mut driver = Driver::new(net());
        assert_eq!(driver.negotiate(features), works, "{features:#x}");
        if works {
            driver.set(0x0C, 4, 0);
            assert_eq!(driver.0.negotiated(), features, "settled features stand fast");
        }
    }
}

#[test]
fn rings_that_are_not_possible_ask_for_a_reset() {
    let wrong = [0x10_0008, 0x10_0001, u64::MAX - 0xFEF, u64::MAX - 0x20FF];
    for at in wrong {
        let mut driver = Driver::new(blk());
        assert!(driver.negotiate(mask(&[VIRTIO_F_VERSION_1])));
        assert_eq!(driver.enable(0, at), Effect::NeedsReset, "{at:#x}");
        assert_eq!(driver.0.ask_for_reset(), None, "no interrupt before DRIVER_OK");
        assert_eq!(driver.get(0x14, 1), 0x4B);
        assert_eq!(driver.enable(0, 0x1000), Effect::None, "and nothing is enabled before one");
        assert_eq!(driver.get(0x1C, 2), 0);
    }
}

#[test]
fn what_is_out_of_order_is_ignored_and_counted() {
    let mut driver = Driver::new(blk());
    assert_eq!(driver.enable(0, 0x1000), Effect::None);
    assert_eq!((driver.get(0x1C, 2), driver.0.refused()), (0, 1), "before FEATURES_OK");
    assert!(driver.negotiate(TRANSPORT));
    for size in [0, 3, 1024, 0xFFFF] {
        driver.set(0x18, 2, size);
        assert_eq!(driver.get(0x18, 2), 512, "{size} is not a size");
    }
    driver.enable(0, 0x1000);
    driver.set(0x20, 4, 0x5000);
    assert_eq!((driver.enable(0, 0x9000), driver.get(0x20, 4)), (Effect::None, 0x1000), "enabled twice");
    driver.set(0x16, 2, 7);
    assert_eq!((driver.get(0x18, 2), driver.set(0x1C, 2, 1)), (0, Effect::None), "a queue that is not there");
    assert_eq!(driver.set(0x12, 2, 9), Effect::None, "read-only");
    driver.set(0x10, 2, 64);
    assert_eq!(driver.get(0x10, 2), 0xFFFF, "a vector that is not there");
}

#[test]
fn a_queue_is_reset_alone() {
    let mut driver = Driver::new(blk());
    assert!(driver.negotiate(TRANSPORT));
    driver.enable(0, 0x1000);
    assert_eq!(driver.set(0x3A, 2, 1), Effect::None, "not before DRIVER_OK");
    driver.set(0x14, 1, 0xF);
    assert_eq!(driver.set(0x3A, 2, 1), Effect::ResetQueue(0));
    assert_eq!((driver.get(0x1C, 2), driver.get(0x3A, 2), driver.get(0x20, 4)), (0, 0, 0));
    assert_eq!(driver.set(0x3A, 2, 1), Effect::None, "it does not run");
    assert_eq!(driver.enable(0, 0x3000), Effect::EnableQueue(0));
}

#[test]
fn device_configuration_reads_in_any_width_within_its_bounds() {
    let mut function = Function::new(net(), TRANSPORT);
    assert_eq!(function.read(DEVICE, 4), 0x0403_0201);
    assert_eq!(function.read(DEVICE + 6, 2), 0x0807);
    assert_eq!(function.read(DEVICE + 11, 1), 12);
    assert_eq!(function.refused(), 0);
    for (offset, width) in
        [(DEVICE + 11, 2), (DEVICE + 12, 1), (DEVICE + 4, 3), (DEVICE, 0), (u32::MAX, 4), (ISR, 1)]
    {
        assert_eq!(function.read(offset, width), 0);
        assert_eq!(function.write(offset, width, u32::MAX), Effect::None);
    }
    assert_eq!(function.refused(), 12);
}

/// Any access; most of them at fields, where they may do harm.
fn access() -> impl Strategy<Value = (bool, u32, u8, u32)> {
    let offset = prop_oneof![8 => COMMON..COMMON_SIZE, 2 => DEVICE..DEVICE + 64, 1 => any::<u32>()];
    let value = prop_oneof![
        4 => 0u32..8,
        2 => prop::sample::select(vec![0u32, 1, 3, 0xB, 0xF, 0x40, 0x80, 64, 0x1000, 0xFFFF]),
        1 => any::<u32>()
    ];
    (any::<bool>(), offset, prop::sample::select(vec![0u8, 1, 2, 3, 4, 7]), value)
}

proptest! {
    #[test]
    fn no_sequence_of_accesses_breaks_an_invariant(accesses in prop::collection::vec(access(), 1..400), is_net: bool) {
        let mut function = Function::new(if is_net { net() } else { blk() }, TRANSPORT);
        let count = function.queues().len();
        for (is_write, offset, width, value) in accesses {
            let (refused, before) = (function.refused(), function.status());
            if is_write {
                let effect = function.write(offset, width, value);
                prop_assert!(effect == Effect::None || function.refused() == refused || effect == Effect::NeedsReset);
                match effect {
                    Effect::Start => prop_assert!(function.status().driver_ok() && !before.driver_ok()),
                    Effect::EnableQueue(index) => prop_assert!(function.queues()[usize::from(index)].enabled),
                    Effect::ResetQueue(index) => prop_assert!(!function.queues()[usize::from(index)].enabled),
                    Effect::Reset => prop_assert_eq!(function.status(), Status::default()),
                    Effect::NeedsReset => {
                        function.ask_for_reset();
                    }
                    Effect::None => {}
                }
            } else {
                let value = function.read(offset, width);
                prop_assert!(width >= 4 || value >> (8 * width) == 0);
                prop_assert_eq!(function.status(), before, "a read changes nothing");
            }
            prop_assert_eq!(function.queues().len(), count);
            for queue in function.queues() {
                prop_assert!(queue.size.is_power_of_two() && queue.size <= queue.max_size);
                prop_assert!(queue.vector < MSIX_VECTORS || queue.vector == NO_VECTOR);
                prop_assert!(!queue.enabled || (queue.is_well_formed() && function.status().features_ok()));
            }
            let settled = function.status().features_ok();
            prop_assert!(!settled || function.negotiated() & !function.offered() == 0);
        }
    }
}

#[test]
fn device_configuration_changes_under_its_driver_with_a_new_generation() {
    let mut driver = Driver::new(blk());
    let generation = |driver: &mut Driver| driver.get(0x15, 1);
    let capacity = |driver: &mut Driver| driver.0.read(DEVICE, 4);
    assert_eq!((generation(&mut driver), driver.0.change_vector()), (0, None), "no driver to tell yet");
    assert!(driver.0.reconfigure(0, &9u64.to_le_bytes()));
    assert_eq!((generation(&mut driver), capacity(&mut driver)), (1, 9));
    assert!(!driver.0.reconfigure(0, &9u64.to_le_bytes()), "nothing new");
    assert!(!driver.0.reconfigure(56, &[1; 8]) && !driver.0.reconfigure(usize::MAX, &[1]), "not there");
    assert_eq!(generation(&mut driver), 1);
    // A driver that reads it in two pieces finds out although a reset lies in between.
    driver.set(0x14, 1, 0);
    assert_eq!((generation(&mut driver), capacity(&mut driver)), (1, 9));
    for value in 10..=265u64 {
        assert!(driver.0.reconfigure(0, &value.to_le_bytes()));
    }
    assert_eq!(generation(&mut driver), 1, "it wraps");
}
