//! Front end after front end at each socket, until the process is told to stop.
//!
//! Every connection gets a device and a session of its own: a front end that disconnected, however abruptly,
//! leaves nothing to the next one, unless it keeps what is in flight and comes back with it.

use std::io::{self, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tracing::{info, warn};
use unix_service::{Listener, StopFlag};
use vhost::vhost_user::Error as ProtocolError;
use vm_memory::{GuestAddressSpace, GuestMemoryBackend, GuestMemoryMmap};

use crate::Error;
use crate::ring::Memory;
use crate::session::{Backend, Session};
use crate::signals::Signals;

/// How long to wait before a connection that failed is tried again.
const PAUSE: Duration = Duration::from_millis(200);

/// How a server and its front ends find each other.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Peering {
    /// Connect to sockets on which the front ends listen, instead of listening there
    #[arg(long)]
    pub connect: bool,
    /// Exit when the first front end of each socket that shared its memory has gone
    #[arg(long)]
    pub once: bool,
}

/// A device that front ends connect to.
pub(crate) trait Device: Sync {
    /// The device as one connection sees it.
    type Backend: Backend;

    /// Announces what can be connected to beside the sockets for front ends, which were announced before.
    fn announce(&self) {}

    /// A front end has connected to socket number `port`; `memory` will hold its memory table.
    fn open(&self, port: usize, memory: Memory) -> Self::Backend;

    /// The front end has disconnected. On return no thread may touch its rings any more, except those of the
    /// session, and those must be on their way back to it.
    fn close(&self, port: usize, backend: &Self::Backend);
}

/// Where front ends come from.
enum Endpoint {
    Listen(Listener),
    Connect(PathBuf),
}

/// One socket, and the front end that is connected to it.
struct Port {
    index: usize,
    endpoint: Endpoint,
    connected: Mutex<Option<UnixStream>>,
}

/// Serves `device` at each of `paths` until the process is told to stop or, with `--once`, has served.
pub(crate) fn serve<D: Device>(device: &D, paths: &[PathBuf], peering: &Peering) -> Result<(), Error> {
    let stop = StopFlag::new().map_err(|source| Error::Resources { action: "make an event", source })?;
    let _signals = Signals::set(stop.clone())?;
    let ports = paths
        .iter()
        .enumerate()
        .map(|(index, path)| {
            Ok(Port { index, endpoint: Endpoint::new(path, peering.connect)?, connected: Mutex::default() })
        })
        .collect::<Result<Vec<_>, Error>>()?;
    for port in &ports {
        port.endpoint.announce();
    }
    device.announce();
    let open = AtomicUsize::new(ports.len());
    thread::scope(|scope| {
        let mut result = Ok(());
        for port in &ports {
            let serve = || {
                port.serve(device, &stop, peering.once);
                if open.fetch_sub(1, Ordering::AcqRel) == 1 {
                    stop.set();
                }
            };
            let thread = thread::Builder::new().name(format!("port {}", port.index));
            if let Err(source) = thread.spawn_scoped(scope, serve) {
                result = Err(Error::Resources { action: "start a thread", source });
                stop.set();
            }
        }
        stop.wait(None, None);
        ports.iter().for_each(Port::hang_up);
        result
    })
}

/// Listens at `path`. The file of a server that died is replaced; anything else there is left alone.
pub(crate) fn listen(path: &Path) -> Result<Listener, Error> {
    Listener::bind(path, None).map_err(|error| Error::listen(path, error))
}

/// Tells the process that started the server, on stdout, that `what` is so. It waits for the line, so that it
/// is flushed; if it closed the pipe it does not want to know.
pub(crate) fn announce(what: std::fmt::Arguments<'_>) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{what}").and_then(|()| out.flush());
}

impl Endpoint {
    fn new(path: &Path, connect: bool) -> Result<Self, Error> {
        if !connect {
            return Ok(Self::Listen(listen(path)?));
        }
        Ok(Self::Connect(path.into()))
    }

    fn announce(&self) {
        match self {
            Self::Listen(listener) => announce(format_args!("listening on {}", listener.path().display())),
            Self::Connect(path) => announce(format_args!("connecting to {}", path.display())),
        }
    }
}

impl Port {
    /// Serves one front end after the other until `stop` is set.
    fn serve<D: Device>(&self, device: &D, stop: &StopFlag, once: bool) {
        while !stop.is_set() {
            match self.serve_one(device, stop) {
                Ok(was_served) if once && was_served => return,
                Ok(_) => {}
                Err(error) => {
                    warn!("port {}: {error}; waiting for the next front end", self.index);
                    stop.wait(None, Some(PAUSE));
                }
            }
        }
    }

    /// Serves one front end from its first message to its last. Returns whether it shared its memory; a
    /// client that only tries whether the socket is served does not.
    fn serve_one<D: Device>(&self, device: &D, stop: &StopFlag) -> Result<bool, ProtocolError> {
        let Some(stream) = self.next_front_end(stop).map_err(ProtocolError::SocketError)? else {
            return Ok(false);
        };
        let memory = Memory::new(GuestMemoryMmap::new());
        let backend = Arc::new(device.open(self.index, memory.clone()));
        let session = Session::start(stream, &backend, memory.clone());
        let result = match &session {
            Ok(session) => self.answer(session, stop),
            Err(error) => Err(ProtocolError::SocketError(error.kind().into())),
        };
        // Before the session is dropped, which waits for its threads: they may be polling a ring.
        device.close(self.index, &backend);
        result.map(|()| memory.memory().num_regions() > 0)
    }

    /// Waits for a front end; nothing if the process is to stop.
    fn next_front_end(&self, stop: &StopFlag) -> io::Result<Option<UnixStream>> {
        match &self.endpoint {
            Endpoint::Listen(listener) => listener.next_client(stop).transpose(),
            // The front end decides when it comes. Only a signal ends the wait for it.
            Endpoint::Connect(path) => loop {
                match unix_service::connect(path) {
                    Ok(stream) => return Ok(Some(stream)),
                    Err(_) if stop.wait(None, Some(PAUSE)) => return Ok(None),
                    Err(_) => {}
                }
            },
        }
    }

    /// Answers the messages of the front end until it has disconnected or the process is to stop.
    fn answer<B: Backend>(&self, session: &Session<B>, stop: &StopFlag) -> Result<(), ProtocolError> {
        let connection = session.connection().map_err(ProtocolError::SocketError)?;
        *self.connected.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection);
        if stop.is_set() {
            // The thread that hangs up on all ports may have done so before the connection was stored.
            self.hang_up();
        }
        info!("port {}: a front end is connected", self.index);
        let result = session.serve();
        self.connected.lock().unwrap_or_else(PoisonError::into_inner).take();
        // A message that was cut short because we hung up is not an error.
        if result.is_ok() || stop.is_set() {
            info!("port {}: the front end has disconnected", self.index);
            return Ok(());
        }
        result
    }

    /// Ends the connection, if there is one.
    fn hang_up(&self) {
        if let Some(connected) = &*self.connected.lock().unwrap_or_else(PoisonError::into_inner) {
            // Fails only on a connection that is down already.
            let _ = connected.shutdown(Shutdown::Read);
        }
    }
}
