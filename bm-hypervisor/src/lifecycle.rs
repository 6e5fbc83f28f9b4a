//! The lifecycle of a board as its hypervisor sees it, as a transition table.
//!
//! ```text
//!            Prepared          PowerOn            DriverUp
//!   Absent ------------> Off ----------> Booting ----------> Running
//!     ^                  | ^                |  ^--------------  |
//!     |     StopAsked    | |  Drained       |     DriversGone,  |
//!     +------------------+ +--- Quiescing <-+---- ResetAsked    |
//!     |                            ^         PowerOff           |
//!     |     StopAsked              +----------------------------+
//!     +---------------- Failed <---- DeviceGone, from wherever there was a device
//! ```
//!
//! Failures beside the board have their paths, too. A *guest* that crashes leaves its functions as they are
//! until the board is reset or the next kernel resets them: the board is booting again then. A *back end*
//! that dies ends its function and not the board, whose state stays. A *hypervisor* that dies leaves a board
//! whose accesses IO-Bond completes at their deadlines; the next process resumes the board in the state that
//! its registers and the journal tell ([`crate::keep`]). Without a keeper it begins by taking power,
//! functions, queues and memory away (`Absent`), and prepares anew. An *IO-Bond* that is gone is `Failed`:
//! nothing is answered any more, and only a stop leaves that state.

use serde::{Deserialize, Serialize};

/// The state of a board.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BoardState {
    /// Nothing of the base's can be reached from it: it is not prepared yet, or it was stopped.
    #[default]
    Absent,
    /// Its back ends are connected and its functions are programmed; it has no power.
    Off,
    /// It has power, its accesses are answered, and no driver has set DRIVER_OK yet.
    Booting,
    /// A driver of at least one function has set DRIVER_OK.
    Running,
    /// It has no power any more, and its queues are being taken back.
    Quiescing,
    /// Its IO-Bond is gone; nothing is answered any more.
    Failed,
}

impl BoardState {
    /// Every state, in the order of the lifecycle.
    pub const ALL: [Self; 6] = [Absent, Off, Booting, Running, Quiescing, Failed];

    /// What messages, the API and metrics call it.
    pub const fn name(self) -> &'static str {
        match self {
            Absent => "absent",
            Off => "off",
            Booting => "booting",
            Running => "running",
            Quiescing => "quiescing",
            Failed => "failed",
        }
    }

    /// Whether the board has power and an IO-Bond.
    pub const fn has_power(self) -> bool {
        matches!(self, Booting | Running)
    }
}

impl std::fmt::Display for BoardState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// What moves a board from one state to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BoardEvent {
    /// Its functions, memory and limits are programmed.
    Prepared,
    /// The board is given power.
    PowerOn,
    /// A first driver set DRIVER_OK.
    DriverUp,
    /// The last driver is gone: every function was reset.
    DriversGone,
    /// All functions are reset, as by a conventional reset.
    ResetAsked,
    /// Power is taken from the board.
    PowerOff,
    /// Its last queue was stopped.
    Drained,
    /// The registers read all ones.
    DeviceGone,
    /// The embedder stops the board. A board that has power is powered off first.
    StopAsked,
}

use BoardEvent::{
    DeviceGone, Drained, DriverUp, DriversGone, PowerOff, PowerOn, Prepared, ResetAsked, StopAsked,
};
use BoardState::{Absent, Booting, Failed, Off, Quiescing, Running};

/// Every move: from, by, to.
const MOVES: [(BoardState, BoardEvent, BoardState); 15] = [
    (Absent, Prepared, Off),
    (Off, PowerOn, Booting),
    (Booting, DriverUp, Running),
    (Running, DriversGone, Booting),
    (Booting, ResetAsked, Booting),
    (Running, ResetAsked, Booting),
    (Booting, PowerOff, Quiescing),
    (Running, PowerOff, Quiescing),
    (Quiescing, Drained, Off),
    (Off, DeviceGone, Failed),
    (Booting, DeviceGone, Failed),
    (Running, DeviceGone, Failed),
    (Quiescing, DeviceGone, Failed),
    (Off, StopAsked, Absent),
    (Failed, StopAsked, Absent),
];

impl BoardState {
    /// Moves to the next state, if there is such a move. Returns whether there was.
    pub(crate) fn on(&mut self, event: BoardEvent) -> bool {
        let found = MOVES.iter().find(|(from, what, _)| (*from, *what) == (*self, event));
        if let Some((_, _, to)) = found {
            *self = *to;
        }
        found.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [BoardEvent; 9] =
        [Prepared, PowerOn, DriverUp, DriversGone, ResetAsked, PowerOff, Drained, DeviceGone, StopAsked];

    /// The state of a board after these.
    fn after(events: &[BoardEvent]) -> BoardState {
        let mut state = BoardState::default();
        for event in events {
            assert!(state.on(*event), "no {event:?} from {state}");
        }
        state
    }

    #[test]
    fn a_board_boots_runs_reboots_and_is_switched_off_and_on() {
        assert_eq!(after(&[Prepared]), Off);
        assert_eq!(after(&[Prepared, PowerOn, DriverUp]), Running);
        assert_eq!(after(&[Prepared, PowerOn, DriverUp, DriversGone, DriverUp, ResetAsked]), Booting);
        assert_eq!(after(&[Prepared, PowerOn, DriverUp, PowerOff]), Quiescing);
        assert_eq!(after(&[Prepared, PowerOn, PowerOff, Drained, PowerOn]), Booting);
        assert_eq!(after(&[Prepared, PowerOn, PowerOff, Drained, StopAsked]), Absent);
    }

    #[test]
    fn a_board_whose_device_is_gone_can_only_be_stopped() {
        for before in [&[Prepared][..], &[Prepared, PowerOn], &[Prepared, PowerOn, DriverUp, PowerOff]] {
            let failed = after(&[before, &[DeviceGone]].concat());
            assert_eq!(failed, Failed);
            for event in ALL.into_iter().filter(|event| *event != StopAsked) {
                let mut state = failed;
                assert!(!state.on(event) && state == Failed, "{event:?}");
            }
            let mut state = failed;
            assert!(state.on(StopAsked) && state == Absent);
        }
    }

    #[test]
    fn nothing_moves_by_what_cannot_happen_to_it() {
        let impossible = [
            (Absent, PowerOn),
            (Absent, StopAsked),
            (Off, PowerOff),
            (Off, DriverUp),
            (Off, ResetAsked),
            (Booting, PowerOn),
            // Power goes first, so that nothing is taken from under a board that runs.
            (Running, StopAsked),
            (Quiescing, PowerOn),
            (Quiescing, StopAsked),
        ];
        for (from, event) in impossible {
            let mut state = from;
            assert!(!state.on(event) && state == from, "{from}, {event:?}");
        }
    }

    #[test]
    fn every_state_can_be_reached_and_each_move_stands_once() {
        for state in BoardState::ALL {
            assert!(MOVES.iter().any(|(_, _, to)| *to == state), "{state}");
        }
        for (index, (from, what, _)) in MOVES.iter().enumerate() {
            assert!(!MOVES[..index].iter().any(|(other, event, _)| (other, event) == (from, what)));
        }
    }
}
