//! What the base granted of its memory, and the status page in it.

use std::sync::atomic::Ordering;

use iobond_spec::{
    address::{Address, BaseAddr},
    status_page::{HEADS, MAILBOX, MailboxRequest, QUEUE_ERRORS},
};
use vm_memory::Bytes;

use super::dma_memory::{BaseMemory, View};
use crate::{fabric::Fault, windows::Windows};

/// What the base granted of its memory, and where its status page is.
#[derive(Debug)]
pub(super) struct Grants {
    windows: Windows,
    status_page: Option<BaseAddr>,
    /// Bus Master Enable of the base function: without it nothing is granted.
    mastering: bool,
}

impl Default for Grants {
    /// A base in the same process has no configuration space in which it would have to set it.
    fn default() -> Self {
        Self { windows: Windows::default(), status_page: None, mastering: true }
    }
}

impl Grants {
    pub(super) fn windows(&self) -> &Windows {
        const NONE: &Windows = &Windows::NONE;
        if self.mastering { &self.windows } else { NONE }
    }

    pub(super) fn set_mastering(&mut self, mastering: bool) {
        self.mastering = mastering;
    }

    pub(super) fn set_windows(&mut self, windows: Windows) {
        self.windows = windows;
    }

    pub(super) fn set_status_page(&mut self, at: Option<BaseAddr>) {
        self.status_page = at;
    }

    fn page(&self) -> Option<BaseAddr> {
        self.status_page.filter(|_| self.mastering)
    }

    /// Where HEAD of `queue` is mirrored.
    #[inline]
    pub(super) fn head_address(&self, queue: usize) -> Option<BaseAddr> {
        self.page().map(|page| page.wrapping_add(HEADS + 4 * queue as u64))
    }

    /// Mirrors a mailbox request, its word last.
    pub(super) fn write_mailbox(&self, memory: &BaseMemory, request: &MailboxRequest) {
        let words = [request.offset, request.data, request.request];
        self.write_words(memory, MAILBOX, &words.map(|word| word.get()));
    }

    /// Mirrors which queues are in the error state.
    pub(super) fn write_queue_errors(&self, memory: &BaseMemory, errors: u64) {
        self.write_words(memory, QUEUE_ERRORS, &[errors as u32, (errors >> 32) as u32]);
    }

    /// Mirrors HEAD of `queue`.
    pub(super) fn write_head(&self, memory: &BaseMemory, queue: usize, head: u16) {
        self.write_words(memory, HEADS + 4 * queue as u64, &[head.into()]);
    }

    /// Writes words of the page in order. A page that was granted but is not mapped is the base's mistake; it
    /// finds out by reading the registers.
    fn write_words(&self, memory: &BaseMemory, offset: u64, words: &[u32]) {
        let Some(page) = self.page() else { return };
        let lease = memory.lease();
        let view = View::new(&lease);
        for (word, at) in words.iter().zip((offset..).step_by(4)) {
            let at = page.wrapping_add(at).0;
            let _: Result<(), Fault> = match view.slice(at, 4, true) {
                Some(slice) => slice
                    .store(*word, 0, Ordering::Release)
                    .map_err(|_| Fault::at(Address::Base(BaseAddr(at)), 4)),
                None => view.scatter(at, &word.to_le_bytes()),
            };
        }
    }
}
