//! What Linux's virtio_pci_modern does to a function, access by access and in its order. Nothing of it may be
//! refused: every test ends with a look at the count.

use super::*;

const STATUS: (u32, u8) = (0x14, 1);
const QUEUE_SELECT: (u32, u8) = (0x16, 2);
const QUEUE_SIZE: (u32, u8) = (0x18, 2);
const QUEUE_VECTOR: (u32, u8) = (0x1A, 2);
const QUEUE_ENABLE: (u32, u8) = (0x1C, 2);
const QUEUE_RESET: (u32, u8) = (0x3A, 2);
/// Index of the control queue of [`net`].
const CONTROL_QUEUE: u16 = 4;

/// The driver, which accesses every field in its natural width, one access after the other.
struct Linux {
    function: Function,
    /// What the accesses asked for.
    effects: Vec<Effect>,
}

impl Linux {
    fn on(device: Device) -> Self {
        Self { function: Function::new(device, TRANSPORT), effects: vec![] }
    }

    fn read(&mut self, (offset, width): (u32, u8)) -> u32 {
        self.function.read(COMMON + offset, width)
    }

    fn write(&mut self, (offset, width): (u32, u8), value: u32) {
        let effect = self.function.write(COMMON + offset, width, value);
        if effect != Effect::None {
            self.effects.push(effect);
        }
    }

    /// What was asked for since the last look; nothing was refused.
    fn effects(&mut self) -> Vec<Effect> {
        assert_eq!(self.function.refused(), 0);
        std::mem::take(&mut self.effects)
    }

    /// `vp_reset`: status zero, then read until it is.
    fn reset(&mut self) {
        self.write(STATUS, 0);
        assert_eq!(self.read(STATUS), 0);
    }

    /// `virtio_add_status`: what stands and one bit more.
    fn add_status(&mut self, bit: u32) {
        let stands = self.read(STATUS);
        self.write(STATUS, stands | bit);
    }

    /// `vp_modern_get_extended_features` and its counterpart: 128 bits, 64 of which do not exist; those that
    /// `takes`.
    fn negotiate(&mut self, takes: u64) {
        self.add_status(2);
        let mut offered = 0u128;
        for word in 0..4 {
            self.write((0x00, 4), word);
            offered |= u128::from(self.read((0x04, 4))) << (32 * word);
        }
        assert_eq!(offered, u128::from(self.function.offered()));
        for word in 0..4 {
            self.write((0x08, 4), word);
            self.write((0x0C, 4), ((offered & u128::from(takes)) >> (32 * word)) as u32);
        }
        self.add_status(8);
        assert_eq!(self.read(STATUS), 0xB, "FEATURES_OK stands");
    }

    /// `vp_modern_config_vector` and `vp_modern_queue_vector`: written, and read back to see whether there is
    /// such a vector.
    fn vector(&mut self, field: (u32, u8), vector: u16) {
        self.write(field, vector.into());
        assert_eq!(self.read(field), u32::from(vector));
    }

    /// `setup_vq` and `vp_active_vq`: a ring of at most `most` descriptors.
    fn set_up(&mut self, index: u16, most: u16, vector: u16) {
        assert!(u32::from(index) < self.read((0x12, 2)));
        self.write(QUEUE_SELECT, index.into());
        let size = self.read(QUEUE_SIZE);
        assert!(size > 0 && self.read(QUEUE_ENABLE) == 0);
        self.write(QUEUE_SIZE, size.min(most.into()));
        let at = 0x1_0000_0000 + u64::from(index) * 0x10_0000;
        for (field, address) in [(0x20, at), (0x28, at + 0x1_0000), (0x30, at + 0x2_0000)] {
            self.write((field, 4), address as u32);
            self.write((field + 4, 4), (address >> 32) as u32);
        }
        if vector != NO_VECTOR {
            self.vector(QUEUE_VECTOR, vector);
        }
        assert_eq!(self.read((0x1E, 2)), u32::from(index), "queue_notify_off");
    }

    fn enable(&mut self, index: u16) {
        self.write(QUEUE_SELECT, index.into());
        self.write(QUEUE_ENABLE, 1);
    }

    /// `vp_modern_find_vqs`: sets up every queue, then enables every queue. A network device's control queue,
    /// which is polled, gets no vector.
    fn find_queues(&mut self, count: u16) {
        self.vector((0x10, 2), 0);
        let vector = |index| if index == CONTROL_QUEUE { NO_VECTOR } else { index + 1 };
        (0..count).for_each(|index| self.set_up(index, u16::MAX, vector(index)));
        (0..count).for_each(|index| self.enable(index));
    }

    /// From finding the function to DRIVER_OK.
    fn probe(&mut self, count: u16) {
        self.reset();
        self.add_status(1);
        self.bind(count);
    }

    /// From binding a driver to DRIVER_OK.
    fn bind(&mut self, count: u16) {
        self.negotiate(u64::MAX);
        self.find_queues(count);
        self.add_status(4);
        assert_eq!(self.read(STATUS), 0xF);
    }

    /// `virtio_dev_remove`: reset, `del_vqs` with its vectors, and ACKNOWLEDGE again.
    fn unbind(&mut self, count: u16) {
        self.reset();
        for index in 0..count {
            self.write(QUEUE_SELECT, index.into());
            self.vector(QUEUE_VECTOR, NO_VECTOR);
        }
        self.vector((0x10, 2), NO_VECTOR);
        self.add_status(1);
    }
}

#[test]
fn it_binds_and_unbinds_as_often_as_it_likes() {
    let mut linux = Linux::on(net());
    linux.probe(5);
    for _ in 0..3 {
        assert_eq!(linux.effects(), [Effect::Reset, Effect::Start]);
        let enabled: Vec<_> =
            linux.function.queues().iter().map(|queue| (queue.enabled, queue.vector)).collect();
        assert_eq!(enabled, [(true, 1), (true, 2), (true, 3), (true, 4), (true, NO_VECTOR)]);
        linux.unbind(5);
        assert!(!linux.function.queues().iter().any(|queue| queue.enabled));
        linux.bind(5);
    }
}

#[test]
fn a_new_kernel_that_finds_the_old_ones_queues_running_starts_over() {
    let mut linux = Linux::on(blk());
    linux.probe(1);
    linux.effects();
    // Only the reset says that everything is different now.
    linux.probe(1);
    assert_eq!(linux.effects(), [Effect::Reset, Effect::Start]);
}

/// `ethtool -G`: `vp_modern_disable_vq_and_reset`, then `vp_modern_enable_vq_after_reset` with a ring of
/// another size.
#[test]
fn a_queue_is_resized_while_the_others_run() {
    let mut linux = Linux::on(net());
    linux.probe(5);
    linux.effects();
    for size in [64, 256, 16] {
        linux.write(QUEUE_SELECT, 2);
        linux.write(QUEUE_RESET, 1);
        assert_eq!((linux.read(QUEUE_RESET), linux.read(QUEUE_ENABLE)), (0, 0), "it polls for both");
        linux.set_up(2, size, 3);
        linux.enable(2);
        assert_eq!(linux.effects(), [Effect::ResetQueue(2), Effect::EnableQueue(2)]);
        let queue = linux.function.queues()[2];
        assert_eq!((queue.size, queue.vector, linux.read(STATUS)), (size, 3, 0xF));
    }
}

/// `virtio_cread`: a field between two looks at `config_generation`, a 64-bit field as two halves, an address
/// byte by byte.
#[test]
fn device_configuration_is_read_in_pieces_of_one_generation() {
    let mut linux = Linux::on(net());
    linux.probe(5);
    let before = linux.read((0x15, 1));
    let bytes: Vec<u32> = (0..6).map(|at| linux.function.read(DEVICE + at, 1)).collect();
    let words = [linux.function.read(DEVICE, 4), linux.function.read(DEVICE + 4, 4)];
    let pairs = linux.function.read(DEVICE + 8, 2);
    assert_eq!((bytes, words, pairs), ((1..=6).collect(), [0x0403_0201, 0x0807_0605], 0x0A09));
    assert_eq!(linux.read((0x15, 1)), before);
    assert_eq!(linux.effects(), [Effect::Reset, Effect::Start]);
}

/// A probe that fails says so, and the next one begins with a reset.
#[test]
fn a_probe_that_fails_leaves_a_function_that_can_be_probed() {
    let mut linux = Linux::on(blk());
    linux.reset();
    linux.add_status(1);
    linux.negotiate(u64::MAX);
    linux.add_status(0x80);
    assert_eq!(linux.read(STATUS), 0x8B);
    linux.probe(1);
    assert_eq!(linux.effects(), [Effect::Reset, Effect::Reset, Effect::Start]);
}
