//! Device status (virtio 1.3, 2.1) as a transition table.

use std::fmt;

use virtio_bindings::virtio_config::{
    VIRTIO_CONFIG_S_ACKNOWLEDGE, VIRTIO_CONFIG_S_DRIVER, VIRTIO_CONFIG_S_DRIVER_OK, VIRTIO_CONFIG_S_FAILED,
    VIRTIO_CONFIG_S_FEATURES_OK, VIRTIO_CONFIG_S_NEEDS_RESET,
};

const ACKNOWLEDGE: u8 = VIRTIO_CONFIG_S_ACKNOWLEDGE as u8;
const DRIVER: u8 = VIRTIO_CONFIG_S_DRIVER as u8;
const DRIVER_OK: u8 = VIRTIO_CONFIG_S_DRIVER_OK as u8;
const FEATURES_OK: u8 = VIRTIO_CONFIG_S_FEATURES_OK as u8;
const NEEDS_RESET: u8 = VIRTIO_CONFIG_S_NEEDS_RESET as u8;
const FAILED: u8 = VIRTIO_CONFIG_S_FAILED as u8;

/// The `device_status` field: bits that the driver sets, and DEVICE_NEEDS_RESET.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Status(u8);

/// What a write of the driver's to `device_status` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing but the new bits.
    Note,
    /// The driver has chosen its features: keep FEATURES_OK only if they are a subset that works.
    CheckFeatures,
    /// The driver is ready: start the queues that it enabled.
    Start,
    /// Reset the function: the driver wrote zero.
    Reset,
    /// The write is out of order, or clears a bit, which "the driver MUST NOT" (virtio 1.3, 2.1.1).
    Refuse,
}

/// Every step of the initialisation sequence (virtio 1.3, 3.1.1): bits that stand, bits after the write, what
/// to do. Drivers may set ACKNOWLEDGE and DRIVER in one write.
const STEPS: [(u8, u8, Step); 5] = [
    (0, ACKNOWLEDGE, Step::Note),
    (0, ACKNOWLEDGE | DRIVER, Step::Note),
    (ACKNOWLEDGE, ACKNOWLEDGE | DRIVER, Step::Note),
    (ACKNOWLEDGE | DRIVER, ACKNOWLEDGE | DRIVER | FEATURES_OK, Step::CheckFeatures),
    (ACKNOWLEDGE | DRIVER | FEATURES_OK, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK, Step::Start),
];

impl Status {
    /// The byte that the driver reads.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// Whether features are settled.
    pub fn features_ok(self) -> bool {
        self.0 & FEATURES_OK != 0
    }

    /// Whether the driver drives the device.
    pub fn driver_ok(self) -> bool {
        self.0 & DRIVER_OK != 0
    }

    /// Whether the device asked for a reset.
    pub fn needs_reset(self) -> bool {
        self.0 & NEEDS_RESET != 0
    }

    /// Whether the device does what the driver asks for, rather than waiting for a reset.
    pub fn is_sound(self) -> bool {
        self.0 & (NEEDS_RESET | FAILED) == 0
    }

    /// Takes a write of the driver's. DEVICE_NEEDS_RESET is the device's own bit and ignored here.
    pub fn write(&mut self, written: u8) -> Step {
        let step = self.step(written);
        match step {
            Step::Refuse => {}
            Step::Reset => self.0 = 0,
            Step::Note | Step::CheckFeatures | Step::Start => self.0 |= written & !NEEDS_RESET,
        }
        step
    }

    fn step(self, written: u8) -> Step {
        // A driver sets a bit by writing the byte that it read with that bit added, so that
        // DEVICE_NEEDS_RESET may come back at any time, and means nothing.
        let (stands, written) = (self.0 & !NEEDS_RESET, written & !NEEDS_RESET);
        match written {
            // Before all else: a reset is taken in every state, and is the way out of each.
            0 => Step::Reset,
            // No bit is new, or the driver gives up, which it may at any time (virtio 1.3, 3.1.1).
            _ if written == stands || written == stands | FAILED => Step::Note,
            _ if !self.is_sound() => Step::Refuse,
            _ => STEPS
                .iter()
                .find(|(from, to, _)| (*from, *to) == (stands, written))
                .map_or(Step::Refuse, |found| found.2),
        }
    }

    /// A status that `write` and `set_needs_reset` can lead to.
    pub(super) fn recall(bits: u8) -> Option<Self> {
        let sound = bits & !(NEEDS_RESET | FAILED);
        let reached = sound == 0 || STEPS.iter().any(|(_, to, _)| *to == sound);
        (reached && bits != NEEDS_RESET).then_some(Self(bits))
    }

    /// Takes FEATURES_OK back: the driver's features do not work (virtio 1.3, 3.1.1, step 6).
    pub fn refuse_features(&mut self) {
        self.0 &= !FEATURES_OK;
    }

    /// Sets DEVICE_NEEDS_RESET (virtio 1.3, 2.1.2); whether it is new. A status of zero stays: the device is
    /// reset, and its driver may be waiting to read just that (4.1.4.3.2).
    pub fn set_needs_reset(&mut self) -> bool {
        let new = self.0 != 0 && !self.needs_reset();
        if new {
            self.0 |= NEEDS_RESET;
        }
        new
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Status({:#04x})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Writes in order; the steps they make and the byte that stands in the end.
    fn walk(writes: &[u8]) -> (Vec<Step>, u8) {
        let mut status = Status::default();
        (writes.iter().map(|written| status.write(*written)).collect(), status.bits())
    }

    #[test]
    fn drivers_come_up_in_the_order_of_3_1_1() {
        use Step::{CheckFeatures, Note, Reset, Start};
        assert_eq!(walk(&[0, 1, 3, 0xb, 0xf]), (vec![Reset, Note, Note, CheckFeatures, Start], 0xf));
        assert_eq!(walk(&[0, 3, 0xb, 0xf, 0xf]), (vec![Reset, Note, CheckFeatures, Start, Note], 0xf));
        assert_eq!(walk(&[3, 0xb, 0]), (vec![Note, CheckFeatures, Reset], 0));
    }

    #[test]
    fn what_is_out_of_order_is_refused() {
        for (writes, stands) in [
            (&[0xf][..], 0),           // all at once
            (&[3, 7], 3),              // DRIVER_OK without FEATURES_OK
            (&[3, 0xb, 0xf, 3], 0xf),  // clears bits
            (&[3, 0x83, 0x8b], 0x83),  // continues after FAILED
            (&[0x10], 0),              // a reserved bit
            (&[0x40 | 1, 3, 0x20], 3), // NEEDS_RESET is not the driver's
        ] {
            assert_eq!(walk(writes).1, stands, "{writes:x?}");
        }
    }

    #[test]
    fn a_device_that_needs_reset_continues_only_after_one() {
        let mut status = Status::default();
        assert_eq!((status.set_needs_reset(), status.bits()), (false, 0), "it is reset");
        status.write(3);
        assert!(status.set_needs_reset() && !status.set_needs_reset());
        assert_eq!((status.write(0xb), status.bits()), (Step::Refuse, 0x43));
        assert_eq!((status.write(0), status.bits()), (Step::Reset, 0));
    }

    proptest! {
        #[test]
        fn no_sequence_reaches_driver_ok_without_features_ok(writes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut status = Status::default();
            for written in writes {
                let before = status;
                let step = status.write(written);
                prop_assert!(!status.driver_ok() || status.features_ok());
                prop_assert!(!status.features_ok() || status.bits() & 3 == 3);
                prop_assert_eq!(step == Step::Start, status.driver_ok() && !before.driver_ok());
                prop_assert!(step != Step::Refuse || status == before);
            }
        }
    }
}
