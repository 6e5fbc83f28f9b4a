//! The console's thread: it alone looks at the rings and at the terminals.
//!
//! While it looks, the driver is asked not to kick. When there was nothing to do for the polling time the rings
//! are armed again, looked at once more, and then the thread sleeps until the bell rings or a terminal stirs.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use tracing::warn;
use virtio_queue::QueueT;

use super::log::Log;
use super::output::Output;
use super::queues::{self, COUNT, Pass, RECEIVEQ, TRANSMITQ};
use super::terminals::Terminals;
use super::typed::Typed;
use crate::link::{Event, Link, Stopped};
use crate::ring;

/// The console's state. All but the link outlives front ends.
pub(crate) struct Worker {
    events: Receiver<Event>,
    /// Rung for each event and each kick.
    bell: Arc<OwnedFd>,
    poll: Duration,
    link: Option<Link>,
    terminals: Terminals,
    log: Option<Log>,
    output: Output,
    typed: Typed,
    /// What the last look at the transmitq found.
    printed: Vec<u8>,
    malformed_reported: bool,
}

impl Worker {
    /// `poll` is how long to look at idle rings and terminals before sleeping.
    pub(crate) fn new(
        events: Receiver<Event>,
        bell: Arc<OwnedFd>,
        terminals: Terminals,
        log: Option<Log>,
        poll: Duration,
    ) -> Self {
        Self {
            events,
            bell,
            poll,
            link: None,
            terminals,
            log,
            output: Output::default(),
            typed: Typed::default(),
            printed: Vec::new(),
            malformed_reported: false,
        }
    }

    /// Serves until told to quit.
    pub(crate) fn run(mut self) {
        let mut polling = ring::polling(self.poll);
        while self.obey() {
            // The bell counts as work, so that an event is obeyed before the thread sleeps.
            if self.pass() | self.attend(Some(Duration::ZERO)) {
                polling.worked();
            } else if !polling.idle(Instant::now).pause() {
                if !self.arm() {
                    self.attend(None);
                }
                self.disarm();
                polling.worked();
            }
        }
    }

    /// Carries out what was asked for. Returns whether to go on.
    fn obey(&mut self) -> bool {
        while let Ok(event) = self.events.try_recv() {
            match event {
                Event::Attach(_, link) => self.link = Some(link),
                Event::Detach(_, done) => {
                    self.link = None;
                    // Nobody waits any more if this fails.
                    let _ = done.send(());
                }
                Event::Quit => return false,
            }
        }
        true
    }

    /// Looks at both rings once. Returns whether there was anything to do.
    fn pass(&mut self) -> bool {
        // A ring was started since: its driver has to be told, too, that somebody is looking.
        if self.link.as_ref().is_some_and(Link::was_kicked) {
            self.disarm();
        }
        self.print() | self.enter()
    }

    /// The driver has its buffers back before the log and the terminals are written to.
    fn print(&mut self) -> bool {
        let Some(link) = &self.link else { return false };
        let pass = link.on_queue(TRANSMITQ, |queue, memory| queues::print(queue, memory, &mut self.printed));
        let worked = self.conclude(TRANSMITQ, pass);
        if worked && !self.printed.is_empty() {
            if let Some(log) = &mut self.log {
                log.append(&self.printed);
            }
            self.output.push(&self.printed);
            self.terminals.show(&self.output);
        }
        worked
    }

    fn enter(&mut self) -> bool {
        let Some(link) = &self.link else { return false };
        if self.typed.is_empty() {
            return false;
        }
        let pass = link.on_queue(RECEIVEQ, |queue, memory| queues::enter(queue, memory, &mut self.typed));
        self.conclude(RECEIVEQ, pass)
    }

    /// Tells the driver, and once whoever runs the server if something was wrong. Returns whether there was
    /// anything to do.
    fn conclude(&mut self, ring: usize, pass: Result<Pass, Stopped>) -> bool {
        let (Ok(pass), Some(link)) = (pass, &self.link) else { return false };
        if pass.used.is_empty() {
            return false;
        }
        link.interrupt(ring, pass.before);
        if pass.malformed > 0 && !self.malformed_reported {
            self.malformed_reported = true;
            warn!(
                "queue {ring} holds a chain that is not for it; it goes back unused, further ones are not reported"
            );
        }
        true
    }

    /// Asks the driver not to kick: somebody is looking.
    fn disarm(&mut self) {
        if let Some(link) = &self.link {
            for ring in 0..COUNT {
                let _ = link.on_queue(ring, |queue, memory| queue.disable_notification(memory));
            }
        }
    }

    /// Asks the driver to kick for what it prints and, if something typed waits, for buffers. Returns whether
    /// there is such a thing already (virtio 1.3, 2.7.10.2).
    fn arm(&mut self) -> bool {
        let Some(link) = &self.link else { return false };
        let awaited = [(TRANSMITQ, true), (RECEIVEQ, !self.typed.is_empty())];
        let rings = awaited.into_iter().filter(|(_, awaited)| *awaited);
        // Each is armed, also when the first has something already.
        rings.fold(false, |more, (ring, _)| {
            let armed = link.on_queue(ring, |queue, memory| queue.enable_notification(memory));
            more | matches!(armed, Ok(true))
        })
    }

    fn attend(&mut self, timeout: Option<Duration>) -> bool {
        self.terminals.attend(&self.bell, &mut self.typed, &self.output, timeout)
    }
}
