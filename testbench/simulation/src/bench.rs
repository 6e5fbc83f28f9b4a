//! What runs a plan, in any world, and why it may come to no outcome.

use std::{io, time::Duration};

use bm_hypervisor::BareEvent;
use iobond_model::{
    cycle::{Span, Stuck, Time},
    fabric::Direction,
    shadow::QueueError,
};
use results::World;

use crate::{BoardError, Outcome, Plan, PlanError};

/// Runs plans in one world.
pub trait Bench {
    /// The world in which it does.
    fn world(&self) -> World;

    /// Runs `plan` to its end. Every request of it is measured once, its moments in the order of
    /// [`Stage`](results::measure::Stage).
    ///
    /// # Errors
    /// The plan is impossible, in this world or in any, or something went wrong in what it describes.
    fn run(&self, plan: &Plan) -> Result<Outcome, BenchError>;
}

/// Why there is no outcome.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are those of the message")]
pub enum BenchError {
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// There can be such a plan, but not in this world.
    #[error("world {world} runs no plan with {what}; only world cycle does")]
    Unsupported { world: World, what: &'static str },
    #[error(transparent)]
    Board(#[from] BoardError),
    #[error("board{board} failed at {at}: {fault}")]
    Failed { board: usize, at: Time, fault: Fault },
    /// In virtual time: no task will ever run again.
    #[error("at {at} nothing can happen any more: {}", list(stuck))]
    Deadlock { at: Time, stuck: Vec<Stuck> },
    /// In virtual time: tasks run for ever at one moment.
    #[error("time stands still at {at}, while these go on: {}", tasks.join(", "))]
    Livelock { at: Time, tasks: Vec<String> },
    /// In virtual time: the end is further away than anything that is worth waiting for.
    #[error(
        "{done} of {wanted} requests were done in {limit} of virtual time; the load is more than the design carries"
    )]
    TooLong { done: u64, wanted: u64, limit: Span },
    /// On the wall clock: no driver and no back end had anything to do for so long.
    #[error("latency: nothing happened for {0:?}")]
    Stuck(Duration),
    #[error("cannot read processor times: {0}")]
    Meter(io::Error),
    #[error("cannot start a thread for the base core: {0}")]
    Thread(io::Error),
    #[error("the base core panicked")]
    Panicked,
}

/// What went wrong on a board.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are those of the message")]
pub enum Fault {
    #[error("queue {queue}: {error}")]
    Engine { queue: usize, error: QueueError },
    /// There is no control thread, so that every event but a pass over queues is a failure.
    #[error("bm-hypervisor noticed {0:?}")]
    Noticed(BareEvent),
    #[error("queue {queue}: answer {number} is to the chain at {head}, not to that at {expected}")]
    Order { queue: usize, number: u64, head: u16, expected: u16 },
    /// A frame to the back end, or its answer, is not what was sent.
    #[error("queue {queue}: {} {number} {wrong}", frame(*.direction))]
    Frame { queue: usize, direction: Direction, number: u64, wrong: FrameFault },
    #[error("a forwarded read was answered with {0:#x}, and not by the base")]
    Forwarded(u32),
}

/// What is wrong with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are those of the message")]
pub enum FrameFault {
    #[error("cannot be written to board memory")]
    Memory,
    #[error("is longer than its chain by {0} bytes")]
    Truncated(usize),
    #[error("has {found} bytes, not {expected}")]
    Length { found: usize, expected: usize },
    #[error("differs from what was sent at byte {at}: {found:#04x}, not {expected:#04x}")]
    Byte { at: usize, found: u8, expected: u8 },
}

const fn frame(direction: Direction) -> &'static str {
    match direction {
        Direction::Up => "frame",
        Direction::Down => "answer",
    }
}

/// The first few tasks and what they wait for.
fn list(stuck: &[Stuck]) -> String {
    const MOST: usize = 6;
    let mut text = stuck.iter().take(MOST).map(ToString::to_string).collect::<Vec<_>>().join("; ");
    if stuck.len() > MOST {
        text += &format!("; and {} more", stuck.len() - MOST);
    }
    text
}
