//! A run as a picture: a group for each board, a track for each of its parts, and an arrow for each request.
//!
//! ```text
//!   driver of queue 0       [submit]                                             [interrupt][complete]
//!   link from the board        [w]      [c][c]     [c]                                        ^
//!   engine of queue 0            \--> [ forward     {DMA up} ]            /-> [ {DMA down} return ]
//!   bm-hypervisor                                       |           /-> [pass]
//!   back end                                            \-> [serve]
//! ```
//! What is set up before the drivers begin is left out. Slices of one track lie apart or one in the other;
//! where a part does several things at a time it has tracks enough.

mod flows;

use std::cell::RefCell;

use iobond_model::{
    cycle::{Activity, Event, Sent, Span, Time, Tlp, Way},
    fabric::Direction,
};

use super::{Seen, UP, Watch};
use crate::{
    Notice, Plan,
    trace::{Trace, Track},
};
use flows::Flows;

/// For how long a link's use is averaged.
const WINDOW: Span = Span::from_us(1);

/// Draws a run that it watches as a trace of slices and flows.
#[derive(Debug)]
pub struct Timeline(RefCell<Picture>);

#[derive(Debug)]
struct Picture {
    trace: Trace,
    boards: Vec<Board>,
}

#[derive(Debug)]
struct Board {
    group: String,
    queues: Vec<Queue>,
    wires: [Wire; Way::ALL.len()],
    hypervisor: Track,
    back_end: Track,
    /// Whether the back end waits for bm-hypervisor's word.
    told: bool,
    channels: Vec<Lanes>,
    reads: Lanes,
}

#[derive(Debug)]
struct Queue {
    driver: Track,
    engine: Track,
    outstanding: u64,
    flows: Flows,
}

/// A direction of a link, and how long it is busy in the window at hand.
#[derive(Debug)]
struct Wire {
    track: Track,
    window: u64,
    busy: Span,
}

/// Tracks for what overlaps. It is told when it ends, so that a track is free for it once its last one was
/// over when it began.
#[derive(Debug)]
struct Lanes {
    group: String,
    name: String,
    tracks: Vec<(Track, Time)>,
}

impl Timeline {
    /// A picture of a run of `plan`, of up to `limit` events.
    #[must_use]
    pub fn new(plan: &Plan, limit: usize) -> Self {
        let mut trace = Trace::new(limit);
        let boards = (0..plan.boards).map(|number| Board::new(&mut trace, plan, number)).collect();
        Self(RefCell::new(Picture { trace, boards }))
    }

    /// The trace, as far as it was seen. Whatever is seen later is not in it.
    #[must_use]
    pub fn take(&self) -> Trace {
        let Picture { mut trace, boards } =
            self.0.replace(Picture { trace: Trace::new(0), boards: Vec::new() });
        for (number, mut board) in boards.into_iter().enumerate() {
            for wire in &mut board.wires {
                wire.show(&mut trace);
                wire.rest(&mut trace);
            }
            for queue in 0..board.queues.len() {
                board.draw_arrows(&mut trace, number, queue, true);
            }
        }
        trace
    }
}

impl Watch for Timeline {
    fn see(&self, now: Time, board: usize, seen: &Seen<'_>) {
        let Picture { trace, boards } = &mut *self.0.borrow_mut();
        if let Some(place) = boards.get_mut(board).filter(|_| now >= UP) {
            place.see(trace, now, board, seen);
        }
    }
}

impl Board {
    fn new(trace: &mut Trace, plan: &Plan, number: u8) -> Self {
        let group = format!("board{number}");
        let each = |trace: &mut Trace, what: &str| -> Vec<Track> {
            (0..plan.queues).map(|queue| trace.track(&group, &format!("{what} of queue {queue}"))).collect()
        };
        let wire = |trace: &mut Trace, name| Wire {
            track: trace.track(&group, name),
            window: UP.ps() / WINDOW.ps(),
            busy: Span::ZERO,
        };
        // In the order of a request's way.
        let drivers = each(trace, "driver");
        let (from_board, to_board) = (wire(trace, "link from the board"), wire(trace, "link to the board"));
        let engines = each(trace, "engine");
        let (to_base, from_base) = (wire(trace, "link to the base"), wire(trace, "link from the base"));
        let [hypervisor, back_end] = ["bm-hypervisor", "back end"].map(|name| trace.track(&group, name));
        let queue = |(driver, engine)| Queue { driver, engine, outstanding: 0, flows: Flows::default() };
        Self {
            queues: drivers.into_iter().zip(engines).map(queue).collect(),
            // As `Way` has them.
            wires: [from_board, to_board, to_base, from_base],
            hypervisor,
            back_end,
            told: plan.design.notice != Notice::Ring,
            channels: (0..plan.timing.dma.channels)
                .map(|number| Lanes::new(trace, &group, format!("DMA channel {number}")))
                .collect(),
            // Many, and so a group that one can close.
            reads: Lanes::new(trace, &format!("{group}: DMA reads"), "read".to_owned()),
            group,
        }
    }

    fn see(&mut self, trace: &mut Trace, now: Time, number: usize, seen: &Seen<'_>) {
        match *seen {
            Seen::Engine(event) => self.see_engine(trace, now, number, event),
            Seen::Hardware(activity) => self.see_hardware(trace, activity),
            Seen::Head { .. } | Seen::Tail { .. } | Seen::Pass { .. } => {
                self.see_hypervisor(trace, now, seen)
            }
            Seen::Served { .. } | Seen::Disk { .. } | Seen::Used { .. } => {
                self.see_back_end(trace, now, seen)
            }
            Seen::Frame { .. } => {}
            _ => self.see_driver(trace, now, number, seen),
        }
    }

    fn see_driver(&mut self, trace: &mut Trace, now: Time, number: usize, seen: &Seen<'_>) {
        let (Seen::Made { queue, .. }
        | Seen::Submitted { queue, .. }
        | Seen::Notified { queue, .. }
        | Seen::Interrupted { queue, .. }
        | Seen::Done { queue, .. }
        | Seen::TakenBack { queue, .. }) = *seen
        else {
            return;
        };
        let Some(Queue { driver, outstanding, flows, .. }) = self.queues.get_mut(queue) else { return };
        let track = *driver;
        match *seen {
            Seen::Made { request, .. } => flows.make(request, (track, now.ps())),
            Seen::Submitted { from, count, .. } => {
                trace.slice(track, "submit", from.ps(), now.ps(), &[("requests", count.into())]);
                *outstanding += count;
                trace.counter(track, "outstanding", now.ps(), *outstanding);
            }
            Seen::Notified { index, .. } => {
                trace.instant(track, "doorbell", now.ps(), &[("index", u64::from(index).into())]);
            }
            Seen::Interrupted { from, .. } => trace.slice(track, "interrupt", from.ps(), now.ps(), &[]),
            Seen::Done { request, .. } => flows.find(request),
            Seen::TakenBack { from, count, .. } => {
                trace.slice(track, "complete", from.ps(), now.ps(), &[("requests", count.into())]);
                *outstanding = outstanding.saturating_sub(count);
                trace.counter(track, "outstanding", now.ps(), *outstanding);
                flows.complete((track, from.ps()));
                self.draw_arrows(trace, number, queue, false);
            }
            _ => {}
        }
    }

    fn see_engine(&mut self, trace: &mut Trace, now: Time, number: usize, event: Event) {
        let (Event::Doorbell { queue }
        | Event::Tail { queue, .. }
        | Event::Forwarded { queue, .. }
        | Event::Returned { queue, .. }
        | Event::Failed { queue, .. }) = event;
        let Some(Queue { engine, flows, .. }) = self.queues.get_mut(queue) else { return };
        let track = *engine;
        match event {
            Event::Doorbell { .. } => trace.instant(track, "doorbell", now.ps(), &[]),
            Event::Tail { index, .. } => {
                trace.instant(track, "TAIL", now.ps(), &[("index", u64::from(index).into())]);
            }
            Event::Forwarded { from, chains, head, .. } => {
                let first = flows.forward(chains.into(), (track, from.ps()));
                let args = [
                    ("first", first.into()),
                    ("chains", u64::from(chains).into()),
                    ("HEAD", u64::from(head).into()),
                ];
                trace.slice(track, "forward", from.ps(), now.ps(), &args);
                self.draw_arrows(trace, number, queue, false);
            }
            Event::Returned { from, chains, .. } => {
                let first = flows.give_back(chains.into(), (track, from.ps()));
                let args = [("first", first.into()), ("chains", u64::from(chains).into())];
                trace.slice(track, "return", from.ps(), now.ps(), &args);
                self.draw_arrows(trace, number, queue, false);
            }
            Event::Failed { error, .. } => {
                trace.instant(track, "failed", now.ps(), &[("error", error.to_string().as_str().into())]);
            }
        }
    }

    fn see_hypervisor(&mut self, trace: &mut Trace, now: Time, seen: &Seen<'_>) {
        let (Seen::Head { from, .. } | Seen::Tail { from, .. } | Seen::Pass { from, .. }) = *seen else {
            return;
        };
        let at = (self.hypervisor, from.ps());
        match *seen {
            Seen::Head { queue, index, .. } if self.told => {
                if let Some(Queue { flows, .. }) = self.queues.get_mut(queue) {
                    flows.tell(index, at);
                }
            }
            Seen::Tail { queue, index, .. } => {
                if let Some(Queue { flows, .. }) = self.queues.get_mut(queue) {
                    flows.see(index, at);
                }
            }
            Seen::Pass { published, returned, .. } => {
                let args = [("published", published.into()), ("used", returned.into())];
                trace.slice(self.hypervisor, "pass", from.ps(), now.ps(), &args);
            }
            _ => {}
        }
    }

    fn see_back_end(&mut self, trace: &mut Trace, now: Time, seen: &Seen<'_>) {
        match *seen {
            Seen::Served { queue, request, from } => {
                let Some(Queue { flows, .. }) = self.queues.get_mut(queue) else { return };
                flows.serve(request, (self.back_end, from.ps()));
                let args = [("queue", (queue as u64).into()), ("request", flows.number(request).into())];
                trace.slice(self.back_end, "serve", from.ps(), now.ps(), &args);
            }
            Seen::Disk { channel, queue, request, from } => {
                let Some(Queue { flows, .. }) = self.queues.get_mut(queue) else { return };
                let track = trace.track(&self.group, &format!("disk channel {channel}"));
                let args = [("queue", (queue as u64).into()), ("request", flows.number(request).into())];
                trace.slice(track, "work", from.ps(), now.ps(), &args);
            }
            Seen::Used { queue, request } => {
                if let Some(Queue { flows, .. }) = self.queues.get_mut(queue) {
                    flows.use_up(request);
                }
            }
            _ => {}
        }
    }

    fn see_hardware(&mut self, trace: &mut Trace, activity: Activity) {
        match activity {
            Activity::Packet { way, sent } => self.wires[way as usize].see(trace, sent),
            Activity::Copied { queue, direction, channel, bytes, requests, asked, from, to } => {
                let (name, reads) = (copy_name(direction), u64::from(requests));
                if let Some(Queue { engine, .. }) = self.queues.get(queue) {
                    let args = [
                        ("channel", (channel as u64).into()),
                        ("bytes", bytes.into()),
                        ("reads", reads.into()),
                    ];
                    trace.slice(*engine, name, asked.ps(), to.ps(), &args);
                }
                if let Some(lanes) = self.channels.get_mut(channel) {
                    let track = lanes.track(trace, from, to);
                    let args =
                        [("queue", (queue as u64).into()), ("bytes", bytes.into()), ("reads", reads.into())];
                    trace.slice(track, name, from.ps(), to.ps(), &args);
                }
            }
            Activity::Read { queue, direction, bytes, from, sent, read, path, to } => {
                let track = self.reads.track(trace, from, to);
                let args = [("queue", (queue as u64).into()), ("bytes", u64::from(bytes).into())];
                trace.slice(track, copy_name(direction), from.ps(), to.ps(), &args);
                trace.slice(track, "read", sent.ps(), read.ps(), &[]);
                trace.slice(track, "data path", path.ps(), to.ps(), &[]);
            }
        }
    }

    /// Draws the requests of a queue that are finished.
    fn draw_arrows(&mut self, trace: &mut Trace, number: usize, queue: usize, over: bool) {
        let Some(Queue { flows, .. }) = self.queues.get_mut(queue) else { return };
        for (request, points) in flows.take_finished(over) {
            // Numbers of boards and queues are bytes.
            let id = (number as u64) << 56 | (queue as u64) << 48 | request;
            trace.arrows(id, "request", &points);
        }
    }
}

impl Wire {
    fn see(&mut self, trace: &mut Trace, Sent { tlp, at, from, to }: Sent) {
        let name = match tlp {
            Tlp::MemoryRead => "read".to_owned(),
            Tlp::MemoryWrite { data } => format!("write {data} B"),
            Tlp::Completion { data } => format!("completion {data} B"),
        };
        let waited = from.since(at).ps();
        let args = [("waited_ps", waited.into())];
        trace.slice(self.track, &name, from.ps(), to.ps(), if waited > 0 { &args } else { &[] });
        let mut begin = from;
        while begin < to {
            let window = begin.ps() / WINDOW.ps();
            if window != self.window {
                self.show(trace);
                if window > self.window + 1 {
                    self.rest(trace);
                }
                self.window = window;
            }
            let end = to.min(Time::from_ps((window + 1) * WINDOW.ps()));
            self.busy += end.since(begin);
            begin = end;
        }
    }

    /// The window is over.
    fn show(&mut self, trace: &mut Trace) {
        let busy = std::mem::take(&mut self.busy);
        trace.counter(self.track, "busy %", self.window * WINDOW.ps(), busy.ps() * 100 / WINDOW.ps());
    }

    /// In the one after it the wire rests.
    fn rest(&self, trace: &mut Trace) {
        trace.counter(self.track, "busy %", (self.window + 1) * WINDOW.ps(), 0);
    }
}

impl Lanes {
    fn new(trace: &mut Trace, group: &str, name: String) -> Self {
        let first = trace.track(group, &name);
        Self { group: group.to_owned(), name, tracks: vec![(first, Time::ZERO)] }
    }

    /// A track that is free for what lasted from `from` to `to`.
    fn track(&mut self, trace: &mut Trace, from: Time, to: Time) -> Track {
        if let Some((track, free)) = self.tracks.iter_mut().find(|(_, free)| *free <= from) {
            *free = to;
            return *track;
        }
        let name = format!("{}, {}", self.name, self.tracks.len() + 1);
        let track = trace.track(&self.group, &name);
        self.tracks.push((track, to));
        track
    }
}

const fn copy_name(direction: Direction) -> &'static str {
    match direction {
        Direction::Up => "DMA up",
        Direction::Down => "DMA down",
    }
}
