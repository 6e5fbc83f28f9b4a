//! Accesses to registers: of the board to its IO-Bond, of the base to it, and of the board to the base, which
//! bm-hypervisor's pass notices in the mailbox and which is answered at once.
//!
//! Left out: that the pass hands the request to another thread, which may have to wake up.

use std::{cell::Cell, sync::Arc};

use bm_hypervisor::{BareEvent, BareEvents, Poller};
use iobond_model::{
    cycle::{Bond, Clock, Executor, Signal, Span},
    device::Access,
    fabric::Fabric,
    live::Memory,
};
use iobond_spec::{
    function::{COMMON, ISR},
    offsets::{mailbox, queues},
    register_access::RegisterIo,
};

use super::{
    UP,
    base_core::Registers,
    board_tasks::{BoardTasks, Site},
    bring_up, concluded,
};
use crate::{
    BenchError, BoardError, Fault, Notice, Plan, Recorder,
    board::{Board, FIRST},
    random::Chance,
};

/// What accesses take, on average.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accesses {
    /// The board reads a register that IO-Bond answers.
    pub local: Span,
    /// The base reads a register of IO-Bond.
    pub base: Span,
    /// The board reads a register that the base answers.
    pub forwarded: Span,
    /// The quickest of those.
    pub quickest: Span,
}

/// Reads of each kind that are averaged over.
const READS: u64 = 1000;
/// Mean time between two of them, by chance, so that they meet passes at any moment of theirs. A judgement:
/// some passes.
const BETWEEN: Span = Span::from_us(20);

/// Measures accesses of one board that does nothing else.
///
/// # Errors
/// [`BenchError`].
pub fn accesses(plan: &Plan) -> Result<Accesses, BenchError> {
    plan.check()?;
    let site = Site::new(0, plan.clone())?;
    let board = &site.board;
    let (board_memory, base_memory) = board.reached()?;
    let (board_memory, base_memory) = (board_memory.lease(), base_memory.lease());
    let memory = Memory::new(&board_memory, &base_memory, &());
    let (clock, base_core, recorder) = (Clock::new(), Signal::default(), Recorder::new(0));
    let tasks = BoardTasks::new(&clock, &site, &base_core, &recorder, None);
    let bond = Bond::new(&clock, &plan.timing, &memory, &tasks);
    let took = Cell::new(Accesses { quickest: Span::from_ps(u64::MAX), ..Accesses::default() });
    let mut base = Base::new(plan, board)?;
    let mut executor = Executor::new(&clock);
    bond.serve(&mut executor, "board0", plan.queues.into());
    executor.spawn("board0: set-up", bring_up(board, &clock, &bond, plan));
    executor.spawn("board0: reader", read(&tasks, &bond, &took));
    executor.serve("base core", async {
        // Registers that are set up are not to be polled meanwhile.
        clock.until(UP).await;
        loop {
            base.pass(&tasks, &bond).await;
        }
    });
    let limit = BETWEEN * (READS * 10);
    let ending = executor.run(UP + limit);
    drop(executor);
    concluded(ending, std::slice::from_ref(&tasks))?.then(|| took.get()).ok_or(BenchError::TooLong {
        done: 0,
        wanted: READS,
        limit,
    })
}

/// Reads what IO-Bond, what the base answers, and across the base's link, again and again.
async fn read<M: Fabric>(tasks: &BoardTasks<'_>, bond: &Bond<'_, M>, took: &Cell<Accesses>) {
    let clock = tasks.clock;
    let mut chance = Chance::new(tasks.plan.seed, 0);
    clock.until(UP).await;
    let mut sums = [Span::ZERO; 3];
    let mut quickest = Span::from_ps(u64::MAX);
    for _ in 0..READS {
        for (what, sum) in (0..).zip(&mut sums) {
            clock.sleep(chance.exponential(BETWEEN)).await;
            let from = clock.now();
            let bar = |offset| Access::BarRead { function: FIRST, offset, width: 1 };
            let value = match what {
                0 => bond.access(bar(ISR)).await,
                1 => bond.read_register(mailbox::BASE + mailbox::REQUEST).await,
                _ => bond.access(bar(COMMON)).await,
            };
            *sum += clock.now().since(from);
            if what == 2 && value != ANSWER {
                tasks.failure.replace(Some(Fault::Forwarded(value)));
                return;
            }
            if what == 2 {
                quickest = quickest.min(clock.now().since(from));
            }
        }
    }
    let [local, base, forwarded] = sums.map(|sum| sum / READS);
    took.set(Accesses { local, base, forwarded, quickest });
}

/// bm-hypervisor, which passes over the board all the time.
struct Base {
    port: Arc<Registers>,
    poller: Poller<Registers>,
    noticed: BareEvents,
}

impl Base {
    fn new(plan: &Plan, board: &Board) -> Result<Self, BoardError> {
        let port = Arc::new(Registers::new());
        let (poller, noticed) = board.poller(&plan.design, &port)?;
        Ok(Self { port, poller, noticed })
    }

    /// One pass: reads what it is going to look at, register by register as the pass itself does, and
    /// answers.
    async fn pass<M: Fabric>(&mut self, tasks: &BoardTasks<'_>, bond: &Bond<'_, M>) {
        let plan = tasks.plan;
        let (clock, poll) = (tasks.clock, plan.timing.poll);
        let registers = plan.design.notice == Notice::Registers;
        if registers {
            self.read_mailbox(bond).await;
            clock.sleep(poll.pass).await;
        } else {
            // Passes that find nothing are not made one by one: the next one begins within one of them.
            tasks.base_core.wait(clock).await;
            clock.sleep(poll.pass + poll.pass / 2).await;
        }
        self.poller.pass();
        while let Some(news) = self.noticed.next() {
            if let BareEvent::Request { sequence, read, .. } = news {
                clock.sleep(poll.entry).await;
                if read {
                    bond.write_register(mailbox::BASE + mailbox::ANSWER_DATA, ANSWER);
                }
                bond.write_register(mailbox::BASE + mailbox::ANSWER, sequence.into());
            }
        }
        if registers {
            // The rest of a pass, before the mailbox has its turn again.
            for queue in 0..u32::from(plan.queues) {
                bond.read_register(queues::BASE + queue * queues::STRIDE + queues::HEAD).await;
            }
        }
    }

    async fn read_mailbox<M: Fabric>(&self, bond: &Bond<'_, M>) {
        let before = self.port.read32(mailbox::BASE + mailbox::REQUEST);
        let request = bond.read_register(mailbox::BASE + mailbox::REQUEST).await;
        self.port.set(mailbox::BASE + mailbox::REQUEST, request);
        if request != before {
            for at in [mailbox::OFFSET, mailbox::DATA] {
                self.port.set(mailbox::BASE + at, bond.read_register(mailbox::BASE + at).await);
            }
        }
    }
}

/// What is answered: anything that a read can tell from all ones.
const ANSWER: u32 = 0x5A;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Design;

    /// Two hops and a pass with a status page; with registers three more hops, and the wait for the first of
    /// them.
    #[test]
    fn a_forwarded_read_takes_two_hops_and_what_the_base_needs_to_notice() {
        let page = accesses(&Plan::default()).expect("a plan that can be");
        let two = Plan::default().timing.board_access + Plan::default().timing.mailbox_hop;
        assert!(page.quickest >= two && page.forwarded < two + Span::from_ns(100), "{page:?}");
        let polled =
            accesses(&Plan { design: Design::PAPER, ..Plan::default() }).expect("a plan that can be");
        assert!(polled.quickest >= two + Plan::default().timing.mailbox_hop * 2, "{polled:?}");
        assert!(polled.forwarded > polled.quickest, "{polled:?}");
        assert_eq!(polled.local, Plan::default().timing.board_access);
    }
}
