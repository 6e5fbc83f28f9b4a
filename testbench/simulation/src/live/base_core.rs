//! The base: IO-Bonds, bm-hypervisors and back ends of all boards, in turns.

use std::sync::Arc;

use bm_hypervisor::{BareEvents, Poller};
use iobond_model::live::Bond;
use model_port::ModelPort;
use results::measure::Stage;

use super::watch::{Heads, Watch};
use crate::{BenchError, Fault, Notice, Plan, board::Board, plan::BURST};

/// What the base does for one board.
pub(super) struct Post {
    number: usize,
    board: Arc<Board>,
    bond: Arc<Bond>,
    poller: Poller<ModelPort, Heads>,
    noticed: BareEvents,
    watch: Arc<Watch>,
    /// How many requests of each queue the back end has used.
    used: Vec<u64>,
}

impl Post {
    pub(super) fn new(
        number: usize,
        board: Arc<Board>,
        bond: Arc<Bond>,
        poller: Poller<ModelPort, Heads>,
        noticed: BareEvents,
        watch: Arc<Watch>,
    ) -> Self {
        let used = vec![0; board.contexts.len()];
        Self { number, board, bond, poller, noticed, watch, used }
    }

    /// What was made available goes up, what was used goes down.
    fn pass(&mut self, plan: &Plan) -> Result<bool, BenchError> {
        let up = self.bond.pass();
        // Before the back end, if that is told by it; the same pass finds what was used at the end of the
        // last one.
        let polled = !self.poller.pass().is_idle();
        let served = self.serve(plan);
        let returned = served && !self.poller.pass().is_idle();
        let down = (polled || returned) && self.bond.pass();
        match self.noticed.next() {
            Some(news) => {
                let (board, at, fault) = (self.number, self.watch.now(), Fault::Noticed(news));
                Err(BenchError::Failed { board, at, fault })
            }
            None => Ok(up | polled | served | down),
        }
    }

    fn serve(&mut self, plan: &Plan) -> bool {
        let mut busy = false;
        for queue in 0..self.used.len() {
            let available = match plan.design.notice {
                Notice::Ring => self.board.shadow_available(queue),
                Notice::StatusPage | Notice::Registers => self.watch.head(queue),
            };
            for _ in 0..BURST {
                let nth = self.used[queue];
                let index = nth as u16;
                if index == available {
                    break;
                }
                busy = true;
                self.watch.stamp(queue, nth, Stage::Kicked, self.watch.now());
                let head = self.board.shadow_head(queue, index);
                self.watch.stamp(queue, nth, Stage::Used, self.watch.now());
                self.board.use_shadow(queue, index, head, plan.shape.back);
                self.used[queue] = nth + 1;
            }
        }
        busy
    }
}

/// All boards of a base server.
pub(super) struct Base {
    plan: Plan,
    posts: Vec<Post>,
}

impl Base {
    pub(super) fn new(plan: &Plan, posts: Vec<Post>) -> Self {
        Self { plan: plan.clone(), posts }
    }

    /// One bounded pass over every board; whether there was anything to do.
    ///
    /// # Errors
    /// Something went wrong in an IO-Bond.
    pub(super) fn pass(&mut self) -> Result<bool, BenchError> {
        let Self { plan, posts } = self;
        let mut busy = false;
        for post in posts {
            busy |= post.pass(plan)?;
        }
        Ok(busy)
    }
}
