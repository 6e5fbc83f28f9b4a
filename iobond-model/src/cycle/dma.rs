//! The DMA engine: payload between the two memories, many pieces under way at a time.
//!
//! ```text
//!   command (a burst of copies)                one of `channels`
//!     |- request, at most MRRS                 one of `reads` tags, on the wire of the memory that is read
//!          |- completions, split at RCB        back over that link
//!          |- data path                        `rate`, `width` bytes a clock
//!          '- writes, at most MPS              on the wire of the other memory
//! ```
//! Channels take turns with their requests. A command is done when its last write has been handed to the
//! wire.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::poll_fn,
    task::Poll,
};

use iobond_spec::{MAX_QUEUES, address::Address};

use super::{
    Clock, Line, Permits, Reason, Signal, Span, TaskId, Time, Tlp, Wire,
    watch::{Activity, Watcher},
};
use crate::{
    fabric::{Copy, Direction, Fabric, Fault, ready},
    timing::{self, Timing},
};

/// A memory and the link that leads there.
pub struct Side {
    /// The link from IO-Bond.
    pub out: Wire,
    /// The link to IO-Bond.
    pub back: Wire,
    /// From a read request at the memory to its completion.
    pub memory: Span,
}

/// One read request of a command.
#[derive(Clone, Copy, Debug)]
struct Request {
    direction: Direction,
    copy: Copy,
    /// The queue context of its command.
    queue: usize,
}

/// The command of a queue that is under way.
#[derive(Debug, Default)]
struct Command {
    left: Cell<u32>,
    fault: Cell<Option<Fault>>,
    done: Signal,
}

/// What a channel has still to ask for.
type Channel = VecDeque<Request>;

/// The DMA engine of one IO-Bond.
#[derive(Debug)]
pub struct Dma {
    timing: timing::Dma,
    free: Permits,
    channels: RefCell<Vec<Channel>>,
    /// The channel that had its turn last.
    turn: Cell<usize>,
    waiting: Cell<usize>,
    idle: RefCell<Vec<TaskId>>,
    tags: Permits,
    path: Line,
    commands: Vec<Command>,
    pub(super) watch: Option<Watcher>,
}

impl Dma {
    /// An engine that does nothing yet.
    #[must_use]
    pub fn new(timing: &Timing) -> Self {
        let timing = timing.dma;
        let channels = usize::from(timing.channels);
        Self {
            timing,
            free: Permits::new(
                timing.channels.into(),
                Reason::Missing { what: "a channel of the DMA engine, of", number: timing.channels.into() },
            ),
            channels: RefCell::new(vec![Channel::new(); channels]),
            turn: Cell::new(0),
            waiting: Cell::new(0),
            idle: RefCell::default(),
            tags: Permits::new(
                timing.reads.into(),
                Reason::Missing { what: "a tag for a read, of", number: timing.reads.into() },
            ),
            path: Line::default(),
            commands: (0..MAX_QUEUES).map(|_| Command::default()).collect(),
            watch: None,
        }
    }

    /// How long its data path was busy.
    #[must_use]
    pub fn busy(&self) -> Span {
        self.path.busy()
    }

    /// Tasks that carry its requests out, one per tag.
    #[must_use]
    pub fn workers(&self) -> u16 {
        self.timing.reads
    }

    /// Tags, of which each read request holds one until its last completion is there.
    pub(super) fn tags(&self) -> &Permits {
        &self.tags
    }

    /// Makes the copies of `queue`, which has one command at a time.
    pub(super) async fn copy_all(
        &self,
        clock: &Clock,
        queue: usize,
        direction: Direction,
        copies: &[Copy],
        source: &Side,
    ) -> Result<(), Fault> {
        if copies.is_empty() {
            return Ok(());
        }
        let asked = clock.now();
        self.free.take(clock).await;
        clock.sleep(self.timing.setup()).await;
        let (command, from) = (&self.commands[queue], clock.now());
        command.fault.set(None);
        let (channel, requests) = self.enqueue(queue, direction, copies, source);
        command.left.set(requests);
        self.call(clock, requests);
        command.done.wait(clock).await;
        if let Some(watch) = &self.watch {
            let bytes = copies.iter().map(|copy| u64::from(copy.len)).sum();
            let to = clock.now();
            watch.see(Activity::Copied { queue, direction, channel, bytes, requests, asked, from, to });
        }
        command.fault.take().map_or(Ok(()), Err)
    }

    /// Gives a command to a channel that has nothing to do, of which there is one; which, and its requests.
    fn enqueue(&self, queue: usize, direction: Direction, copies: &[Copy], source: &Side) -> (usize, u32) {
        let mut channels = self.channels.borrow_mut();
        let mut free = channels.iter_mut().enumerate().filter(|(_, channel)| channel.is_empty());
        let Some((number, channel)) = free.next() else { return (0, 0) };
        for &Copy { board, base, len } in copies {
            let at = match direction {
                Direction::Up => board.0,
                Direction::Down => base.0,
            };
            for (piece, len) in source.out.pcie().read_requests(at, len) {
                let skip = piece.wrapping_sub(at);
                let copy = Copy { board: board.wrapping_add(skip), base: base.wrapping_add(skip), len };
                channel.push_back(Request { direction, copy, queue });
            }
        }
        let requests = channel.len();
        self.waiting.set(self.waiting.get() + requests);
        (number, requests as u32)
    }

    /// Wakes as many workers as there is work for.
    fn call(&self, clock: &Clock, requests: u32) {
        let mut idle = self.idle.borrow_mut();
        let rest = idle.len().saturating_sub(requests as usize);
        idle.drain(rest..).rev().for_each(|task| clock.wake(task));
    }

    /// The next request, each channel in turn. A channel is free again with its last request.
    fn next(&self, clock: &Clock) -> Option<Request> {
        if self.waiting.get() == 0 {
            return None;
        }
        let mut channels = self.channels.borrow_mut();
        let count = channels.len();
        let turn =
            (1..=count).map(|step| (self.turn.get() + step) % count).find(|&at| !channels[at].is_empty())?;
        self.turn.set(turn);
        let request = channels[turn].pop_front();
        self.waiting.set(self.waiting.get() - 1);
        if channels[turn].is_empty() {
            self.free.give(clock);
        }
        request
    }

    async fn wait_for_request(&self, clock: &Clock) -> Request {
        poll_fn(|_| match self.next(clock) {
            Some(request) => Poll::Ready(request),
            None => {
                // A task that is polled again was taken off the list by `call`.
                self.idle.borrow_mut().push(clock.task());
                clock.waits_for(Reason::Work);
                Poll::Pending
            }
        })
        .await
    }

    /// Carries requests out, one after the other, for ever. As many as [`Dma::workers`] do.
    pub(super) async fn work<M: Fabric>(&self, clock: &Clock, memory: &M, board: &Side, base: &Side) {
        loop {
            let Request { direction, copy, queue } = self.wait_for_request(clock).await;
            let (source, target) = match direction {
                Direction::Up => (board, base),
                Direction::Down => (base, board),
            };
            let (from, to) = copy.ends(direction);
            let taken = clock.now();
            self.tags.take(clock).await;
            let sent = clock.now();
            clock.until(source.out.send(sent, Tlp::MemoryRead) + source.memory).await;
            // The bytes are there at once; they are not looked at before the index that follows them.
            let copied = ready(memory.copy_all(direction, &[copy]));
            clock.until(complete(clock.now(), source, raw(from), copy.len)).await;
            self.tags.give(clock);
            let (read, pace) = (clock.now(), self.pace(copy.len));
            let through = self.path.occupy(read, pace);
            clock.until(through).await;
            for (_, data) in target.out.pcie().writes(raw(to), copy.len) {
                target.out.send(clock.now(), Tlp::MemoryWrite { data });
            }
            if let Some(watch) = &self.watch {
                let (bytes, from, path, to) = (copy.len, taken, through - pace, through);
                watch.see(Activity::Read { queue, direction, bytes, from, sent, read, path, to });
            }
            self.finish(clock, queue, copied.err());
        }
    }

    fn finish(&self, clock: &Clock, queue: usize, fault: Option<Fault>) {
        let command = &self.commands[queue];
        if fault.is_some() {
            command.fault.set(fault);
        }
        command.left.set(command.left.get() - 1);
        if command.left.get() == 0 {
            command.done.raise(clock);
        }
    }

    /// How long the data path takes for `bytes`: by its rate, and in whole clocks by its width.
    fn pace(&self, bytes: u32) -> Span {
        let timing::Dma { clock_mhz, width, rate, .. } = self.timing;
        let by_rate = (u64::from(bytes) * 8 * 1_000_000_000_000).div_ceil(rate);
        let clocks = u64::from(bytes.div_ceil(width.into()));
        let by_width = (clocks * 1_000_000).div_ceil(u64::from(clock_mhz));
        Span::from_ps(by_rate.max(by_width))
    }
}

/// Sends the completions of a read; when the last of them arrives.
pub(super) fn complete(now: Time, side: &Side, at: u64, len: u32) -> Time {
    let completions = side.back.pcie().completions(at, len);
    completions.fold(now, |_, data| side.back.send(now, Tlp::Completion { data }))
}

/// An address of either memory on its link.
pub(super) fn raw(at: Address) -> u64 {
    match at {
        Address::Board(at) => at.0,
        Address::Base(at) => at.0,
    }
}
