//! The console's thread: it alone looks at the rings and at the terminals.
//!
//! While it looks, the driver is asked not to kick. When there was nothing to do for the polling time the
//! rings are armed again, looked at once more, and then the thread sleeps until it is woken or a terminal
//! does something.

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
    /// Written for each event and each kick.
    waker: Arc<OwnedFd>,
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
        waker: Arc<OwnedFd>,
        terminals: Terminals,
        log: Option<Log>,
        poll: Duration,
    ) -> Self {
        Self {
            events,
            waker,
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
        while self.handle_events() {
            // A wake-up counts as work, so that an event is handled before the thread sleeps.
            if self.pass() | self.serve_terminals(Some(Duration::ZERO)) {
                polling.worked();
            } else if !polling.idle(Instant::now).pause() {
                // What was written to the waker since the last look makes the wait return at once.
                if !self.arm() {
                    self.serve_terminals(None);
                }
                self.disarm();
                polling.worked();
            }
        }
    }

    /// Carries out what was asked for. Returns false when it is to quit.
    fn handle_events(&mut self) -> bool {
        while let Ok(event) = self.events.try_recv() {
            match event {
                Event::Attach(_, link) => self.link = Some(link),
                Event::Detach(_, done) => {
                    self.link = None;
                    // It fails when the front end's thread waits no more.
                    let _ = done.send(());
                }
                Event::Quit => return false,
            }
        }
        true
    }

    /// Looks at both rings once. Returns whether there was anything to do.
    fn pass(&mut self) -> bool {
        // A ring was started since: its driver has to be told, too, that the rings are polled.
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

    /// Interrupts the driver, and logs the first chain that was wrong. Returns whether there was anything to
    /// do.
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

    /// Asks the driver not to kick: the rings are polled.
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

    fn serve_terminals(&mut self, timeout: Option<Duration>) -> bool {
        self.terminals.serve(&self.waker, &mut self.typed, &self.output, timeout)
    }
}
