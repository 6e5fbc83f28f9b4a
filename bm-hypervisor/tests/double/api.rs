//! A board with its API served, and `bmctl` and raw connections as its clients.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use bm_hypervisor::{
    Control,
    api::{Client, ClientError, Server as Api},
    config::ControlConfig,
    logging::LogLevel,
};
use serde_json::Value;

use super::{
    Bench, IoBond, TIMEOUT,
    back_end::{FEATURES, Mirror, PROTOCOL, Sockets},
};

/// A board with its API served and polled by a thread of its own; a test is its driver only before that.
pub struct Rig {
    pub bond: Arc<IoBond>,
    pub control: Option<Control>,
    pub api: Option<Api>,
    pub socket: PathBuf,
    passing: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Rig {
    /// Serves the API of `bench` at `sockets`' `api`.
    pub fn new(sockets: &Sockets, bench: Bench) -> Self {
        Self::with(&ControlConfig::new(sockets.path("api")), bench)
    }

    pub fn with(config: &ControlConfig, bench: Bench) -> Self {
        let Bench { bond, mut poller, control } = bench;
        let api = Api::start(config, control.handle(), LogLevel::fixed()).unwrap();
        let passing = Arc::new(AtomicBool::new(true));
        let thread = thread::spawn({
            let passing = Arc::clone(&passing);
            move || {
                while passing.load(Ordering::Acquire) {
                    if poller.pass().is_idle() {
                        thread::sleep(Duration::from_micros(50));
                    }
                }
            }
        });
        let (control, api, thread) = (Some(control), Some(api), Some(thread));
        Self { bond, control, api, socket: config.socket.clone(), passing, thread }
    }

    pub fn control(&self) -> &Control {
        self.control.as_ref().unwrap()
    }

    pub fn client(&self) -> Client {
        Client::connect(&self.socket, TIMEOUT).unwrap()
    }

    /// Calls a method over a connection of its own; result, or error code and message.
    pub fn call(&self, method: &str, params: Value) -> Result<Value, (i32, String)> {
        match self.client().call_raw(method, Some(params)) {
            Ok(value) => Ok(value),
            Err(ClientError::Refused { error, .. }) => Err((error.code, error.message)),
            Err(other) => panic!("{method}: {other}"),
        }
    }

    /// Runs `bmctl`; whether it succeeded, standard output, standard error.
    pub fn bmctl(&self, arguments: &[&str]) -> (bool, String, String) {
        bmctl(&self.socket, arguments)
    }

    /// Runs `bmctl`, which succeeds; standard output.
    pub fn good(&self, arguments: &[&str]) -> String {
        let (good, out, err) = self.bmctl(arguments);
        assert!(good, "bmctl {arguments:?}: {err}");
        out
    }

    /// A raw connection that waits no longer than the test may take.
    pub fn raw(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream.set_write_timeout(Some(TIMEOUT)).unwrap();
        stream
    }

    /// Sends bytes, and returns the line that is answered.
    pub fn send(&self, bytes: &[u8]) -> Value {
        let mut stream = self.raw();
        stream.write_all(bytes).unwrap();
        line(&mut stream)
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        drop(self.api.take());
        drop(self.control.take());
        self.passing.store(false, Ordering::Release);
        let joined = self.thread.take().unwrap().join();
        assert!(joined.is_ok() || thread::panicking());
    }
}

pub fn bmctl(socket: &Path, arguments: &[&str]) -> (bool, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bmctl"));
    let output = command.arg("--socket").arg(socket).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    // Messages are broken into lines of a terminal's width.
    let err = text(output.stderr).replace("\n  │ ", " ");
    (output.status.success(), text(output.stdout), err)
}

/// One line of an answer.
pub fn line(stream: &mut UnixStream) -> Value {
    let mut bytes = vec![];
    while bytes.last() != Some(&b'\n') {
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "the connection ended after {bytes:?}");
        bytes.push(byte[0]);
    }
    serde_json::from_slice(&bytes).unwrap()
}

/// Whether the connection ends, whatever comes before that.
pub fn ends(stream: &mut UnixStream) -> bool {
    let mut rest = vec![];
    match stream.read_to_end(&mut rest) {
        Ok(_) => true,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !done() {
        assert!(Instant::now() < deadline, "{what}: not within {TIMEOUT:?}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// A disk of 2048 sectors, or a network, that mirrors.
pub fn mirror() -> Mirror {
    Mirror::new(FEATURES, PROTOCOL)
}
