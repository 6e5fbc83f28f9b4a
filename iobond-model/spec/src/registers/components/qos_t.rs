//! Regfile: Quality of service

#[allow(unused_imports)]
use super::_root; // alias to root module of generated code

// Anonymous component instances
pub mod bytes_burst;
pub mod bytes_hi;
pub mod bytes_lo;
pub mod control;
pub mod delays;
pub mod operations_burst;
pub mod operations_hi;
pub mod operations_lo;

/// Quality of service
///
/// What one function may do: operations, which are chains, and payload bytes, both directions together. Rates and bursts are taken on the 0 to 1 edge of enable; writes to them while enabled are refused. A queue whose function has used up either waits; what is admitted is charged in full when it is done. A reset of the function leaves the limits as they are.
#[derive(Eq, PartialEq)]
pub struct QosT<'io, IO = peakrdl_rust::io::PtrIO> {
    ptr: *mut u8,
    io: &'io IO,
}

unsafe impl<IO: Sync> Send for QosT<'_, IO> {}
unsafe impl<IO: Sync> Sync for QosT<'_, IO> {}

// manually implement Copy to ease generic bounds
// (IO does not need to be Copy)
impl<IO> Copy for QosT<'_, IO> {}

// manually implement Clone to ease generic bounds
// (IO does not need to be Clone)
impl<IO> Clone for QosT<'_, IO> {
    fn clone(&self) -> Self {
        *self
    }
}

impl QosT<'static> {
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

impl<'io, IO> QosT<'io, IO> {
    /// Size in bytes of the underlying memory
    pub const SIZE: usize = 0x20;

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

impl<'io, IO: peakrdl_rust::io::RegisterIO> QosT<'io, IO> {
    /// Control
    #[inline(always)]
    #[must_use]
    pub const fn control(&self) -> peakrdl_rust::reg::Reg<'io, control::Control, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0x0).cast(), self.io) }
    }

    /// Delays
    #[inline(always)]
    #[must_use]
    pub const fn delays(&self) -> peakrdl_rust::reg::Reg<'io, delays::Delays, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0x4).cast(), self.io) }
    }

    /// Operations, low
    #[inline(always)]
    #[must_use]
    pub const fn operations_lo(&self) -> peakrdl_rust::reg::Reg<'io, operations_lo::OperationsLo, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0x8).cast(), self.io) }
    }

    /// Operations, high
    #[inline(always)]
    #[must_use]
    pub const fn operations_hi(&self) -> peakrdl_rust::reg::Reg<'io, operations_hi::OperationsHi, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0xC).cast(), self.io) }
    }

    /// Bytes, low
    #[inline(always)]
    #[must_use]
    pub const fn bytes_lo(&self) -> peakrdl_rust::reg::Reg<'io, bytes_lo::BytesLo, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0x10).cast(), self.io) }
    }

    /// Bytes, high
    #[inline(always)]
    #[must_use]
    pub const fn bytes_hi(&self) -> peakrdl_rust::reg::Reg<'io, bytes_hi::BytesHi, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0x14).cast(), self.io) }
    }

    /// Burst of operations
    #[inline(always)]
    #[must_use]
    pub const fn operations_burst(
        &self,
    ) -> peakrdl_rust::reg::Reg<'io, operations_burst::OperationsBurst, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0x18).cast(), self.io) }
    }

    /// Burst of bytes
    #[inline(always)]
    #[must_use]
    pub const fn bytes_burst(&self) -> peakrdl_rust::reg::Reg<'io, bytes_burst::BytesBurst, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0x1C).cast(), self.io) }
    }
}
