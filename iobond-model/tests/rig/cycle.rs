//! An IO-Bond in virtual time, set up, and what surrounds it.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use iobond_model::{
    cycle::{Activity, Bond, Clock, Ending, Environment, Event, Executor, Signal, Span, Time},
    device::Access,
    fabric::Fabric,
    front_end::Message,
    live::Memory,
    shadow::Context,
    timing::Timing,
};
use iobond_spec::{
    address::{BaseAddr, BoardAddr},
    function::NOTIFY,
    offsets::queues,
    register_access::{Over, RegisterIo},
};

use super::{
    BASE, LANE, LANES, Raised, Rig, STATUS_PAGE, Shape, reached,
    registers::{boot, enable, function, grant, power, present, show_status},
};

pub const LIMIT: Time = Time::from_ps(1_000_000_000_000);

/// What surrounds the IO-Bond: wakes the tasks that wait for a change, and writes down what it hears.
pub struct Around<'c> {
    pub clock: &'c Clock,
    pub base: Signal,
    pub board: Signal,
    pub messages: Cell<u32>,
    pub events: RefCell<Vec<(Time, Event)>>,
    /// When base memory was written last, and where.
    pub written: Cell<Option<(Time, BaseAddr)>>,
}

impl<'c> Around<'c> {
    pub fn new(clock: &'c Clock) -> Self {
        let (base, board) = (Signal::default(), Signal::default());
        Self {
            clock,
            base,
            board,
            messages: Cell::new(0),
            events: RefCell::default(),
            written: Cell::default(),
        }
    }
}

impl Environment for Around<'_> {
    fn base_written(&self, at: BaseAddr) {
        self.written.set(Some((self.clock.now(), at)));
        self.base.raise(self.clock);
    }

    fn board_written(&self, _: BoardAddr) {
        self.board.raise(self.clock);
    }

    fn message(&self, _: Message) {
        self.messages.set(self.messages.get() + 1);
    }

    fn observe(&self, event: Event) {
        self.events.borrow_mut().push((self.clock.now(), event));
    }
}

/// The base's registers, written by posted writes.
pub struct Registers<'b, 'a, M>(pub &'b Bond<'a, M>);

impl<M: Fabric> RegisterIo for Registers<'_, '_, M> {
    fn read32(&self, _: u32) -> u32 {
        unreachable!("nothing that the set-up writes needs to be read")
    }

    fn write32(&self, offset: u32, value: u32) {
        self.0.write_register(offset, value);
    }
}

/// A board with one function whose queue context 0 runs, once this is over. `page`: the base has a status
/// page.
pub async fn set_up<M: Fabric>(clock: &Clock, bond: &Bond<'_, M>, context: &Context, page: bool) {
    let over = Over(Registers(bond));
    let registers = over.registers();
    power(&registers);
    present(&registers, 0);
    clock.sleep(Span::from_us(20)).await;
    let mut writes = vec![];
    let writes = {
        let noted = RefCell::new(&mut writes);
        boot(0, |offset, width, value| noted.borrow_mut().push((offset, width, value)));
        writes
    };
    for (offset, width, value) in writes {
        bond.access(Access::ConfigWrite { function: function(0), offset, width, value }).await;
    }
    grant(&registers, 0, BaseAddr(BASE), LANES * LANE);
    if page {
        show_status(&registers, BaseAddr(BASE + STATUS_PAGE));
    }
    clock.sleep(Span::from_us(20)).await;
    enable(&over, 0, context);
    clock.sleep(Span::from_us(20)).await;
}

pub async fn notify<M: Fabric>(bond: &Bond<'_, M>) {
    bond.access(Access::BarWrite { function: function(0), offset: NOTIFY, width: 2, value: 0 }).await;
}

pub fn tail<M: Fabric>(bond: &Bond<'_, M>, index: u16) {
    bond.write_register(queues::BASE + queues::TAIL, index.into());
}

/// Both memories, a context in lane 0, its rings fresh.
pub fn memories(shape: Shape) -> (Rig, Context) {
    let mut rig = Rig::default();
    let context = shape.context(0);
    rig.start(context);
    (rig, context)
}

/// Runs what `script` makes of a bond that is set up, to its end.
pub fn simulate(
    timing: &Timing,
    (rig, context): &(Rig, Context),
    script: impl AsyncFn(&Clock, &Bond<'_, Memory<'_, '_, Raised>>, &Around<'_>),
) -> Ending {
    simulate_watched(timing, (rig, context), None, script)
}

/// The same, and `watch` sees what links and DMA engine do.
pub fn simulate_watched(
    timing: &Timing,
    (rig, context): (&Rig, &Context),
    watch: Option<Rc<dyn Fn(Activity)>>,
    script: impl AsyncFn(&Clock, &Bond<'_, Memory<'_, '_, Raised>>, &Around<'_>),
) -> Ending {
    timing.check().unwrap();
    let clock = Clock::new();
    let around = Around::new(&clock);
    let (board, base) = (reached(&rig.board), reached(&rig.base));
    let (board, base) = (board.lease(), base.lease());
    let memory = Memory::new(&board, &base, &rig.raised);
    let mut bond = Bond::new(&clock, timing, &memory, &around);
    if let Some(watch) = watch {
        bond = bond.watched_by(watch);
    }
    let mut executor = Executor::new(&clock);
    bond.serve(&mut executor, "board0", 1);
    executor.spawn("test", async {
        set_up(&clock, &bond, context, true).await;
        script(&clock, &bond, &around).await;
    });
    executor.run(LIMIT)
}
