//! A board's place in a simulation: whoever is there hears from its IO-Bond what arrives, and wakes the task whose matter it is.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
};

use iobond_model::{
    cycle::{Clock, Environment, Event, Permits, Reason, Signal},
    front_end::Message,
};
use iobond_spec::{
    address::{BaseAddr, BoardAddr},
    ring::split::IDX,
};

use super::{Seen, Watch, back_end::Job, frames::Frames};
use crate::{Payload, Plan, board::Board, moments::Requests};

/// One queue of a board.
pub(super) struct Lane {
    pub(super) requests: Requests,
    /// For its driver: an answer is there, or an interrupt for one.
    pub(super) driver: Signal,
    /// HEAD as bm-hypervisor has told the back end.
    pub(super) told: Cell<u16>,
    /// The available index in the shadow vring, as it has arrived.
    pub(super) published: Cell<u16>,
}

/// A board, and those around it.
pub(super) struct Station<'a> {
    pub(super) clock: &'a Clock,
    /// Number of the board.
    pub(super) number: usize,
    pub(super) board: &'a Board,
    pub(super) interrupts: bool,
    pub(super) event_idx: bool,
    pub(super) lanes: Vec<Lane>,
    /// For the board's back end: a shadow vring has more.
    pub(super) back_end: Signal,
    /// Requests that wait for the board's disk, one permit each.
    pub(super) disk: Permits,
    pub(super) jobs: RefCell<VecDeque<Job>>,
    /// Frames from the network that no buffer has been found for yet.
    pub(super) arrived: Cell<u32>,
    /// The back end works on the guest's own rings: there is no IO-Bond between them.
    pub(super) shared: bool,
    /// For the base core: something that it polls changed.
    pub(super) base_core: &'a Signal,
    /// Doorbells that arrived at the IO-Bond, and interrupts that arrived at the board.
    pub(super) doorbells: Cell<u64>,
    pub(super) interrupted: Cell<u64>,
    /// What went wrong inside the IO-Bond.
    pub(super) failure: RefCell<Option<String>>,
    /// If requests carry frames.
    pub(super) frames: Option<Frames>,
    /// Who watches.
    pub(super) watch: Option<Rc<dyn Watch>>,
}

impl<'a> Station<'a> {
    pub(super) fn new(
        clock: &'a Clock,
        plan: &Plan,
        (number, board): (usize, &'a Board),
        base_core: &'a Signal,
        watch: Option<&Rc<dyn Watch>>,
    ) -> Self {
        let lane = |queue: u8| Lane {
            requests: Requests::new(board.room),
            driver: Signal::of(Reason::Missing { what: "an answer in queue", number: queue.into() }),
            told: Cell::new(0),
            published: Cell::new(0),
        };
        Self {
            clock,
            number,
            board,
            interrupts: plan.design.interrupts,
            event_idx: plan.design.event_idx,
            lanes: (0..plan.queues).map(lane).collect(),
            back_end: Signal::default(),
            disk: Permits::new(0, Reason::Work),
            jobs: RefCell::default(),
            arrived: Cell::new(0),
            shared: false,
            base_core,
            doorbells: Cell::new(0),
            interrupted: Cell::new(0),
            failure: RefCell::default(),
            frames: (plan.payload == Payload::Frames).then(|| Frames::new(plan, board.room)),
            watch: watch.cloned(),
        }
    }

    /// Whoever watches sees it.
    #[inline]
    pub(super) fn tell(&self, seen: Seen<'_>) {
        if let Some(watch) = &self.watch {
            self.show(watch.as_ref(), &seen);
        }
    }

    #[cold]
    fn show(&self, watch: &dyn Watch, seen: &Seen<'_>) {
        watch.see(self.clock.now(), self.number, seen);
    }

    /// Something went wrong: the run ends.
    pub(super) fn fail(&self, what: String) {
        self.failure.replace(Some(what));
        // Whoever waits for an answer finds out that there is none.
        self.lanes.iter().for_each(|lane| lane.driver.raise(self.clock));
    }

    /// The head of the chain that was made available to the back end as number `index`.
    pub(super) fn offered_head(&self, queue: usize, index: u16) -> u16 {
        match self.shared {
            true => self.board.guest_head(queue, index),
            false => self.board.shadow_head(queue, index),
        }
    }

    /// The back end uses a chain, as number `index`, and says that it wrote `len` bytes.
    pub(super) fn use_shadow(&self, queue: usize, index: u16, head: u16, len: u32) {
        if self.shared {
            // It is there at once.
            self.board.use_guest(queue, index, head, len);
            let (lane, next) = (&self.lanes[queue], index.wrapping_add(1));
            lane.requests.tell(next, self.clock.now());
            lane.requests.land(next, self.clock.now());
            return lane.driver.raise(self.clock);
        }
        self.board.use_shadow(queue, index, head, len);
        self.base_core.raise(self.clock);
    }
}

/// The queue whose index lies at `at`. Those of a board lie as far apart as the first two.
fn whose(at: u64, index_of: impl Fn(usize) -> Option<u64>) -> Option<usize> {
    let first = index_of(0)?;
    let apart = index_of(1).map_or(1, |second| second.abs_diff(first).max(1));
    let queue = (at.checked_sub(first)? / apart) as usize;
    (index_of(queue)? == at).then_some(queue)
}

impl Environment for Station<'_> {
    /// Which index it is says where it lies. What is not one, a HEAD or the mailbox, is bm-hypervisor's matter.
    fn base_written(&self, at: BaseAddr) {
        let index_of = |queue: usize| Some(self.board.contexts.get(queue)?.shadow.avail.wrapping_add(IDX).0);
        if let Some(queue) = whose(at.0, index_of) {
            let index = self.board.shadow_available(queue);
            self.lanes[queue].requests.shadow(index, self.clock.now());
            self.lanes[queue].published.set(index);
            self.back_end.raise(self.clock);
        }
        self.base_core.raise(self.clock);
    }

    fn board_written(&self, at: BoardAddr) {
        let index_of = |queue: usize| Some(self.board.contexts.get(queue)?.guest.used.wrapping_add(IDX).0);
        if let Some(queue) = whose(at.0, index_of) {
            self.lanes[queue].requests.land(self.board.word(at.0), self.clock.now());
            if !self.interrupts {
                self.lanes[queue].driver.raise(self.clock);
            }
        }
    }

    fn message(&self, message: Message) {
        self.interrupted.set(self.interrupted.get() + 1);
        if let Some(lane) = self.lanes.get(message.data as usize) {
            lane.driver.raise(self.clock);
        }
    }

    fn observe(&self, event: Event) {
        if let Event::Doorbell { .. } = event {
            self.doorbells.set(self.doorbells.get() + 1);
        }
        if let Event::Forwarded { .. } = event {
            // HEAD's register shows it before the index has arrived.
            self.base_core.raise(self.clock);
        }
        if let Event::Failed { queue, error } = event {
            self.fail(format!("queue {queue}: {error}"));
        }
        self.tell(Seen::Engine(event));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_says_whose_it_is_by_where_it_lies() {
        let plan = Plan { queues: 64, ..Plan::default() };
        let board = Board::new(&plan).unwrap();
        let available = |queue: usize| Some(board.contexts.get(queue)?.shadow.avail.wrapping_add(IDX).0);
        let used = |queue: usize| Some(board.contexts.get(queue)?.guest.used.wrapping_add(IDX).0);
        for queue in 0..64 {
            for at in [available(queue).unwrap(), used(queue).unwrap()] {
                let found = [whose(at, available), whose(at, used)];
                assert_eq!(found.iter().flatten().collect::<Vec<_>>(), [&queue]);
                assert_eq!((whose(at + 2, available), whose(at - 2, used)), (None, None));
            }
        }
        assert_eq!(whose(7, |queue| (queue == 0).then_some(7)), Some(0));
        assert_eq!(whose(8, |queue| (queue == 0).then_some(7)), None);
    }
}
