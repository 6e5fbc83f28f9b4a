//! The machines of the lab: a base server, two boards and their IO-Bonds.

use std::{fmt::Write, path::Path, thread, time::Instant};

use iobond_emulator::Emulated;
use rig::{base_machine::BaseMachine, linux::Shell, linux_board::LinuxBoard, test_folder::TestFolder};
use scenario::Scenario;

use super::service::Service;

pub const BOARDS: [usize; 2] = [0, 1];
/// Bytes of a disk: many times what its slots hold at once, and a second of SHA-256 in TCG.
pub const DISK: usize = 8 << 20;
/// How the hypervisor of each board is told to run. The one shares its CPUs, and its memory comes in pages of
/// 4 KiB, each a message to the IO-Bond; the other has a core of its own and huge pages.
const PLACED: [&str; 2] = ["", "cores = { poll = 1, control = [0] }\nhugepages = true\n"];
/// Of huge pages, enough for any board of two such functions.
const HUGE_PAGES: u32 = 16;

/// The boards, as their IO-Bonds and their QEMUs see them. What their functions are is for the base server to
/// say.
fn scenario() -> Scenario {
    let mut text = "[server]\nname = \"lab\"\n".to_owned();
    for board in BOARDS {
        let mac = mac(board);
        write!(
            text,
            "[[board]]\nname = \"board{board}\"\nmemory_mib = 256\n[board.guest]\n\
             [[board.function]]\nkind = \"blk\"\nsize_mib = 1\n\
             [[board.function]]\nkind = \"net\"\nmac = \"{mac}\"\n"
        )
        .unwrap();
    }
    Scenario::parse("a test", &text, Path::new("/")).unwrap()
}

fn mac(board: usize) -> String {
    format!("52:54:00:10:0b:{board:02x}")
}

/// What a board's hypervisor is told.
fn configuration(board: usize) -> String {
    format!(
        r#"name = "board{board}"
port = {{ vfio = "{address}" }}
# In translated machines, handing queues to a back end at DRIVER_OK alone took up to 150 ms; 50 are the default.
mailbox_deadline_us = 20000000
{placed}[control]
socket = "/tmp/board{board}.ctl"
[[functions]]
[functions.blk]
backend = {{ socket = "/tmp/disk{board}.sock" }}
[[functions]]
[functions.net]
mac = "{mac}"
backend = {{ socket = "/tmp/port{board}.sock" }}
"#,
        address = BaseMachine::address(board),
        mac = mac(board),
        placed = PLACED[board],
    )
}

/// A board, its shell and its hypervisor.
struct Board {
    machine: LinuxBoard,
    shell: Shell,
    hypervisor: Service,
}

/// What runs, in the order in which it has to end.
pub struct Lab {
    boards: [Option<Board>; 2],
    back_ends: Vec<Service>,
    base: BaseMachine,
    since: Instant,
    bonds: Emulated,
    _folder: TestFolder,
}

impl Lab {
    /// Switches everything on, and has it ready.
    pub fn start() -> Self {
        let (folder, scenario, since) = (TestFolder::new(), scenario(), Instant::now());
        let bonds = bmhive_server::emulate(&scenario, &folder.path("")).unwrap();
        let sockets: Vec<_> = bonds.bonds().iter().map(|bond| bond.sockets.base.clone()).collect();
        let base = BaseMachine::start(&sockets, &["bm-hypervisor", "bmctl", "vhost-blk", "vhost-net"]);
        let (boards, back_ends) = ([None, None], Vec::new());
        let mut lab = Self { boards, back_ends, base, since, bonds, _folder: folder };
        lab.note("the base server is up");
        for board in BOARDS {
            lab.base.bind(&BaseMachine::address(board));
        }
        lab.base(&format!("sysctl -w vm.nr_hugepages={HUGE_PAGES}"));
        lab.start_back_ends();
        let hypervisors = BOARDS.map(|board| lab.start_hypervisor(board));
        // QEMU ends with the thread that starts it; only the waiting is done by others.
        let mut machines = BOARDS
            .map(|board| LinuxBoard::start(&scenario, board, &lab.bonds.bonds()[board].sockets.functions));
        let shells = thread::scope(|scope| {
            let shells = machines.each_mut().map(|machine| scope.spawn(|| machine.shell()));
            shells.map(|shell| shell.join().unwrap())
        });
        lab.note("both boards are up");
        let mut parts = machines.into_iter().zip(shells).zip(hypervisors);
        lab.boards = BOARDS
            .map(|_| parts.next().map(|((machine, shell), hypervisor)| Board { machine, shell, hypervisor }));
        lab
    }

    fn start_back_ends(&mut self) {
        for board in BOARDS {
            self.base(&format!("head -c {DISK} /dev/urandom >/tmp/disk{board}"));
            let disk = format!("vhost-blk --socket /tmp/disk{board}.sock --image /tmp/disk{board}");
            self.start_back_end(&format!("disk{board}"), &disk);
        }
        self.start_back_end("switch", "vhost-net --port /tmp/port0.sock --port /tmp/port1.sock");
    }

    fn start_back_end(&mut self, name: &str, command: &str) {
        self.note(command);
        let service = Service::start(&mut self.base.shell, name, command, "listening on");
        self.back_ends.push(service);
    }

    fn start_hypervisor(&mut self, board: usize) -> Service {
        let configuration = configuration(board);
        let file = format!("/tmp/board{board}.toml");
        self.base(&format!("cat >{file} <<'END'\n{configuration}END"));
        self.base(&format!("bm-hypervisor check {file}"));
        let command = format!("bm-hypervisor --config {file} --poll adaptive");
        self.note(&command);
        let (start, name) = (Instant::now(), format!("board{board}"));
        let ready = format!("board board{board} is served");
        let service = Service::start(&mut self.base.shell, &name, &command, &ready);
        self.note(&format!("{ready}, after {:.2} s", start.elapsed().as_secs_f32()));
        service
    }

    /// Runs a command in the base server, which has to succeed.
    pub fn base(&mut self, command: &str) -> String {
        self.note(&format!("base# {command}"));
        let said = self.base_unseen(command);
        eprint!("{said}");
        said
    }

    /// The same, without showing it.
    pub fn base_unseen(&mut self, command: &str) -> String {
        self.base.shell.check(command)
    }

    /// Runs a command on a board, which has to succeed.
    pub fn board(&mut self, board: usize, command: &str) -> String {
        self.note(&format!("board{board}# {command}"));
        let said = self.boards[board].as_mut().unwrap().shell.check(command);
        eprint!("{said}");
        said
    }

    /// Switches a board off, and ends its hypervisor.
    pub fn end_board(&mut self, board: usize) {
        self.note(&format!("board{board}# poweroff"));
        let Board { machine, mut shell, hypervisor } = self.boards[board].take().unwrap();
        machine.power_off(&mut shell);
        self.note(&format!("base# kill -TERM the hypervisor of board{board}"));
        let log = hypervisor.end(&mut self.base.shell);
        eprint!("{log}");
        assert!(log.contains(&format!("board board{board} is stopped")), "{log}");
    }

    /// Ends the back ends, when no board is left.
    pub fn end(mut self) {
        for service in std::mem::take(&mut self.back_ends) {
            service.end(&mut self.base.shell);
        }
        self.note("all ended in order");
    }

    fn note(&self, what: &str) {
        eprintln!("[{:5.1} s] {what}", self.since.elapsed().as_secs_f32());
    }
}
