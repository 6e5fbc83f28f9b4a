//! What the hardware of an IO-Bond is busy with, for measurements. Without a watcher it costs a look at an
//! `Option`.

use std::{fmt, rc::Rc};

use super::{Sent, Time};
use crate::fabric::Direction;

/// A direction of one of the two links.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// From the board to IO-Bond.
    FromBoard,
    /// From IO-Bond to the board.
    ToBoard,
    /// From IO-Bond to the base.
    ToBase,
    /// From the base to IO-Bond.
    FromBase,
}

impl Way {
    /// Every direction, along the way of a board's request and its answer.
    pub const ALL: [Self; 4] = [Self::FromBoard, Self::ToBoard, Self::ToBase, Self::FromBase];
}

/// Something that took time. Commands and reads are shown when they are over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "only those fields are explained that their names do not")]
pub enum Activity {
    /// A packet has its place on a wire, now or later; packets of one direction are shown in order.
    Packet { way: Way, sent: Sent },
    /// A command of the DMA engine, for a queue context.
    Copied {
        queue: usize,
        direction: Direction,
        /// The channel that asked for its payload. It may be at the next command already.
        channel: usize,
        bytes: u64,
        /// Read requests that it took.
        requests: u32,
        /// When the engine of the queue asked for it, which may have to wait for a channel.
        asked: Time,
        /// When the channel had it.
        from: Time,
        /// When its last write was handed to the wire.
        to: Time,
    },
    /// A read request of a command.
    Read {
        queue: usize,
        direction: Direction,
        bytes: u32,
        /// When it was taken from its channel.
        from: Time,
        /// When it had a tag, and was handed to the wire.
        sent: Time,
        /// When its last completion was there.
        read: Time,
        /// When it had the data path.
        path: Time,
        /// When it was through, and its writes were handed to the wire.
        to: Time,
    },
}

/// The callback that is shown every activity.
#[derive(Clone)]
pub(super) struct Watcher(pub(super) Rc<dyn Fn(Activity)>);

impl Watcher {
    #[cold]
    pub(super) fn see(&self, activity: Activity) {
        (self.0)(activity);
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Watcher")
    }
}
