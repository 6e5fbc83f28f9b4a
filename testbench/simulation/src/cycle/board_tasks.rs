//! Routes the events of a board's IO-Bond to the tasks that wait for them.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
};

use iobond_model::{
    cycle::{Clock, Environment, Event, Permits, Reason, Signal},
    fabric::Direction,
    front_end::Message,
};
use iobond_spec::{
    address::{BaseAddr, BoardAddr},
    ring::split::IDX,
};

use super::{
    Seen, Watch,
    frames::{Frames, NET_HEADER},
};
use crate::{BoardError, Fault, Payload, Plan, Recorder, board::Board, moments::Requests, recorder::OfBoard};

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

/// A board, and what it is asked to do.
pub(super) struct Site {
    pub(super) number: usize,
    pub(super) plan: Plan,
    pub(super) board: Board,
}

impl Site {
    /// Board `number`, which is asked to do all of `plan`.
    pub(super) fn new(number: usize, plan: Plan) -> Result<Self, BoardError> {
        Ok(Self { number, board: Board::new(&plan)?, plan })
    }

    /// Those of all boards of `plan`.
    pub(super) fn all(plan: &Plan) -> Result<Vec<Self>, BoardError> {
        (0..plan.boards.into()).map(|number| Self::new(number, plan.of_board(number))).collect()
    }
}

/// A request that the back end has taken, and that waits for the disk or for its turn on the network.
#[derive(Clone, Copy, Debug)]
pub(super) struct Job {
    pub(super) queue: usize,
    pub(super) request: u16,
    pub(super) head: u16,
    /// As which it was made.
    pub(super) number: u64,
}

/// A board, and what its tasks share.
pub(super) struct BoardTasks<'a> {
    pub(super) clock: &'a Clock,
    /// What this board is asked to do.
    pub(super) plan: &'a Plan,
    /// Number of the board.
    pub(super) number: usize,
    pub(super) board: &'a Board,
    /// Takes its finished requests.
    pub(super) sink: OfBoard<'a>,
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
    pub(super) failure: RefCell<Option<Fault>>,
    /// If requests carry frames.
    pub(super) frames: Option<Frames>,
    /// What watches the run.
    pub(super) watch: Option<Rc<dyn Watch>>,
}

impl<'a> BoardTasks<'a> {
    pub(super) fn new(
        clock: &'a Clock,
        site: &'a Site,
        base_core: &'a Signal,
        recorder: &'a Recorder,
        watch: Option<&Rc<dyn Watch>>,
    ) -> Self {
        let Site { number, plan, board } = site;
        let lane = |queue: u8| Lane {
            requests: Requests::new(board.capacity),
            driver: Signal::of(Reason::Missing { what: "an answer in queue", number: queue.into() }),
            told: Cell::new(0),
            published: Cell::new(0),
        };
        Self {
            clock,
            plan,
            number: *number,
            board,
            sink: OfBoard::new(recorder),
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
            frames: (plan.payload == Payload::Frames).then(|| Frames::new(plan, site.number, board.capacity)),
            watch: watch.cloned(),
        }
    }

    /// Shows `seen` to what watches the run, if anything does.
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
    pub(super) fn fail(&self, fault: Fault) {
        self.failure.replace(Some(fault));
        // A driver that waits for an answer finds out that there is none.
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
    fn use_shadow(&self, queue: usize, index: u16, head: u16, len: u32) {
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

    /// The driver writes the frame of its request number `number`, if requests carry frames.
    #[inline]
    pub(super) fn write_frame(&self, queue: usize, request: u16, number: u64) {
        if let Some(frames) = &self.frames {
            self.must(frames.write(self.board, queue, request, number));
        }
    }

    /// The driver looks at the answer to its request.
    #[inline]
    pub(super) fn check_answer(&self, queue: usize, request: u16) {
        if let Some(frames) = &self.frames {
            self.must(frames.check_answer(self.board, queue, request));
        }
    }

    /// The back end looks at the frame of the chain at `head`, the queue's number `number`.
    #[inline]
    pub(super) fn check_frame(&self, queue: usize, head: u16, number: u64) {
        let checked = self.frames.as_ref().map(|frames| frames.check(self.board, queue, head, number));
        self.pass(queue, Direction::Up, checked);
    }

    /// A frame has passed the back end as it should, and what watches sees it; or the run ends.
    fn pass(&self, queue: usize, direction: Direction, frame: Option<Result<Vec<u8>, Fault>>) {
        match frame {
            Some(Ok(bytes)) if !bytes.is_empty() => {
                self.tell(Seen::Frame { queue, direction, bytes: &bytes[NET_HEADER..] });
            }
            Some(Err(fault)) => self.fail(fault),
            Some(Ok(_)) | None => {}
        }
    }

    fn must(&self, done: Result<(), Fault>) {
        if let Err(fault) = done {
            self.fail(fault);
        }
    }

    /// The back end uses the chain of `job`.
    pub(super) fn finish(&self, job: Job) {
        let Job { queue, request, head, number } = job;
        let requests = &self.lanes[queue].requests;
        let answered = self.frames.as_ref().map(|frames| frames.answer(self.board, queue, head, number));
        self.pass(queue, Direction::Down, answered);
        self.tell(Seen::Used { queue, request });
        let index = requests.used() as u16;
        requests.finish(request, self.clock.now());
        self.use_shadow(queue, index, head, self.plan.shape.back);
    }
}

/// The queue whose index lies at `at`. Those of a board lie as far apart as the first two.
fn queue_at(at: u64, index_of: impl Fn(usize) -> Option<u64>) -> Option<usize> {
    let first = index_of(0)?;
    let apart = index_of(1).map_or(1, |second| second.abs_diff(first).max(1));
    let queue = (at.checked_sub(first)? / apart) as usize;
    (index_of(queue)? == at).then_some(queue)
}

impl Environment for BoardTasks<'_> {
    /// Which index it is says where it lies. What is not one, a HEAD or the mailbox, is bm-hypervisor's
    /// matter.
    fn base_written(&self, at: BaseAddr) {
        let index_of = |queue: usize| Some(self.board.contexts.get(queue)?.shadow.avail.wrapping_add(IDX).0);
        if let Some(queue) = queue_at(at.0, index_of) {
            let index = self.board.shadow_available(queue);
            self.lanes[queue].requests.shadow(index, self.clock.now());
            self.lanes[queue].published.set(index);
            self.back_end.raise(self.clock);
        }
        self.base_core.raise(self.clock);
    }

    fn board_written(&self, at: BoardAddr) {
        let index_of = |queue: usize| Some(self.board.contexts.get(queue)?.guest.used.wrapping_add(IDX).0);
        if let Some(queue) = queue_at(at.0, index_of) {
            self.lanes[queue].requests.land(self.board.word(at.0), self.clock.now());
            if !self.plan.design.interrupts {
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
            self.fail(Fault::Engine { queue, error });
        }
        self.tell(Seen::Engine(event));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_names_its_queue_by_where_it_lies() {
        let plan = Plan { queues: 64, ..Plan::default() };
        let board = Board::new(&plan).unwrap();
        let available = |queue: usize| Some(board.contexts.get(queue)?.shadow.avail.wrapping_add(IDX).0);
        let used = |queue: usize| Some(board.contexts.get(queue)?.guest.used.wrapping_add(IDX).0);
        for queue in 0..64 {
            for at in [available(queue).unwrap(), used(queue).unwrap()] {
                let found = [queue_at(at, available), queue_at(at, used)];
                assert_eq!(found.iter().flatten().collect::<Vec<_>>(), [&queue]);
                assert_eq!((queue_at(at + 2, available), queue_at(at - 2, used)), (None, None));
            }
        }
        assert_eq!(queue_at(7, |queue| (queue == 0).then_some(7)), Some(0));
        assert_eq!(queue_at(8, |queue| (queue == 0).then_some(7)), None);
    }
}
