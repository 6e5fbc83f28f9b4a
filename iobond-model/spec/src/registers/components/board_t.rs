//! Regfile: Board

#[allow(unused_imports)]
use super::_root; // alias to root module of generated code

// Anonymous component instances
pub mod control;
pub mod dma_faults;
pub mod refused_accesses;
pub mod state;
pub mod unsupported_requests;
pub mod wake;

/// Board
///
/// Power and reset of the compute board, and counters of accesses that failed.
#[derive(Eq, PartialEq)]
pub struct BoardT<'io, IO = peakrdl_rust::io::PtrIO> {
    ptr: *mut u8,
    io: &'io IO,
}

unsafe impl<IO: Sync> Send for BoardT<'_, IO> {}
unsafe impl<IO: Sync> Sync for BoardT<'_, IO> {}

// manually implement Copy to ease generic bounds
// (IO does not need to be Copy)
impl<IO> Copy for BoardT<'_, IO> {}

// manually implement Clone to ease generic bounds
// (IO does not need to be Clone)
impl<IO> Clone for BoardT<'_, IO> {
    fn clone(&self) -> Self {
        *self
    }
}

impl BoardT<'static> {
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

impl<'io, IO> BoardT<'io, IO> {
    /// Size in bytes of the underlying memory
    pub const SIZE: usize = 0x18;

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

impl<'io, IO: peakrdl_rust::io::RegisterIO> BoardT<'io, IO> {
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

    /// Unsupported requests
    #[inline(always)]
    #[must_use]
    pub const fn unsupported_requests(
        &self,
    ) -> peakrdl_rust::reg::Reg<'io, unsupported_requests::UnsupportedRequests, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0x8).cast(), self.io) }
    }

    /// Refused register accesses
    #[inline(always)]
    #[must_use]
    pub const fn refused_accesses(
        &self,
    ) -> peakrdl_rust::reg::Reg<'io, refused_accesses::RefusedAccesses, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0xC).cast(), self.io) }
    }

    /// DMA faults
    #[inline(always)]
    #[must_use]
    pub const fn dma_faults(&self) -> peakrdl_rust::reg::Reg<'io, dma_faults::DmaFaults, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0x10).cast(), self.io) }
    }

    /// Wake
    ///
    /// For a base that wants to sleep: it arms, looks once more at what it polls, and then waits for the interrupt.
    #[inline(always)]
    #[must_use]
    pub const fn wake(&self) -> peakrdl_rust::reg::Reg<'io, wake::Wake, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0x14).cast(), self.io) }
    }
}
