//! A queue context: what the base wrote into `queues[n]`, checked.

use iobond_spec::{
    MAX_RING,
    address::{Address, BaseAddr, BoardAddr, FunctionId},
    offsets::queues as offset,
    register_access::{decode, encode},
    registers::components::queue_t::{
        control::Control, features::Features, sizes::Sizes, slot_count::SlotCount,
    },
    ring::split,
};

use super::QueueError;

/// Registers of one queue context, as 32-bit words.
pub const REGISTER_WORDS: usize = (offset::STRIDE / 4) as usize;

/// Smallest slot: four descriptors fit into it, should it hold an indirect table.
const MIN_SLOT: u32 = 64;
/// Largest slot; the engine keeps one bit of a piece's length for itself.
const MAX_SLOT: u32 = 1 << 30;

/// Where the three areas of a split ring lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ring<A> {
    /// Ring size in descriptors, a power of two up to 32768.
    pub size: u16,
    /// Descriptor table, aligned to 16 bytes.
    pub desc: A,
    /// Available ring, aligned to 2 bytes.
    pub avail: A,
    /// Used ring, aligned to 4 bytes.
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

    /// Why the ring cannot be, if it cannot.
    fn objection(
        &self,
        aligned: impl Fn(A, u64) -> bool,
        end: impl Fn(A, u64) -> bool,
    ) -> Option<&'static str> {
        if !self.size.is_power_of_two() || self.size > MAX_RING {
            return Some("ring size is not a power of two up to 32768");
        }
        let areas = [
            (self.desc, split::DESC_ALIGN, split::desc_bytes(self.size)),
            (self.avail, split::AVAIL_ALIGN, split::avail_bytes(self.size)),
            (self.used, split::USED_ALIGN, split::used_bytes(self.size)),
        ];
        if areas.iter().any(|&(at, alignment, _)| !aligned(at, alignment)) {
            return Some("ring area is not aligned as virtio 1.3, 2.7 wants it");
        }
        if areas.iter().any(|&(at, _, bytes)| !end(at, bytes)) {
            return Some("ring area wraps around the address space");
        }
        None
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

/// A checked queue context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// PCI function that owns the queue.
    pub function: FunctionId,
    /// Virtqueue index inside the function.
    pub index: u16,
    /// MSI-X vector for used buffers, or `NO_VECTOR`.
    pub vector: u16,
    /// The guest's ring, in board memory.
    pub guest: Ring<BoardAddr>,
    /// Its shadow vring, in base memory; at least as large.
    pub shadow: Ring<BaseAddr>,
    /// Slot 0; the others follow.
    pub slots: BaseAddr,
    /// Bytes in a slot, a power of two from 64 to 2^30.
    pub slot_size: u32,
    /// Slots in the pool, at least 1.
    pub slot_count: u16,
    /// What was negotiated with driver and back end.
    pub features: QueueFeatures,
}

impl Context {
    /// Decodes and checks the registers of a queue context.
    ///
    /// # Errors
    /// [`QueueError::BadContext`] with the first objection.
    pub fn from_registers(words: &[u32; REGISTER_WORDS]) -> Result<Self, QueueError> {
        let word = |at: u32| words[(at / 4) as usize];
        let pair = |lo: u32, hi: u32| u64::from(word(hi)) << 32 | u64::from(word(lo));
        let control: Control = decode(word(offset::CONTROL));
        let sizes: Sizes = decode(word(offset::SIZES));
        let features: Features = decode(word(offset::FEATURES));
        let slot_count: SlotCount = decode(word(offset::SLOT_COUNT));
        let context = Self {
            function: FunctionId::new(control.function_id())
                .ok_or(QueueError::BadContext("no such function"))?,
            index: control.index(),
            vector: control.vector(),
            guest: Ring {
                size: sizes.guest(),
                desc: BoardAddr(pair(offset::GUEST_DESC_LO, offset::GUEST_DESC_HI)),
                avail: BoardAddr(pair(offset::GUEST_AVAIL_LO, offset::GUEST_AVAIL_HI)),
                used: BoardAddr(pair(offset::GUEST_USED_LO, offset::GUEST_USED_HI)),
            },
            shadow: Ring {
                size: sizes.shadow(),
                desc: BaseAddr(pair(offset::SHADOW_DESC_LO, offset::SHADOW_DESC_HI)),
                avail: BaseAddr(pair(offset::SHADOW_AVAIL_LO, offset::SHADOW_AVAIL_HI)),
                used: BaseAddr(pair(offset::SHADOW_USED_LO, offset::SHADOW_USED_HI)),
            },
            slots: BaseAddr(pair(offset::SLOTS_LO, offset::SLOTS_HI)),
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
        };
        context.check()
    }

    /// The registers of a queue context that is enabled with this: what [`Context::from_registers`] decodes.
    /// The base writes `control`, the first of them, last.
    #[must_use]
    pub fn to_registers(&self) -> [u32; REGISTER_WORDS] {
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
        set(offset::SLOT_COUNT, encode(slot_count));
        set(offset::SLOT_SIZE, self.slot_size);
        let (guest, shadow) = (&self.guest, &self.shadow);
        for (low, high, address) in [
            (offset::GUEST_DESC_LO, offset::GUEST_DESC_HI, guest.desc.0),
            (offset::GUEST_AVAIL_LO, offset::GUEST_AVAIL_HI, guest.avail.0),
            (offset::GUEST_USED_LO, offset::GUEST_USED_HI, guest.used.0),
            (offset::SHADOW_DESC_LO, offset::SHADOW_DESC_HI, shadow.desc.0),
            (offset::SHADOW_AVAIL_LO, offset::SHADOW_AVAIL_HI, shadow.avail.0),
            (offset::SHADOW_USED_LO, offset::SHADOW_USED_HI, shadow.used.0),
            (offset::SLOTS_LO, offset::SLOTS_HI, self.slots.0),
        ] {
            set(low, address as u32);
            set(high, (address >> 32) as u32);
        }
        words
    }

    /// Checks what the register types do not.
    ///
    /// # Errors
    /// [`QueueError::BadContext`] with the first objection.
    pub fn check(self) -> Result<Self, QueueError> {
        let guest = self.guest.objection(BoardAddr::is_aligned, |at, len| at.checked_add(len).is_some());
        let shadow = self.shadow.objection(BaseAddr::is_aligned, |at, len| at.checked_add(len).is_some());
        let slots = || {
            let size = self.slot_size;
            if !size.is_power_of_two() || !(MIN_SLOT..=MAX_SLOT).contains(&size) {
                Some("slot size is not a power of two from 64 to 2^30")
            } else if self.slot_count == 0 {
                Some("there are no slots")
            } else if !self.slots.is_aligned(split::DESC_ALIGN) {
                Some("slots are not aligned to 16 bytes")
            } else if self.slots.checked_add(u64::from(size) * u64::from(self.slot_count)).is_none() {
                Some("slots wrap around the address space")
            } else if self.shadow.size < self.guest.size {
                Some("the shadow vring is smaller than the guest's ring")
            } else {
                None
            }
        };
        match guest.or(shadow).or_else(slots) {
            Some(objection) => Err(QueueError::BadContext(objection)),
            None => Ok(self),
        }
    }

    /// Address of the first byte of `slot`.
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
    use proptest::prelude::*;

    use super::*;

    /// Any context that passes its check.
    fn context() -> impl Strategy<Value = Context> {
        let place = || (0u64..1 << 47).prop_map(|at| at & !0xFFF);
        let places = (prop::array::uniform3(place()), prop::array::uniform3(place()), place());
        let sizes = (0u32..16, 0u32..4, 6u32..31, 1u16..);
        (0u8..8, 0u16..64, any::<u16>(), places, sizes, any::<[bool; 6]>()).prop_map(
            |(function, index, vector, (guest, shadow, slots), (size, more, slot, slot_count), features)| {
                let size = 1u16 << size;
                let [indirect, event_idx, notification_data, shadow_indirect, copy_all, count_on_return] =
                    features;
                let ([desc, avail, used], [shadow_desc, shadow_avail, shadow_used]) =
                    (guest.map(BoardAddr), shadow.map(BaseAddr));
                Context {
                    function: FunctionId::new(function).unwrap(),
                    index,
                    vector,
                    guest: Ring { size, desc, avail, used },
                    shadow: Ring {
                        size: (u32::from(size) << more).min(MAX_RING.into()) as u16,
                        desc: shadow_desc,
                        avail: shadow_avail,
                        used: shadow_used,
                    },
                    slots: BaseAddr(slots),
                    slot_size: 1 << slot,
                    slot_count,
                    features: QueueFeatures {
                        indirect,
                        event_idx,
                        notification_data,
                        shadow_indirect,
                        copy_all,
                        count_on_return,
                    },
                }
            },
        )
    }

    proptest! {
        #[test]
        fn registers_say_all_of_a_context(context in context()) {
            let words = context.to_registers();
            let control: Control = decode(words[(offset::CONTROL / 4) as usize]);
            prop_assert!(control.enable());
            prop_assert_eq!(Context::from_registers(&words).unwrap(), context);
        }
    }
}
