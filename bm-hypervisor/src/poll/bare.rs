//! A poller without a control thread, for a simulation or a bench of the pass: whoever makes it sets the queues up, too.

use std::{io, sync::Arc};

use iobond_spec::{
    register_access::decode, registers::components::mailbox_kind_e::MailboxKindE,
    registers::components::mailbox_t::request::Request as RequestRegister,
};

use super::{
    PolledQueue, Poller, Polling,
    channel::{self, ControlEnd, Event, Request},
};
use crate::{
    config::PollMode,
    pool::{Place, Pool},
    port::Port,
};

/// A queue that a bare poller is to poll. Its back end polls too, and is not kicked.
#[derive(Clone, Copy, Debug)]
pub struct BareQueue {
    /// Number of its context in the IO-Bond.
    pub context: u8,
    /// Where its shadow vring lies in the pool.
    pub place: Place,
}

/// Something that the board asked of the base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// An access of the board stands in the mailbox, and is to be answered.
    Request {
        /// Its number, which the answer names.
        sequence: u16,
        /// Whether it is a read, whose answer has data.
        read: bool,
        /// Where in the function's BAR it goes.
        offset: u32,
        /// What a write writes.
        data: u32,
    },
    /// A function was reset by the board; to be answered too.
    Reset {
        /// Its number.
        sequence: u16,
    },
    /// Queues went into the error state, or left it.
    QueueErrors,
    /// The used index of queue context `context` is nonsense. It is polled no longer.
    UsedJump {
        /// Number of the queue context.
        context: u8,
    },
    /// The registers read all ones.
    Gone,
}

/// What a bare poller noticed and does not deal with itself.
pub struct Noticed(ControlEnd);

impl Noticed {
    /// The next of it, if there is any.
    pub fn next(&self) -> Option<News> {
        Some(match self.0.next_event()? {
            Event::Request(request) => told(request),
            Event::QueueErrors => News::QueueErrors,
            Event::UsedJump { context, .. } => News::UsedJump { context },
            Event::Gone => News::Gone,
        })
    }
}

fn told(Request { word, offset, data }: Request) -> News {
    let register: RequestRegister = decode(word);
    let sequence = register.sequence();
    match register.kind() {
        MailboxKindE::Reset => News::Reset { sequence },
        kind => News::Request { sequence, read: kind == MailboxKindE::Read, offset, data },
    }
}

impl<P: Port> Poller<P> {
    /// A poller of `queues`, whose rings in `pool` are fresh, and what it notices besides.
    ///
    /// # Errors
    /// The system has no descriptors left.
    pub fn bare(
        port: Arc<P>,
        pool: &Pool,
        mode: PollMode,
        queues: impl IntoIterator<Item = BareQueue>,
    ) -> io::Result<(Self, Noticed)> {
        let (poller, control) = channel::pair()?;
        let mut poller = Self::new(port, Arc::clone(pool.mapping()), mode, poller);
        for (ticket, BareQueue { context, place }) in (1..).zip(queues) {
            let Place { avail, used, sizes, .. } = place;
            let size = sizes.shadow;
            let polling =
                Polling { context, ticket, avail, used, size, kick: None, event_idx: false, account: false };
            poller.polled.queues.push(PolledQueue::new(polling));
        }
        Ok((poller, Noticed(control)))
    }
}
