//! What is under way between an IO-Bond and its board or base, and what each arrival does.

use iobond_spec::{
    address::{BaseAddr, BoardAddr, FunctionId},
    status_page::{self, MailboxRequest},
};

use crate::front_end::Message;

/// What arrives at the base.
#[derive(Debug)]
pub(super) enum ToBase {
    /// A ring index, or HEAD in the status page.
    Store { at: BaseAddr, value: u16 },
    /// A mailbox request in the status page.
    Mailbox { at: BaseAddr, request: MailboxRequest },
    /// The queues in error, in the status page.
    Errors { at: BaseAddr, bits: u64 },
    /// The completion of a register read.
    Completion { request: usize, value: u32 },
}

/// What arrives at the board.
#[derive(Debug)]
pub(super) enum ToBoard {
    /// The index or event of a guest ring.
    Store {
        at: BoardAddr,
        value: u16,
    },
    Message(Message),
    Intx(FunctionId),
    /// The completion of a configuration or memory read.
    Completion {
        request: usize,
        value: u32,
    },
}

/// What arrives from the base: accesses to registers.
#[derive(Debug)]
pub(super) enum FromBase {
    Write { offset: u32, value: u32 },
    Read { offset: u32, request: usize },
}

/// Where HEAD of a queue context is in the status page.
pub(super) fn head_at(page: BaseAddr, queue: usize) -> BaseAddr {
    page.wrapping_add(status_page::HEADS + 4 * queue as u64)
}
