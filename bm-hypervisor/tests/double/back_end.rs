//! Back ends: a good one on crate `vhost-user-backend`, and raw sockets for bad ones.

use std::{
    io::{Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
};

use bm_hypervisor::config::{
    BackEndConfig, BlkConfig, BoardConfig, ConsoleConfig, FunctionConfig, NetConfig, OnLoss, Role,
};
use vhost_user_backend::{ShutdownHandle, VhostUserBackendMut, VhostUserDaemon, VringRwLock, VringT};
use virtio_queue::QueueOwnedT;
use vm_memory::{Bytes, GuestAddressSpace, GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::event::{EventConsumer, EventFlag, EventNotifier, new_event_consumer_and_notifier};

/// Bits of features VERSION_1, PROTOCOL_FEATURES and INDIRECT_DESC.
pub const FEATURES: u64 = 1 << 32 | 1 << 30 | 1 << 28;
/// The bit of feature EVENT_IDX.
pub const EVENT_IDX: u64 = 1 << 29;
/// Bits of vhost-user protocol features MQ, REPLY_ACK, CONFIG and CONFIGURE_MEM_SLOTS.
pub const PROTOCOL: u64 = 1 | 1 << 3 | 1 << 9 | 1 << 15;

type Memory = GuestMemoryAtomic<GuestMemoryMmap>;

/// Answers each chain with its readable bytes reversed. As a disk it has 2048 sectors, unless its
/// configuration space is set.
pub struct Mirror {
    pub features: u64,
    pub protocol: u64,
    pub space: Arc<Mutex<[u8; 60]>>,
    /// It leaves its rings alone, so that a test can do its work.
    pub idle: bool,
    memory: Memory,
    event_idx: bool,
    pub log: Arc<Mutex<Vec<String>>>,
}

impl Mirror {
    pub fn new(features: u64, protocol: u64) -> Self {
        let memory = GuestMemoryAtomic::new(GuestMemoryMmap::new());
        let mut space = [0; 60];
        space[..8].copy_from_slice(&2048u64.to_le_bytes());
        Self {
            features,
            protocol,
            space: Arc::new(Mutex::new(space)),
            idle: false,
            memory,
            event_idx: false,
            log: Arc::default(),
        }
    }

    fn work(&self, vring: &VringRwLock) {
        loop {
            vring.disable_notification().unwrap();
            let memory = self.memory.memory();
            // Its ring may be stopped between two looks, of which the library tells nothing.
            let Ok(chains) = vring.get_mut().get_queue_mut().iter(memory.clone()).map(Vec::from_iter) else {
                return;
            };
            for chain in chains {
                let head = chain.head_index();
                let mut bytes = vec![];
                for descriptor in chain.clone().readable() {
                    let mut part = vec![0; descriptor.len() as usize];
                    memory.read_slice(&mut part, descriptor.addr()).unwrap();
                    bytes.extend(part);
                }
                bytes.reverse();
                let answer = chain.writable().next().unwrap();
                memory.write_slice(&bytes, answer.addr()).unwrap();
                vring.add_used(head, bytes.len() as u32).unwrap();
                if vring.needs_notification().unwrap() {
                    vring.signal_used_queue().unwrap();
                }
            }
            if !vring.enable_notification().unwrap() {
                return;
            }
        }
    }
}

impl VhostUserBackendMut for Mirror {
    type Bitmap = ();
    type Vring = VringRwLock;

    fn num_queues(&self) -> usize {
        4
    }

    fn max_queue_size(&self) -> usize {
        1024
    }

    fn features(&self) -> u64 {
        self.features
    }

    fn acked_features(&mut self, features: u64) {
        self.log.lock().unwrap().push(format!("features {features:#x}"));
    }

    fn protocol_features(&self) -> vhost::vhost_user::VhostUserProtocolFeatures {
        vhost::vhost_user::VhostUserProtocolFeatures::from_bits_truncate(self.protocol)
    }

    fn set_event_idx(&mut self, enabled: bool) {
        self.event_idx = enabled;
    }

    fn get_config(&self, offset: u32, size: u32) -> Vec<u8> {
        self.space.lock().unwrap()[offset as usize..(offset + size) as usize].to_vec()
    }

    fn update_memory(&mut self, memory: Memory) -> std::io::Result<()> {
        self.memory = memory;
        Ok(())
    }

    fn exit_event(&self, _: usize) -> Option<(EventConsumer, EventNotifier)> {
        Some(new_event_consumer_and_notifier(EventFlag::NONBLOCK).unwrap())
    }

    fn stop_vring(&mut self, index: u32) -> std::io::Result<()> {
        self.log.lock().unwrap().push(format!("stop {index}"));
        Ok(())
    }

    fn handle_event(
        &mut self,
        event: u16,
        _: vmm_sys_util::epoll::EventSet,
        vrings: &[VringRwLock],
        _: usize,
    ) -> std::io::Result<()> {
        if !self.idle {
            self.work(&vrings[usize::from(event)]);
        }
        Ok(())
    }
}

/// A back end that serves until it is dropped, or its front end goes.
pub struct Server {
    pub log: Arc<Mutex<Vec<String>>>,
    shutdown: Arc<Mutex<Option<ShutdownHandle>>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves `mirror` at `socket`, in the role that is left when the front end has `role`.
    pub fn start(mirror: Mirror, socket: &Path, role: Role) -> Self {
        let log = Arc::clone(&mirror.log);
        let memory = mirror.memory.clone();
        let shutdown: Arc<Mutex<Option<ShutdownHandle>>> = Arc::default();
        let mut daemon = VhostUserDaemon::new("mirror".into(), Arc::new(Mutex::new(mirror)), memory).unwrap();
        // Listening begins here, so that the front end finds a listener.
        let listener = match role {
            Role::Connect => Some(vhost::vhost_user::Listener::new(socket, true).unwrap()),
            Role::Listen => None,
        };
        let thread = thread::spawn({
            let (socket, shutdown) = (socket.to_owned(), Arc::clone(&shutdown));
            move || {
                match listener {
                    Some(mut listener) => daemon.start(&mut listener).unwrap(),
                    None => {
                        let deadline = std::time::Instant::now() + super::TIMEOUT;
                        while daemon.start_client(socket.to_str().unwrap()).is_err() {
                            assert!(std::time::Instant::now() < deadline);
                            thread::sleep(std::time::Duration::from_millis(1));
                        }
                    }
                }
                *shutdown.lock().unwrap() = daemon.shutdown_handle();
                // Ends when the front end goes, in whichever way.
                let _ = daemon.wait();
            }
        });
        Self { log, shutdown, thread: Some(thread) }
    }

    /// Whether its front end came; no other one is accepted.
    pub fn is_taken(&self) -> bool {
        self.shutdown.lock().unwrap().is_some()
    }

    /// The back end dies.
    pub fn kill(&mut self) {
        if let Some(handle) = self.shutdown.lock().unwrap().take() {
            handle.shutdown();
        }
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.kill();
        }
    }
}

/// A peer at a raw socket: `talk` gets the first connection.
pub fn raw(socket: &Path, talk: impl FnOnce(UnixStream) + Send + 'static) -> JoinHandle<()> {
    let listener = UnixListener::bind(socket).unwrap();
    thread::spawn(move || talk(listener.accept().unwrap().0))
}

/// Reads one vhost-user message (header of three 32-bit words: request, flags, size); its request and
/// payload, or none at the end of the connection. File descriptors that come along are lost, which is all the
/// same here.
pub fn read_message(stream: &mut UnixStream) -> Option<(u32, Vec<u8>)> {
    let mut header = [0; 12];
    stream.read_exact(&mut header).ok()?;
    let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().unwrap());
    let mut payload = vec![0; word(8) as usize];
    stream.read_exact(&mut payload).ok()?;
    Some((word(0), payload))
}

/// Answers `request` with `payload`.
pub fn reply(stream: &mut UnixStream, request: u32, payload: &[u8]) {
    let mut message = vec![];
    // Version 1, and the reply bit.
    for word in [request, 1 | 1 << 2, payload.len() as u32] {
        message.extend(word.to_le_bytes());
    }
    message.extend(payload);
    let _ = stream.write_all(&message);
}

/// A directory for sockets, and the configurations of functions that use them.
pub struct Sockets(tempfile::TempDir);

impl Sockets {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A back end at `name` that has a quarter of a second, and no second chance.
    pub fn back_end(&self, name: &str) -> BackEndConfig {
        BackEndConfig { timeout_ms: 250, on_loss: OnLoss::Reset, ..BackEndConfig::new(self.path(name)) }
    }

    /// A back end at `name` that is expected to be well, however busy the machine is.
    pub fn good_back_end(&self, name: &str) -> BackEndConfig {
        BackEndConfig { timeout_ms: 10_000, ..self.back_end(name) }
    }
}

pub fn blk(backend: BackEndConfig) -> FunctionConfig {
    FunctionConfig::Blk(BlkConfig::new(backend))
}

pub fn net(backend: BackEndConfig, queue_pairs: u16) -> FunctionConfig {
    let mac = "52:54:00:00:00:01".parse().unwrap();
    FunctionConfig::Net(NetConfig { queue_pairs, ..NetConfig::new(mac, backend) })
}

pub fn console(backend: BackEndConfig) -> FunctionConfig {
    FunctionConfig::Console(ConsoleConfig::new(backend))
}

pub fn board(functions: Vec<FunctionConfig>) -> BoardConfig {
    BoardConfig::new("test", functions)
}
