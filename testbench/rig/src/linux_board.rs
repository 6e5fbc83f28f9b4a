//! A compute board with stock Linux in a QEMU of its own, whose functions are served elsewhere.
//!
//! ```text
//!   LinuxBoard -- QEMU: stock kernel, drivers -- serial port -- Shell
//!                   \-- vfio-user -- functions of an IO-Bond
//! ```

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use crate::{
    bmhive::program,
    linux::{Shell, guest_files},
    test_folder::TestFolder,
};
use bmhive_server::guest::{Accelerator, Machine, Qemu, SERIAL_LOG, SERIAL_SOCKET};
use scenario::Scenario;

/// How long QEMU may take to make its serial port.
const START: Duration = Duration::from_secs(20);
/// How long a machine may take to switch itself off; TCG on a busy machine.
const OFF: Duration = Duration::from_secs(60);

/// A board that runs. Dropping it cuts its power.
pub struct LinuxBoard {
    qemu: Qemu,
    folder: TestFolder,
}

impl LinuxBoard {
    /// Switches on board `index` of a scenario, in TCG. It has to have a guest, and no console, as its shell
    /// is to be on the serial port.
    pub fn start(scenario: &Scenario, index: usize, functions: &[PathBuf]) -> Self {
        let folder = TestFolder::new();
        let board = &scenario.boards[index];
        let machine = Machine {
            files: &guest_files(),
            board,
            guest: board.guest.as_ref().unwrap(),
            index,
            accelerator: Accelerator::Tcg,
            functions,
            directory: &folder.path(""),
        };
        let qemu = Qemu::start(program(), &machine, &[]).unwrap();
        Self { qemu, folder }
    }

    /// The shell on its serial port, when it is ready. To be asked for before Linux has booted, as what is
    /// said until then is not kept.
    pub fn shell(&mut self) -> Shell {
        let [socket, log] = [SERIAL_SOCKET, SERIAL_LOG].map(|name| self.folder.path(name));
        while !socket.exists() {
            let ended = self.qemu.ended();
            let waited = self.qemu.started().elapsed();
            assert!(ended.is_none() && waited < START, "no serial port after {waited:?}: {ended:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
        Shell::connect(&socket, log)
    }

    /// Has Linux switch the machine off, and waits until it has.
    pub fn power_off(mut self, shell: &mut Shell) {
        shell.send("poweroff");
        let start = Instant::now();
        let ended = loop {
            match self.qemu.ended() {
                Some(ended) => break ended,
                None => assert!(start.elapsed() < OFF, "still on after {OFF:?}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        assert!(ended.in_order(), "{ended}");
    }
}
