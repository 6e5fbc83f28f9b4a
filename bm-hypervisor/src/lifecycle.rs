//! The life of a board as its hypervisor sees it, as a transition table.

/// Where a board stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BoardState {
    /// Its back ends are connected and its functions are programmed; it has no power yet.
    #[default]
    Preparing,
    /// It has power, and its accesses are answered.
    Serving,
    /// Its IO-Bond is gone; nothing is answered any more.
    Lost,
    /// It was stopped: no power, and nothing of the base's can be reached from it.
    Stopped,
}

/// What moves it on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Happening {
    /// Everything is programmed.
    Prepared,
    /// The registers read all ones.
    DeviceGone,
    /// Whoever embeds the hypervisor has enough.
    StopAsked,
}

use BoardState::{Lost, Preparing, Serving, Stopped};
use Happening::{DeviceGone, Prepared, StopAsked};

/// Every move there is.
const MOVES: [(BoardState, Happening, BoardState); 4] = [
    (Preparing, Prepared, Serving),
    (Serving, DeviceGone, Lost),
    (Serving, StopAsked, Stopped),
    (Lost, StopAsked, Stopped),
];

impl BoardState {
    /// Moves on, if there is such a move; whether there was.
    pub(crate) fn on(&mut self, happening: Happening) -> bool {
        let found = MOVES.iter().find(|(from, what, _)| (*from, *what) == (*self, happening));
        if let Some((_, _, to)) = found {
            *self = *to;
        }
        found.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_board_is_served_until_it_is_lost_or_stopped_and_never_again() {
        let mut state = Preparing;
        assert!(state.on(Prepared) && state == Serving);
        assert!(!state.on(Prepared) && state == Serving);
        assert!(state.on(DeviceGone) && state == Lost);
        assert!(!state.on(DeviceGone) && state == Lost);
        assert!(state.on(StopAsked) && state == Stopped);
        for happening in [Prepared, DeviceGone, StopAsked] {
            assert!(!state.on(happening) && state == Stopped);
        }
    }
}
