//! Where a base server keeps its sockets and files: in one directory, named after board and function.

use std::path::{Path, PathBuf};

use scenario::Backing;

/// The directory of a base server's sockets and files.
#[derive(Clone, Debug)]
pub(super) struct Places(PathBuf);

impl Places {
    /// In `directory`, which exists. Its path is short enough for sockets: 107 bytes with 16 for a name
    /// (unix(7)).
    pub(super) fn new(directory: &Path) -> Self {
        Self(directory.to_owned())
    }

    fn file(&self, board: usize, function: usize, ending: &str) -> PathBuf {
        self.0.join(format!("{board}.{function}.{ending}"))
    }

    /// The vhost-user socket behind a function.
    pub(super) fn socket(&self, board: usize, function: usize) -> PathBuf {
        self.file(board, function, "sock")
    }

    /// The vfio-user socket before a function.
    pub(super) fn vfio_user(&self, board: usize, function: usize) -> PathBuf {
        self.file(board, function, "vfio")
    }

    /// The vfio-user socket before the base function of a board's IO-Bond.
    pub(super) fn base_function(&self, board: usize) -> PathBuf {
        self.0.join(format!("{board}.base"))
    }

    /// The socket that terminals of a console connect to.
    pub(super) fn terminal(&self, board: usize, function: usize) -> PathBuf {
        self.file(board, function, "term")
    }

    /// What a console's guest printed.
    pub(super) fn log(&self, board: usize, function: usize) -> PathBuf {
        self.file(board, function, "log")
    }

    /// The image behind a disk.
    pub(super) fn image(&self, board: usize, function: usize, backing: &Backing) -> PathBuf {
        match backing {
            Backing::Image(path) => path.clone(),
            Backing::Scratch(_) => self.file(board, function, "img"),
        }
    }
}
