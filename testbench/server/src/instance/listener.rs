//! Takes requests from `control.sock` to the thread that owns the instance, and its replies back.

use std::{
    io,
    io::Write,
    os::unix::net::UnixStream,
    path::Path,
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError, SyncSender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use unix_service::{Listener, StopFlag};

use super::{
    Reply, Request,
    control::{LONGEST_REQUEST, read_line},
};

/// Clients at a time; one more is refused.
const MOST_CLIENTS: usize = 16;
/// How long a client may take to send its line, and to take the answer.
const TIMEOUT: Duration = Duration::from_secs(1);
/// How long the owner may take.
const OWNER_TIMEOUT: Duration = Duration::from_secs(8);

/// A request, and where the reply is waited for.
#[derive(Debug)]
pub(super) struct Asked {
    pub request: Request,
    reply: SyncSender<Reply>,
}

impl Asked {
    /// Answers. A client that has gone does not hear it.
    pub(super) fn answer(self, reply: Reply) {
        let _ = self.reply.send(reply);
    }
}

/// Requests of clients, and the thread that listens for them. Dropping it ends the thread and removes the
/// socket.
#[derive(Debug)]
pub(super) struct Requests {
    requests: Receiver<Asked>,
    stop: StopFlag,
    thread: Option<JoinHandle<()>>,
}

impl Requests {
    /// Listens at `path`, for this user only.
    pub(super) fn listen(path: &Path) -> io::Result<Self> {
        let listener = Listener::bind(path, Some(0o600))?;
        let stop = StopFlag::new()?;
        let (asked, requests) = mpsc::sync_channel(MOST_CLIENTS);
        let accept = {
            let stop = stop.clone();
            move || accept(&listener, &stop, &asked)
        };
        let thread = thread::Builder::new().name("control".into()).spawn(accept)?;
        Ok(Self { requests, stop, thread: Some(thread) })
    }

    /// The next request, if one comes within `timeout`.
    pub(super) fn recv_timeout(&self, timeout: Duration) -> Result<Asked, RecvTimeoutError> {
        self.requests.recv_timeout(timeout)
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        self.stop.set();
        if let Some(thread) = self.thread.take() {
            // A panic in it has been reported by the thread itself.
            let _ = thread.join();
        }
    }
}

fn accept(listener: &Listener, stop: &StopFlag, asked: &SyncSender<Asked>) {
    // As many as there are clients.
    let places = Arc::new(());
    while let Some(stream) = listener.next_client(stop) {
        let Ok(stream) = stream else {
            // Out of descriptors, say: not to be tried in a loop.
            stop.wait(None, Some(Duration::from_millis(100)));
            continue;
        };
        if Arc::strong_count(&places) > MOST_CLIENTS {
            tracing::warn!("a client of the control socket was refused: {MOST_CLIENTS} are connected");
            continue;
        }
        let (asked, place) = (asked.clone(), Arc::clone(&places));
        let client = move || {
            if let Err(error) = serve(stream, &asked) {
                tracing::debug!("a client of the control socket was dropped: {error}");
            }
            drop(place);
        };
        if let Err(error) = thread::Builder::new().name("client".into()).spawn(client) {
            tracing::warn!("a client of the control socket was refused: {error}");
        }
    }
}

fn serve(mut stream: UnixStream, asked: &SyncSender<Asked>) -> io::Result<()> {
    let line = read_line(&mut stream, LONGEST_REQUEST, Instant::now() + TIMEOUT)?;
    let reply = match serde_json::from_slice(&line) {
        Ok(request) => forward(request, asked),
        Err(error) => Reply::Refused { reason: format!("not a request: {error}") },
    };
    let mut answer = serde_json::to_vec(&reply).map_err(io::Error::other)?;
    answer.push(b'\n');
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.write_all(&answer)
}

fn forward(request: Request, asked: &SyncSender<Asked>) -> Reply {
    let ending = |_| Reply::Refused { reason: "the instance is ending".into() };
    let (reply, answer) = mpsc::sync_channel(1);
    if asked.try_send(Asked { request, reply }).is_err() {
        return Reply::Refused { reason: "the instance is busy, or ending; try again".into() };
    }
    answer.recv_timeout(OWNER_TIMEOUT).unwrap_or_else(ending)
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Read, os::unix::fs::PermissionsExt};

    use super::*;

    /// An instance that answers everything with [`Reply::Done`] until the sender is dropped.
    fn instance(path: &Path) -> Receiver<Request> {
        let asked = Requests::listen(path).unwrap();
        let (seen, requests) = mpsc::channel();
        thread::spawn(move || {
            while let Ok(one) = asked.recv_timeout(Duration::MAX) {
                let _ = seen.send(one.request.clone());
                one.answer(Reply::Done);
            }
        });
        requests
    }

    fn say(path: &Path, bytes: &[u8]) -> String {
        let mut stream = UnixStream::connect(path).unwrap();
        // The other end may have heard enough before it heard all.
        let _ = stream.write_all(bytes);
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    }

    #[test]
    fn a_line_is_answered_with_a_line_and_abuse_with_a_reason_or_an_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        let requests = instance(&path);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

        assert_eq!(say(&path, b"{\"request\":\"status\"}\n"), "{\"reply\":\"done\"}\n");
        assert_eq!(requests.recv().unwrap(), Request::Status);
        for nonsense in
            [&b"hello\n"[..], b"\n", b"{\"request\":\"halt\"}\n", b"\xff\xfe\n", b"[[[[[[[[[[[[\n"]
        {
            assert!(
                say(&path, nonsense).starts_with("{\"reply\":\"refused\",\"reason\":\"not a request"),
                "{nonsense:?}"
            );
        }
        assert_eq!(say(&path, &[b'x'; 2 * LONGEST_REQUEST]), "", "too long");
        // Silence, beside which others are served.
        let start = Instant::now();
        let silent: Vec<_> = (0..MOST_CLIENTS - 1).map(|_| UnixStream::connect(&path).unwrap()).collect();
        assert_eq!(say(&path, b"{\"request\":\"status\"}\n"), "{\"reply\":\"done\"}\n");
        for mut stream in silent {
            stream.set_read_timeout(Some(5 * TIMEOUT)).unwrap();
            assert_eq!(stream.read(&mut [0]).unwrap(), 0, "a silent client was kept");
        }
        assert!(start.elapsed() < 4 * TIMEOUT, "{:?}", start.elapsed());
        assert_eq!(
            say(&path, b"{\"request\":\"board\",\"board\":\"b\",\"action\":\"kill\"}\n"),
            "{\"reply\":\"done\"}\n"
        );
    }
}
