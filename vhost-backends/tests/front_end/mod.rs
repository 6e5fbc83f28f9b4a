//! An independent vhost-user front end: a server process under test, shared memory, and hand-written driver
//! rings.
//!
//! Nothing here is shared with the crate under test; the protocol is that of crate `vhost`'s `Frontend`.
#![allow(dead_code, missing_docs)] // Each test binary uses a part.

mod ring;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use vhost::vhost_user::message::{
    VhostUserConfigFlags, VhostUserHeaderFlag, VhostUserProtocolFeatures, VhostUserVirtioFeatures,
};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vm_memory::{FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

pub use ring::{Part, Ring};

/// Nothing that a test waits for takes as long.
pub const DEADLINE: Duration = Duration::from_secs(10);

pub const VERSION_1: u64 = 1 << 32;
pub const EVENT_IDX: u64 = 1 << 29;
pub const INDIRECT_DESC: u64 = 1 << 28;

/// Guest memory of a front end in bytes. It starts at guest address [`BASE`]; rings come first, data from
/// [`DATA`] on.
const MEMORY: usize = 16 << 20;
const BASE: u64 = 0x1000_0000;
pub const DATA: u64 = BASE + (4 << 20);

/// A server process. It is killed and reaped when this is dropped.
pub struct Server {
    process: Child,
    /// What it said first.
    pub announced: Vec<String>,
}

impl Server {
    /// Starts `program` and waits until it has said `ready` lines.
    pub fn start(program: &str, arguments: &[&str], ready: usize) -> Self {
        let mut process = Command::new(program)
            .args(arguments)
            .env("RUST_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        let (line, lines) = mpsc::channel();
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|text| line.send(text)));
        let mut server = Self { process, announced: Vec::new() };
        for _ in 0..ready {
            let line = lines.recv_timeout(DEADLINE).expect("the server says when it is ready");
            server.announced.push(line);
        }
        server
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    pub fn is_running(&mut self) -> bool {
        self.process.try_wait().unwrap().is_none()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    /// Waits for the process to end by itself. Returns its status and what it wrote to stderr.
    pub fn wait(mut self) -> (ExitStatus, String) {
        let start = Instant::now();
        while start.elapsed() < DEADLINE {
            if let Some(status) = self.process.try_wait().unwrap() {
                let mut text = String::new();
                self.process.stderr.take().unwrap().read_to_string(&mut text).unwrap();
                return (status, text);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        panic!("the server does not end");
    }

    /// Processor time that the process has had, in all its threads.
    pub fn cpu_time(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.id())).unwrap();
        let run_time = |task: std::fs::DirEntry| -> Option<u64> {
            let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse().ok()
        };
        Duration::from_nanos(tasks.filter_map(|task| run_time(task.ok()?)).sum())
    }

    /// Waits until every thread of the process sleeps. Returns how often each has gone to sleep, by its
    /// number.
    ///
    /// A thread that sleeps at two moments, and has not gone to sleep in between, has slept all the time: the
    /// kernel counts events here, whatever the speed and the load of the machine.
    pub fn sleeps(&self) -> BTreeMap<String, u64> {
        let mut before = None;
        eventually("every thread of the server sleeps", || {
            let now = self.sleeps_if_asleep();
            now.is_some() && std::mem::replace(&mut before, now.clone()) == now
        });
        before.unwrap()
    }

    fn sleeps_if_asleep(&self) -> Option<BTreeMap<String, u64>> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.id())).unwrap();
        tasks
            .map(|task| {
                let task = task.unwrap();
                // A thread that ended since is no sleeper: the list is read anew.
                let status = std::fs::read_to_string(task.path().join("status")).ok()?;
                let field = |name| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
                let asleep = field("State:")?.starts_with('S');
                let count = field("voluntary_ctxt_switches:")?.parse().ok()?;
                asleep.then(|| (task.file_name().into_string().unwrap(), count))
            })
            .collect()
    }

    /// Number of descriptors that the process has open.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.id())).unwrap().count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking()
            && let Some(mut stderr) = self.process.stderr.take()
        {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            eprintln!("the server said: {text}");
        }
    }
}

/// A connection to a back end, with rings that run.
pub struct FrontEnd {
    pub frontend: Frontend,
    pub memory: GuestMemoryMmap,
    pub rings: Vec<Ring>,
    pub features: u64,
}

/// How a front end sets itself up.
#[derive(Clone)]
pub struct Setup {
    pub rings: usize,
    pub size: u16,
    /// Features to accept, of those that are offered.
    pub features: u64,
    /// Hand over a call descriptor. A front end that polls needs none.
    pub call: bool,
    /// Hand the memory over slot by slot (ADD_MEM_REG) and not as a table.
    pub memory_slots: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self { rings: 1, size: 256, features: !0, call: true, memory_slots: false }
    }
}

impl FrontEnd {
    /// Connects to the socket at `path` and starts all rings.
    pub fn connect(path: &Path, setup: &Setup) -> Self {
        Self::new(Frontend::connect(path, setup.rings as u64).unwrap(), setup)
    }

    /// Sets a connected back end up.
    pub fn new(mut frontend: Frontend, setup: &Setup) -> Self {
        let memfd = rustix::fs::memfd_create("guest", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let file = File::from(memfd);
        file.set_len(MEMORY as u64).unwrap();
        let handle = file.as_raw_fd();
        let range = (GuestAddress(BASE), MEMORY, Some(FileOffset::new(file, 0)));
        let memory = GuestMemoryMmap::from_ranges_with_files([range]).unwrap();

        frontend.set_owner().unwrap();
        let offered = frontend.get_features().unwrap();
        let protocol = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
        assert_ne!(offered & protocol, 0);
        let features = offered & (setup.features | protocol);
        frontend.set_features(features).unwrap();
        let wanted = VhostUserProtocolFeatures::MQ
            | VhostUserProtocolFeatures::CONFIG
            | VhostUserProtocolFeatures::REPLY_ACK
            | VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS
            | VhostUserProtocolFeatures::INFLIGHT_SHMFD;
        let offered = frontend.get_protocol_features().unwrap();
        frontend.set_protocol_features(offered & wanted).unwrap();
        frontend.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);

        let region = VhostUserMemoryRegionInfo {
            guest_phys_addr: BASE,
            memory_size: MEMORY as u64,
            userspace_addr: memory.get_host_address(GuestAddress(BASE)).unwrap() as u64,
            mmap_offset: 0,
            mmap_handle: handle,
        };
        let postcopy = match setup.memory_slots {
            true => frontend.add_mem_region(&region).unwrap().map(|base| vec![base]),
            false => frontend.set_mem_table(&[region]).unwrap(),
        };
        assert_eq!(postcopy, None);
        let mut front_end = Self { frontend, memory, rings: Vec::new(), features };
        for index in 0..setup.rings {
            let at = BASE + index as u64 * Ring::STRIDE;
            front_end.rings.push(Ring::new(front_end.memory.clone(), at, setup.size, features));
            front_end.start_ring(index, setup.call, 0);
        }
        front_end
    }

    /// Starts ring `index` at available index `base`.
    pub fn start_ring(&mut self, index: usize, call: bool, base: u16) {
        let ring = &self.rings[index];
        let host = |at: u64| self.memory.get_host_address(GuestAddress(at)).unwrap() as u64;
        let addresses = VringConfigData {
            queue_max_size: ring.size(),
            queue_size: ring.size(),
            flags: 0,
            desc_table_addr: host(ring.desc),
            avail_ring_addr: host(ring.avail),
            used_ring_addr: host(ring.used),
            log_addr: None,
        };
        self.frontend.set_vring_num(index, ring.size()).unwrap();
        self.frontend.set_vring_addr(index, &addresses).unwrap();
        self.frontend.set_vring_base(index, base).unwrap();
        if call {
            self.frontend.set_vring_call(index, &ring.call).unwrap();
        }
        self.frontend.set_vring_kick(index, &ring.kick).unwrap();
        self.frontend.set_vring_enable(index, true).unwrap();
    }

    /// Closes the connection. Memory and rings stay as they are.
    pub fn hang_up(&mut self) {
        let (unconnected, _) = UnixStream::pair().unwrap();
        self.frontend = Frontend::from_stream(unconnected, 1);
    }

    pub fn config(&mut self, offset: u32, len: u32) -> Vec<u8> {
        let asked = vec![0; len as usize];
        self.frontend.get_config(offset, len, VhostUserConfigFlags::empty(), &asked).unwrap().1
    }

    pub fn set_config(&mut self, offset: u32, bytes: &[u8]) {
        self.frontend.set_config(offset, VhostUserConfigFlags::WRITABLE, bytes).unwrap();
    }
}

/// A directory for the sockets and files of one test.
pub struct Place(tempfile::TempDir);

impl Place {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().into()
    }
}

/// Runs `action`, e.g. the start of a server, on the first core, and the caller on the second from then on,
/// so that a figure does not depend on where the scheduler puts two threads that poll.
pub fn on_the_other_core<T>(action: impl FnOnce() -> T) -> T {
    use rustix::thread::{CpuSet, sched_setaffinity};
    let pin = |core| {
        let mut set = CpuSet::new();
        set.set(core);
        // On a machine of one core there is no choice.
        let _ = sched_setaffinity(None, &set);
    };
    pin(0);
    let result = action();
    pin(1);
    result
}

/// Waits until `condition` holds.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
