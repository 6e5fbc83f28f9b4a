//! Reads that wait: the board's and the base's, until their completion arrives, and the board's until the base has answered.

use std::{cell::RefCell, future::poll_fn, task::Poll};

use iobond_spec::address::FunctionId;

use super::{Clock, Reason, Signal, TaskId};
use crate::{
    device::{Device, Effect, Outcome},
    mailbox::Ticket,
};

/// An access of the board to a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reads configuration space.
    ConfigRead {
        /// Of which function.
        function: FunctionId,
        /// Where.
        offset: u16,
        /// Bytes: 1, 2 or 4.
        width: u8,
    },
    /// Writes configuration space.
    ConfigWrite {
        /// Of which function.
        function: FunctionId,
        /// Where.
        offset: u16,
        /// Bytes: 1, 2 or 4.
        width: u8,
        /// What.
        value: u32,
    },
    /// Reads in the function's BAR.
    BarRead {
        /// Of which function.
        function: FunctionId,
        /// Where in it.
        offset: u32,
        /// Bytes: 1, 2 or 4.
        width: u8,
    },
    /// Writes in the function's BAR.
    BarWrite {
        /// Of which function.
        function: FunctionId,
        /// Where in it.
        offset: u32,
        /// Bytes: 1, 2 or 4.
        width: u8,
        /// What.
        value: u32,
    },
}

impl Access {
    /// Whether it waits for an answer.
    #[must_use]
    pub fn is_read(self) -> bool {
        matches!(self, Self::ConfigRead { .. } | Self::BarRead { .. })
    }

    /// Bytes.
    #[must_use]
    pub fn width(self) -> u8 {
        match self {
            Self::ConfigRead { width, .. }
            | Self::ConfigWrite { width, .. }
            | Self::BarRead { width, .. }
            | Self::BarWrite { width, .. } => width,
        }
    }

    /// Makes it.
    pub(super) fn make(self, device: &mut Device, now: u64, effects: &mut Vec<Effect>) -> Outcome {
        match self {
            Self::ConfigRead { function, offset, width } => {
                device.config_read(now, function, offset, width, effects)
            }
            Self::ConfigWrite { function, offset, width, value } => {
                device.config_write(now, function, offset, width, value, effects)
            }
            Self::BarRead { function, offset, width } => {
                device.bar_read(now, function, offset, width, effects)
            }
            Self::BarWrite { function, offset, width, value } => {
                match device.bar_doorbell(function, offset, width, value) {
                    Some((queue, data)) => Outcome::Doorbell { queue, data },
                    None => device.bar_write(now, function, offset, width, value, effects),
                }
            }
        }
    }
}

/// A read that is under way.
#[derive(Clone, Copy, Debug)]
enum Open {
    /// No read has this number.
    Not,
    /// Nobody waits for it yet, or this task does.
    Asked(Option<TaskId>),
    Answered(u32),
}

/// Reads under way, by number.
#[derive(Debug, Default)]
pub(super) struct Requests(RefCell<Vec<Open>>);

impl Requests {
    /// A number for one more.
    pub(super) fn open(&self) -> usize {
        let mut open = self.0.borrow_mut();
        let free = open.iter().position(|open| matches!(open, Open::Not));
        let number = free.unwrap_or(open.len());
        match free {
            Some(free) => open[free] = Open::Asked(None),
            None => open.push(Open::Asked(None)),
        }
        number
    }

    /// Its completion has arrived.
    pub(super) fn complete(&self, clock: &Clock, number: usize, value: u32) {
        if let Open::Asked(Some(task)) =
            std::mem::replace(&mut self.0.borrow_mut()[number], Open::Answered(value))
        {
            clock.wake(task);
        }
    }

    /// Waits for its completion.
    pub(super) fn answer(&self, clock: &Clock, number: usize) -> impl Future<Output = u32> {
        poll_fn(move |_| {
            let open = &mut self.0.borrow_mut()[number];
            if let Open::Answered(value) = *open {
                *open = Open::Not;
                return Poll::Ready(value);
            }
            *open = Open::Asked(Some(clock.task()));
            clock.waits_for(Reason { what: "the completion of a read, number", number: number as u32 });
            Poll::Pending
        })
    }
}

/// Board reads that the base has to answer.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    reads: RefCell<Vec<(Ticket, usize)>>,
    /// The mailbox may have room again.
    pub(super) room: Signal,
}

impl Waiting {
    /// The read `request` is answered under `ticket`.
    pub(super) fn add(&self, ticket: Ticket, request: usize) {
        self.reads.borrow_mut().push((ticket, request));
    }

    /// Those that have been answered, as `answer` knows, and with what.
    pub(super) fn collect(&self, mut answer: impl FnMut(Ticket) -> Option<u32>) -> Vec<(usize, u32)> {
        let mut answered = Vec::new();
        self.reads.borrow_mut().retain(|&(ticket, request)| match answer(ticket) {
            Some(value) => {
                answered.push((request, value));
                false
            }
            None => true,
        });
        answered
    }
}
