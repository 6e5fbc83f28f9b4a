//! What the hardware of an IO-Bond is busy with, for whoever wants to see it. Where nobody does, it costs a look at an `Option`.

use std::{fmt, rc::Rc};

use super::{Bond, Sent, Time};
use crate::fabric::{Direction, Fabric};

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
    /// All of them.
    pub const ALL: [Self; 4] = [Self::FromBoard, Self::ToBoard, Self::ToBase, Self::FromBase];
}

/// Something that took time. Commands and reads are told when they are over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// A packet has its place on a wire, now or later; packets of one direction are told in order.
    Packet {
        /// Which direction.
        way: Way,
        /// What, and when.
        sent: Sent,
    },
    /// A command of the DMA engine.
    Copied {
        /// Number of the queue context.
        queue: usize,
        /// Which way.
        direction: Direction,
        /// The channel that asked for its payload. It may be at the next command already.
        channel: usize,
        /// Bytes.
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
        /// Number of the queue context.
        queue: usize,
        /// Which way.
        direction: Direction,
        /// Bytes.
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

/// Whoever sees it.
#[derive(Clone)]
pub(super) struct Watcher(Rc<dyn Fn(Activity)>);

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

impl<M: Fabric> Bond<'_, M> {
    /// Shows `watch` what its links and its DMA engine do.
    #[must_use]
    pub fn watched_by(mut self, watch: Rc<dyn Fn(Activity)>) -> Self {
        let packet = |way| {
            let watch = Rc::clone(&watch);
            move |sent| watch(Activity::Packet { way, sent })
        };
        self.board.back = self.board.back.watched_by(packet(Way::FromBoard));
        self.board.out = self.board.out.watched_by(packet(Way::ToBoard));
        self.base.out = self.base.out.watched_by(packet(Way::ToBase));
        self.base.back = self.base.back.watched_by(packet(Way::FromBase));
        self.dma.watch = Some(Watcher(watch));
        self
    }
}
