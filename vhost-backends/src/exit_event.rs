//! The events that end the threads of a `vhost_user_backend` daemon, without their descriptors leaking.
#![allow(unsafe_code)] // Closes descriptors that the daemon gives up as plain numbers.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};

use vmm_sys_util::event::{EventConsumer, EventFlag, EventNotifier, new_event_consumer_and_notifier};

/// Issues exit events and closes what the daemon leaves open of them.
///
/// `vhost-user-backend` 0.24 turns each consumer into a raw descriptor for its epoll set and never closes it
/// (`VringEpollHandler::new`). A server that front ends come back to would run out of descriptors.
///
/// It is part of a backend, which the daemon drops only after the threads that wait on the events were
/// joined.
#[derive(Debug, Default)]
pub(crate) struct ExitEvents(Mutex<Vec<RawFd>>);

impl ExitEvents {
    /// A new event, or nothing if there are no descriptors left.
    pub(crate) fn issue(&self) -> Option<(EventConsumer, EventNotifier)> {
        let event = new_event_consumer_and_notifier(EventFlag::NONBLOCK | EventFlag::CLOEXEC).ok()?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(event.0.as_raw_fd());
        Some(event)
    }
}

impl Drop for ExitEvents {
    fn drop(&mut self) {
        for &fd in self.0.get_mut().unwrap_or_else(PoisonError::into_inner).iter() {
            // SAFETY: the number was that of a consumer we made, whose ownership the daemon gave up without
            // closing it. Daemon and threads are gone (see above), so that nobody else uses or closes it.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
        }
    }
}
