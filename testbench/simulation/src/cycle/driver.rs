//! What a driver runs on in virtual time: a processor of its own, on a board with an IO-Bond or in a virtual
//! machine.

use iobond_model::{
    cycle::{Bond, Span, Time},
    fabric::Fabric,
};

use super::{Seen, board_tasks::BoardTasks};
use crate::{
    Plan, Stamps,
    driver::{Platform, doorbell},
};

/// What the driver's processor is in: a board with an IO-Bond, or a virtual machine.
pub(super) trait Machine {
    /// Notifies the device of buffers in `queue` up to available index `index`; over when the processor
    /// continues.
    async fn notify(&self, plan: &Plan, queue: usize, index: u16);

    /// An interrupt has come; over when the driver looks.
    async fn interrupted(&self, tasks: &BoardTasks<'_>) {
        tasks.clock.sleep(tasks.plan.timing.guest.interrupt).await;
    }
}

impl<M: Fabric> Machine for Bond<'_, M> {
    async fn notify(&self, plan: &Plan, queue: usize, index: u16) {
        self.access(doorbell(plan.design, queue, index)).await;
    }
}

/// One queue, as its driver has it.
pub(super) struct Queue<'a, M> {
    pub(super) tasks: &'a BoardTasks<'a>,
    pub(super) machine: &'a M,
    pub(super) queue: usize,
}

impl<M: Machine> Platform for Queue<'_, M> {
    fn now(&self) -> Time {
        self.tasks.clock.now()
    }

    async fn spend(&self, span: Span) {
        self.tasks.clock.sleep(span).await;
    }

    fn made(&self) -> u64 {
        self.tasks.lanes[self.queue].requests.made()
    }

    fn done(&self) -> u64 {
        self.tasks.lanes[self.queue].requests.done()
    }

    fn has_free(&self) -> bool {
        self.tasks.lanes[self.queue].requests.has_free()
    }

    fn make(&self, due: Time) -> Option<u16> {
        let (tasks, queue) = (self.tasks, self.queue);
        let requests = &tasks.lanes[queue].requests;
        let number = requests.made();
        let request = requests.make(due)?;
        tasks.tell(Seen::Made { queue, request });
        tasks.write_frame(queue, request, number);
        Some(request)
    }

    fn submit(&self, from: Time, count: u64) {
        self.tasks.lanes[self.queue].requests.submit(self.now());
        self.tasks.tell(Seen::Submitted { queue: self.queue, from, count });
    }

    async fn notify(&self, index: u16) {
        self.tasks.tell(Seen::Notified { queue: self.queue, index });
        self.machine.notify(self.tasks.plan, self.queue, index).await;
    }

    async fn wait(&self, due: Option<Time>) -> bool {
        let (tasks, signal) = (self.tasks, &self.tasks.lanes[self.queue].driver);
        let told = match due {
            Some(due) => signal.wait_until(tasks.clock, due).await,
            None => {
                signal.wait(tasks.clock).await;
                true
            }
        };
        if told && tasks.plan.design.interrupts {
            let from = self.now();
            self.machine.interrupted(tasks).await;
            tasks.tell(Seen::Interrupted { queue: self.queue, from });
        }
        told
    }

    fn take_back(&self) -> Option<(u64, Stamps)> {
        let (tasks, queue) = (self.tasks, self.queue);
        let (nth, request, stamps) = tasks.lanes[queue].requests.take_back(self.now())?;
        tasks.check_answer(queue, request);
        tasks.tell(Seen::Done { queue, request, stamps: &stamps });
        Some((nth, stamps))
    }

    fn taken_back(&self, from: Time, count: u64) {
        self.tasks.tell(Seen::TakenBack { queue: self.queue, from, count });
    }

    /// What lands later is held against the new index: IO-Bond reads it after it has written.
    fn want_interrupt(&self) {
        self.tasks.board.want_interrupt(self.queue, self.done() as u16);
    }

    fn failed(&self) -> bool {
        self.tasks.failure.borrow().is_some()
    }
}
