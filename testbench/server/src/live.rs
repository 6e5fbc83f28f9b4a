//! A base server whose boards are software of this process.

use std::{path::Path, rc::Rc, sync::Arc};

use iobond_emulator::{BaseThread, Rest, WakeUp};
use results::measure::StageClock;
use scenario::{Board, Execution, Scenario};
use software_board::memory;

use super::{
    BaseBoard, BaseServer, LiveBus, LiveError, back_ends::BackEnds, base_core::Base, base_server::Detach,
    places::Places, stamps::Stamps,
};

/// `DEVICE_NEEDS_RESET` of the device status (virtio 1.3, 2.1).
const NEEDS_RESET: u8 = 0x40;

/// A base server whose boards are software of this process.
pub type Live = BaseServer<Rc<LiveBus>>;

/// One board of it.
pub type BoardHandle = BaseBoard<Rc<LiveBus>>;

impl Detach for Rc<LiveBus> {
    fn detach(&mut self) {
        self.lend_no_longer();
    }
}

impl Live {
    /// Starts everything that `scenario` names. `program` is `bmhive`, whose `backend` command the back ends
    /// are; captures go to `output`. With a `clock`, the stages of requests are stamped on it.
    ///
    /// # Errors
    /// [`LiveError`]; nothing is left running then.
    pub fn start(
        scenario: &Scenario,
        program: &Path,
        output: &Path,
        clock: Option<&Arc<StageClock>>,
    ) -> Result<Self, LiveError> {
        let directory = tempfile::Builder::new()
            .prefix("bmhive-")
            .tempdir()
            .map_err(|source| LiveError::File { path: std::env::temp_dir(), source })?;
        let places = Places::new(directory.path());
        let back_ends = BackEnds::start(scenario, program, &places, output, &|| false)?;
        let (mut polled, mut boards) = (Vec::new(), Vec::new());
        for (index, board) in scenario.boards.iter().enumerate() {
            let bus = Rc::new(plug(board, clock)?);
            let behind = (Arc::clone(bus.bond()), Stamps(clock.cloned()));
            let (poller, board) = BaseBoard::start(index, scenario, &places, behind, || Ok(bus))?;
            polled.push(poller);
            boards.push(board);
        }
        let base = Base::new(polled);
        let thread = match scenario.execution {
            Execution::Threads => {
                let wake_up = Arc::new(WakeUp::new().map_err(LiveError::Thread)?);
                Some(BaseThread::start(base, Rest::Never, wake_up).map_err(LiveError::Thread)?)
            }
            Execution::Inline => {
                let base = Rc::new(base);
                for BoardHandle { bus, .. } in &boards {
                    let base = Rc::clone(&base);
                    bus.lend(move || base.pass());
                }
                None
            }
        };
        Ok(Self { thread, boards, back_ends, places, _directory: Some(directory) })
    }

    /// The first function that asks its driver for a reset: IO-Bond stopped one of its queues, which is the
    /// driver's fault or that of the sizes it was given, and no failure of the base.
    pub fn stopped(&self) -> Option<LiveError> {
        self.boards.iter().find_map(|board| {
            let functions = board.statistics().functions;
            let stopped = functions.iter().position(|function| function.status & NEEDS_RESET != 0)?;
            let (queue, reason) = functions[stopped].last_queue_error.clone()?;
            Some(LiveError::Stopped { board: board.name.clone(), function: stopped, queue, reason })
        })
    }

    /// Bytes that each board takes beyond its own memory and its slots: the IO-Bond, shadow rings and status
    /// page.
    pub fn footprint(&self) -> Vec<u64> {
        let of = |board: &BoardHandle| {
            let pool = board.statistics().memory;
            board.bond().footprint() as u64 + pool.total - pool.slots
        };
        self.boards.iter().map(of).collect()
    }
}

/// A board with its memory and its IO-Bond.
fn plug(board: &Board, clock: Option<&Arc<StageClock>>) -> Result<LiveBus, LiveError> {
    let mebibytes = u32::try_from(board.memory_bytes >> 20).unwrap_or(u32::MAX);
    let memory = memory::create(mebibytes)
        .map_err(|source| LiveError::Memory { board: board.name.clone(), source })?;
    LiveBus::new(memory, clock.cloned())
        .map_err(|source| LiveError::Map { board: board.name.clone(), source })
}
