//! A scenario's IO-Bonds alone, for bases and boards that are other processes.

use std::{path::Path, time::Duration};

use iobond_emulator::{BoardSockets, Emulated, EmulatorError, Rest};
use scenario::{Poll, Scenario};

use super::places::Places;

/// Starts an IO-Bond for each board of `scenario`, with sockets in `directory`.
///
/// # Errors
/// [`EmulatorError`]; nothing is left running then.
pub fn emulate(scenario: &Scenario, directory: &Path) -> Result<Emulated, EmulatorError> {
    let places = Places::new(directory);
    let boards = scenario.boards.iter().enumerate().map(|(index, board)| BoardSockets {
        name: board.name.clone(),
        base: places.base_function(index),
        functions: (0..board.functions.len()).map(|number| places.vfio_user(index, number)).collect(),
    });
    Emulated::start(boards, rest(scenario))
}

/// When the base core of `scenario` sleeps.
pub(super) fn rest(scenario: &Scenario) -> Rest {
    match scenario.poll {
        Poll::Busy => Rest::Never,
        Poll::Adaptive => Rest::After(Duration::from_micros(scenario.poll_us.into())),
    }
}
