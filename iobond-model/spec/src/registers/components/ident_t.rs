//! Regfile: Identification

#[allow(unused_imports)]
use super::_root; // alias to root module of generated code

// Anonymous component instances
pub mod features;
pub mod magic;
pub mod scratch;
pub mod sizes;
pub mod time_hi;
pub mod time_lo;
pub mod version;

/// Identification
///
/// What this device is. Read it first; refuse a device whose magic or major version differs.
#[derive(Eq, PartialEq)]
pub struct IdentT<'io, IO = peakrdl_rust::io::PtrIO> {
    ptr: *mut u8,
    io: &'io IO,
}

unsafe impl<IO: Sync> Send for IdentT<'_, IO> {}
unsafe impl<IO: Sync> Sync for IdentT<'_, IO> {}

// manually implement Copy to ease generic bounds
// (IO does not need to be Copy)
impl<IO> Copy for IdentT<'_, IO> {}

// manually implement Clone to ease generic bounds
// (IO does not need to be Clone)
impl<IO> Clone for IdentT<'_, IO> {
    fn clone(&self) -> Self {
        *self
    }
}

impl IdentT<'static> {
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

impl<'io, IO> IdentT<'io, IO> {
    /// Size in bytes of the underlying memory
    pub const SIZE: usize = 0x1C;

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

impl<'io, IO: peakrdl_rust::io::RegisterIO> IdentT<'io, IO> {
    /// Magic
    ///
    /// `IOBD` in ASCII. All ones means that the device is gone.
    #[inline(always)]
    #[must_use]
    pub const fn magic(&self) -> peakrdl_rust::reg::Reg<'io, magic::Magic, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0x0).cast(), self.io) }
    }

    /// Version
    ///
    /// Version of this map.
    #[inline(always)]
    #[must_use]
    pub const fn version(&self) -> peakrdl_rust::reg::Reg<'io, version::Version, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0x4).cast(), self.io) }
    }

    /// Sizes
    ///
    /// How much of each resource there is.
    #[inline(always)]
    #[must_use]
    pub const fn sizes(&self) -> peakrdl_rust::reg::Reg<'io, sizes::Sizes, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0x8).cast(), self.io) }
    }

    /// Features
    ///
    /// What the queue engine can do.
    #[inline(always)]
    #[must_use]
    pub const fn features(&self) -> peakrdl_rust::reg::Reg<'io, features::Features, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0xC).cast(), self.io) }
    }

    /// Time, low
    ///
    /// IO-Bond's clock in nanoseconds; reading it latches the high half.
    #[inline(always)]
    #[must_use]
    pub const fn time_lo(&self) -> peakrdl_rust::reg::Reg<'io, time_lo::TimeLo, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0x10).cast(), self.io) }
    }

    /// Time, high
    ///
    /// The high half that the last read of the low half latched.
    #[inline(always)]
    #[must_use]
    pub const fn time_hi(&self) -> peakrdl_rust::reg::Reg<'io, time_hi::TimeHi, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0x14).cast(), self.io) }
    }

    /// Scratch
    ///
    /// Holds what is written. For probing access and byte order.
    #[inline(always)]
    #[must_use]
    pub const fn scratch(&self) -> peakrdl_rust::reg::Reg<'io, scratch::Scratch, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0x18).cast(), self.io) }
    }
}
