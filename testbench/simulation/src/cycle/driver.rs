//! The driver of one queue: makes requests when they are due, rings, and takes answers back.

use iobond_model::{
    cycle::{Bond, Span, Time},
    device::Access,
    fabric::Fabric,
};
use iobond_spec::{
    function::{NOTIFY, NOTIFY_MULTIPLIER},
    ring::split::need_event,
};

use super::{Seen, station::Station};
use crate::{Pace, Plan, board::FIRST, random::Chance, recorder::Sink};

/// What the driver's processor is in: a board with an IO-Bond, or a virtual machine.
pub(super) trait Machine {
    /// Rings for `queue`, whose available index is `index`; over when the processor goes on.
    async fn ring(&self, plan: &Plan, queue: usize, index: u16);
    /// An interrupt has come; over when the driver looks.
    async fn interrupted(&self, station: &Station<'_>, plan: &Plan) {
        station.clock.sleep(plan.timing.guest.interrupt).await;
    }
}

impl<M: Fabric> Machine for Bond<'_, M> {
    async fn ring(&self, plan: &Plan, queue: usize, index: u16) {
        let queue = queue as u32;
        let (width, value) = match plan.design.notification_data {
            true => (4, u32::from(index) << 16 | queue),
            false => (2, queue),
        };
        let offset = NOTIFY + NOTIFY_MULTIPLIER * queue;
        self.access(Access::BarWrite { function: FIRST, offset, width, value }).await;
    }
}

pub(super) struct Driver<'a, M> {
    pub(super) plan: &'a Plan,
    pub(super) station: &'a Station<'a>,
    pub(super) machine: &'a M,
    pub(super) queue: usize,
    pub(super) chance: Chance,
    pub(super) sink: &'a dyn Sink,
    /// When the next request is due, if that does not depend on answers.
    pub(super) due: Time,
}

impl<M: Machine> Driver<'_, M> {
    /// Makes all requests of the plan and waits for their answers.
    pub(super) async fn run(mut self) {
        let clock = self.station.clock;
        let requests = &self.station.lanes[self.queue].requests;
        let total = self.plan.total();
        self.due = clock.now();
        self.schedule();
        while requests.done() < total && self.station.failure.borrow().is_none() {
            let made = self.make(total).await;
            if made {
                continue;
            }
            if !self.wait(total).await {
                continue;
            }
            if self.station.interrupts {
                let from = clock.now();
                self.machine.interrupted(self.station, self.plan).await;
                self.station.tell(Seen::Interrupted { queue: self.queue, from });
            }
            self.take_back().await;
        }
    }

    /// Waits for an answer, or until a request is due that there is room for; whether there may be an answer.
    async fn wait(&mut self, total: u64) -> bool {
        let (clock, lane) = (self.station.clock, &self.station.lanes[self.queue]);
        match self.plan.pace {
            Pace::Open { .. } if lane.requests.has_room() && lane.requests.made() < total => {
                lane.driver.wait_until(clock, self.due).await
            }
            _ => {
                lane.driver.wait(clock).await;
                true
            }
        }
    }

    /// Makes all requests that are due and fit, and rings for them; whether there were any.
    async fn make(&mut self, total: u64) -> bool {
        let (clock, station) = (self.station.clock, self.station);
        let requests = &station.lanes[self.queue].requests;
        let before = requests.made();
        let now = clock.now();
        let stride = self.plan.descriptors();
        while requests.made() < total && requests.has_room() {
            let due = match self.plan.pace {
                Pace::Closed { .. } => now,
                Pace::Open { .. } if self.due <= now => {
                    let due = self.due;
                    self.schedule();
                    due
                }
                Pace::Open { .. } => break,
            };
            let number = requests.made();
            let Some(request) = requests.make(due) else { break };
            station.tell(Seen::Made { queue: self.queue, request });
            if let Some(frames) = &station.frames {
                frames.write(station, self.queue, request, number);
            }
            station.board.offer(self.queue, number as u16, request * stride);
        }
        let made = requests.made() - before;
        if made == 0 {
            return false;
        }
        clock.sleep(self.plan.timing.guest.submit * made).await;
        let index = requests.made() as u16;
        station.board.publish(self.queue, index);
        requests.ring(clock.now());
        station.tell(Seen::Submitted { queue: self.queue, from: now, count: made });
        if !station.event_idx || need_event(station.board.avail_event(self.queue), index, before as u16) {
            station.tell(Seen::Rang { queue: self.queue, index });
            self.machine.ring(self.plan, self.queue, index).await;
        }
        true
    }

    async fn take_back(&mut self) {
        let (clock, station) = (self.station.clock, self.station);
        let lane = &station.lanes[self.queue];
        loop {
            let (mut taken, from) = (0, clock.now());
            while let Some((nth, request, stamps)) = lane.requests.take_back(from) {
                if let Some(frames) = &station.frames {
                    frames.check_answer(station, self.queue, request);
                }
                station.tell(Seen::Done { queue: self.queue, request, stamps: &stamps });
                self.sink.finished(nth, &stamps);
                taken += 1;
            }
            if taken > 0 {
                clock.sleep(self.plan.timing.guest.complete * taken).await;
                station.tell(Seen::TakenBack { queue: self.queue, from, count: taken });
                continue;
            }
            if station.event_idx {
                station.board.want_interrupt(self.queue, lane.requests.done() as u16);
            }
            return;
        }
    }

    /// When the next request is due.
    fn schedule(&mut self) {
        if let Pace::Open { rate } = self.plan.pace {
            self.due += self.chance.exponential(Span::at_rate(1, rate));
        }
    }
}
