//! What keeps a world from coming up, or breaks it.

use std::{path::PathBuf, sync::Arc};

use iobond_model::live::DmaMapError;
use scenario::BackEnd;
use software_board::memory::MemoryError;

use super::BackEndError;

/// A world that did not come up, or that broke.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// A directory or file could not be made.
    #[error("cannot make {}: {source}", path.display())]
    File {
        /// What was to be made.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// An empty disk could not be made.
    #[error(
        "cannot make a scratch disk of {mebibytes} MiB in {}: {reason}; TMPDIR names another directory",
        directory.display()
    )]
    Scratch {
        /// Its size.
        mebibytes: u64,
        /// Where it was to be.
        directory: PathBuf,
        /// What the system said.
        reason: std::io::Error,
    },
    /// Nobody wanted the world any more before it was there.
    #[error("the base was not wanted any longer before it was up")]
    GivenUp,
    /// A board's memory could not be made.
    #[error("board {board}: {source}")]
    Memory {
        /// The board.
        board: String,
        /// Why.
        source: MemoryError,
    },
    /// A board's memory could not be made known to its IO-Bond.
    #[error("board {board}: {source}")]
    Map {
        /// The board.
        board: String,
        /// Why.
        source: DmaMapError,
    },
    /// A back end did not start.
    #[error(transparent)]
    BackEnd(#[from] BackEndError),
    /// A back end that is to be started again and that the scenario has none of.
    #[error(
        "cannot start {0:?} again: the scenario has no such back end; `Scenario::back_ends` lists those that it has"
    )]
    NoBackEnd(BackEnd),
    /// A board's bm-hypervisor did not start, or has failed.
    #[error("board {board}: {reason}")]
    Hypervisor {
        /// The board.
        board: String,
        /// Why.
        reason: Arc<bm_hypervisor::Error>,
    },
    /// A function could not be served.
    #[error("board {board}: {source}")]
    Server {
        /// The board.
        board: String,
        /// Why.
        source: iobond_vfio_user::ServerError,
    },
    /// A queue was stopped.
    #[error(
        "board {board}, function {function}, queue {queue}: IO-Bond stopped it ({reason}); are slot_size and slots large enough?"
    )]
    Stopped {
        /// The board.
        board: String,
        /// The function's number on it.
        function: usize,
        /// The queue's index in the function.
        queue: u16,
        /// `queues[n].state.error`.
        reason: String,
    },
    /// No thread for the base.
    #[error("cannot start the base core's thread: {0}")]
    Thread(std::io::Error),
}
