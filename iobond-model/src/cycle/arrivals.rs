//! What arrives at an IO-Bond in virtual time, and at board and base from it: a task per direction of each
//! link.

use iobond_spec::{address::Address, status_page};
use zerocopy::IntoBytes;

use super::{
    Span, Time, Tlp,
    bond::Bond,
    packets::{FromBase, ToBase, ToBoard},
};
use crate::{
    device::{Outcome, tail_of},
    fabric::{Fabric, ready},
};

impl<M: Fabric> Bond<'_, M> {
    pub(super) async fn link_to_board(&self) {
        loop {
            match self.to_board.land(self.clock).await {
                ToBoard::Store { at, value } => {
                    // Whether the address can be written was checked when it left.
                    let _ = ready(self.memory.store(at.into(), value));
                    self.environment.board_written(at);
                }
                ToBoard::Message(message) => self.environment.message(message),
                ToBoard::Intx(function) => self.environment.intx(function),
                ToBoard::Completion { request, value } => {
                    self.board_reads.complete(self.clock, request, value)
                }
            }
        }
    }

    pub(super) async fn link_to_base(&self) {
        loop {
            let at = match self.to_base.land(self.clock).await {
                ToBase::Store { at, value } => {
                    let _ = ready(self.memory.store(at.into(), value));
                    at
                }
                ToBase::Mailbox { at, request } => {
                    // The word that says that the request is new is written last.
                    let (body, rest) = request
                        .as_bytes()
                        .split_at((status_page::MAILBOX_WORD - status_page::MAILBOX) as usize);
                    let _ = ready(self.memory.write(at.into(), body));
                    let _ = ready(self.memory.write(Address::from(at).wrapping_add(body.len() as u64), rest));
                    at
                }
                ToBase::Errors { at, bits } => {
                    let _ = ready(self.memory.write(at.into(), &bits.to_le_bytes()));
                    at
                }
                ToBase::Completion { request, value } => {
                    self.base_reads.complete(self.clock, request, value);
                    continue;
                }
            };
            self.environment.base_written(at);
        }
    }

    pub(super) async fn link_from_base(&self) {
        loop {
            match self.from_base.land(self.clock).await {
                FromBase::Write { offset, value } => match tail_of(offset) {
                    Some(queue) => self.write_tail(queue, value as u16),
                    None => self.with_device(|device, now, effects| {
                        device.register_write(now, offset, value, effects)
                    }),
                },
                FromBase::Read { offset, request } => {
                    let value = self
                        .with_device(|device, now, _| device.register_read(now, offset, |n| self.report(n)));
                    let there = self.base.out.send(self.clock.now(), Tlp::Completion { data: 4 });
                    self.to_base.launch(self.clock, there, ToBase::Completion { request, value });
                }
            }
        }
    }

    pub(super) async fn link_from_board(&self) {
        loop {
            let (access, request) = self.from_board.land(self.clock).await;
            let outcome = loop {
                match self.with_device(|device, now, effects| device.access(|| now, access, effects)) {
                    // The link stalls until the mailbox has a free entry.
                    Outcome::Full => self.waiting.freed.wait(self.clock).await,
                    outcome => break outcome,
                }
            };
            match (outcome, request) {
                (Outcome::Done(value), Some(request)) => self.answer_board(request, value),
                (Outcome::Waiting(ticket), Some(request)) => self.waiting.add(ticket, request),
                (Outcome::Doorbell { queue, data }, _) => self.notify_queue(queue, data),
                _ => {}
            }
        }
    }

    pub(super) fn answer_board(&self, request: usize, value: u32) {
        let there = self.board.out.send(self.clock.now(), Tlp::Completion { data: 4 });
        self.to_board.launch(self.clock, there, ToBoard::Completion { request, value });
    }

    pub(super) async fn keep_deadlines(&self) {
        loop {
            let next = self.device.borrow().next_deadline();
            match next {
                None => self.deadline.wait(self.clock).await,
                Some(ns) => {
                    self.clock.until(Time::ZERO + Span::from_ns(ns)).await;
                    self.with_device(|device, now, effects| device.tick(now, effects));
                }
            }
        }
    }
}
