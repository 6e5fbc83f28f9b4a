//! The registers of one queue context, and the state that they and the engine agree on.

use iobond_spec::{
    offsets::queues as offset,
    queue_context::{QueueContext, REGISTER_WORDS},
    register_access::{decode, encode, place},
    registers::components::{
        queue_error_e::QueueErrorE,
        queue_state_e::QueueStateE,
        queue_t::{control::Control, features::Features, slot_count::SlotCount, state::State},
    },
};

use crate::shadow::{self, QueueError};

/// The registers of one queue context, but for those that its engine keeps.
#[derive(Clone, Debug)]
pub(super) struct QueueFile {
    words: [u32; REGISTER_WORDS],
    /// What it runs with.
    context: Option<QueueContext>,
    error: QueueErrorE,
    doorbells: u32,
}

impl Default for QueueFile {
    fn default() -> Self {
        let mut words = [0; REGISTER_WORDS];
        words[(offset::CONTROL / 4) as usize] = encode(Control::default());
        Self { words, context: None, error: QueueErrorE::None, doorbells: 0 }
    }
}

/// What a write to a queue register set off.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Written {
    Stored,
    /// Read only, or not while the queue is enabled.
    Refused,
    /// The queue is to start with this.
    Enable(QueueContext),
    /// The queue was to start, and cannot.
    Impossible,
    /// The queue is to stop.
    Disable,
}

impl QueueFile {
    pub(super) fn context(&self) -> Option<&QueueContext> {
        self.context.as_ref()
    }

    pub(super) fn has_failed(&self) -> bool {
        self.error != QueueErrorE::None
    }

    /// Counts an available buffer notification; whether those of this queue carry data (virtio 1.3, 2.9).
    pub(super) fn count_notification(&mut self) -> bool {
        self.doorbells = self.doorbells.wrapping_add(1);
        self.context.is_some_and(|context| context.features.notification_data)
    }

    pub(super) fn doorbells(&self) -> u32 {
        self.doorbells
    }

    /// Enters the error state, unless the queue is not running any more.
    pub(super) fn fail(&mut self, error: QueueErrorE) -> bool {
        let running = self.context.is_some() && !self.has_failed();
        if running {
            self.error = error;
        }
        running
    }

    /// Forgets everything but what the base wrote, with enable cleared.
    pub(super) fn disable(&mut self) {
        let mut control = self.control();
        control.set_enable(false);
        self.set(offset::CONTROL, encode(control));
        (self.context, self.error, self.doorbells) = (None, QueueErrorE::None, 0);
    }

    pub(super) fn state(&self) -> u32 {
        let state = match (self.has_failed(), self.context.is_some()) {
            (true, _) => QueueStateE::Error,
            (false, true) => QueueStateE::Running,
            (false, false) => QueueStateE::Disabled,
        };
        place(State::STATE_OFFSET, u32::from(state.bits()))
            | place(State::ERROR_OFFSET, u32::from(self.error.bits()))
    }

    pub(super) fn read(&self, at: u32) -> u32 {
        self.words[(at / 4) as usize]
    }

    pub(super) fn write(&mut self, at: u32, value: u32) -> Written {
        match at {
            offset::CONTROL => self.write_control(value),
            // TAIL is not here: the world takes it (see `tail_of`), and its engine reports it.
            offset::STATE | offset::TAIL | offset::HEAD.. => Written::Refused,
            _ if self.control().enable() => Written::Refused,
            _ => {
                self.set(at, value & defined_bits(at));
                Written::Stored
            }
        }
    }

    fn write_control(&mut self, value: u32) -> Written {
        let wanted: Control = decode(value);
        match (self.control().enable(), wanted.enable()) {
            (false, false) => {
                self.set(offset::CONTROL, value);
                Written::Stored
            }
            (true, true) => Written::Refused,
            (true, false) => {
                self.disable();
                Written::Disable
            }
            (false, true) => {
                self.set(offset::CONTROL, value);
                self.enable()
            }
        }
    }

    fn enable(&mut self) -> Written {
        let context = QueueContext::from_words(&self.words);
        match shadow::check(&context) {
            Ok(()) => {
                self.context = Some(context);
                Written::Enable(context)
            }
            Err(error) => self.refuse(&error),
        }
    }

    /// The context cannot be: the error state, without ever having run.
    pub(super) fn refuse(&mut self, error: &QueueError) -> Written {
        self.context = None;
        self.error = error.code();
        Written::Impossible
    }

    fn control(&self) -> Control {
        decode(self.read(offset::CONTROL))
    }

    fn set(&mut self, at: u32, value: u32) {
        self.words[(at / 4) as usize] = value;
    }
}

/// The bits of the context register at `at` that mean something; the others read as zero.
const fn defined_bits(at: u32) -> u32 {
    match at {
        offset::FEATURES => {
            Features::INDIRECT_MASK << Features::INDIRECT_OFFSET
                | Features::EVENT_IDX_MASK << Features::EVENT_IDX_OFFSET
                | Features::NOTIFICATION_DATA_MASK << Features::NOTIFICATION_DATA_OFFSET
                | Features::SHADOW_INDIRECT_MASK << Features::SHADOW_INDIRECT_OFFSET
                | Features::COPY_ALL_MASK << Features::COPY_ALL_OFFSET
                | Features::COUNT_ON_RETURN_MASK << Features::COUNT_ON_RETURN_OFFSET
        }
        offset::SLOT_COUNT => SlotCount::COUNT_MASK,
        _ => u32::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enabled() -> QueueFile {
        let mut file = QueueFile::default();
        let pairs = [
            (offset::SIZES, 8 << 16 | 8),
            (offset::GUEST_DESC_LO, 0x1000),
            (offset::GUEST_AVAIL_LO, 0x2000),
            (offset::GUEST_USED_LO, 0x3000),
            (offset::SHADOW_DESC_LO, 0x4000),
            (offset::SHADOW_AVAIL_LO, 0x5000),
            (offset::SHADOW_USED_LO, 0x6000),
            (offset::SLOTS_LO, 0x7000),
            (offset::SLOT_SIZE, 64),
            (offset::SLOT_COUNT, 8),
        ];
        for (at, value) in pairs {
            assert_eq!(file.write(at, value), Written::Stored);
        }
        assert!(matches!(file.write(offset::CONTROL, 1), Written::Enable(_)));
        file
    }

    #[test]
    fn an_enabled_context_can_only_be_disabled() {
        let mut file = enabled();
        assert_eq!(file.write(offset::SLOT_SIZE, 128), Written::Refused);
        assert_eq!(file.write(offset::CONTROL, 1), Written::Refused);
        assert_eq!(file.write(offset::HEAD, 1), Written::Refused);
        assert_eq!(file.write(offset::CONTROL, 0), Written::Disable);
        assert_eq!(file.state(), 0);
    }

    #[test]
    fn an_impossible_context_is_an_error_until_it_is_disabled() {
        let mut file = QueueFile::default();
        assert_eq!(file.write(offset::CONTROL, 1), Written::Impossible);
        assert!(file.has_failed());
        assert_eq!(file.write(offset::CONTROL, 0), Written::Disable);
        assert!(!file.has_failed());
    }

    #[test]
    fn only_a_running_queue_fails_and_only_once() {
        let mut file = enabled();
        assert!(file.fail(QueueErrorE::BadHead));
        assert!(!file.fail(QueueErrorE::BadNext));
        let state: State = decode(file.state());
        assert_eq!(
            (state.state().unwrap(), state.error().unwrap()),
            (QueueStateE::Error, QueueErrorE::BadHead)
        );
        file.disable();
        assert!(!file.fail(QueueErrorE::BadHead));
    }
}
