//! The listener and its thread.

use std::{
    fs, io,
    num::NonZeroU64,
    os::{
        fd::AsFd,
        unix::{
            fs::{FileTypeExt, MetadataExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags},
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with},
    thread::set_current_timer_slack,
};
use tracing::{info, warn};

use crate::{Client, Description, Function, inbox::End, session::Session, stop::Stop, stream::ready};

/// How long a client may take to propose a version. Until then it keeps others from being served.
const VERSION_PATIENCE: Duration = Duration::from_secs(10);
/// How much later than asked for the socket's thread may wake, in nanoseconds. The 50 us that Linux adds by default would double
/// the time that an access to a region takes when the function has to wait once.
const TIMER_SLACK: NonZeroU64 = NonZeroU64::MIN;
/// How long to wait before accepting again what could not be accepted: the process has too many files open, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Somebody serves there already.
    #[error("cannot listen on {}: a process listens there already; stop it or take another path", .0.display())]
    InUse(PathBuf),
    /// Something else is there.
    #[error("cannot listen on {}: it exists and is no socket; remove it or take another path", .0.display())]
    NoSocket(PathBuf),
    /// The socket or its thread cannot be made.
    #[error("cannot listen on {}: {source}", path.display())]
    System {
        /// Of the socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Serves a function on a socket, in a thread of its own, until it is dropped. That ends the connection and the thread and removes
/// the socket.
///
/// Clients are served one after the other: a second one waits, unanswered, until the first has gone. Whatever a client does, at
/// most its connection ends, with the reason logged; the function stays as it is, and the same client or another may come.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    /// Device and inode of the socket, which somebody else may have replaced when it is to be removed.
    identity: Option<(u64, u64)>,
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens on `socket` and serves `function` there. A socket that was left behind and that nobody listens on is replaced.
    ///
    /// # Errors
    /// When somebody listens there already, something else is there, or the system refuses.
    pub fn start(socket: &Path, function: Arc<dyn Function>) -> Result<Self, ServerError> {
        let path = socket.to_owned();
        let failed = |source| ServerError::System { path: socket.to_owned(), source };
        let listener = listen(socket)?;
        let identity = identity(&path);
        let mut server = Self { path, identity, stop: Arc::new(Stop::new().map_err(failed)?), thread: None };
        listener.set_nonblocking(true).map_err(failed)?;
        let description = function.description();
        let (path, stop) = (server.path.clone(), Arc::clone(&server.stop));
        let serve = move || serve(&path, &listener, &stop, &function, description);
        let thread = thread::Builder::new().name("vfio-user".into()).spawn(serve).map_err(failed)?;
        server.thread = Some(thread);
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.set();
        if let Some(thread) = self.thread.take() {
            // A panic in the function was reported where it happened.
            let _ = thread.join();
        }
        if self.identity.is_some() && self.identity == identity(&self.path) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

fn listen(path: &Path) -> Result<UnixListener, ServerError> {
    let failed = |source| ServerError::System { path: path.to_owned(), source };
    match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
        bound => return bound.map_err(failed),
    }
    if !fs::symlink_metadata(path).map_err(failed)?.file_type().is_socket() {
        return Err(ServerError::NoSocket(path.to_owned()));
    }
    match probe(path) {
        Err(Errno::CONNREFUSED) => {}
        // `EAGAIN`: so many wait there that there is no room for one more.
        Ok(()) | Err(Errno::AGAIN) => return Err(ServerError::InUse(path.to_owned())),
        Err(errno) => return Err(failed(errno.into())),
    }
    info!(socket = %path.display(), "replaced a socket that nobody listens on");
    fs::remove_file(path).and_then(|()| UnixListener::bind(path)).map_err(failed)
}

/// Connects without waiting.
fn probe(path: &Path) -> Result<(), Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)
}

/// Serves one client after the other until told to stop.
fn serve(
    path: &Path,
    listener: &UnixListener,
    stop: &Stop,
    function: &Arc<dyn Function>,
    description: Description,
) {
    let socket = path.display();
    // Without it things go on, a little slower.
    let _ = set_current_timer_slack(Some(TIMER_SLACK));
    while !stop.is_set() {
        let end = match listener.accept() {
            Ok((stream, _)) => {
                info!(%socket, "a client has come");
                meet_all(stream, stop, function, description)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let read = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
                let _ = ready(&mut [read(listener.as_fd()), read(stop.as_fd())], None);
                continue;
            }
            Err(error) => {
                warn!(%socket, %error, "cannot accept a client");
                let _ = ready(&mut [PollFd::new(stop, PollFlags::IN)], Some(ACCEPT_PAUSE));
                continue;
            }
        };
        match end {
            End::Closed | End::Stopped => info!(%socket, reason = %end, "a connection ended"),
            _ => warn!(%socket, reason = %end, "a connection ended"),
        }
    }
}

/// Meets all requests of one client. Why there are no more.
fn meet_all(stream: UnixStream, stop: &Stop, function: &Arc<dyn Function>, description: Description) -> End {
    let client = match Client::new(stream, &description) {
        Ok(client) => Arc::new(client),
        Err(error) => return error.into(),
    };
    let mut session = Session::new(Arc::clone(function), description, Arc::clone(&client));
    let patience = Instant::now() + VERSION_PATIENCE;
    loop {
        let deadline = (!session.is_agreed()).then_some(patience);
        let met = client.next_request(stop, deadline).and_then(|request| {
            match session.meet(request, &mut || client.glance())? {
                Some(reply) => client.send(&reply),
                None => Ok(()),
            }
        });
        if let Err(end) = met {
            return end;
        }
    }
}
