//! A compute board with stock Linux in a QEMU of its own, whose functions are served elsewhere.
//!
//! ```text
//!   LinuxBoard -- QEMU: stock kernel, drivers -- serial port -- Shell
//!                   \-- vfio-user -- functions of an IO-Bond
//! ```

use std::{path::PathBuf, time::Duration};

use crate::{
    bmhive::program,
    linux::{Shell, guest_files},
    test_folder::TestFolder,
    wait::{wait_for, wait_until},
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
        let there = wait_until(START, || {
            let ended = self.qemu.ended();
            assert!(ended.is_none(), "no serial port: {ended:?}");
            socket.exists()
        });
        assert!(there, "no serial port after {START:?}");
        Shell::connect(&socket, log)
    }

    /// Has Linux switch the machine off, and waits until it has.
    pub fn power_off(mut self, shell: &mut Shell) {
        shell.send("poweroff");
        let ended = wait_for(OFF, || self.qemu.ended());
        let ended = ended.unwrap_or_else(|| panic!("still on after {OFF:?}"));
        assert!(ended.in_order(), "{ended}");
    }
}
