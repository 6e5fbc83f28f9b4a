//! QEMU's command line, as a function of the board.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use scenario::{Board, Device, Guest};
use serde_json::json;

use super::{Accelerator, GuestFiles};

/// PCI device number of a board's function 0; the others follow. Each has a slot of its own, so that a
/// guest's IOMMU, and its drivers, may treat each apart. Below are the devices that q35 itself has.
const FIRST_SLOT: usize = 0x10;
/// The network that the boards of a scenario share; board N has host number N + 1.
const NETWORK: [u8; 3] = [10, 11, 0];
/// The socket of a machine's serial port, in its directory.
pub const SERIAL_SOCKET: &str = "serial.sock";
/// Everything that its serial port said.
pub const SERIAL_LOG: &str = "serial.log";

/// The machine of one board.
#[derive(Clone, Copy, Debug)]
pub struct Machine<'a> {
    /// What it is made of, where the scenario does not say.
    pub files: &'a GuestFiles,
    /// The board that it stands for.
    pub board: &'a Board,
    /// The guest of that board.
    pub guest: &'a Guest,
    /// Index of the board in the scenario.
    pub index: usize,
    /// What runs its instructions.
    pub accelerator: Accelerator,
    /// The vfio-user socket of each function, in order.
    pub functions: &'a [PathBuf],
    /// Where its sockets and logs are made.
    pub directory: &'a Path,
}

impl Machine<'_> {
    /// The socket of QEMU's machine protocol.
    #[must_use]
    pub fn qmp_socket(&self) -> PathBuf {
        self.directory.join("qmp.sock")
    }

    /// The kernel that it boots.
    #[must_use]
    pub fn kernel(&self) -> &Path {
        self.guest.kernel.as_ref().unwrap_or(&self.files.kernel)
    }

    /// What QEMU itself said.
    #[must_use]
    pub fn qemu_log(&self) -> PathBuf {
        self.directory.join("qemu.log")
    }

    /// The arguments of [`GuestFiles::qemu`].
    #[must_use]
    pub fn arguments(&self) -> Vec<OsString> {
        let mebibytes = self.board.memory_bytes >> 20;
        let mut line = CommandLine::default();
        line.word("-name").word(&self.board.name);
        line.word("-M").word("q35").word("-accel").word(self.accelerator.option());
        line.word("-cpu").word(self.accelerator.cpu()).word("-smp").word(self.guest.cpus.to_string());
        line.word("-m").word(format!("{mebibytes}M"));
        // Shared memory comes with a descriptor in DMA_MAP: IO-Bond copies from and to it without asking
        // QEMU.
        line.word("-object").word(format!("memory-backend-memfd,id=ram,size={mebibytes}M,share=on"));
        line.word("-machine").word("memory-backend=ram");
        line.word("-nodefaults").word("-no-user-config").word("-display").word("none");
        line.word("-msg").word("timestamp=on");
        // What a guest that breaks out of QEMU finds: no new programs, no new privileges.
        line.word("-sandbox").word("on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
        self.boot(&mut line);
        self.devices(&mut line);
        line.0
    }

    fn boot(&self, line: &mut CommandLine) {
        line.word("-kernel").word(self.kernel());
        line.word("-initrd").word(self.guest.initrd.as_ref().unwrap_or(&self.files.initrd));
        line.word("-append").word(self.kernel_command_line());
    }

    fn devices(&self, line: &mut CommandLine) {
        for (number, socket) in self.functions.iter().enumerate() {
            let device = json!({
                "driver": "vfio-user-pci",
                "id": format!("function{number}"),
                "bus": "pcie.0",
                "addr": format!("{:02x}.0", FIRST_SLOT + number),
                "socket": { "type": "unix", "path": socket.to_string_lossy() },
            });
            line.word("-device").word(device.to_string());
        }
        let [socket, log] = [SERIAL_SOCKET, SERIAL_LOG].map(|name| option_value(&self.directory.join(name)));
        line.word("-chardev");
        line.word(format!("socket,id=serial,server=on,wait=off,path={socket},logfile={log}"));
        line.word("-serial").word("chardev:serial");
        let qmp = option_value(&self.qmp_socket());
        line.word("-qmp").word(format!("unix:{qmp},server=on,wait=off"));
    }

    /// What Linux and its init are told. The last console is init's; the serial port hears what happens
    /// before there is a virtio driver.
    fn kernel_command_line(&self) -> String {
        let has = |wanted: fn(&Device) -> bool| {
            self.board.functions.iter().any(|function| wanted(&function.device))
        };
        let mut words = vec!["console=ttyS0".to_owned()];
        if has(|device| matches!(device, Device::Console(_))) {
            words.push("console=hvc0".into());
        }
        // Warnings and worse: each character costs an exit to QEMU.
        words.extend(["loglevel=5".into(), format!("bmhive.hostname={}", self.board.name)]);
        if has(|device| matches!(device, Device::Net(_))) {
            let [a, b, c] = NETWORK;
            words.push(format!("bmhive.ip={a}.{b}.{c}.{}/24", self.index + 1));
        }
        words.extend(self.guest.cmdline.clone());
        words.join(" ")
    }
}

#[derive(Default)]
struct CommandLine(Vec<OsString>);

impl CommandLine {
    fn word(&mut self, word: impl Into<OsString>) -> &mut Self {
        self.0.push(word.into());
        self
    }
}

/// A path inside of a list of options, where commas are doubled.
fn option_value(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use scenario::Scenario;

    use super::*;

    fn files() -> GuestFiles {
        GuestFiles {
            qemu: "/guest/bin/qemu-system-x86_64".into(),
            qemu_version: "11.1.3".into(),
            kernel: "/guest/boot/vmlinux".into(),
            kernel_version: "7.2.12".into(),
            initrd: "/guest/boot/initrd.cpio.gz".into(),
        }
    }

    /// A line for each option.
    fn arguments(scenario: &Scenario, index: usize, accelerator: Accelerator) -> String {
        let board = &scenario.boards[index];
        let functions: Vec<_> =
            (0..board.functions.len()).map(|n| format!("/run/f{n}.sock").into()).collect();
        let machine = Machine {
            files: &files(),
            board,
            guest: board.guest.as_ref().unwrap(),
            index,
            accelerator,
            functions: &functions,
            directory: Path::new("/run/a,b"),
        };
        let words: Vec<_> = machine.arguments().into_iter().map(|word| word.into_string().unwrap()).collect();
        words.join(" ").replace(" -", "\n-")
    }

    #[test]
    fn a_board_of_the_linux_scenario_is_started_like_this() {
        insta::assert_snapshot!(arguments(&Scenario::linux().unwrap(), 1, Accelerator::Tcg));
    }

    #[test]
    fn a_board_without_console_and_network_logs_in_on_its_serial_port() {
        let text = "[server]\nname = \"x\"\n[[board]]\nname = \"big\"\nmemory_mib = 4096\n\
                    [board.guest]\ncpus = 4\ncmdline = \"panic=1 nokaslr\"\n\
                    [[board.function]]\nkind = \"blk\"\nsize_mib = 1\n";
        let scenario = Scenario::parse("x.toml", text, Path::new("")).unwrap();
        insta::assert_snapshot!(arguments(&scenario, 0, Accelerator::Kvm));
    }
}
