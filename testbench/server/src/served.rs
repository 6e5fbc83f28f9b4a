//! A base server whose boards are machines of their own: every function has a vfio-user socket, and what
//! hosts the board (QEMU, or any client) connects there. Boards come and go; the base stays.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use iobond_emulator::{BaseThread, InterruptLines, WakeUp, serve_functions};
use iobond_model::live::Bond;
use iobond_vfio_user::Server;
use scenario::{Device, Scenario};

use super::{
    BaseBoard, BaseServer, LiveError,
    back_ends::BackEnds,
    base_core::{Base, PolledBoard},
    base_server::Detach,
    emulated::rest,
    places::Places,
    stamps::Stamps,
};

/// A base server whose boards are machines of their own.
pub type Served = BaseServer<Sockets>;

/// One board of it.
pub type ServedBoard = BaseBoard<Sockets>;

/// Where the machine in a board's place finds it.
pub struct Sockets {
    functions: Vec<PathBuf>,
    terminal: Option<PathBuf>,
    servers: Vec<Server>,
}

impl Detach for Sockets {
    fn detach(&mut self) {
        self.servers.clear();
    }
}

impl ServedBoard {
    /// The vfio-user socket of each function, in the scenario's order.
    pub fn function_sockets(&self) -> &[PathBuf] {
        &self.bus.functions
    }

    /// The socket that terminals connect to, if the board has a console.
    pub fn terminal(&self) -> Option<&Path> {
        self.bus.terminal.as_deref()
    }
}

impl Served {
    /// Starts the base of `scenario`: its back ends, and an IO-Bond and a bm-hypervisor for each board, with
    /// every function on a vfio-user socket in `directory`. `program` is `bmhive`, whose `backend` command
    /// the back ends are; captures go to `directory` too. `give_up` is asked now and then whether the base is
    /// not wanted any more.
    ///
    /// # Errors
    /// [`LiveError`]; nothing is left running then.
    pub fn start(
        scenario: &Scenario,
        program: &Path,
        directory: &Path,
        give_up: &dyn Fn() -> bool,
    ) -> Result<Self, LiveError> {
        let places = Places::new(directory);
        let back_ends = BackEnds::start(scenario, program, &places, directory, give_up)?;
        let wake_up = Arc::new(WakeUp::new().map_err(LiveError::Thread)?);
        let (mut polled, mut boards) = (Vec::new(), Vec::new());
        for index in 0..scenario.boards.len() {
            if give_up() {
                return Err(LiveError::GivenUp);
            }
            let (poller, board) = start_board(index, scenario, &places, &wake_up)?;
            poller.wake(&wake_up).map_err(LiveError::Thread)?;
            polled.push(poller);
            boards.push(board);
        }
        let thread = BaseThread::start(Base::new(polled), rest(scenario), wake_up);
        let thread = Some(thread.map_err(LiveError::Thread)?);
        Ok(Self { thread, boards, back_ends, places, _directory: None })
    }
}

fn start_board(
    index: usize,
    scenario: &Scenario,
    places: &Places,
    wake_up: &Arc<WakeUp>,
) -> Result<(PolledBoard, ServedBoard), LiveError> {
    let lines = Arc::new(InterruptLines::new(Arc::clone(wake_up)));
    let bond = Arc::new(Bond::new(Arc::clone(&lines) as _));
    BaseBoard::start(index, scenario, places, (Arc::clone(&bond), Stamps(None)), || {
        let board = &scenario.boards[index];
        let numbers = 0..board.functions.len();
        let functions: Vec<_> = numbers.clone().map(|number| places.vfio_user(index, number)).collect();
        let servers = serve_functions(&bond, &lines, &functions)
            .map_err(|source| LiveError::Server { board: board.name.clone(), source })?;
        let is_console = |number: &usize| matches!(board.functions[*number].device, Device::Console(_));
        let terminal = numbers.clone().find(is_console).map(|number| places.terminal(index, number));
        Ok(Sockets { functions, terminal, servers })
    })
}
