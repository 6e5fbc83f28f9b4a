//! Regfile: Queue context

#[allow(unused_imports)]
use super::_root; // alias to root module of generated code

// Anonymous component instances
pub mod bytes_down;
pub mod bytes_up;
pub mod control;
pub mod doorbells;
pub mod features;
pub mod forwarded;
pub mod guest_avail_hi;
pub mod guest_avail_lo;
pub mod guest_desc_hi;
pub mod guest_desc_lo;
pub mod guest_used_hi;
pub mod guest_used_lo;
pub mod head;
pub mod interrupts;
pub mod retired;
pub mod shadow_avail_hi;
pub mod shadow_avail_lo;
pub mod shadow_desc_hi;
pub mod shadow_desc_lo;
pub mod shadow_used_hi;
pub mod shadow_used_lo;
pub mod sizes;
pub mod slot_count;
pub mod slot_size;
pub mod slots_hi;
pub mod slots_lo;
pub mod stalls;
pub mod state;
pub mod tail;

/// Queue context
///
/// One virtqueue: the guest ring, its shadow vring, and its slots. Fields are taken on the 0 to 1 edge of enable; writes to them while enabled are refused.
#[derive(Eq, PartialEq)]
pub struct QueueT<'io, IO = peakrdl_rust::io::PtrIO> {
    ptr: *mut u8,
    io: &'io IO,
}

unsafe impl<IO: Sync> Send for QueueT<'_, IO> {}
unsafe impl<IO: Sync> Sync for QueueT<'_, IO> {}

// manually implement Copy to ease generic bounds
// (IO does not need to be Copy)
impl<IO> Copy for QueueT<'_, IO> {}

// manually implement Clone to ease generic bounds
// (IO does not need to be Clone)
impl<IO> Clone for QueueT<'_, IO> {
    fn clone(&self) -> Self {
        *self
    }
}

impl QueueT<'static> {
    /// # Safety
    ///
    /// The caller must guarantee that the provided address points to a
    /// hardware register block implementing this interface.
    #[inline(always)]
    #[must_use]
    pub const unsafe fn from_ptr(ptr: *mut ()) -> Self {
        Self { ptr: ptr.cast::<u8>(), io: &peakrdl_rust::io::PtrIO }
    }
}

impl<'io, IO> QueueT<'io, IO> {
    /// Size in bytes of the underlying memory
    pub const SIZE: usize = 0x74;

    /// # Safety
    ///
    /// The caller must guarantee that the provided address points to a
    /// hardware register block implementing this interface.
    #[inline(always)]
    #[must_use]
    pub const unsafe fn from_ptr_with(ptr: *mut (), io: &'io IO) -> Self {
        Self { ptr: ptr.cast::<u8>(), io }
    }

    #[inline(always)]
    #[must_use]
    pub const fn as_ptr(&self) -> *mut () {
        self.ptr.cast::<()>()
    }
}

impl<'io, IO: peakrdl_rust::io::RegisterIO> QueueT<'io, IO> {
    /// Control
    #[inline(always)]
    #[must_use]
    pub const fn control(&self) -> peakrdl_rust::reg::Reg<'io, control::Control, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0x0).cast(), self.io) }
    }

    /// State
    #[inline(always)]
    #[must_use]
    pub const fn state(&self) -> peakrdl_rust::reg::Reg<'io, state::State, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0x4).cast(), self.io) }
    }

    /// Sizes
    #[inline(always)]
    #[must_use]
    pub const fn sizes(&self) -> peakrdl_rust::reg::Reg<'io, sizes::Sizes, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0x8).cast(), self.io) }
    }

    /// Features
    ///
    /// What was negotiated for this queue.
    #[inline(always)]
    #[must_use]
    pub const fn features(&self) -> peakrdl_rust::reg::Reg<'io, features::Features, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0xC).cast(), self.io) }
    }

    /// Guest descriptors, low
    #[inline(always)]
    #[must_use]
    pub const fn guest_desc_lo(&self) -> peakrdl_rust::reg::Reg<'io, guest_desc_lo::GuestDescLo, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0x10).cast(), self.io) }
    }

    /// Guest descriptors, high
    #[inline(always)]
    #[must_use]
    pub const fn guest_desc_hi(&self) -> peakrdl_rust::reg::Reg<'io, guest_desc_hi::GuestDescHi, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0x14).cast(), self.io) }
    }

    /// Guest available ring, low
    #[inline(always)]
    #[must_use]
    pub const fn guest_avail_lo(&self) -> peakrdl_rust::reg::Reg<'io, guest_avail_lo::GuestAvailLo, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0x18).cast(), self.io) }
    }

    /// Guest available ring, high
    #[inline(always)]
    #[must_use]
    pub const fn guest_avail_hi(&self) -> peakrdl_rust::reg::Reg<'io, guest_avail_hi::GuestAvailHi, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0x1C).cast(), self.io) }
    }

    /// Guest used ring, low
    #[inline(always)]
    #[must_use]
    pub const fn guest_used_lo(&self) -> peakrdl_rust::reg::Reg<'io, guest_used_lo::GuestUsedLo, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0x20).cast(), self.io) }
    }

    /// Guest used ring, high
    #[inline(always)]
    #[must_use]
    pub const fn guest_used_hi(&self) -> peakrdl_rust::reg::Reg<'io, guest_used_hi::GuestUsedHi, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0x24).cast(), self.io) }
    }

    /// Shadow descriptors, low
    #[inline(always)]
    #[must_use]
    pub const fn shadow_desc_lo(&self) -> peakrdl_rust::reg::Reg<'io, shadow_desc_lo::ShadowDescLo, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0x28).cast(), self.io) }
    }

    /// Shadow descriptors, high
    #[inline(always)]
    #[must_use]
    pub const fn shadow_desc_hi(&self) -> peakrdl_rust::reg::Reg<'io, shadow_desc_hi::ShadowDescHi, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0x2C).cast(), self.io) }
    }

    /// Shadow available ring, low
    #[inline(always)]
    #[must_use]
    pub const fn shadow_avail_lo(&self) -> peakrdl_rust::reg::Reg<'io, shadow_avail_lo::ShadowAvailLo, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0x30).cast(), self.io) }
    }

    /// Shadow available ring, high
    #[inline(always)]
    #[must_use]
    pub const fn shadow_avail_hi(&self) -> peakrdl_rust::reg::Reg<'io, shadow_avail_hi::ShadowAvailHi, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0x34).cast(), self.io) }
    }

    /// Shadow used ring, low
    #[inline(always)]
    #[must_use]
    pub const fn shadow_used_lo(&self) -> peakrdl_rust::reg::Reg<'io, shadow_used_lo::ShadowUsedLo, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0x38).cast(), self.io) }
    }

    /// Shadow used ring, high
    #[inline(always)]
    #[must_use]
    pub const fn shadow_used_hi(&self) -> peakrdl_rust::reg::Reg<'io, shadow_used_hi::ShadowUsedHi, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0x3C).cast(), self.io) }
    }

    /// Slots, low
    #[inline(always)]
    #[must_use]
    pub const fn slots_lo(&self) -> peakrdl_rust::reg::Reg<'io, slots_lo::SlotsLo, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0x40).cast(), self.io) }
    }

    /// Slots, high
    #[inline(always)]
    #[must_use]
    pub const fn slots_hi(&self) -> peakrdl_rust::reg::Reg<'io, slots_hi::SlotsHi, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0x44).cast(), self.io) }
    }

    /// Slot size
    #[inline(always)]
    #[must_use]
    pub const fn slot_size(&self) -> peakrdl_rust::reg::Reg<'io, slot_size::SlotSize, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0x48).cast(), self.io) }
    }

    /// Slot count
    #[inline(always)]
    #[must_use]
    pub const fn slot_count(&self) -> peakrdl_rust::reg::Reg<'io, slot_count::SlotCount, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0x4C).cast(), self.io) }
    }

    /// HEAD
    #[inline(always)]
    #[must_use]
    pub const fn head(&self) -> peakrdl_rust::reg::Reg<'io, head::Head, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0x50).cast(), self.io) }
    }

    /// TAIL
    #[inline(always)]
    #[must_use]
    pub const fn tail(&self) -> peakrdl_rust::reg::Reg<'io, tail::Tail, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0x54).cast(), self.io) }
    }

    /// Forwarded
    #[inline(always)]
    #[must_use]
    pub const fn forwarded(&self) -> peakrdl_rust::reg::Reg<'io, forwarded::Forwarded, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0x58).cast(), self.io) }
    }

    /// Retired
    #[inline(always)]
    #[must_use]
    pub const fn retired(&self) -> peakrdl_rust::reg::Reg<'io, retired::Retired, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0x5C).cast(), self.io) }
    }

    /// Bytes up
    #[inline(always)]
    #[must_use]
    pub const fn bytes_up(&self) -> peakrdl_rust::reg::Reg<'io, bytes_up::BytesUp, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0x60).cast(), self.io) }
    }

    /// Bytes down
    #[inline(always)]
    #[must_use]
    pub const fn bytes_down(&self) -> peakrdl_rust::reg::Reg<'io, bytes_down::BytesDown, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0x64).cast(), self.io) }
    }

    /// Stalls
    #[inline(always)]
    #[must_use]
    pub const fn stalls(&self) -> peakrdl_rust::reg::Reg<'io, stalls::Stalls, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0x68).cast(), self.io) }
    }

    /// Doorbells
    #[inline(always)]
    #[must_use]
    pub const fn doorbells(&self) -> peakrdl_rust::reg::Reg<'io, doorbells::Doorbells, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0x6C).cast(), self.io) }
    }

    /// Interrupts
    #[inline(always)]
    #[must_use]
    pub const fn interrupts(&self) -> peakrdl_rust::reg::Reg<'io, interrupts::Interrupts, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0x70).cast(), self.io) }
    }
}
