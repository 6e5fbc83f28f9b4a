//! What watches a run sees everything that takes time in it, when that is over. Most runs are not watched,
//! and then it costs a look at an `Option`.

use iobond_model::{
    cycle::{Activity, Event, Time},
    fabric::Direction,
};

use crate::Stamps;

/// What is seen of one board. What has a `from` began then, and ends at the moment at which it is seen.
///
/// `request` is the number that a request has in its queue for as long as it is under way; another one has it
/// later. `index` is a free-running index of the queue's vring.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the fields mean the same in every variant")]
pub enum Seen<'a> {
    /// A driver begins with a request.
    Made { queue: usize, request: u16 },
    /// The driver has made `count` requests available, with or without a doorbell.
    Submitted { queue: usize, from: Time, count: u64 },
    /// The driver writes the doorbell.
    Notified { queue: usize, index: u16 },
    /// The driver has been interrupted, and looks.
    Interrupted { queue: usize, from: Time },
    /// The driver finds the answer of a request.
    Done { queue: usize, request: u16, stamps: &'a Stamps },
    /// The driver is through with `count` answers that it found.
    TakenBack { queue: usize, from: Time, count: u64 },
    /// IO-Bond's device and engines.
    Engine(Event),
    /// IO-Bond's links and its DMA engine, which name their times themselves.
    Hardware(Activity),
    /// bm-hypervisor tells the back end of a HEAD, in the pass that began at `from`.
    Head { queue: usize, index: u16, from: Time },
    /// bm-hypervisor writes TAIL, in the pass that began at `from`.
    Tail { queue: usize, index: u16, from: Time },
    /// A pass of bm-hypervisor that found so many chains published and so many used.
    Pass { from: Time, published: u64, returned: u64 },
    /// The back end has spent its time on a request.
    Served { queue: usize, request: u16, from: Time },
    /// A channel of a disk is through with a request.
    Disk { channel: u16, queue: usize, request: u16, from: Time },
    /// The back end uses a request.
    Used { queue: usize, request: u16 },
    /// A frame at the back end, if requests carry such ([`crate::Payload::Frames`]): when it is taken, and
    /// when the answer is used. `bytes` begin with its Ethernet header and leave out the checksum at its end.
    Frame { queue: usize, direction: Direction, bytes: &'a [u8] },
}

/// Watches a run.
pub trait Watch {
    /// Something is seen at `now`, of board number `board`. Moments never go back.
    fn see(&self, now: Time, board: usize, seen: &Seen<'_>);
}

/// Both see it.
impl<A: Watch, B: Watch> Watch for (A, B) {
    fn see(&self, now: Time, board: usize, seen: &Seen<'_>) {
        self.0.see(now, board, seen);
        self.1.see(now, board, seen);
    }
}
