//! A poller without a control thread, for a simulation or a bench of the pass: its maker sets the queues up,
//! too.

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

/// What the control thread of a whole hypervisor would be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BareEvent {
    /// An access of the board stands in the mailbox, and is to be answered.
    Request {
        /// Number of the request, which the answer names.
        sequence: u16,
        /// Whether it is a read, to be answered with data.
        read: bool,
        /// Offset into the function's BAR.
        offset: u32,
        /// What a write writes.
        data: u32,
    },
    /// A function was reset by the board; to be answered too.
    Reset {
        /// Number of the request, which the answer names.
        sequence: u16,
    },
    /// Queues went into the error state, or left it.
    QueueErrors,
    /// The used index of a queue context moved further than its ring is long. It is polled no longer.
    UsedJump {
        /// Number of the queue context.
        context: u8,
    },
    /// The registers read all ones.
    Gone,
}

/// The events of a bare poller, in the order in which it found them.
pub struct BareEvents(ControlEnd);

impl BareEvents {
    /// The oldest event that was not taken yet.
    pub fn next(&self) -> Option<BareEvent> {
        Some(match self.0.next_event()? {
            Event::Request(request) => requested(request),
            Event::QueueErrors => BareEvent::QueueErrors,
            Event::UsedJump { context, .. } => BareEvent::UsedJump { context },
            Event::Gone => BareEvent::Gone,
        })
    }
}

fn requested(Request { word, offset, data }: Request) -> BareEvent {
    let register: RequestRegister = decode(word);
    let sequence = register.sequence();
    match register.kind() {
        MailboxKindE::Reset => BareEvent::Reset { sequence },
        kind => BareEvent::Request { sequence, read: kind == MailboxKindE::Read, offset, data },
    }
}

impl<P: Port> Poller<P> {
    /// A poller of `queues` with fresh rings in `pool`, and the events that it leaves to its maker.
    ///
    /// # Errors
    /// The system has no descriptors left.
    pub fn bare(
        port: Arc<P>,
        pool: &Pool,
        mode: PollMode,
        queues: impl IntoIterator<Item = BareQueue>,
    ) -> io::Result<(Self, BareEvents)> {
        let (poller, control) = channel::pair()?;
        let mut poller = Self::new(port, Arc::clone(pool.mapping()), mode, poller);
        for (ticket, BareQueue { context, place }) in (1..).zip(queues) {
            let Place { avail, used, sizes, .. } = place;
            let size = sizes.shadow;
            let polling =
                Polling { context, ticket, avail, used, size, kick: None, event_idx: false, account: false };
            poller.polled.queues.push(PolledQueue::new(polling));
        }
        Ok((poller, BareEvents(control)))
    }
}
