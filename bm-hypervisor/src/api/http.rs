//! Metrics over HTTP/1.1: as much of it as Prometheus needs. Clients are served one after the other, each
//! within a bound.

use std::{
    io::{self, Read, Write},
    net::TcpListener,
    os::fd::{AsFd, BorrowedFd},
    thread::{self, JoinHandle},
    time::Duration,
};

use unix_service::{Listener, StopFlag};

use super::{
    error::ApiError,
    metrics,
    until::{Bounded, Until},
};
use crate::{Handle, config::MetricsAddress};

/// How long a client may take for its request, and for reading the answer.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Longest request, in bytes. Prometheus's is about 300.
const LONGEST: usize = 8 << 10;

/// A thread that serves metrics.
#[derive(Debug)]
pub(super) struct MetricsServer {
    address: MetricsAddress,
    thread: JoinHandle<()>,
}

enum Acceptor {
    Tcp(TcpListener),
    Unix(Listener),
}

impl MetricsServer {
    pub(super) fn start(
        address: &MetricsAddress,
        mode: u32,
        handle: Handle,
        end: StopFlag,
    ) -> Result<Self, ApiError> {
        let failed = |source| ApiError::Metrics { address: address.clone(), source };
        let (acceptor, address) = match address {
            MetricsAddress::Unix(path) => {
                let listener = Listener::bind(path, Some(mode));
                let listener = listener.map_err(|error| ApiError::listen(path, error))?;
                (Acceptor::Unix(listener), address.clone())
            }
            MetricsAddress::Loopback(wanted) => {
                let listener = TcpListener::bind(wanted).map_err(failed)?;
                listener.set_nonblocking(true).map_err(failed)?;
                let bound = listener.local_addr().map_err(failed)?;
                (Acceptor::Tcp(listener), MetricsAddress::Loopback(bound))
            }
        };
        tracing::info!(%address, "metrics served");
        let thread = thread::Builder::new().name("api-metrics".into()).spawn(move || {
            while !end.wait(Some(acceptor.as_fd()), None) {
                if let Err(error) = acceptor.serve_one(&handle) {
                    tracing::debug!(%error, "a request for metrics came to nothing");
                }
            }
        })?;
        Ok(Self { address, thread })
    }

    pub(super) fn address(&self) -> &MetricsAddress {
        &self.address
    }

    pub(super) fn thread(self) -> JoinHandle<()> {
        self.thread
    }
}

impl Acceptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener) => listener.as_fd(),
        }
    }

    fn serve_one(&self, handle: &Handle) -> io::Result<()> {
        let serve = || match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(false)?;
                serve(&stream, handle)
            }
            Self::Unix(listener) => serve(&listener.accept()?, handle),
        };
        serve().inspect_err(|error| {
            // For instance for want of descriptors: the connection still waits, and would be found again at
            // once.
            if error.kind() != io::ErrorKind::WouldBlock {
                thread::sleep(Duration::from_millis(10));
            }
        })
    }
}

fn serve<S: Bounded>(stream: &S, handle: &Handle) -> io::Result<()>
where
    for<'a> &'a S: Read + Write,
{
    let head = read_head(&mut Until::within(stream, TIMEOUT))?;
    let answer = answer(&head, || metrics::render(handle));
    Until::within(stream, TIMEOUT).write_all(answer.as_bytes())
}

/// The request with its header fields, which an empty line ends.
fn read_head(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut bytes = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut bytes)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            _ if head.len() > LONGEST => return Err(io::Error::other("a request that is too long")),
            count => head.extend_from_slice(bytes.get(..count).unwrap_or_default()),
        }
    }
    Ok(head)
}

/// What is answered to a request (RFC 9112, 3 and 4).
fn answer(head: &[u8], metrics: impl FnOnce() -> String) -> String {
    let text = String::from_utf8_lossy(head);
    let mut words = text.lines().next().unwrap_or_default().split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = target.split('?').next().unwrap_or_default();
    let (status, extra, body) = match (method, path) {
        ("GET" | "HEAD", "/metrics") => ("200 OK", "", metrics()),
        ("GET" | "HEAD", _) => ("404 Not Found", "", "there are only /metrics\n".to_owned()),
        _ => ("405 Method Not Allowed", "Allow: GET, HEAD\r\n", "only GET and HEAD\n".to_owned()),
    };
    let kind = if status.starts_with("200") { metrics::CONTENT_TYPE } else { "text/plain; charset=utf-8" };
    let length = body.len();
    let body = if method == "HEAD" { String::new() } else { body };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{extra}Connection: close\r\n\r\n{body}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(request: &str) -> String {
        answer(request.as_bytes(), || "bm_x 1\n".into())
    }

    #[test]
    fn metrics_are_got_and_nothing_else_is() {
        let good = ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(good.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4"), "{good}");
        assert!(good.contains("\r\nContent-Length: 7\r\n") && good.ends_with("\r\n\r\nbm_x 1\n"), "{good}");
        assert!(ask("HEAD /metrics?x=1 HTTP/1.1\r\n\r\n").ends_with("close\r\n\r\n"));
        assert!(ask("GET / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404 "));
        assert!(ask("POST /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405 "));
        assert!(ask("\r\n\r\n").starts_with("HTTP/1.1 405 "));
    }

    #[test]
    fn a_request_is_read_in_pieces_and_up_to_a_bound() {
        let mut pieces = b"GET /metrics HTTP/1.1\r\n".chain(&b"Host: x\r\n\r"[..]).chain(&b"\n"[..]);
        assert!(read_head(&mut pieces).unwrap().ends_with(b"x\r\n\r\n"));
        assert!(read_head(&mut &b"GET / HTTP/1.1\r\n"[..]).is_err());
        assert!(read_head(&mut io::repeat(b'x')).is_err());
    }
}
