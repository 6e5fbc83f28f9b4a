//! The status page: what IO-Bond writes back into a page of base memory, so that a poll costs a cache hit and
//! not a PCIe read.
//!
//! IO-Bond is its only writer and writes in order: the body of a mailbox request before its word, the shadow
//! available ring before HEAD. A reader that loads the word or a HEAD with acquire ordering sees what was
//! written before it.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, little_endian::U32};

use crate::MAX_QUEUES;

/// Size and alignment of the page in bytes.
pub const SIZE: u64 = 4096;

/// A mailbox request as it stands in the mailbox registers, the word last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MailboxRequest {
    /// Copy of `mailbox.offset`.
    pub offset: U32,
    /// Copy of `mailbox.data`.
    pub data: U32,
    /// Copy of `mailbox.request`, written last: a new sequence number is a new request.
    pub request: U32,
    /// Zero.
    pub reserved: U32,
}

/// The page as a whole. Offsets into it are taken with [`core::mem::offset_of`].
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StatusPage {
    /// The request that stands in the mailbox.
    pub mailbox: MailboxRequest,
    /// One bit a queue: the queue is in the error state. Two words of 32 queues.
    pub queue_errors: [U32; MAX_QUEUES / 32],
    /// Zero.
    pub reserved: [u8; 104],
    /// HEAD of every queue in the low half; the high half is zero.
    pub heads: [U32; MAX_QUEUES],
}

/// Offset of the mailbox request in the page.
pub const MAILBOX: u64 = core::mem::offset_of!(StatusPage, mailbox) as u64;
/// Offset of the request word, which is written last, in the page.
pub const MAILBOX_WORD: u64 = MAILBOX + core::mem::offset_of!(MailboxRequest, request) as u64;
/// Offset of the error bits in the page.
pub const QUEUE_ERRORS: u64 = core::mem::offset_of!(StatusPage, queue_errors) as u64;
/// Offset of the HEADs in the page, four bytes each.
pub const HEADS: u64 = core::mem::offset_of!(StatusPage, heads) as u64;

const _: () = {
    assert!(size_of::<MailboxRequest>() == 16);
    assert!(MAILBOX == 0 && MAILBOX_WORD == 8 && QUEUE_ERRORS == 16 && HEADS == 128);
    assert!(size_of::<StatusPage>() as u64 <= SIZE);
};
