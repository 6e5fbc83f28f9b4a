//! A board of a bench: a machine with functions of IO-Bond, devices of QEMU's own, or both.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use bmhive_server::{
    Served,
    guest::{Accelerator, GuestFiles, Machine, Qemu},
};
use scenario::Scenario;

use super::shell::Shell;
use crate::workload::WorkloadError;

/// How long a board may take until its shell answers.
const BOOT: Duration = Duration::from_secs(120);

/// What all boards of a bench are made with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Workshop<'a> {
    pub(super) files: &'a GuestFiles,
    pub(super) accelerator: Accelerator,
    pub(super) program: &'a Path,
}

/// A board that runs.
pub(super) struct Running {
    pub(super) shell: Shell,
    pub(super) qemu: Qemu,
    /// From the start of QEMU until init was ready.
    pub(super) boot: Duration,
    _directory: tempfile::TempDir,
}

impl Workshop<'_> {
    /// Boots board 0 of `scenario` with the functions that `served` has for it, if any, and `extra` arguments
    /// of QEMU. The console is at `terminal`, which is told the directory of the machine's own sockets.
    pub(super) fn boot(
        &self,
        scenario: &Scenario,
        served: Option<&Served>,
        extra: impl FnOnce(&Path) -> Vec<OsString>,
        terminal: impl FnOnce(&Path) -> PathBuf,
    ) -> Result<Running, WorkloadError> {
        let failed = |source| WorkloadError::File { path: std::env::temp_dir(), source };
        let directory = tempfile::Builder::new().prefix("bmhive-bench-").tempdir().map_err(failed)?;
        let Some((board, guest)) =
            scenario.boards.first().and_then(|board| Some((board, board.guest.as_ref()?)))
        else {
            return Err(WorkloadError::Needs("a guest on the first board"));
        };
        let machine = Machine {
            files: self.files,
            board,
            guest,
            index: 0,
            accelerator: self.accelerator,
            functions: served.map_or(&[], |served| served.boards()[0].function_sockets()),
            directory: directory.path(),
        };
        let extra = extra(directory.path());
        let at_guest = |source| WorkloadError::Guest { board: board.name.clone(), source };
        let mut qemu = Qemu::start(self.program, &machine, &extra).map_err(at_guest)?;
        let boot = Shell::boot(&terminal(directory.path()), Instant::now() + BOOT);
        let mut shell = boot.map_err(|source| match qemu.ended() {
            Some(ended) => at_guest(std::io::Error::other(ended.last_words)),
            None => at_guest(source),
        })?;
        let boot = qemu.started().elapsed();
        shell.begin(Instant::now() + BOOT).map_err(at_guest)?;
        Ok(Running { shell, qemu, boot, _directory: directory })
    }
}
