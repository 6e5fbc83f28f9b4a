//! Regfile: Mailbox

#[allow(unused_imports)]
use super::_root; // alias to root module of generated code

// Anonymous component instances
pub mod answer;
pub mod answer_data;
pub mod data;
pub mod deadline;
pub mod expired_reads;
pub mod expired_writes;
pub mod fill;
pub mod late_answers;
pub mod offset;
pub mod request;

/// Mailbox
///
/// One forwarded board access at a time, oldest first: the request stands until its answer or its deadline. The status page mirrors the request.
#[derive(Eq, PartialEq)]
pub struct MailboxT<'io, IO = peakrdl_rust::io::PtrIO> {
    ptr: *mut u8,
    io: &'io IO,
}

unsafe impl<IO: Sync> Send for MailboxT<'_, IO> {}
unsafe impl<IO: Sync> Sync for MailboxT<'_, IO> {}

// manually implement Copy to ease generic bounds
// (IO does not need to be Copy)
impl<IO> Copy for MailboxT<'_, IO> {}

// manually implement Clone to ease generic bounds
// (IO does not need to be Clone)
impl<IO> Clone for MailboxT<'_, IO> {
    fn clone(&self) -> Self {
        *self
    }
}

impl MailboxT<'static> {
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

impl<'io, IO> MailboxT<'io, IO> {
    /// Size in bytes of the underlying memory
    pub const SIZE: usize = 0x28;

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

impl<'io, IO: peakrdl_rust::io::RegisterIO> MailboxT<'io, IO> {
    /// Request
    #[inline(always)]
    #[must_use]
    pub const fn request(&self) -> peakrdl_rust::reg::Reg<'io, request::Request, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0x0).cast(), self.io) }
    }

    /// Offset
    #[inline(always)]
    #[must_use]
    pub const fn offset(&self) -> peakrdl_rust::reg::Reg<'io, offset::Offset, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0x4).cast(), self.io) }
    }

    /// Data
    #[inline(always)]
    #[must_use]
    pub const fn data(&self) -> peakrdl_rust::reg::Reg<'io, data::Data, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0x8).cast(), self.io) }
    }

    /// Answer data
    #[inline(always)]
    #[must_use]
    pub const fn answer_data(&self) -> peakrdl_rust::reg::Reg<'io, answer_data::AnswerData, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0xC).cast(), self.io) }
    }

    /// Answer
    ///
    /// Writing it completes the request of that number; another number is counted as late and otherwise ignored.
    #[inline(always)]
    #[must_use]
    pub const fn answer(&self) -> peakrdl_rust::reg::Reg<'io, answer::Answer, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0x10).cast(), self.io) }
    }

    /// Deadline
    #[inline(always)]
    #[must_use]
    pub const fn deadline(&self) -> peakrdl_rust::reg::Reg<'io, deadline::Deadline, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0x14).cast(), self.io) }
    }

    /// Fill
    #[inline(always)]
    #[must_use]
    pub const fn fill(&self) -> peakrdl_rust::reg::Reg<'io, fill::Fill, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0x18).cast(), self.io) }
    }

    /// Expired reads
    #[inline(always)]
    #[must_use]
    pub const fn expired_reads(&self) -> peakrdl_rust::reg::Reg<'io, expired_reads::ExpiredReads, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0x1C).cast(), self.io) }
    }

    /// Expired writes
    #[inline(always)]
    #[must_use]
    pub const fn expired_writes(&self) -> peakrdl_rust::reg::Reg<'io, expired_writes::ExpiredWrites, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0x20).cast(), self.io) }
    }

    /// Late answers
    #[inline(always)]
    #[must_use]
    pub const fn late_answers(&self) -> peakrdl_rust::reg::Reg<'io, late_answers::LateAnswers, IO> {
        unsafe { peakrdl_rust::reg::Reg::from_ptr_with(self.ptr.wrapping_byte_add(0x24).cast(), self.io) }
    }
}
