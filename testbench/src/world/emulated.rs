//! IO-Bonds alone, as hardware would be there: every function of a board stands on a vfio-user socket, and so does each IO-Bond's
//! own function on the base. Bases and boards are other processes, or machines; they come and go.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use iobond_model::live::Bond;
use iobond_vfio_user::{Function, Server};

use super::{
    Base, LiveError,
    base_core::{BaseThread, Rest},
    base_function::{BaseFunction, BaseLine},
    board_function::InterruptLines,
    places::Places,
    served::serve_functions,
    wake_up::WakeUp,
};
use crate::scenario::{Board, Poll, Scenario};

/// One board's IO-Bond.
pub struct EmulatedBond {
    /// The board's name in the scenario.
    pub name: String,
    /// The vfio-user socket of the base function.
    pub base_socket: PathBuf,
    /// The vfio-user socket of each of the board's functions, in the scenario's order.
    pub function_sockets: Vec<PathBuf>,
    /// The IO-Bond itself.
    pub bond: Arc<Bond>,
    _servers: Vec<Server>,
}

/// Running IO-Bonds. Dropping it stops them.
pub struct Emulated {
    // The sockets go before whoever works for them.
    bonds: Vec<EmulatedBond>,
    _thread: BaseThread,
}

impl Emulated {
    /// Starts an IO-Bond for each board of `scenario`, with sockets in `directory`. What a function is, and its back end, are for
    /// the base that comes to say.
    ///
    /// # Errors
    /// [`LiveError`]; nothing is left running then.
    pub fn start(scenario: &Scenario, directory: &Path) -> Result<Self, LiveError> {
        let places = Places::new(directory);
        let wake_up = Arc::new(WakeUp::new().map_err(LiveError::Thread)?);
        let boards = scenario.boards.iter().enumerate();
        let bonds = boards.map(|(index, board)| start_bond(index, board, &places, &wake_up));
        let bonds = bonds.collect::<Result<Vec<_>, _>>()?;
        let rest = match scenario.poll {
            Poll::Busy => Rest::Never,
            Poll::Adaptive => Rest::After(Duration::from_micros(scenario.poll_us.into())),
        };
        let base = Base::of_bonds(bonds.iter().map(|bond| Arc::clone(&bond.bond)));
        let thread = BaseThread::start(Arc::new(base), rest, wake_up).map_err(LiveError::Thread)?;
        Ok(Self { bonds, _thread: thread })
    }

    /// The IO-Bonds, in the scenario's order.
    pub fn bonds(&self) -> &[EmulatedBond] {
        &self.bonds
    }
}

fn start_bond(
    index: usize,
    board: &Board,
    places: &Places,
    wake_up: &Arc<WakeUp>,
) -> Result<EmulatedBond, LiveError> {
    let name = board.name.clone();
    let failed = |source| LiveError::Server { board: name.clone(), source };
    let (lines, base_line) = (Arc::new(InterruptLines::default()), Arc::new(BaseLine::default()));
    let bond = Bond::new(Arc::clone(&lines) as _)
        .woken_by(Arc::clone(wake_up) as _)
        .interrupting(Arc::clone(&base_line) as _);
    let bond = Arc::new(bond);
    let function_sockets: Vec<_> =
        (0..board.functions.len()).map(|number| places.vfio_user(index, number)).collect();
    let mut servers = serve_functions(&bond, &lines, &function_sockets).map_err(failed)?;
    let base_socket = places.base_function(index);
    let function = BaseFunction::new(Arc::clone(&bond), base_line, format!("base function of {name}"));
    let function: Arc<dyn Function> = Arc::new(function);
    servers.push(Server::start(&base_socket, function).map_err(failed)?);
    Ok(EmulatedBond { name, base_socket, function_sockets, bond, _servers: servers })
}
