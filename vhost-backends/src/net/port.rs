//! A port of the switch: the rings of the board at it, and frames that wait for buffers.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Duration;

use virtio_queue::{Queue, QueueT};
use vm_memory::GuestMemoryMmap;

use super::capture::Capture;
use super::checksum;
use super::counters::Counters;
use super::header::{Negotiated, Offload, Treatment};
use super::receive::{self, Outcome};
use super::segment::Layout;
use super::transmit::{Batch, Frame};
use crate::link::{Link, Stopped};
use crate::ring;

/// Most frames that wait at a port for its board to provide buffers.
const MAX_BACKLOG: usize = 1024;

/// Most bytes that wait there: 64 of the longest frames.
const MAX_BACKLOG_BYTES: usize = 4 << 20;

/// Frames that a receive queue had no buffers for, in order.
#[derive(Default)]
struct Backlog {
    frames: VecDeque<(Box<[u8]>, Offload)>,
    /// Indices of the available ring when the first frame found too few buffers: until they move there is no
    /// use in trying again.
    starved_at: Option<(u16, u16)>,
    /// Used index before the first frame that the driver was not yet told of.
    untold: Option<u16>,
}

/// A port of the switch, with or without a board.
pub(crate) struct Port {
    /// A board at the port: a receive queue and a transmit queue in turn (virtio 1.3, 5.1.2).
    link: Option<Link>,
    /// One for each receive queue.
    backlogs: Vec<Backlog>,
    backlog_bytes: usize,
    pub(crate) counters: Counters,
    pub(crate) capture: Option<Capture>,
    /// Where checksums are completed and segments are cut.
    scratch: Vec<u8>,
}

impl Port {
    pub(crate) fn new(pairs: usize, capture: Option<Capture>) -> Self {
        Self {
            link: None,
            backlogs: (0..pairs).map(|_| Backlog::default()).collect(),
            backlog_bytes: 0,
            counters: Counters::default(),
            capture,
            scratch: Vec::new(),
        }
    }

    /// A board comes to the port.
    pub(crate) fn attach(&mut self, link: Link) {
        self.detach();
        self.link = Some(link);
    }

    /// The board is gone, and with it the frames that waited for it. Returns what was counted.
    pub(crate) fn detach(&mut self) -> Counters {
        self.link = None;
        for queue in 0..self.backlogs.len() {
            self.drop_backlog(queue);
        }
        std::mem::take(&mut self.counters)
    }

    /// Takes what is available on transmit queue `pair` into `batch`. Returns whether there was anything.
    pub(crate) fn take(&mut self, pair: usize, batch: &mut Batch) -> bool {
        let negotiated = self.negotiated();
        let taken = self.on_queue(2 * pair + 1, |queue, memory| {
            let before = queue.next_used();
            batch.take(queue, memory, negotiated)?;
            Ok::<_, ring::RingError>((!batch.is_empty()).then_some(before))
        });
        let Ok(Some(before)) = taken else { return false };
        self.interrupt(2 * pair + 1, before);
        self.counters.malformed += batch.malformed();
        true
    }

    /// Sends a frame from transmit queue `pair` of another port to this one, at `time` since the Unix epoch.
    pub(crate) fn send(&mut self, frame: Frame<'_>, pair: usize, time: Duration) {
        match (frame.offload.treatment(self.negotiated()), frame.offload) {
            (Treatment::Keep, _) => self.push(frame, pair, time),
            (Treatment::Complete, Offload { checksum: Some(partial), .. }) => {
                let mut whole = std::mem::take(&mut self.scratch);
                whole.clear();
                whole.extend_from_slice(frame.bytes);
                checksum::complete(&mut whole, partial);
                self.push(Frame { bytes: &whole, offload: Offload::default() }, pair, time);
                self.scratch = whole;
            }
            (Treatment::Segment, Offload { checksum: Some(partial), segmentation: Some(how) }) => {
                let Some(layout) = Layout::of(frame.bytes, how.ip, partial) else { return };
                let mut segment = std::mem::take(&mut self.scratch);
                for index in 0..layout.segments(how.size) {
                    layout.cut(frame.bytes, how.size, index, &mut segment);
                    self.push(Frame { bytes: &segment, offload: Offload::default() }, pair, time);
                }
                self.scratch = segment;
            }
            // A treatment is only chosen for an offload that has what it needs.
            _ => {}
        }
    }

    /// Delivers what waited, as far as there are buffers now. Returns whether anything was delivered or
    /// dropped.
    pub(crate) fn deliver_backlog(&mut self, time: Duration) -> bool {
        let mut moved = false;
        for queue in 0..self.backlogs.len() {
            while !self.backlogs[queue].frames.is_empty() && self.has_new_buffers(queue) {
                let Some((bytes, offload)) = self.backlogs[queue].frames.pop_front() else { break };
                match self.deliver(queue, Frame { bytes: &bytes, offload }, time) {
                    Ok(Outcome::NoBuffers) => {
                        self.backlogs[queue].frames.push_front((bytes, offload));
                    }
                    Ok(_) => {
                        self.backlog_bytes -= bytes.len();
                        moved = true;
                    }
                    Err(Stopped) => {
                        self.backlogs[queue].frames.push_front((bytes, offload));
                        self.drop_backlog(queue);
                        moved = true;
                    }
                }
            }
        }
        moved
    }

    /// Tells the driver of the frames that it was given since the last time, if it wants to know.
    pub(crate) fn tell(&mut self) {
        for queue in 0..self.backlogs.len() {
            if let Some(before) = self.backlogs[queue].untold.take() {
                self.interrupt(2 * queue, before);
            }
        }
        if let Some(capture) = &mut self.capture {
            capture.flush();
        }
    }

    /// Asks the driver again not to kick, if it did although the rings are polled: a ring was started since.
    pub(crate) fn disarm_if_kicked(&mut self) {
        if self.link.as_ref().is_some_and(Link::was_kicked) {
            self.disarm();
        }
    }

    /// Asks the driver not to kick: the rings are polled.
    pub(crate) fn disarm(&mut self) {
        for ring in 0..2 * self.backlogs.len() {
            let _ = self.on_queue(ring, |queue, memory| queue.disable_notification(memory));
        }
    }

    /// Asks the driver to kick for what the switch would otherwise miss: every frame, and new buffers where
    /// frames wait. Returns whether there is such a thing already (2.7.10.2).
    pub(crate) fn arm(&mut self) -> bool {
        let mut more = false;
        for pair in 0..self.backlogs.len() {
            if !self.backlogs[pair].frames.is_empty() {
                let _ = self.on_queue(2 * pair, ring::kick_for_more);
                more |= self.has_new_buffers(pair);
            }
            let frames = self.on_queue(2 * pair + 1, |queue, memory| queue.enable_notification(memory));
            more |= matches!(frames, Ok(true));
        }
        more
    }

    /// Delivers a frame, or lets it wait behind those that wait already, or drops it.
    fn push(&mut self, frame: Frame<'_>, pair: usize, time: Duration) {
        // Frames of transmit queue N go to receive queue N, which keeps a flow in order; where the driver has
        // not enabled that, to the first.
        for queue in [pair, 0] {
            let outcome = match self.backlogs.get(queue) {
                Some(backlog) if backlog.frames.is_empty() => self.deliver(queue, frame, time),
                Some(_) => Ok(Outcome::NoBuffers),
                None => Err(Stopped),
            };
            match outcome {
                Ok(Outcome::NoBuffers) => return self.wait(queue, frame),
                Ok(_) => return,
                Err(Stopped) => {}
            }
        }
        self.counters.no_buffers += 1;
    }

    /// Puts a frame into the backlog, which a stream needs to survive a receiver that is briefly busy.
    fn wait(&mut self, queue: usize, frame: Frame<'_>) {
        let backlog = &mut self.backlogs[queue];
        if backlog.frames.len() < MAX_BACKLOG && self.backlog_bytes + frame.bytes.len() <= MAX_BACKLOG_BYTES {
            backlog.frames.push_back((frame.bytes.into(), frame.offload));
            self.backlog_bytes += frame.bytes.len();
        } else {
            self.counters.no_buffers += 1;
        }
    }

    /// Delivers one frame to receive queue `queue` now.
    fn deliver(&mut self, queue: usize, frame: Frame<'_>, time: Duration) -> Result<Outcome, Stopped> {
        let to = self.negotiated();
        let (outcome, before, indices) = self.on_queue(2 * queue, |ring, memory| {
            // Read before, so that a buffer that comes while we try is new afterwards.
            let (indices, before) = (indices(ring, memory)?, ring.next_used());
            let outcome = receive::deliver(ring, memory, to, frame)?;
            Ok::<_, receive::ReceiveError>((outcome, before, indices))
        })?;
        let backlog = &mut self.backlogs[queue];
        backlog.starved_at = (outcome == Outcome::NoBuffers).then_some(indices);
        match outcome {
            Outcome::Delivered => {
                backlog.untold.get_or_insert(before);
                self.counters.delivered += 1;
                if let Some(capture) = &mut self.capture {
                    capture.record(time, frame.bytes);
                }
            }
            Outcome::TooLong => self.counters.too_long += 1,
            Outcome::NoBuffers => {}
        }
        Ok(outcome)
    }

    /// Whether buffers came since a frame last found too few. A ring that stopped counts: its backlog has to
    /// go.
    fn has_new_buffers(&self, queue: usize) -> bool {
        match self.on_queue(2 * queue, indices) {
            Ok(indices) => self.backlogs[queue].starved_at != Some(indices),
            Err(Stopped) => true,
        }
    }

    fn drop_backlog(&mut self, queue: usize) {
        let backlog = std::mem::take(&mut self.backlogs[queue]);
        self.counters.no_buffers += backlog.frames.len() as u64;
        self.backlog_bytes -= backlog.frames.iter().map(|(bytes, _)| bytes.len()).sum::<usize>();
    }

    fn negotiated(&self) -> Negotiated {
        Negotiated(self.link.as_ref().map_or(0, Link::features))
    }

    fn interrupt(&self, ring: usize, before: u16) {
        if let Some(link) = &self.link {
            link.interrupt(ring, before);
        }
    }

    fn on_queue<T, E: std::fmt::Display>(
        &self,
        ring: usize,
        action: impl FnOnce(&mut Queue, &GuestMemoryMmap) -> Result<T, E>,
    ) -> Result<T, Stopped> {
        self.link.as_ref().ok_or(Stopped)?.on_queue(ring, action)
    }
}

/// Where driver and device are in the available ring.
fn indices(queue: &mut Queue, memory: &GuestMemoryMmap) -> Result<(u16, u16), ring::RingError> {
    Ok((queue.avail_idx(memory, Ordering::Acquire)?.0, queue.next_avail()))
}
