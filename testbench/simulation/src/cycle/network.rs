//! The base server's port to the network, which all boards share: deficit round robin by what frames take on
//! the wire.
//!
//! ```text
//!   back ends  -- send -->  |turns| -- carry -->  network           transmit: used when it has left
//!   back ends  <-- arrived --  | carry |turns| <-- come --  network  receive: lost when too many wait
//! ```
//! One direction is simulated, the other is free.

use std::cell::{Cell, RefCell};

use iobond_model::{
    cycle::{Clock, Ethernet, Line, Signal, Span, Time},
    qos::DeficitRoundRobin,
};

use super::{
    UP,
    board_tasks::{BoardTasks, Job},
};
use crate::{NET_HEADER, Plan, Service, Way};

/// What a board may send in a round: the longest frame without jumbo frames, 14 + 1500 bytes, on the wire.
const QUANTUM: u64 = 1538;
/// Frames that wait for a board in front of the port, and behind it for its back end. A judgement: the
/// largest receive ring of common cards has 4096, their default 512 to 1024.
const WAITING: u32 = 1024;

/// What a board got of the port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Carried {
    /// Bytes of the wire.
    pub(super) bytes: u64,
    /// Frames that were lost.
    pub(super) lost: u64,
}

#[derive(Debug)]
struct Frame {
    wire_bytes: u64,
    /// What sent it; nothing on this side did if it comes.
    job: Option<Job>,
}

/// The port, in the direction that is simulated.
#[derive(Debug)]
pub(super) struct Network {
    link: Ethernet,
    port: Line,
    turns: RefCell<DeficitRoundRobin<Frame>>,
    work: Signal,
    carried: Vec<Cell<Carried>>,
    /// From when on what is carried is counted.
    from: Time,
}

impl Network {
    pub(super) fn new(plan: &Plan) -> Self {
        let boards = usize::from(plan.boards);
        Self {
            link: plan.timing.network,
            port: Line::default(),
            turns: RefCell::new(DeficitRoundRobin::new(vec![QUANTUM; boards])),
            work: Signal::default(),
            carried: vec![Cell::default(); boards],
            from: UP + plan.window.map_or(Span::ZERO, |window| window.after),
        }
    }

    /// How long it was busy.
    pub(super) fn busy(&self) -> Span {
        self.port.busy()
    }

    /// Bytes of the wire that all boards got.
    pub(super) fn bytes(&self) -> u64 {
        self.carried.iter().map(|carried| carried.get().bytes).sum()
    }

    /// What `board` got.
    pub(super) fn carried(&self, board: usize) -> Carried {
        self.carried[board].get()
    }

    fn count(&self, clock: &Clock, board: usize, bytes: u64, lost: u64) {
        if clock.now() >= self.from {
            let Carried { bytes: before, lost: lost_before } = self.carried[board].get();
            self.carried[board].set(Carried { bytes: before + bytes, lost: lost_before + lost });
        }
    }

    fn push(&self, clock: &Clock, board: usize, buffer: u32, job: Option<Job>) {
        let wire_bytes = self.link.wire_bytes(buffer.saturating_sub(NET_HEADER));
        self.turns.borrow_mut().push(board, wire_bytes, Frame { wire_bytes, job });
        self.work.raise(clock);
    }

    /// A board's back end sends the frame in a buffer of `buffer` bytes.
    pub(super) fn send(&self, clock: &Clock, board: usize, buffer: u32, job: Job) {
        self.push(clock, board, buffer, Some(job));
    }

    /// Frames come for a board for ever, at the rate of its plan.
    pub(super) async fn come(&self, tasks: &BoardTasks<'_>, begin: Time) {
        let BoardTasks { clock, plan, number: board, .. } = *tasks;
        let Service::Network { way: Way::Receive { rate } } = plan.service else { return };
        let mut count = 0;
        loop {
            // Not one span after the other, whose roundings would add up.
            clock.until(begin + Span::at_rate(count, rate)).await;
            count += 1;
            if self.turns.borrow().waiting(board) < WAITING as usize {
                self.push(clock, board, plan.shape.back, None);
            } else {
                self.count(clock, board, 0, 1);
            }
        }
    }

    /// Carries one frame after the other, each board's in its turn.
    pub(super) async fn carry(&self, all_tasks: &[BoardTasks<'_>], clock: &Clock) {
        loop {
            let Some((board, frame)) = self.turns.borrow_mut().pop() else {
                self.work.wait(clock).await;
                continue;
            };
            let gone = self.port.occupy(clock.now(), self.link.serialization(frame.wire_bytes));
            clock.until(gone).await;
            self.count(clock, board, frame.wire_bytes, 0);
            let tasks = &all_tasks[board];
            match frame.job {
                Some(job) => tasks.finish(job),
                None if tasks.arrived.get() < WAITING => {
                    tasks.arrived.set(tasks.arrived.get() + 1);
                    tasks.back_end.raise(clock);
                }
                None => self.count(clock, board, 0, 1),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use iobond_model::qos::jain;

    use super::{super::run, *};
    use crate::{Load, Outcome, Pace, Shape, Window};

    const WINDOW: Option<Window> = Some(Window { after: Span::from_us(200), length: Span::from_us(200) });

    /// Four boards with frames of their own sizes on a port of 10 Gbit/s, of which any could fill it alone.
    fn shared(way: Way, busy: [bool; 4]) -> Outcome {
        let load = |(busy, frame): (bool, u32)| match (busy, way) {
            (false, _) => Load::Idle,
            (true, Way::Transmit) => load(Shape { out: NET_HEADER + frame, back: 0 }),
            (true, Way::Receive { .. }) => load(Shape { out: 0, back: NET_HEADER + frame }),
        };
        let shape = match way {
            Way::Transmit => Shape { out: 72, back: 0 },
            Way::Receive { .. } => Shape { out: 0, back: 72 },
        };
        let loads = busy.into_iter().zip([100, 300, 700, 1514]).map(load).collect();
        let mut plan = Plan {
            boards: 4,
            queues: 2,
            loads,
            shape,
            service: Service::Network { way },
            window: WINDOW,
            ..Plan::default()
        };
        plan.timing.network.rate = 10_000_000_000;
        run(&plan).expect("a plan that can be")
    }

    fn load(shape: Shape) -> Load {
        Load::Busy { shape, pace: Pace::Closed { depth: 128 } }
    }

    fn gigabits(outcome: &Outcome) -> Vec<f64> {
        let rate = |bytes| bytes as f64 * 8e-9 / outcome.span.as_secs();
        outcome.boards.iter().map(|board| rate(board.wire_bytes)).collect()
    }

    #[test]
    fn senders_share_it_in_equal_parts_and_use_the_part_of_one_that_is_idle() {
        let all = gigabits(&shared(Way::Transmit, [true; 4]));
        assert!(jain(&all) > 0.999 && all.iter().sum::<f64>() > 9.9, "{all:?}");
        let three = gigabits(&shared(Way::Transmit, [true, true, false, true]));
        assert_eq!(three[2], 0.0);
        let busy = [three[0], three[1], three[3]];
        assert!(jain(&busy) > 0.999 && busy.iter().sum::<f64>() > 9.9, "{three:?}");
    }

    #[test]
    fn receivers_do_too_and_what_is_too_much_is_lost() {
        let outcome = shared(Way::Receive { rate: 8_000_000 }, [true; 4]);
        let all = gigabits(&outcome);
        assert!(jain(&all) > 0.999 && all.iter().sum::<f64>() > 9.9, "{all:?}");
        assert!(outcome.boards.iter().all(|board| board.lost > 0 && board.requests > 0), "{outcome:?}");
    }

    #[test]
    fn what_comes_is_what_arrives_when_buffers_are_posted() {
        let plan = Plan {
            shape: Shape { out: 0, back: 76 },
            pace: Pace::Closed { depth: 128 },
            service: Service::Network { way: Way::Receive { rate: 1_000_000 } },
            window: WINDOW,
            ..Plan::default()
        };
        let outcome = run(&plan).expect("a plan that can be");
        assert_eq!((outcome.boards[0].wire_bytes, outcome.boards[0].lost), (200 * 88, 0));
        assert_eq!(run(&plan).expect("the same").digest, outcome.digest);
    }

    #[test]
    fn a_frame_goes_one_way_and_has_a_header() {
        let refused = |way, out, back| {
            let service = Service::Network { way };
            Plan { service, shape: Shape { out, back }, ..Plan::default() }.check().map_err(|e| e.to_string())
        };
        for (way, out, back) in [
            (Way::Transmit, 64, 64),
            (Way::Transmit, 12, 0),
            (Way::Receive { rate: 1 }, 64, 64),
            (Way::Receive { rate: 0 }, 0, 64),
        ] {
            refused(way, out, back).expect_err("impossible");
        }
        refused(Way::Transmit, 72, 0).expect("possible");
    }
}
