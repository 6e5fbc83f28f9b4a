//! Reads that wait: the board's and the base's, until their completion arrives, and the board's until the
//! base has answered.

use std::{cell::RefCell, future::poll_fn, task::Poll};

use super::{Clock, Reason, Signal, TaskId};
use crate::mailbox::Ticket;

/// A read that is under way.
#[derive(Clone, Copy, Debug)]
enum Open {
    /// No read has this number.
    Not,
    /// Its completion is under way; the task that waits for it, once one does.
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
            clock.waits_for(Reason::Missing {
                what: "the completion of a read, number",
                number: number as u32,
            });
            Poll::Pending
        })
    }
}

/// Board reads that the base has to answer.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    reads: RefCell<Vec<(Ticket, usize)>>,
    /// The mailbox may have a free entry again.
    pub(super) freed: Signal,
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
