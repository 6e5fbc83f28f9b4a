//! What keeps a base server from coming up, or breaks it.

use std::{path::PathBuf, sync::Arc};

use iobond_model::live::DmaMapError;
use scenario::BackEnd;
use software_board::memory::MemoryError;

use super::BackEndError;

/// A base server that did not come up, or that broke.
#[allow(missing_docs, reason = "the fields are those of the message")]
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// A directory or file could not be made.
    #[error("cannot make {}: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    /// An empty disk could not be made.
    #[error(
        "cannot make a scratch disk of {mebibytes} MiB in {}: {reason}; TMPDIR names another directory",
        directory.display()
    )]
    Scratch { mebibytes: u64, directory: PathBuf, reason: std::io::Error },
    /// The caller gave up before the server was up.
    #[error("the base was not wanted any longer before it was up")]
    GivenUp,
    /// A board's memory could not be made.
    #[error("board {board}: {source}")]
    Memory { board: String, source: MemoryError },
    /// A board's memory could not be made known to its IO-Bond.
    #[error("board {board}: {source}")]
    Map { board: String, source: DmaMapError },
    /// A back end did not start.
    #[error(transparent)]
    BackEnd(#[from] BackEndError),
    /// The scenario has no such back end to start again.
    #[error(
        "cannot start {0:?} again: the scenario has no such back end; `Scenario::back_ends` lists those that it has"
    )]
    NoBackEnd(BackEnd),
    /// A board's bm-hypervisor did not start, or has failed.
    #[error("board {board}: {reason}")]
    Hypervisor { board: String, reason: Arc<bm_hypervisor::Error> },
    /// A function could not be served.
    #[error("board {board}: {source}")]
    Server { board: String, source: iobond_vfio_user::ServerError },
    /// A queue was stopped.
    #[error(
        "board {board}, function {function}, queue {queue}: IO-Bond stopped it ({reason}); are slot_size and slots large enough?"
    )]
    Stopped { board: String, function: usize, queue: u16, reason: String },
    /// No thread for the base.
    #[error("cannot start the base core's thread: {0}")]
    Thread(std::io::Error),
}
