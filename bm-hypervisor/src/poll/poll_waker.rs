//! What wakes a poll thread that sleeps.

use std::{
    io,
    os::fd::{AsRawFd, RawFd},
};

use iobond_spec::MAX_FUNCTIONS;
use vmm_sys_util::{
    epoll::{ControlOperation, Epoll, EpollEvent, EventSet},
    eventfd::EventFd,
};

use crate::event::event_fd;

/// Wakes the poll thread when a back end or the IO-Bond interrupts, or the control thread ordered something:
/// its descriptor polls readable from then on until [`Poller::arm`](super::Poller::arm) clears it. Nothing
/// else has to read from it.
///
/// It is an epoll instance over one event of each back end, of the IO-Bond and of the control thread, rather
/// than one event that all of them share: a process that has an event can also drain it, or make reading it
/// block, and no back end may suppress the wake-ups of another.
#[derive(Debug)]
pub struct PollWaker {
    /// Edge-triggered, so that no event ever has to be read.
    events: Epoll,
    orders: EventFd,
}

impl PollWaker {
    pub(super) fn new() -> io::Result<Self> {
        let waker = Self { events: Epoll::new()?, orders: event_fd()? };
        waker.watch(&waker.orders)?;
        Ok(waker)
    }

    /// Wakes from now on whenever `event` is written to.
    pub(crate) fn watch(&self, event: &impl AsRawFd) -> io::Result<()> {
        let written = EpollEvent::new(EventSet::IN | EventSet::EDGE_TRIGGERED, 0);
        self.events.ctl(ControlOperation::Add, event.as_raw_fd(), written)
    }

    /// Wakes no longer for `event`. Closing it is not enough: epoll watches until the last duplicate is
    /// closed, and a back end has one.
    pub(crate) fn unwatch(&self, event: &impl AsRawFd) {
        // Fails only for an event that was never watched.
        let _ = self.events.ctl(ControlOperation::Delete, event.as_raw_fd(), EpollEvent::default());
    }

    /// Wakes on behalf of the control thread.
    pub(crate) fn wake(&self) {
        // Fails only when 2^64 - 2 writes were never read, and then it is readable anyway.
        let _ = self.orders.write(1);
    }

    /// Forgets the events until now. Later ones wake, and what was written before an earlier one is visible
    /// to the caller.
    pub(super) fn clear(&self) {
        let mut events = [EpollEvent::default(); 2 + MAX_FUNCTIONS];
        // Without a wait there is nothing that can fail; an event that stays behind only wakes once too
        // often.
        let _ = self.events.wait(0, &mut events);
    }
}

impl AsRawFd for PollWaker {
    fn as_raw_fd(&self) -> RawFd {
        self.events.as_raw_fd()
    }
}
