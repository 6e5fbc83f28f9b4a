//! A queue context: the registers of `queues[n]` that the base writes before a queue starts, and their one
//! codec.
//!
//! bm-hypervisor encodes, IO-Bond decodes. Whether a context can work (sizes, alignment, slots) is not
//! checked here.

use crate::{
    MAX_FUNCTIONS,
    address::{Address, BaseAddr, BoardAddr, FunctionId},
    offsets::queues as offset,
    register_access::{decode, encode},
    registers::components::queue_t::{
        control::Control, features::Features, sizes::Sizes, slot_count::SlotCount,
    },
    ring::split,
};

/// Registers of one queue context, in 32-bit words.
pub const REGISTER_WORDS: usize = (offset::STRIDE / 4) as usize;

/// The first and the last register behind `control` that describe a queue. They lie side by side.
pub const DESCRIPTION: core::ops::RangeInclusive<u32> = offset::SIZES..=offset::SLOT_COUNT;

const _: () = {
    // The register can name no other function than those there may be.
    assert!(Control::FUNCTION_ID_MASK as usize + 1 == MAX_FUNCTIONS);
    assert!(offset::CONTROL == 0 && offset::SLOT_COUNT < offset::STRIDE);
};

/// Where the three areas of a split ring lie (virtio 1.3, 2.7), in the memory that `A` addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ring<A> {
    /// Ring size in descriptors, a power of two up to 32768.
    pub size: u16,
    /// Address of the descriptor table, 16-byte aligned.
    pub desc: A,
    /// Address of the available ring, 2-byte aligned.
    pub avail: A,
    /// Address of the used ring, 4-byte aligned.
    pub used: A,
}

impl<A: Copy + Into<Address>> Ring<A> {
    /// Address of the available index.
    #[inline]
    pub fn avail_idx(&self) -> Address {
        self.avail.into().wrapping_add(split::IDX)
    }

    /// Address of the used index.
    #[inline]
    pub fn used_idx(&self) -> Address {
        self.used.into().wrapping_add(split::IDX)
    }
}

/// What was negotiated for a queue (`queues[n].features`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueFeatures {
    /// The guest may use indirect tables.
    pub indirect: bool,
    /// The guest ring has event indices.
    pub event_idx: bool,
    /// The guest's doorbells carry the available index.
    pub notification_data: bool,
    /// The back end takes indirect tables.
    pub shadow_indirect: bool,
    /// Quirk: copy every writable byte back, whatever the back end says it wrote.
    pub copy_all: bool,
    /// Its chains are operations when they are returned, not when they are forwarded.
    pub count_on_return: bool,
}

/// Everything that IO-Bond has to know of a queue that it serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueContext {
    /// PCI function that owns the queue.
    pub function: FunctionId,
    /// Virtqueue index inside the function, below 2^12.
    pub index: u16,
    /// MSI-X vector for used buffers, or [`NO_VECTOR`](crate::function::NO_VECTOR).
    pub vector: u16,
    /// The guest's ring.
    pub guest: Ring<BoardAddr>,
    /// The shadow vring, at least as large.
    pub shadow: Ring<BaseAddr>,
    /// Address of slot 0, 16-byte aligned; the others follow.
    pub slots: BaseAddr,
    /// Bytes in a slot, a power of two, at least 64.
    pub slot_size: u32,
    /// Slots in the pool, at least 1.
    pub slot_count: u16,
    /// What was negotiated.
    pub features: QueueFeatures,
}

impl QueueContext {
    /// Decodes a context from the words of its registers, whatever `control.enable` and the registers that
    /// IO-Bond writes say.
    #[must_use]
    pub fn from_words(words: &[u32; REGISTER_WORDS]) -> Self {
        let word = |at: u32| words[(at / 4) as usize];
        let wide = |low: u32| u64::from(word(low + 4)) << 32 | u64::from(word(low));
        let control: Control = decode(word(offset::CONTROL));
        let sizes: Sizes = decode(word(offset::SIZES));
        let features: Features = decode(word(offset::FEATURES));
        let slot_count: SlotCount = decode(word(offset::SLOT_COUNT));
        Self {
            function: FunctionId::truncated(control.function_id()),
            index: control.index(),
            vector: control.vector(),
            guest: Ring {
                size: sizes.guest(),
                desc: BoardAddr(wide(offset::GUEST_DESC_LO)),
                avail: BoardAddr(wide(offset::GUEST_AVAIL_LO)),
                used: BoardAddr(wide(offset::GUEST_USED_LO)),
            },
            shadow: Ring {
                size: sizes.shadow(),
                desc: BaseAddr(wide(offset::SHADOW_DESC_LO)),
                avail: BaseAddr(wide(offset::SHADOW_AVAIL_LO)),
                used: BaseAddr(wide(offset::SHADOW_USED_LO)),
            },
            slots: BaseAddr(wide(offset::SLOTS_LO)),
            slot_size: word(offset::SLOT_SIZE),
            slot_count: slot_count.count(),
            features: QueueFeatures {
                indirect: features.indirect(),
                event_idx: features.event_idx(),
                notification_data: features.notification_data(),
                shadow_indirect: features.shadow_indirect(),
                copy_all: features.copy_all(),
                count_on_return: features.count_on_return(),
            },
        }
    }

    /// The words of a context that is enabled with this. `control`, the first, is to be written last: IO-Bond
    /// takes the others when `control.enable` rises.
    #[must_use]
    pub fn to_words(&self) -> [u32; REGISTER_WORDS] {
        let mut words = [0; REGISTER_WORDS];
        let mut set = |at: u32, value: u32| words[(at / 4) as usize] = value;
        let (mut control, mut sizes) = (Control::default(), Sizes::default());
        let (mut features, mut slot_count) = (Features::default(), SlotCount::default());
        control.set_enable(true);
        control.set_function_id(self.function.index() as u8);
        control.set_index(self.index);
        control.set_vector(self.vector);
        sizes.set_guest(self.guest.size);
        sizes.set_shadow(self.shadow.size);
        features.set_indirect(self.features.indirect);
        features.set_event_idx(self.features.event_idx);
        features.set_notification_data(self.features.notification_data);
        features.set_shadow_indirect(self.features.shadow_indirect);
        features.set_copy_all(self.features.copy_all);
        features.set_count_on_return(self.features.count_on_return);
        slot_count.set_count(self.slot_count);
        set(offset::CONTROL, encode(control));
        set(offset::SIZES, encode(sizes));
        set(offset::FEATURES, encode(features));
        set(offset::SLOT_SIZE, self.slot_size);
        set(offset::SLOT_COUNT, encode(slot_count));
        for (low, address) in [
            (offset::GUEST_DESC_LO, self.guest.desc.0),
            (offset::GUEST_AVAIL_LO, self.guest.avail.0),
            (offset::GUEST_USED_LO, self.guest.used.0),
            (offset::SHADOW_DESC_LO, self.shadow.desc.0),
            (offset::SHADOW_AVAIL_LO, self.shadow.avail.0),
            (offset::SHADOW_USED_LO, self.shadow.used.0),
            (offset::SLOTS_LO, self.slots.0),
        ] {
            set(low, address as u32);
            set(low + 4, (address >> 32) as u32);
        }
        words
    }

    /// Address of `slot`: slots lie side by side.
    #[inline]
    pub fn slot_address(&self, slot: u16) -> BaseAddr {
        self.slots.wrapping_add(u64::from(slot) * u64::from(self.slot_size))
    }

    /// Descriptors that an indirect table in one slot can hold.
    #[inline]
    pub fn table_capacity(&self) -> u32 {
        self.slot_size / split::DESC_SIZE as u32
    }
}

#[cfg(test)]
mod tests {
    use core::cell::RefCell;

    use super::*;
    use crate::register_access::{Over, RegisterIo};

    /// Registers of context 0, as they were written.
    struct File(RefCell<[u32; REGISTER_WORDS]>);

    impl RegisterIo for File {
        fn read32(&self, offset: u32) -> u32 {
            self.0.borrow()[((offset - offset::BASE) / 4) as usize]
        }

        fn write32(&self, offset: u32, value: u32) {
            self.0.borrow_mut()[((offset - offset::BASE) / 4) as usize] = value;
        }
    }

    const CONTEXT: QueueContext = QueueContext {
        function: match FunctionId::new(5) {
            Some(function) => function,
            None => unreachable!(),
        },
        index: 0x123,
        vector: 0x4567,
        guest: Ring {
            size: 0x89,
            desc: BoardAddr(0x11_0000_0012),
            avail: BoardAddr(0x13_0000_0014),
            used: BoardAddr(0x15_0000_0016),
        },
        shadow: Ring {
            size: 0xAB,
            desc: BaseAddr(0x21_0000_0022),
            avail: BaseAddr(0x23_0000_0024),
            used: BaseAddr(0x25_0000_0026),
        },
        slots: BaseAddr(0x31_0000_0032),
        slot_size: 0x4000_0041,
        slot_count: 0xCDEF,
        features: QueueFeatures {
            indirect: true,
            event_idx: false,
            notification_data: true,
            shadow_indirect: false,
            copy_all: true,
            count_on_return: false,
        },
    };

    /// Every register by its generated accessor, which knows its offset from `iobond.rdl` and not from this
    /// module.
    fn written() -> [u32; REGISTER_WORDS] {
        let over = Over(File(RefCell::new([0; REGISTER_WORDS])));
        let queue = over.registers().queues()[0];
        queue.control().write(|r| {
            r.set_enable(true);
            r.set_function_id(5);
            r.set_index(0x123);
            r.set_vector(0x4567);
        });
        queue.sizes().write(|r| {
            r.set_guest(0x89);
            r.set_shadow(0xAB);
        });
        queue.features().write(|r| {
            r.set_indirect(true);
            r.set_notification_data(true);
            r.set_copy_all(true);
        });
        queue.guest_desc_lo().write(|r| r.set_value(0x12));
        queue.guest_desc_hi().write(|r| r.set_value(0x11));
        queue.guest_avail_lo().write(|r| r.set_value(0x14));
        queue.guest_avail_hi().write(|r| r.set_value(0x13));
        queue.guest_used_lo().write(|r| r.set_value(0x16));
        queue.guest_used_hi().write(|r| r.set_value(0x15));
        queue.shadow_desc_lo().write(|r| r.set_value(0x22));
        queue.shadow_desc_hi().write(|r| r.set_value(0x21));
        queue.shadow_avail_lo().write(|r| r.set_value(0x24));
        queue.shadow_avail_hi().write(|r| r.set_value(0x23));
        queue.shadow_used_lo().write(|r| r.set_value(0x26));
        queue.shadow_used_hi().write(|r| r.set_value(0x25));
        queue.slots_lo().write(|r| r.set_value(0x32));
        queue.slots_hi().write(|r| r.set_value(0x31));
        queue.slot_size().write(|r| r.set_bytes(0x4000_0041));
        queue.slot_count().write(|r| r.set_count(0xCDEF));
        over.0.0.into_inner()
    }

    #[test]
    fn a_context_stands_where_the_register_map_has_its_fields() {
        assert_eq!(CONTEXT.to_words(), written());
        assert_eq!(QueueContext::from_words(&written()), CONTEXT);
        let described = DESCRIPTION.step_by(4).map(|at| (at / 4) as usize);
        assert!(described.eq(2..=19) && written()[20..].iter().all(|word| *word == 0) && written()[1] == 0);
    }

    #[test]
    fn each_feature_has_a_bit_of_its_own() {
        let at = (offset::FEATURES / 4) as usize;
        for bit in 0..6 {
            let mut words = [0; REGISTER_WORDS];
            words[at] = 1 << bit;
            let mut back = QueueContext::from_words(&words).to_words();
            // Of a context that is enabled.
            back[0] &= !1;
            assert_eq!(back, words);
            let fields = QueueContext::from_words(&words).features;
            let QueueFeatures {
                indirect,
                event_idx,
                notification_data,
                shadow_indirect,
                copy_all,
                count_on_return,
            } = fields;
            let set = [indirect, event_idx, notification_data, shadow_indirect, copy_all, count_on_return];
            assert_eq!(set.map(u32::from).iter().sum::<u32>(), 1, "{fields:?}");
        }
    }

    #[test]
    fn every_function_and_no_other_can_be_named() {
        for (number, function) in (0..).zip(FunctionId::all()) {
            let mut words = [0; REGISTER_WORDS];
            words[0] = number << Control::FUNCTION_ID_OFFSET;
            assert_eq!(QueueContext::from_words(&words).function, function);
        }
        let words = [u32::MAX; REGISTER_WORDS];
        assert_eq!(QueueContext::from_words(&words).function.index(), MAX_FUNCTIONS - 1);
    }
}
