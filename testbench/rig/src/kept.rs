//! A board whose base is programs of their own, as in production: bm-hypervisor under bm-keeper with its
//! sandbox on, and the back ends. The IO-Bond is the test's, which reads its registers.
//!
//! ```text
//!   QEMU -- vfio-user -- IO-Bond -- vfio-user -- bm-hypervisor == vhost-console, vhost-blk, vhost-net
//!                       (the test)                    | FDSTORE
//!                                                 bm-keeper
//! ```

use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use crate::{
    bmhive::program,
    linux::{Shell, guest_files},
    test_folder::TestFolder,
    toml::{SERVER, blk, linux, net},
    wait::wait_for,
};
use bmhive_server::guest::{Accelerator, Machine, Qemu};
use iobond_emulator::Emulated;
use iobond_model::live::Bond;
use iobond_spec::{
    offsets::{mailbox, queues},
    register_access::RegisterIo,
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open},
};
use scenario::Scenario;

/// How long anything that a test waits for may take on a busy machine.
pub const TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of the disk.
pub const DISK: u64 = 32 << 20;
/// Queue contexts of the disk: behind the two of the console, in the order of `FUNCTIONS`.
pub const DISK_QUEUES: [u32; 2] = [2, 3];

/// `mailbox.request.kind`; without a request it is zero.
const KIND: u32 = 0b11;

/// The functions of the board, for bm-hypervisor. On the machine of a test every process may have to wait for
/// a processor, also the one that the guest waits for: the deadline is twenty times the default.
const FUNCTIONS: &str = r#"
    mailbox_deadline_us = 1000000
    [[functions]]
    [functions.console]
    backend = { socket = "FOLDER/console.sock" }
    [[functions]]
    [functions.blk]
    queues = 2
    backend = { socket = "FOLDER/disk.sock" }
    [[functions]]
    [functions.net]
    mac = "52:54:00:10:0b:00"
    backend = { socket = "FOLDER/net.sock" }
"#;

/// A program of the workspace that is started again and again. Dropping it kills it.
pub struct Program {
    command: Command,
    child: Child,
}

impl Program {
    fn start(folder: &TestFolder, name: &str, arguments: &[&str]) -> Self {
        let file = |ending: &str| {
            File::options().create(true).append(true).open(folder.path(&format!("{name}.{ending}"))).unwrap()
        };
        let mut command = Command::new(program().with_file_name(name));
        command.args(arguments).stdin(Stdio::null()).stdout(file("stdout")).stderr(file("stderr"));
        command.current_dir(folder.path("")).env("TMPDIR", folder.temporary()).env("RUST_LOG", "info");
        let child = command.spawn().unwrap();
        Self { command, child }
    }

    /// Ends it with SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again as it was.
    pub fn start_again(&mut self) {
        let file = |of: &str| File::options().append(true).open(of).unwrap();
        let name = Path::new(self.command.get_program()).file_name().unwrap().to_str().unwrap().to_owned();
        let folder = self.command.get_current_dir().unwrap().to_owned();
        let path = |ending: &str| folder.join(format!("{name}.{ending}")).to_str().unwrap().to_owned();
        // Files are handed over once.
        self.command.stdout(file(&path("stdout"))).stderr(file(&path("stderr")));
        self.child = self.command.spawn().unwrap();
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it with SIGTERM, and waits for that.
    pub fn terminate(&mut self) -> ExitStatus {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let status = wait_for(TIMEOUT, || self.child.try_wait().unwrap());
        status.unwrap_or_else(|| panic!("did not end within {TIMEOUT:?}"))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The board and its base.
pub struct Kept {
    // In the order in which they have to end.
    pub qemu: Option<Qemu>,
    pub keeper: Program,
    pub disk: Program,
    _others: [Program; 2],
    pub bond: Arc<Bond>,
    emulated: Emulated,
    scenario: Scenario,
    pub folder: TestFolder,
}

impl Kept {
    /// Starts the base; the board has no QEMU yet.
    pub fn start() -> Self {
        let folder = TestFolder::new();
        let directory = folder.path("").to_str().unwrap().trim_end_matches('/').to_owned();
        let at = |name: &str| format!("{directory}/{name}");
        File::create(folder.path("disk.img")).unwrap().set_len(DISK).unwrap();
        let functions = [blk("size_mib = 32\nqueues = 2"), net(0)];
        let text = format!("{SERVER}poll = \"adaptive\"\n{}", linux("board0", 2, 256, &functions));
        let scenario = Scenario::parse("a test", &text, &folder.path("")).unwrap();
        let emulated = bmhive_server::emulate(&scenario, &folder.path("")).unwrap();
        let bond = Arc::clone(&emulated.bonds()[0].bond);
        let port =
            format!("name = \"board0\"\nport = {{ vfio-user = {:?} }}\n", emulated.bonds()[0].sockets.base);
        let config = folder.write("board.toml", port + &FUNCTIONS.replace("FOLDER", &directory));
        let others = [
            Program::start(
                &folder,
                "vhost-console",
                &["--socket", &at("console.sock"), "--terminal", &at("terminal")],
            ),
            Program::start(&folder, "vhost-net", &["--port", &at("net.sock")]),
        ];
        let disk = ["--socket", &at("disk.sock"), "--image", &at("disk.img"), "--queues", "2"];
        let disk = Program::start(&folder, "vhost-blk", &disk);
        let hypervisor = program().with_file_name("bm-hypervisor");
        let command =
            ["--", hypervisor.to_str().unwrap(), "--config", config.to_str().unwrap(), "--poll", "adaptive"];
        let keeper = Program::start(&folder, "bm-keeper", &command);
        let kept = Self { qemu: None, keeper, disk, _others: others, bond, emulated, scenario, folder };
        kept.await_served(1);
        kept
    }

    /// Gives the board its processors; a shell on it.
    pub fn boot(&mut self) -> Shell {
        let directory = self.folder.path("");
        let machine = Machine {
            files: &guest_files(),
            board: &self.scenario.boards[0],
            guest: self.scenario.boards[0].guest.as_ref().unwrap(),
            index: 0,
            accelerator: Accelerator::Tcg,
            functions: &self.emulated.bonds()[0].sockets.functions,
            directory: &directory,
        };
        self.qemu = Some(Qemu::start(program(), &machine, &[]).unwrap());
        Shell::connect(&self.folder.path("terminal"), self.folder.path("serial.log"))
    }

    fn said(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.path(name)).unwrap()).into_owned()
    }

    /// What bm-keeper and every bm-hypervisor said on standard error.
    pub fn stderr(&self) -> String {
        self.said("bm-keeper.stderr")
    }

    pub fn stdout(&self) -> String {
        self.said("bm-keeper.stdout")
    }

    /// How many bm-hypervisor processes have served the board.
    pub fn served(&self) -> usize {
        self.stdout().matches("board board0 is served\n").count()
    }

    pub fn await_served(&self, count: usize) {
        self.wait("processes that serve the board", || self.served() >= count);
    }

    pub fn wait(&self, what: &str, mut until: impl FnMut() -> bool) {
        let started = Instant::now();
        while !until() {
            assert!(started.elapsed() < TIMEOUT, "no {what} within {TIMEOUT:?}: {}", self.stderr());
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// bm-hypervisor's process, once it is there.
    pub fn hypervisor(&self) -> Pid {
        let mut found = None;
        self.wait("bm-hypervisor", || {
            let children = format!("/proc/{0}/task/{0}/children", self.keeper.id());
            let children = fs::read_to_string(children).unwrap_or_default();
            // The shell in whose place it comes has another name.
            let is_it = |pid: &i32| {
                fs::read_link(format!("/proc/{pid}/exe"))
                    .is_ok_and(|exe| exe.to_string_lossy().contains("/bm-hypervisor"))
            };
            let pids = children.split_whitespace().filter_map(|pid| pid.parse().ok());
            found = pids.filter(is_it).find_map(Pid::from_raw);
            found.is_some()
        });
        found.unwrap()
    }

    /// Ends bm-hypervisor with SIGKILL, and waits until nothing of it is left that could touch a queue.
    pub fn kill_hypervisor(&self) {
        let pid = self.hypervisor();
        let gone = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
        poll(&mut [PollFd::new(&gone, PollFlags::IN)], None).unwrap();
    }

    /// The inode of the pool that bm-hypervisor has open.
    pub fn pool(&self) -> u64 {
        let descriptors = format!("/proc/{}/fd", self.hypervisor().as_raw_nonzero());
        let is_pool = |path: &PathBuf| {
            fs::read_link(path).is_ok_and(|link| link.to_string_lossy().contains("memfd:iobond-pool"))
        };
        let mut descriptors = fs::read_dir(descriptors).unwrap().map(|entry| entry.unwrap().path());
        fs::metadata(descriptors.find(is_pool).unwrap()).unwrap().ino()
    }

    pub fn queue(&self, context: u32, register: u32) -> u32 {
        self.bond.read32(queues::BASE + context * queues::STRIDE + register)
    }

    /// Forwarded reads and writes that were not answered in time.
    pub fn expired(&self) -> [u32; 2] {
        [mailbox::EXPIRED_READS, mailbox::EXPIRED_WRITES].map(|at| self.bond.read32(mailbox::BASE + at))
    }
}

/// The forwarded access that stands in the mailbox.
pub fn request(bond: &Bond) -> Option<u32> {
    let word = bond.read32(mailbox::BASE + mailbox::REQUEST);
    (word & KIND != 0).then_some(word)
}
