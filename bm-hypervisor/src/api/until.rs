//! Reads and writes that end at a moment, however little comes or goes at a time.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

/// A connection on which reads and writes can be bounded.
pub(super) trait Bounded {
    /// Bounds reads and writes from here on; none waits for ever.
    fn bound(&self, each: Option<Duration>) -> io::Result<()>;
}

impl Bounded for UnixStream {
    fn bound(&self, each: Option<Duration>) -> io::Result<()> {
        self.set_read_timeout(each)?;
        self.set_write_timeout(each)
    }
}

impl Bounded for TcpStream {
    fn bound(&self, each: Option<Duration>) -> io::Result<()> {
        self.set_read_timeout(each)?;
        self.set_write_timeout(each)
    }
}

/// A connection until a moment, or for ever. What it does after that is to fail with
/// [`io::ErrorKind::TimedOut`].
pub(super) struct Until<'a, S> {
    pub(super) stream: &'a S,
    pub(super) deadline: Option<Instant>,
}

impl<'a, S: Bounded> Until<'a, S> {
    /// The connection for the next `time`.
    pub(super) fn within(stream: &'a S, time: Duration) -> Self {
        Self { stream, deadline: Some(Instant::now() + time) }
    }

    fn prepare(&self) -> io::Result<()> {
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        // No time at all is what the system takes for no bound.
        if left == Some(Duration::ZERO) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.bound(left)
    }
}

/// The system says that it would block when a bound is reached.
fn timed_out(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
        _ => error,
    }
}

impl<S: Bounded> Read for Until<'_, S>
where
    for<'b> &'b S: Read,
{
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.prepare()?;
        let mut stream = self.stream;
        stream.read(into).map_err(timed_out)
    }
}

impl<S: Bounded> Write for Until<'_, S>
where
    for<'b> &'b S: Write,
{
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.prepare()?;
        let mut stream = self.stream;
        stream.write(from).map_err(timed_out)
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut stream = self.stream;
        stream.flush()
    }
}
