//! IO-Bonds alone, as hardware would be there: every function of a board stands on a vfio-user socket, and so
//! does each IO-Bond's own function on the base. Bases and boards are other processes, or machines; they come
//! and go.

use std::{path::PathBuf, sync::Arc};

use iobond_model::live::Bond;
use iobond_vfio_user::{Function, Server, ServerError};
use unix_service::Rest;

use super::{
    base_core::{BaseCore, BaseThread},
    base_function::{BaseFunction, BaseLine},
    board_function::{InterruptLines, serve_functions},
    wake_up::WakeUp,
};

/// Where one board's IO-Bond is to be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoardSockets {
    /// What messages call the board.
    pub name: String,
    /// The vfio-user socket of the base function.
    pub base: PathBuf,
    /// The vfio-user socket of each of the board's functions, in the order of their device numbers.
    pub functions: Vec<PathBuf>,
}

/// One board's IO-Bond, with its servers.
pub struct EmulatedBond {
    /// Where it is reached.
    pub sockets: BoardSockets,
    /// The IO-Bond itself, for reading its registers.
    pub bond: Arc<Bond>,
    _servers: Vec<Server>,
}

/// Running IO-Bonds. Dropping it stops them.
pub struct Emulated {
    // The sockets go before the thread that works for them.
    bonds: Vec<EmulatedBond>,
    _thread: BaseThread,
}

/// IO-Bonds that did not come up.
#[allow(missing_docs, reason = "the fields are those of the message")]
#[derive(Debug, thiserror::Error)]
pub enum EmulatorError {
    /// A function could not be served.
    #[error("board {board}: {source}")]
    Server { board: String, source: ServerError },
    /// No thread for the base.
    #[error("cannot start the base core's thread: {0}")]
    Thread(std::io::Error),
}

impl Emulated {
    /// Starts an IO-Bond for each of `boards`. What a function is, and its back end, are for the base that
    /// comes to say.
    ///
    /// # Errors
    /// [`EmulatorError`]; nothing is left running then.
    pub fn start(boards: impl IntoIterator<Item = BoardSockets>, rest: Rest) -> Result<Self, EmulatorError> {
        let wake_up = Arc::new(WakeUp::new().map_err(EmulatorError::Thread)?);
        let bonds = boards.into_iter().map(|board| start_bond(board, &wake_up));
        let bonds = bonds.collect::<Result<Vec<_>, _>>()?;
        let core = BaseCore::new(bonds.iter().map(|bond| Arc::clone(&bond.bond)).collect());
        let thread = BaseThread::start(core, rest, wake_up).map_err(EmulatorError::Thread)?;
        Ok(Self { bonds, _thread: thread })
    }

    /// The IO-Bonds, in the order of their boards.
    pub fn bonds(&self) -> &[EmulatedBond] {
        &self.bonds
    }
}

fn start_bond(sockets: BoardSockets, wake_up: &Arc<WakeUp>) -> Result<EmulatedBond, EmulatorError> {
    let BoardSockets { name, base, functions } = &sockets;
    let failed = |source| EmulatorError::Server { board: name.clone(), source };
    let base_line = Arc::new(BaseLine::default());
    let lines = Arc::new(InterruptLines::new(Arc::clone(wake_up)).with_base(Arc::clone(&base_line)));
    let bond = Arc::new(Bond::new(Arc::clone(&lines) as _));
    let mut servers = serve_functions(&bond, &lines, functions).map_err(failed)?;
    let function = BaseFunction::new(Arc::clone(&bond), base_line, format!("base function of {name}"));
    let function: Arc<dyn Function> = Arc::new(function);
    servers.push(Server::start(base, function).map_err(failed)?);
    Ok(EmulatedBond { sockets, bond, _servers: servers })
}
