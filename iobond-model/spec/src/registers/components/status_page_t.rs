//! Regfile: Status page

#[allow(unused_imports)]
use super::_root; // alias to root module of generated code

// Anonymous component instances
pub mod address_hi;
pub mod address_lo;
pub mod control;

/// Status page
///
/// Where IO-Bond writes mailbox state and HEADs back, so that polling costs a cache hit.
#[derive(Eq, PartialEq)]
pub struct StatusPageT<'io, IO = peakrdl_rust::io::PtrIO> {
    ptr: *mut u8,
    io: &'io IO,
}

unsafe impl<IO: Sync> Send for StatusPageT<'_, IO> {}
unsafe impl<IO: Sync> Sync for StatusPageT<'_, IO> {}

// manually implement Copy to ease generic bounds
// (IO does not need to be Copy)
impl<IO> Copy for StatusPageT<'_, IO> {}

// manually implement Clone to ease generic bounds
// (IO does not need to be Clone)
impl<IO> Clone for StatusPageT<'_, IO> {
    fn clone(&self) -> Self {
        *self
    }
}

impl StatusPageT<'static> {
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

impl<'io, IO> StatusPageT<'io, IO> {
    /// Size in bytes of the underlying memory
    pub const SIZE: usize = 0xC;

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

impl<'io, IO: peakrdl_rust::io::RegisterIO> StatusPageT<'io, IO> {
    /// Address, low
    #[inline(always)]
    #[must_use]
    pub const fn address_lo(&self) -> peakrdl_rust::reg::Reg<'io, address_lo::AddressLo, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0x0).cast(), self.io) }
    }

    /// Address, high
    #[inline(always)]
    #[must_use]
    pub const fn address_hi(&self) -> peakrdl_rust::reg::Reg<'io, address_hi::AddressHi, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0x4).cast(), self.io) }
    }

    /// Control
    #[inline(always)]
    #[must_use]
    pub const fn control(&self) -> peakrdl_rust::reg::Reg<'io, control::Control, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0x8).cast(), self.io) }
    }
}
