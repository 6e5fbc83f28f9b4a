//! The clients of the terminal socket.

use std::io::{ErrorKind, IoSlice, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tracing::{info, warn};
use unix_service::Listener;

use super::output::Output;
use super::typed::Typed;

/// Most terminals at a time.
const MOST: usize = 8;

/// What one that comes too late reads.
const FULL: &[u8] = b"8 terminals are connected to this console; disconnect one of them\r\n";

/// Most bytes that are read from a terminal before the others are looked at.
const MAX_READ: usize = 4096;

/// How long to leave the socket alone when a terminal could not be accepted.
const PAUSE: Duration = Duration::from_millis(200);

/// The terminals and the socket that they come from.
pub(crate) struct Terminals {
    listener: Listener,
    paused_until: Option<Instant>,
    terminals: Vec<Terminal>,
}

struct Terminal {
    stream: UnixStream,
    /// Position in the output up to which the stream has it.
    seen: u64,
    /// The stream took less than there was, and is written to again when it takes more.
    behind: bool,
    /// The other end may type more: it has not shut down its half.
    typing: bool,
    /// The other end has hung up. What it typed before may still be there to be read.
    gone: bool,
}

/// There is nothing more to be had from a terminal, or nothing to be told it.
struct Over;

impl Terminals {
    /// No terminal is connected yet.
    pub(crate) fn new(listener: Listener) -> Self {
        Self { listener, paused_until: None, terminals: Vec::new() }
    }

    /// Shows every terminal what was printed since the last time. One that is too far behind is disconnected.
    pub(crate) fn show(&mut self, output: &Output) {
        self.terminals.retain_mut(|terminal| terminal.gone || terminal.show(output).is_ok());
    }

    /// Waits for `waker`, for terminals that connect, type or take more again, until `timeout` is over.
    /// Serves them and clears the waker. Returns whether there was anything.
    pub(crate) fn serve(
        &mut self,
        waker: &OwnedFd,
        typed: &mut Typed,
        output: &Output,
        timeout: Option<Duration>,
    ) -> bool {
        let events = self.wait(waker, typed.free() > 0, timeout);
        let [woken, called, terminals @ ..] = events.as_slice() else { return false };
        if !woken.is_empty() {
            let _ = rustix::io::read(waker, &mut [0u8; 8]);
        }
        let mut events = terminals.iter();
        self.terminals.retain_mut(|terminal| {
            // One for each that was waited for.
            let ready = events.next().copied().unwrap_or(PollFlags::empty());
            ready.is_empty() || terminal.serve(ready, typed, output).is_ok()
        });
        if !called.is_empty() {
            self.accept(output);
        }
        [woken, called].into_iter().chain(terminals).any(|ready| !ready.is_empty())
    }

    /// What is ready: the waker, the socket, and each terminal. `typing` says whether terminals may type.
    fn wait(&mut self, waker: &OwnedFd, typing: bool, timeout: Option<Duration>) -> Vec<PollFlags> {
        let pause = self.paused_until.map(|until| until.saturating_duration_since(Instant::now()));
        self.paused_until = self.paused_until.filter(|_| pause != Some(Duration::ZERO));
        let timeout = [timeout, pause].into_iter().flatten().min();
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());

        // A descriptor that is not to be looked at now is replaced by the waker and asked nothing: of its own
        // a hang-up would be reported even so.
        let none = || PollFd::new(waker, PollFlags::empty());
        let mut fds = vec![PollFd::new(waker, PollFlags::IN)];
        fds.push(match self.paused_until {
            Some(_) => none(),
            None => PollFd::from_borrowed_fd(self.listener.as_fd(), PollFlags::IN),
        });
        fds.extend(self.terminals.iter().map(|terminal| match terminal.interest(typing) {
            None => none(),
            Some(interest) => PollFd::new(&terminal.stream, interest),
        }));
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => fds.iter().map(PollFd::revents).collect(),
            // A signal: nothing is ready, and the caller comes again.
            Err(_) => Vec::new(),
        }
    }

    /// Takes one terminal. Those that hung up give it their place, although what they typed is lost then.
    fn accept(&mut self, output: &Output) {
        // Neither reading nor writing may wait for a terminal.
        let accepted = self.listener.accept().and_then(|stream| {
            stream.set_nonblocking(true)?;
            Ok(stream)
        });
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return,
            Err(error) => {
                warn!("a terminal cannot be accepted: {error}");
                self.paused_until = Some(Instant::now() + PAUSE);
                return;
            }
        };
        if self.terminals.len() >= MOST {
            self.terminals.retain(|terminal| !terminal.gone);
        }
        if self.terminals.len() >= MOST {
            // A new stream takes a line; if not, hanging up says enough.
            let _ = (&stream).write(FULL);
            return;
        }
        let mut terminal =
            Terminal { stream, seen: output.replay(), behind: false, typing: true, gone: false };
        if terminal.write(output).is_ok() {
            self.terminals.push(terminal);
        }
    }
}

impl Terminal {
    /// What to wait for, or nothing if not even a hang-up matters now. `typing` says whether it may type.
    fn interest(&self, typing: bool) -> Option<PollFlags> {
        let mut interest = PollFlags::empty();
        interest.set(PollFlags::IN, self.typing && typing);
        interest.set(PollFlags::OUT, self.behind && !self.gone);
        (!self.gone || typing).then_some(interest)
    }

    fn serve(&mut self, ready: PollFlags, typed: &mut Typed, output: &Output) -> Result<(), Over> {
        self.gone |= ready.intersects(PollFlags::HUP | PollFlags::ERR);
        // From one that hung up everything at once, as far as it fits, so that its place is free.
        while self.typing && self.read(typed)? > 0 && self.gone {}
        match self.gone {
            true if !self.typing => Err(Over),
            false if ready.contains(PollFlags::OUT) => self.write(output),
            _ => Ok(()),
        }
    }

    /// Reads what fits, [`MAX_READ`] at most, and returns its length.
    fn read(&mut self, typed: &mut Typed) -> Result<usize, Over> {
        let mut bytes = [0; MAX_READ];
        let free = typed.free().min(MAX_READ);
        if free == 0 {
            return Ok(0);
        }
        match self.stream.read(&mut bytes[..free]) {
            Ok(count) => {
                self.typing = count > 0;
                Ok(typed.push(&bytes[..count]))
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(0),
            Err(_) => Err(Over),
        }
    }

    fn show(&mut self, output: &Output) -> Result<(), Over> {
        match self.behind {
            false => self.write(output),
            true => self.unseen(output).map(|_| ()),
        }
    }

    /// Writes as much as the stream takes. One that takes no more at all may yet have something typed to be
    /// read.
    fn write(&mut self, output: &Output) -> Result<(), Over> {
        loop {
            let unseen = self.unseen(output)?;
            self.behind = unseen.iter().any(|piece| !piece.is_empty());
            if !self.behind {
                return Ok(());
            }
            match self.stream.write_vectored(&unseen.map(IoSlice::new)) {
                Ok(count) => self.seen += count as u64,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    self.gone = true;
                    return if self.typing { Ok(()) } else { Err(Over) };
                }
            }
        }
    }

    fn unseen<'o>(&self, output: &'o Output) -> Result<[&'o [u8]; 2], Over> {
        output.since(self.seen).map_err(|_| {
            info!("a terminal that does not read is disconnected");
            Over
        })
    }
}
