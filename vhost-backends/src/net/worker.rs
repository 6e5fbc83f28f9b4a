//! The thread that switches: it alone looks at the rings of all ports.
//!
//! One thread needs no lock between ports, keeps one polling loop busy and not one per port, and sees a reply
//! as soon as it is written. While it looks, drivers are asked not to kick; a ring that was idle for the
//! polling time is armed again, looked at once more, and then the thread sleeps until a kick wakes it.

use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use tracing::info;

use super::port::Port;
use super::switch::{Ports, Switch, Verdict};
use super::transmit::Batch;
use crate::link::Event;
use crate::ring;

/// The switching thread's state.
pub(crate) struct Worker {
    ports: Vec<Port>,
    pairs: usize,
    switch: Switch,
    events: Receiver<Event>,
    poll: Duration,
    start: Instant,
    batch: Batch,
}

impl Worker {
    /// `poll` is how long to look at idle rings before sleeping.
    pub(crate) fn new(ports: Vec<Port>, pairs: usize, poll: Duration, events: Receiver<Event>) -> Self {
        let switch = Switch::new(ports.len());
        Self { ports, pairs, switch, events, poll, start: Instant::now(), batch: Batch::default() }
    }

    /// Switches until told to quit.
    pub(crate) fn run(mut self) {
        let mut polling = ring::polling(self.poll);
        while self.handle_events() {
            if self.pass() {
                polling.worked();
            } else if !polling.idle(Instant::now).pause() {
                // Every port is armed, also when the first has something already.
                let more = self.ports.iter_mut().fold(false, |more, port| port.arm() | more);
                if !more {
                    // An unpark since the last pass makes this return at once, so that no kick and no event
                    // is lost.
                    thread::park();
                }
                self.ports.iter_mut().for_each(Port::disarm);
                polling.worked();
            }
        }
    }

    /// Carries out what was asked for. Returns false when it is to quit.
    fn handle_events(&mut self) -> bool {
        while let Ok(event) = self.events.try_recv() {
            match event {
                Event::Attach(port, link) => {
                    self.ports[port].attach(link);
                    self.switch.attach(port);
                }
                Event::Detach(port, done) => {
                    self.switch.detach(port);
                    info!("port {port}: {}", self.ports[port].detach());
                    // It fails when the front end's thread waits no more.
                    let _ = done.send(());
                }
                Event::Quit => return false,
            }
        }
        true
    }

    /// Looks at every ring once. Returns whether there was anything to do.
    fn pass(&mut self) -> bool {
        let mut time = None;
        let mut worked = false;
        for ingress in 0..self.ports.len() {
            self.ports[ingress].disarm_if_kicked();
            for pair in 0..self.pairs {
                if self.ports[ingress].take(pair, &mut self.batch) {
                    let time = *time.get_or_insert_with(since_unix_epoch);
                    self.forward_batch(ingress, pair, time);
                    worked = true;
                }
            }
        }
        for port in &mut self.ports {
            worked |= port.deliver_backlog(time.unwrap_or_else(since_unix_epoch));
        }
        if worked {
            self.ports.iter_mut().for_each(Port::tell);
        }
        worked
    }

    /// Sends the frames of the batch, which are from transmit queue `pair` of port `ingress`, where they
    /// belong.
    fn forward_batch(&mut self, ingress: usize, pair: usize, time: Duration) {
        let now = self.start.elapsed();
        for frame in self.batch.frames() {
            let port = &mut self.ports[ingress];
            if let Some(capture) = &mut port.capture {
                capture.record(time, frame.bytes);
            }
            let to = match self.switch.forward(ingress, frame.bytes, now) {
                Verdict::Forward(to) => {
                    port.counters.forwarded += 1;
                    to
                }
                Verdict::Filter => {
                    port.counters.filtered += 1;
                    Ports::default()
                }
                Verdict::Invalid => {
                    port.counters.malformed += 1;
                    Ports::default()
                }
            };
            for egress in to.iter() {
                self.ports[egress].send(frame, pair, time);
            }
        }
    }
}

/// Time stamp for captures. A clock before 1970 counts as 1970.
fn since_unix_epoch() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
