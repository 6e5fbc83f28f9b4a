//! A root shell on a board's console, for a program that types.

use std::{
    io::{self, ErrorKind, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::{Duration, Instant},
};

/// What init says before the first shell.
const READY: &str = "bmhive: ready";
/// Between two looks for a socket that is not there yet.
const LOOK: Duration = Duration::from_millis(5);

/// A shell without echo and prompt.
#[derive(Debug)]
pub(super) struct Shell {
    stream: UnixStream,
    heard: String,
    marks: u32,
}

impl Shell {
    /// Connects to a terminal's socket as soon as it is there, and waits until init is ready.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`] at `deadline`; what the socket says.
    pub(super) fn boot(terminal: &Path, deadline: Instant) -> io::Result<Self> {
        let stream = loop {
            match UnixStream::connect(terminal) {
                Ok(stream) => break stream,
                Err(_) if Instant::now() < deadline => std::thread::sleep(LOOK),
                Err(error) => return Err(error),
            }
        };
        let mut shell = Self { stream, heard: String::new(), marks: 0 };
        shell.read_past(READY, deadline)?;
        Ok(shell)
    }

    /// Waits until the shell answers, and quiets it.
    ///
    /// # Errors
    /// As [`Shell::boot`].
    pub(super) fn begin(&mut self, deadline: Instant) -> io::Result<()> {
        // What is typed before the shell is there is echoed by the terminal; the answer is not what was
        // typed.
        self.type_line("stty -echo; PS1=; PS2=; echo rea\"\"dy-to-work")?;
        self.read_past("ready-to-work\n", deadline).map(drop)
    }

    /// Runs a command and returns what it said.
    ///
    /// # Errors
    /// As [`Shell::boot`]; [`ErrorKind::Other`] when the command failed.
    pub(super) fn run(&mut self, command: &str, timeout: Duration) -> io::Result<String> {
        let deadline = Instant::now() + timeout;
        self.marks += 1;
        let mark = format!("@@{}", self.marks);
        self.type_line(&format!("{{ {command}\n}} </dev/null 2>&1; echo \"{mark} $?\""))?;
        let said = self.read_past(&mark, deadline)?;
        let status = self.read_past("\n", deadline)?;
        match status.trim() {
            "0" => Ok(said),
            status => Err(io::Error::other(format!("`{command}` ended with {status}: {said}"))),
        }
    }

    fn type_line(&mut self, line: &str) -> io::Result<()> {
        self.stream.write_all(format!("{line}\n").as_bytes())
    }

    /// Reads until `text` was heard; what came before it.
    fn read_past(&mut self, text: &str, deadline: Instant) -> io::Result<String> {
        loop {
            if let Some(at) = self.heard.find(text) {
                let rest = self.heard.split_off(at + text.len());
                let mut before = std::mem::replace(&mut self.heard, rest);
                before.truncate(at);
                return Ok(before);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let late = format!("no {text:?} in time; the board said: {}", self.heard);
                return Err(io::Error::new(ErrorKind::TimedOut, late));
            }
            self.stream.set_read_timeout(Some(left))?;
            let mut piece = [0; 4096];
            match self.stream.read(&mut piece) {
                Ok(0) => return Err(io::Error::new(ErrorKind::UnexpectedEof, "the terminal was closed")),
                Ok(count) => {
                    let fresh = String::from_utf8_lossy(&piece[..count]);
                    self.heard.extend(fresh.chars().filter(|character| *character != '\r'));
                }
                Err(error) if [ErrorKind::WouldBlock, ErrorKind::Interrupted].contains(&error.kind()) => {}
                Err(error) => return Err(error),
            }
        }
    }
}
