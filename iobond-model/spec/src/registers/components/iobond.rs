//! Addrmap: IO-Bond base registers

#[allow(unused_imports)]
use super::_root; // alias to root module of generated code

// Instances of named component types
pub use _root::components::board_t as board;
pub use _root::components::function_t as functions;
pub use _root::components::ident_t as ident;
pub use _root::components::mailbox_t as mailbox;
pub use _root::components::qos_t as qos;
pub use _root::components::queue_t as queues;
pub use _root::components::status_page_t as status_page;
pub use _root::components::window_t as windows;

/// IO-Bond base registers
///
/// BAR0 of the base-side PCIe function.
#[derive(Eq, PartialEq)]
pub struct Iobond<'io, IO = peakrdl_rust::io::PtrIO> {
    ptr: *mut u8,
    io: &'io IO,
}

unsafe impl<IO: Sync> Send for Iobond<'_, IO> {}
unsafe impl<IO: Sync> Sync for Iobond<'_, IO> {}

// manually implement Copy to ease generic bounds
// (IO does not need to be Copy)
impl<IO> Copy for Iobond<'_, IO> {}

// manually implement Clone to ease generic bounds
// (IO does not need to be Clone)
impl<IO> Clone for Iobond<'_, IO> {
    fn clone(&self) -> Self {
        *self
    }
}

impl Iobond<'static> {
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

impl<'io, IO> Iobond<'io, IO> {
    /// Size in bytes of the underlying memory
    pub const SIZE: usize = 0x6000;

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

impl<'io, IO: peakrdl_rust::io::RegisterIO> Iobond<'io, IO> {
    /// Identification
    ///
    /// What this device is. Read it first; refuse a device whose magic or major version differs.
    #[inline(always)]
    #[must_use]
    pub const fn ident(&self) -> ident::IdentT<'io, IO> {
        unsafe { ident::IdentT::from_ptr_with(self.ptr.wrapping_byte_add(0x0).cast(), self.io) }
    }

    /// Board
    ///
    /// Power and reset of the compute board, and counters of accesses that failed.
    #[inline(always)]
    #[must_use]
    pub const fn board(&self) -> board::BoardT<'io, IO> {
        unsafe { board::BoardT::from_ptr_with(self.ptr.wrapping_byte_add(0x40).cast(), self.io) }
    }

    /// Mailbox
    ///
    /// One forwarded board access at a time, oldest first: the request stands until its answer or its deadline. The status page mirrors the request.
    #[inline(always)]
    #[must_use]
    pub const fn mailbox(&self) -> mailbox::MailboxT<'io, IO> {
        unsafe { mailbox::MailboxT::from_ptr_with(self.ptr.wrapping_byte_add(0x80).cast(), self.io) }
    }

    /// Status page
    ///
    /// Where IO-Bond writes mailbox state and HEADs back, so that polling costs a cache hit.
    #[inline(always)]
    #[must_use]
    pub const fn status_page(&self) -> status_page::StatusPageT<'io, IO> {
        unsafe { status_page::StatusPageT::from_ptr_with(self.ptr.wrapping_byte_add(0xC0).cast(), self.io) }
    }

    /// DMA window
    ///
    /// A range of base memory that IO-Bond may touch. It touches nothing outside of granted windows.
    #[inline(always)]
    #[must_use]
    pub const fn windows(&self) -> [windows::WindowT<'io, IO>; 8] {
        // SAFETY: We will initialize every element before using the array
        let mut array = [core::mem::MaybeUninit::uninit(); 8];

        let mut i0 = 0;
        while i0 < 8 {
            array[i0].write(unsafe {
                windows::WindowT::<IO>::from_ptr_with(
                    self.ptr.wrapping_byte_add(0x100 + i0 * 0x20).cast(),
                    self.io,
                )
            });
            i0 += 1;
        }

        // SAFETY: All elements have been initialized above
        unsafe { core::mem::transmute(array) }
    }

    /// Function
    ///
    /// One virtio PCI function of the board.
    #[inline(always)]
    #[must_use]
    pub const fn functions(&self) -> [functions::FunctionT<'io, IO>; 8] {
        // SAFETY: We will initialize every element before using the array
        let mut array = [core::mem::MaybeUninit::uninit(); 8];

        let mut i0 = 0;
        while i0 < 8 {
            array[i0].write(unsafe {
                functions::FunctionT::<IO>::from_ptr_with(
                    self.ptr.wrapping_byte_add(0x1000 + i0 * 0x400).cast(),
                    self.io,
                )
            });
            i0 += 1;
        }

        // SAFETY: All elements have been initialized above
        unsafe { core::mem::transmute(array) }
    }

    /// Quality of service
    ///
    /// What one function may do: operations, which are chains, and payload bytes, both directions together. Rates and bursts are taken on the 0 to 1 edge of enable; writes to them while enabled are refused. A queue whose function has used up either waits; what is admitted is charged in full when it is done. A reset of the function leaves the limits as they are.
    #[inline(always)]
    #[must_use]
    pub const fn qos(&self) -> [qos::QosT<'io, IO>; 8] {
        // SAFETY: We will initialize every element before using the array
        let mut array = [core::mem::MaybeUninit::uninit(); 8];

        let mut i0 = 0;
        while i0 < 8 {
            array[i0].write(unsafe {
                qos::QosT::<IO>::from_ptr_with(self.ptr.wrapping_byte_add(0x3000 + i0 * 0x20).cast(), self.io)
            });
            i0 += 1;
        }

        // SAFETY: All elements have been initialized above
        unsafe { core::mem::transmute(array) }
    }

    /// Queue context
    ///
    /// One virtqueue: the guest ring, its shadow vring, and its slots. Fields are taken on the 0 to 1 edge of enable; writes to them while enabled are refused.
    #[inline(always)]
    #[must_use]
    pub const fn queues(&self) -> [queues::QueueT<'io, IO>; 64] {
        // SAFETY: We will initialize every element before using the array
        let mut array = [core::mem::MaybeUninit::uninit(); 64];

        let mut i0 = 0;
        while i0 < 64 {
            array[i0].write(unsafe {
                queues::QueueT::<IO>::from_ptr_with(
                    self.ptr.wrapping_byte_add(0x4000 + i0 * 0x80).cast(),
                    self.io,
                )
            });
            i0 += 1;
        }

        // SAFETY: All elements have been initialized above
        unsafe { core::mem::transmute(array) }
    }
}
