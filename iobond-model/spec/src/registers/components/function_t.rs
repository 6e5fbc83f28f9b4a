//! Regfile: Function

#[allow(unused_imports)]
use super::_root; // alias to root module of generated code

// Anonymous component instances
pub mod config;
pub mod control;
pub mod inject;
pub mod interrupts;
pub mod mask;
pub mod state;

/// Function
///
/// One virtio PCI function of the board.
#[derive(Eq, PartialEq)]
pub struct FunctionT<'io, IO = peakrdl_rust::io::PtrIO> {
    ptr: *mut u8,
    io: &'io IO,
}

unsafe impl<IO: Sync> Send for FunctionT<'_, IO> {}
unsafe impl<IO: Sync> Sync for FunctionT<'_, IO> {}

// manually implement Copy to ease generic bounds
// (IO does not need to be Copy)
impl<IO> Copy for FunctionT<'_, IO> {}

// manually implement Clone to ease generic bounds
// (IO does not need to be Clone)
impl<IO> Clone for FunctionT<'_, IO> {
    fn clone(&self) -> Self {
        *self
    }
}

impl FunctionT<'static> {
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

impl<'io, IO> FunctionT<'io, IO> {
    /// Size in bytes of the underlying memory
    pub const SIZE: usize = 0x300;

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

impl<'io, IO: peakrdl_rust::io::RegisterIO> FunctionT<'io, IO> {
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

    /// Inject
    ///
    /// Writing it raises an interrupt of this function.
    #[inline(always)]
    #[must_use]
    pub const fn inject(&self) -> peakrdl_rust::reg::Reg<'io, inject::Inject, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0x8).cast(), self.io) }
    }

    /// Interrupts sent
    #[inline(always)]
    #[must_use]
    pub const fn interrupts(&self) -> peakrdl_rust::reg::Reg<'io, interrupts::Interrupts, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0xC).cast(), self.io) }
    }

    /// Config image word
    ///
    /// Configuration space as the board reads it after reset, 4 bytes each.
    #[inline(always)]
    #[must_use]
    pub const fn config(&self) -> [peakrdl_rust::reg::Reg<'io, config::Config, IO>; 64] {
        // SAFETY: We will initialize every element before using the array
        let mut array = [core::mem::MaybeUninit::uninit(); 64];

        let mut i0 = 0;
        while i0 < 64 {
            array[i0].write(unsafe {
                peakrdl_rust::reg::Reg::<'io, config::Config, IO>::from_ptr_with(
                    self.ptr.wrapping_byte_add(0x100 + i0 * 0x4).cast(),
                    self.io,
                )
            });
            i0 += 1;
        }

        // SAFETY: All elements have been initialized above
        unsafe { core::mem::transmute(array) }
    }

    /// Config mask word
    ///
    /// Which bits of the image the board may write.
    #[inline(always)]
    #[must_use]
    pub const fn mask(&self) -> [peakrdl_rust::reg::Reg<'io, mask::Mask, IO>; 64] {
        // SAFETY: We will initialize every element before using the array
        let mut array = [core::mem::MaybeUninit::uninit(); 64];

        let mut i0 = 0;
        while i0 < 64 {
            array[i0].write(unsafe {
                peakrdl_rust::reg::Reg::<'io, mask::Mask, IO>::from_ptr_with(
                    self.ptr.wrapping_byte_add(0x200 + i0 * 0x4).cast(),
                    self.io,
                )
            });
            i0 += 1;
        }

        // SAFETY: All elements have been initialized above
        unsafe { core::mem::transmute(array) }
    }
}
