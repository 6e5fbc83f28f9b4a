//! The server: a thread that accepts, and one for each client.

use std::{
    io::{self, Read, Write},
    net::Shutdown,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use unix_service::{Listener, StopFlag};

use super::{
    CLIENT_TIMEOUT, MAX_CLIENTS, MAX_MESSAGE,
    error::ApiError,
    http::MetricsServer,
    methods::Service,
    rpc::{self, RpcError, code},
    splitter::{Splitter, Unsplit},
    until::Until,
};
use crate::{
    Handle,
    config::{ControlConfig, MetricsAddress},
    logging::LogLevel,
};

/// How long to wait after the system refused a connection, for instance for want of descriptors.
const REFUSED: Duration = Duration::from_millis(100);

/// Serves the API of one board. Dropped, it ends all connections and removes its sockets.
#[derive(Debug)]
pub struct Server {
    /// Asked for by a client: the program is to end.
    stop: StopFlag,
    /// Asked for when this is dropped: its threads are to end.
    end: StopFlag,
    accepting: Option<JoinHandle<()>>,
    metrics: Option<MetricsServer>,
}

impl Server {
    /// Starts to serve at the socket that `config` names, and metrics where it says.
    ///
    /// # Errors
    /// [`ApiError`] when it cannot listen there.
    pub fn start(config: &ControlConfig, handle: Handle, log: LogLevel) -> Result<Self, ApiError> {
        let (stop, end) = (StopFlag::new()?, StopFlag::new()?);
        let listener = Listener::bind(&config.socket, Some(config.mode))
            .map_err(|error| ApiError::listen(&config.socket, error))?;
        let metrics = config.metrics.as_ref();
        let metrics = metrics
            .map(|address| MetricsServer::start(address, config.mode, handle.clone(), end.clone()))
            .transpose()?;
        // Made first, so that it undoes what comes after.
        let mut server = Self { stop: stop.clone(), end: end.clone(), accepting: None, metrics };
        let service = Arc::new(Service { handle, log, stop, end });
        let thread = thread::Builder::new().name("api".into());
        server.accepting = Some(thread.spawn(move || accept(&listener, &service))?);
        tracing::info!(socket = %config.socket.display(), "API served");
        Ok(server)
    }

    /// Whether a client asked the program to stop the board and to end.
    pub fn stop_asked(&self) -> bool {
        self.stop.is_set()
    }

    /// Polls readable once [`Server::stop_asked`] is true. It is not to be read from.
    pub fn stop_event(&self) -> BorrowedFd<'_> {
        self.stop.as_fd()
    }

    /// Where metrics are served over HTTP; with the port that was taken, if any was to be.
    pub fn metrics_address(&self) -> Option<&MetricsAddress> {
        self.metrics.as_ref().map(MetricsServer::address)
    }
}

impl Drop for Server {
    /// Waits for commands that are being carried out, at most one per client, as long as those may take.
    fn drop(&mut self) {
        self.end.set();
        for thread in self.accepting.take().into_iter().chain(self.metrics.take().map(MetricsServer::thread))
        {
            // Already reported, by the panic itself.
            let _ = thread.join();
        }
    }
}

/// A connection, and the thread that serves it.
struct Connected {
    stream: UnixStream,
    thread: JoinHandle<()>,
}

fn accept(listener: &Listener, service: &Arc<Service>) {
    let mut clients: Vec<Connected> = Vec::new();
    while let Some(accepted) = listener.next_client(&service.end) {
        clients.retain(|client| !client.thread.is_finished());
        let served = match accepted {
            Ok(stream) if clients.len() < MAX_CLIENTS => serve_on_thread(stream, service),
            Ok(stream) => {
                refuse(&stream);
                continue;
            }
            Err(error) => Err(error),
        };
        match served {
            Ok(client) => clients.push(client),
            Err(error) => {
                tracing::warn!(%error, "a client cannot be served");
                thread::sleep(REFUSED);
            }
        }
    }
    for client in &clients {
        // Fails when it has gone by itself.
        let _ = client.stream.shutdown(Shutdown::Both);
    }
    for client in clients {
        let _ = client.thread.join();
    }
}

fn serve_on_thread(stream: UnixStream, service: &Arc<Service>) -> io::Result<Connected> {
    let ours = stream.try_clone()?;
    let service = Arc::clone(service);
    let thread = thread::Builder::new().name("api-client".into()).spawn(move || {
        if let Err(error) = serve(&stream, &service) {
            tracing::warn!(%error, "a client of the API was dropped");
        }
        // The other end of `ours` would keep the connection open.
        let _ = stream.shutdown(Shutdown::Both);
    })?;
    Ok(Connected { stream: ours, thread })
}

fn refuse(stream: &UnixStream) {
    let message = format!("{MAX_CLIENTS} clients are connected already; end one of them");
    let answer = RpcError::new(code::TOO_MANY_CLIENTS, message).answer();
    // It fits into the buffer of a new connection; a client that does not read it is gone all the same.
    let _ = Until::within(stream, REFUSED).write_all(&answer);
    tracing::warn!("a client was refused: {MAX_CLIENTS} are connected");
}

/// Serves one client until it goes; an error is why it is dropped.
fn serve(stream: &UnixStream, service: &Service) -> io::Result<()> {
    let mut splitter = Splitter::new(MAX_MESSAGE);
    let mut bytes = [0; 4096];
    let mut deadline = None;
    loop {
        while let Some(text) = splitter.next() {
            // The time of what follows in the buffer begins here.
            deadline = None;
            let (answer, last) = match text {
                Ok(text) => (rpc::answer(&text, |name, params| service.call(name, params)), false),
                Err(unsplit) => (Some(not_a_message(unsplit)), matches!(unsplit, Unsplit::TooLong(_))),
            };
            if let Some(answer) = answer {
                Until::within(stream, CLIENT_TIMEOUT).write_all(&answer)?;
            }
            if last {
                return Err(io::Error::other("it sent a message that is too long"));
            }
        }
        deadline = splitter.is_waiting().then(|| deadline.unwrap_or_else(|| Instant::now() + CLIENT_TIMEOUT));
        match (Until { stream, deadline }).read(&mut bytes) {
            Ok(0) => return Ok(()),
            Ok(count) => splitter.push(bytes.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                let message = format!("a message was not finished within {CLIENT_TIMEOUT:?}");
                let answer = RpcError::new(code::MESSAGE, message.clone()).answer();
                Until::within(stream, REFUSED).write_all(&answer)?;
                return Err(io::Error::other(message));
            }
            // It went without reading all of its answers.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

fn not_a_message(unsplit: Unsplit) -> Vec<u8> {
    let code = match unsplit {
        Unsplit::Garbage => code::PARSE,
        Unsplit::TooLong(_) => code::MESSAGE,
    };
    RpcError::new(code, format!("not a message: {unsplit}")).answer()
}
