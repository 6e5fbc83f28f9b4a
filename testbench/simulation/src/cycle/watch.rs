//! Who watches a run sees everything that takes time in it, when it is over. Nobody does as a rule, and then it costs a look at an
//! `Option`.

use iobond_model::{
    cycle::{Activity, Event, Time},
    fabric::Direction,
};

use crate::Stamps;

/// What is seen of one board. What has a `from` began then, and ends at the moment at which it is seen.
///
/// `request` is the number that a request has in its queue for as long as it is under way; another one has it later.
#[derive(Clone, Copy, Debug)]
pub enum Seen<'a> {
    /// A driver begins with a request.
    Made {
        /// Its queue.
        queue: usize,
        /// Which one.
        request: u16,
    },
    /// The driver has made requests available; with or without ringing.
    Submitted {
        /// Its queue.
        queue: usize,
        /// When it began.
        from: Time,
        /// How many.
        count: u64,
    },
    /// The driver rings.
    Rang {
        /// Its queue.
        queue: usize,
        /// The available index.
        index: u16,
    },
    /// The driver has been interrupted, and looks.
    Interrupted {
        /// Its queue.
        queue: usize,
        /// When the interrupt arrived.
        from: Time,
    },
    /// The driver finds the answer of a request.
    Done {
        /// Its queue.
        queue: usize,
        /// Which one.
        request: u16,
        /// When it passed whom.
        stamps: &'a Stamps,
    },
    /// The driver is through with answers that it found.
    TakenBack {
        /// Its queue.
        queue: usize,
        /// When it found them.
        from: Time,
        /// How many.
        count: u64,
    },
    /// IO-Bond's device and engines.
    Engine(Event),
    /// IO-Bond's links and its DMA engine, who name their times themselves.
    Hardware(Activity),
    /// bm-hypervisor tells the back end of a HEAD.
    Head {
        /// Whose.
        queue: usize,
        /// Its value.
        index: u16,
        /// When the pass began that found it.
        from: Time,
    },
    /// bm-hypervisor writes TAIL.
    Tail {
        /// Whose.
        queue: usize,
        /// Its value.
        index: u16,
        /// When the pass began that found it.
        from: Time,
    },
    /// A pass of bm-hypervisor that found something.
    Pass {
        /// When it began.
        from: Time,
        /// Chains that it found published.
        published: u64,
        /// Chains that it found used.
        returned: u64,
    },
    /// The back end has spent its time on a request.
    Served {
        /// Its queue.
        queue: usize,
        /// Which one.
        request: u16,
        /// When it took it.
        from: Time,
    },
    /// A disk is through with a request.
    Disk {
        /// Which of its channels.
        channel: u16,
        /// The request's queue.
        queue: usize,
        /// Which one.
        request: u16,
        /// When it began.
        from: Time,
    },
    /// The back end uses a request.
    Used {
        /// Its queue.
        queue: usize,
        /// Which one.
        request: u16,
    },
    /// A frame at the back end, if requests carry such ([`super::Payload::Frames`]): when it is taken, and when the answer is used.
    Frame {
        /// Its queue.
        queue: usize,
        /// Whether it comes from the board or goes there.
        direction: Direction,
        /// From its Ethernet header on, without the checksum at its end.
        bytes: &'a [u8],
    },
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
