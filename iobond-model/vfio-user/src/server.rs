//! The listener and its thread.

use std::{
    io,
    num::NonZeroU64,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::thread::set_current_timer_slack;
use tracing::{info, warn};
use unix_service::{BindError, Listener, StopFlag};

use crate::{Client, Description, Function, inbox::End, session::Session};

/// How long a client may take to propose a version. Until then it keeps others from being served.
const VERSION_TIMEOUT: Duration = Duration::from_secs(10);
/// How much later than asked for the socket's thread may wake, in nanoseconds. The 50 us that Linux adds by
/// default would double the time that an access to a region takes when the function has to wait once.
const TIMER_SLACK: NonZeroU64 = NonZeroU64::MIN;
/// How long to wait before accepting again what could not be accepted: the process has too many files open,
/// say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A process listens there already.
    #[error("cannot listen on {}: a process listens there already; stop it or take another path", .0.display())]
    InUse(PathBuf),
    /// Something else is there.
    #[error("cannot listen on {}: it exists and is not a socket; remove it or take another path", .0.display())]
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

/// Serves a function on a socket, in a thread of its own, until it is dropped. That ends the connection and
/// the thread and removes the socket.
///
/// Clients are served one after the other: a second one waits, unanswered, until the first has gone. Whatever
/// a client does, at most its connection ends, with the reason logged; the function stays as it is, and the
/// same client or another may come.
#[derive(Debug)]
pub struct Server {
    stop: StopFlag,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens on `socket` and serves `function` there. A socket at which no process listens any more is
    /// replaced.
    ///
    /// # Errors
    /// When a process listens there already, something else is there, or the system refuses.
    pub fn start(socket: &Path, function: Arc<dyn Function>) -> Result<Self, ServerError> {
        let failed = |source| ServerError::System { path: socket.to_owned(), source };
        let listener = Listener::bind(socket, None).map_err(|error| match error {
            BindError::InUse => ServerError::InUse(socket.to_owned()),
            BindError::NotASocket => ServerError::NoSocket(socket.to_owned()),
            BindError::System(source) => failed(source),
        })?;
        let stop = StopFlag::new().map_err(failed)?;
        let description = function.description();
        let serve = {
            let stop = stop.clone();
            move || serve(&listener, &stop, &function, description)
        };
        let thread = thread::Builder::new().name("vfio-user".into()).spawn(serve).map_err(failed)?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.set();
        if let Some(thread) = self.thread.take() {
            // A panic in the function was reported where it happened.
            let _ = thread.join();
        }
    }
}

/// Serves one client after the other until told to stop.
fn serve(listener: &Listener, stop: &StopFlag, function: &Arc<dyn Function>, description: Description) {
    let socket = listener.path().display();
    // Without it the server works, a little slower.
    let _ = set_current_timer_slack(Some(TIMER_SLACK));
    while let Some(client) = listener.next_client(stop) {
        let end = match client {
            Ok(stream) => {
                info!(%socket, "a client has connected");
                meet_all(stream, stop, function, description)
            }
            Err(error) => {
                warn!(%socket, %error, "cannot accept a client");
                stop.wait(None, Some(ACCEPT_PAUSE));
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
fn meet_all(
    stream: UnixStream,
    stop: &StopFlag,
    function: &Arc<dyn Function>,
    description: Description,
) -> End {
    let client = match Client::new(stream, &description) {
        Ok(client) => Arc::new(client),
        Err(error) => return error.into(),
    };
    let mut session = Session::new(Arc::clone(function), description, Arc::clone(&client));
    let agreed_by = Instant::now() + VERSION_TIMEOUT;
    loop {
        let deadline = (!session.is_agreed()).then_some(agreed_by);
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
