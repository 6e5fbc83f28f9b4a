//! How a server is told to end: SIGTERM, SIGINT, or one of its own threads.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use signal_hook::SigId;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::{pipe, unregister};

use crate::Error;

/// A pipe that is readable from the first request to stop on. Nobody reads it, so every thread that polls it
/// wakes.
#[derive(Debug)]
pub(crate) struct Stop {
    told: UnixStream,
    tell: UnixStream,
    handlers: Vec<SigId>,
}

impl Stop {
    /// From here on SIGTERM and SIGINT request a stop and do nothing else, until this is dropped.
    pub(crate) fn on_signals() -> Result<Self, Error> {
        let cannot = |source| Error::Resources { action: "handle SIGTERM", source };
        let (told, tell) = UnixStream::pair().map_err(cannot)?;
        tell.set_nonblocking(true).map_err(cannot)?;
        let mut stop = Self { told, tell, handlers: Vec::new() };
        for signal in [SIGTERM, SIGINT] {
            let writer = stop.tell.try_clone().map_err(cannot)?;
            stop.handlers.push(pipe::register(signal, writer).map_err(cannot)?);
        }
        Ok(stop)
    }

    /// Requests a stop.
    pub(crate) fn request(&self) {
        // A full pipe has been readable for long.
        let _ = (&self.tell).write(&[0]);
    }

    /// Whether a stop was requested.
    pub(crate) fn requested(&self) -> bool {
        self.wait(None, Some(Duration::ZERO))
    }

    /// Sleeps until a stop is requested, `other` is readable or `timeout` is over. Returns whether a stop was
    /// requested.
    pub(crate) fn wait(&self, other: Option<BorrowedFd<'_>>, timeout: Option<Duration>) -> bool {
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        loop {
            let mut fds = [
                PollFd::new(&self.told, PollFlags::IN),
                PollFd::from_borrowed_fd(other.unwrap_or(self.told.as_fd()), PollFlags::IN),
            ];
            match poll(&mut fds, timeout.as_ref()) {
                Err(Errno::INTR) => {}
                // Without poll we would neither hear a stop nor sleep: that is as good as one.
                Err(_) => return true,
                Ok(_) => return !fds[0].revents().is_empty(),
            }
        }
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        for handler in self.handlers.drain(..) {
            unregister(handler);
        }
    }
}

/// Tells whoever started the server, on stdout, that `what` is so. It waits for the line, so that it is
/// flushed; if it closed the pipe it does not want to know.
pub(crate) fn announce(what: std::fmt::Arguments<'_>) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{what}").and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_wakes_everybody_and_stays() {
        let stop = Stop::on_signals().unwrap();
        assert!(!stop.requested());
        std::thread::scope(|scope| {
            let sleepers: Vec<_> = (0..3).map(|_| scope.spawn(|| stop.wait(None, None))).collect();
            stop.request();
            assert!(sleepers.into_iter().all(|sleeper| sleeper.join().unwrap()));
        });
        assert!(stop.requested());
    }

    #[test]
    fn a_readable_descriptor_wakes_too() {
        let stop = Stop::on_signals().unwrap();
        let (reader, mut writer) = UnixStream::pair().unwrap();
        writer.write_all(b"x").unwrap();
        assert!(!stop.wait(Some(reader.as_fd()), None));
    }
}
