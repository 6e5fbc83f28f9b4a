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

/// Rings when a back end or the IO-Bond interrupts, or the control thread ordered something: its descriptor polls readable from then on until
/// [`Poller::arm`](super::Poller::arm) quiets it. Nobody else has to read from it.
///
/// It is an epoll instance over one event of each back end, of the IO-Bond and of the control thread, rather than one event that all of them
/// have: who has an event can also drain it, or make reading it block, and a back end is to keep nobody else's wake-ups from coming.
#[derive(Debug)]
pub struct Bell {
    /// Edge-triggered, so that no event ever has to be read.
    events: Epoll,
    orders: EventFd,
}

impl Bell {
    pub(super) fn new() -> io::Result<Self> {
        let bell = Self { events: Epoll::new()?, orders: event_fd()? };
        bell.hear(&bell.orders)?;
        Ok(bell)
    }

    /// Rings from now on whenever `event` is written to.
    pub(crate) fn hear(&self, event: &impl AsRawFd) -> io::Result<()> {
        let written = EpollEvent::new(EventSet::IN | EventSet::EDGE_TRIGGERED, 0);
        self.events.ctl(ControlOperation::Add, event.as_raw_fd(), written)
    }

    /// Does not ring any more for `event`, which was heard before. (Whoever has a duplicate of it would otherwise keep it ringing.)
    pub(crate) fn forget(&self, event: &impl AsRawFd) {
        // Fails only for what was never heard.
        let _ = self.events.ctl(ControlOperation::Delete, event.as_raw_fd(), EpollEvent::default());
    }

    /// Rings on behalf of the control thread.
    pub(crate) fn ring(&self) {
        // Fails only when 2^64 - 2 rings were never read, and then it is readable anyway.
        let _ = self.orders.write(1);
    }

    /// Forgets what rang until now. What rings later is heard, and whatever rang before is visible to the caller.
    pub(super) fn quiet(&self) {
        let mut rang = [EpollEvent::default(); 2 + MAX_FUNCTIONS];
        // Without a wait there is nothing that can fail; what stays behind only wakes once too often.
        let _ = self.events.wait(0, &mut rang);
    }
}

impl AsRawFd for Bell {
    fn as_raw_fd(&self) -> RawFd {
        self.events.as_raw_fd()
    }
}
