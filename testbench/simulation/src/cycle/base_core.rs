//! The base core: bm-hypervisor's real poll pass over one board after the other, in virtual time.
//!
//! A pass over a board that finds nothing takes the same time whenever it is made, so a core that finds
//! nothing anywhere is suspended: when something changes it resumes in the middle of the pass in which it
//! would be by then.

use std::{
    cell::RefCell,
    rc::Rc,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use bm_hypervisor::{
    BareEvents, Observer, Poller,
    port::{Port, PortError, Region},
};
use iobond_model::{
    cycle::{Bond, Span, Time},
    device::tail_of,
    fabric::Fabric,
};
use iobond_spec::{
    address::BaseAddr,
    offsets::{self, queues},
    register_access::RegisterIo,
};

use super::{Seen, board_tasks::BoardTasks};
use crate::{BoardError, Fault, Notice, Plan, board::Board};

/// What a pass reads and writes of the registers: reads see what was there when they arrived, writes are sent
/// when the pass is over.
#[derive(Debug)]
pub(super) struct Registers {
    values: Vec<AtomicU32>,
    written: Mutex<Vec<(u32, u32)>>,
}

impl Registers {
    pub(super) fn new() -> Self {
        let values = (0..offsets::BAR0_SIZE / 4).map(|_| AtomicU32::new(0)).collect();
        Self { values, written: Mutex::default() }
    }

    pub(super) fn set(&self, offset: u32, value: u32) {
        if let Some(register) = self.values.get((offset / 4) as usize) {
            register.store(value, Ordering::Relaxed);
        }
    }

    pub(super) fn take_written(&self) -> Vec<(u32, u32)> {
        std::mem::take(&mut self.written.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl RegisterIo for Registers {
    fn read32(&self, offset: u32) -> u32 {
        self.values.get((offset / 4) as usize).map_or(0, |value| value.load(Ordering::Relaxed))
    }

    fn write32(&self, offset: u32, value: u32) {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).push((offset, value));
    }
}

/// Memory is mapped where a board is made; a poller without a control thread asks for nothing else.
impl Port for Registers {
    fn map_dma(&self, _: &Region<'_>) -> Result<(), PortError> {
        Ok(())
    }

    fn unmap_dma(&self, _: BaseAddr) -> Result<(), PortError> {
        Ok(())
    }

    fn reset(&self) -> Result<(), PortError> {
        Ok(())
    }
}

/// What a pass found: queues whose HEAD moved, and to where.
#[derive(Clone, Default)]
struct Heads(Rc<RefCell<Vec<(u8, u16)>>>);

impl Observer for Heads {
    fn published(&mut self, queue: u8, head: u16, _: bool) {
        self.0.borrow_mut().push((queue, head));
    }
}

/// bm-hypervisor of one board.
pub(super) struct Hypervisor {
    port: Arc<Registers>,
    poller: Poller<Registers, Heads>,
    heads: Heads,
    noticed: BareEvents,
    /// A pass that finds nothing.
    pass: Span,
    reads_registers: bool,
}

impl Hypervisor {
    pub(super) fn new(plan: &Plan, board: &Board) -> Result<Self, BoardError> {
        let port = Arc::new(Registers::new());
        let reads_registers = plan.design.notice == Notice::Registers;
        let (poller, noticed) = board.poller(&plan.design, &port)?;
        let heads = Heads::default();
        let poller = poller.observed_by(heads.clone());
        // The mailbox and a HEAD for each queue.
        let reads = if reads_registers { 1 + u64::from(plan.queues) } else { 0 };
        let pass = plan.timing.poll.pass + plan.timing.base_register_read() * reads;
        Ok(Self { port, poller, heads, noticed, pass, reads_registers })
    }

    /// One pass that began at `from`, to its end; whether there may be more: it found something, or could not
    /// see what there is.
    async fn pass<M: Fabric>(
        &mut self,
        plan: &Plan,
        tasks: &BoardTasks<'_>,
        bond: &Bond<'_, M>,
        from: Time,
    ) -> bool {
        let clock = tasks.clock;
        let end = from + self.pass;
        let mut late = false;
        if self.reads_registers {
            // A read is answered half way; what comes later is for the next pass.
            let answered = end - plan.timing.base_flight();
            late = clock.now() > answered;
            clock.until(answered).await;
            for queue in (0..plan.queues).filter(|_| !late) {
                let at = queues::BASE + u32::from(queue) * queues::STRIDE + queues::HEAD;
                self.port.set(at, bond.head(queue.into()).into());
            }
        }
        clock.until(end).await;
        let progress = self.poller.pass();
        let found = u64::from(progress.published + progress.returned + progress.requests);
        if found > 0 {
            clock.sleep(plan.timing.poll.entry * found).await;
        }
        for (offset, value) in self.port.take_written() {
            if let Some(queue) = tail_of(offset).filter(|queue| *queue < tasks.lanes.len()) {
                tasks.lanes[queue].requests.tell(value as u16, clock.now());
                tasks.tell(Seen::Tail { queue, index: value as u16, from });
            }
            bond.write_register(offset, value);
        }
        self.tell_back_end(tasks, from);
        if found > 0 {
            let (published, returned) = (progress.published.into(), progress.returned.into());
            tasks.tell(Seen::Pass { from, published, returned });
        }
        while let Some(news) = self.noticed.next() {
            tasks.failure.replace(Some(Fault::Noticed(news)));
        }
        found > 0 || late
    }

    /// The back end may look as far as the pass did that began at `from`.
    fn tell_back_end(&self, tasks: &BoardTasks<'_>, from: Time) {
        for (queue, head) in self.heads.0.borrow_mut().drain(..) {
            if let Some(lane) = tasks.lanes.get(usize::from(queue)) {
                lane.told.set(head);
                tasks.tell(Seen::Head { queue: queue.into(), index: head, from });
                tasks.back_end.raise(tasks.clock);
            }
        }
    }
}

/// Passes over all boards in turn, for ever.
pub(super) async fn poll<M: Fabric>(
    plan: &Plan,
    mut hypervisors: Vec<Hypervisor>,
    all_tasks: &[BoardTasks<'_>],
    bonds: &[Bond<'_, M>],
) {
    let Some(clock) = all_tasks.first().map(|tasks| tasks.clock) else { return };
    let Some(work) = all_tasks.first().map(|tasks| tasks.base_core) else { return };
    let boards = hypervisors.len();
    let (mut next, mut idle, mut begun) = (0, 0, clock.now());
    loop {
        if idle == boards {
            work.wait(clock).await;
            let (over, since) = passes_between(begun, clock.now(), hypervisors[next].pass);
            (next, begun, idle) = ((next + (over % boards as u64) as usize) % boards, since, 0);
        }
        let more = hypervisors[next].pass(plan, &all_tasks[next], &bonds[next], begun).await;
        (next, begun) = ((next + 1) % boards, clock.now());
        idle = if more { 0 } else { idle + 1 };
    }
}

/// Passes of length `pass` that a core made from `since` on and that are over by `now`, and when the one
/// began that is not.
fn passes_between(since: Time, now: Time, pass: Span) -> (u64, Time) {
    let over = now.since(since).ps() / pass.ps().max(1);
    (over, since + pass * over)
}

#[cfg(test)]
mod tests {
    use iobond_model::{
        cycle::{Clock, Ending, Executor, Signal},
        live::Memory,
    };

    use super::*;
    use crate::{
        Design, Recorder,
        cycle::{board_tasks::Site, bring_up},
        driver::doorbell,
    };

    /// ```text
    ///   5   15   25   35
    ///   |----|----|----|
    ///        ^  ^ ^
    /// ```
    #[test]
    fn a_core_that_was_suspended_is_in_the_middle_of_a_pass() {
        let at = Time::from_ps;
        for (now, over, begun) in [(5, 0, 5), (14, 0, 5), (15, 1, 15), (24, 1, 15), (25, 2, 25)] {
            assert_eq!(passes_between(at(5), at(now), Span::from_ps(10)), (over, at(begun)), "at {now} ps");
        }
    }

    /// HEAD as the back end was told it, three passes after the core heard of it for the only time, at `part`
    /// of a pass.
    fn told(part: u64) -> u16 {
        let design = Design { interrupts: false, ..Design::PAPER };
        let site = Site::new(0, Plan { design, ..Plan::default() }).unwrap();
        let Site { plan, board, .. } = &site;
        let (board_memory, base_memory) = board.reached().unwrap();
        let (board_memory, base_memory) = (board_memory.lease(), base_memory.lease());
        let memory = Memory::new(&board_memory, &base_memory, &());
        let (clock, recorder) = (Clock::new(), Recorder::new(0));
        // The core hears of nothing but what the test tells it.
        let (unheard, work) = (Signal::default(), Signal::default());
        let around = BoardTasks::new(&clock, &site, &unheard, &recorder, None);
        let polled = [BoardTasks::new(&clock, &site, &work, &recorder, None)];
        let bonds = [Bond::new(&clock, &plan.timing, &memory, &around)];
        let hypervisor = Hypervisor::new(plan, board).unwrap();
        let pass = hypervisor.pass;
        let mut executor = Executor::new(&clock);
        bonds[0].serve(&mut executor, "board0", 1);
        executor.spawn("board0: set-up", bring_up(board, &clock, &bonds[0], plan));
        assert_eq!(executor.run(Time::MAX), Ending::Finished);
        let begun = clock.now();
        executor.serve("base core", poll(plan, vec![hypervisor], &polled, &bonds));
        executor.spawn("board0: driver", async {
            // The core has passed once by then, and found nothing.
            clock.until(begun + pass * 2).await;
            board.offer(0, 0, 0);
            board.publish(0, 1);
            bonds[0].access(doorbell(design, 0, 1)).await;
            clock.until(begun + pass * 100 + pass * part / PARTS).await;
            assert_eq!(bonds[0].head(0), 1);
            work.raise(&clock);
            clock.sleep(pass * 3).await;
        });
        assert_eq!(executor.run(Time::MAX), Ending::Finished);
        drop(executor);
        polled[0].lanes[0].told.get()
    }

    const PARTS: u64 = 32;

    /// ```text
    ///   pass     |--- HEAD is read ---->|<-- answer ---|--- the next ---
    ///   raised            here is soon enough   here is too late for this one
    /// ```
    #[test]
    fn a_head_that_moves_behind_the_read_of_a_pass_is_seen_by_the_next() {
        for part in 0..PARTS {
            assert_eq!(told(part), 1, "raised at {part}/{PARTS} of a pass");
        }
    }
}
