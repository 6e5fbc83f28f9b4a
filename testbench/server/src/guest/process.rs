//! One QEMU process, from its start until it was waited for.

use std::{
    ffi::OsString,
    fmt,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Instant,
};

use super::{Machine, Qmp, QmpError};

/// Bytes of QEMU's log, from its end, that are told as its last words.
const LAST_WORDS: u64 = 2048;
/// The last lines of those bytes that are told.
const LAST_LINES: usize = 5;

/// A running QEMU. Dropping it kills it.
#[derive(Debug)]
pub struct Qemu {
    child: Child,
    started: Instant,
    qmp_socket: PathBuf,
    log: PathBuf,
}

/// How a QEMU ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The exit status, or the signal that ended it.
    pub status: ExitStatus,
    /// The last lines that it said on standard error.
    pub last_words: String,
}

impl Ended {
    /// Whether the guest switched its machine off, or QEMU was told to quit.
    #[must_use]
    pub fn in_order(&self) -> bool {
        self.status.success()
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.status.code(), self.status.signal()) {
            (Some(0), _) => f.write_str("QEMU ended in order")?,
            (Some(code), _) => write!(f, "QEMU ended with status {code}")?,
            (None, Some(signal)) => write!(f, "QEMU was ended by signal {signal}")?,
            (None, None) => f.write_str("QEMU ended")?,
        }
        if self.last_words.is_empty() { Ok(()) } else { write!(f, ": {}", self.last_words) }
    }
}

impl Qemu {
    /// Starts the machine, with `more` arguments after its own: what a measurement adds, such as QEMU's own
    /// devices. `program` is `bmhive`, whose `launch` command becomes QEMU: so QEMU ends with the thread that
    /// calls this, however that ends.
    ///
    /// # Errors
    /// The log cannot be made, or `program` cannot be run. That QEMU itself cannot be run is said by
    /// [`Qemu::ended`].
    pub fn start(program: &Path, machine: &Machine<'_>, more: &[OsString]) -> io::Result<Self> {
        let log = machine.qemu_log();
        let errors = File::create(&log)?;
        let child = Command::new(program)
            .arg("launch")
            .arg(&machine.files.qemu)
            .args(machine.arguments())
            .args(more)
            .stdin(Stdio::null())
            .stdout(errors.try_clone()?)
            .stderr(errors)
            // A terminal's Ctrl-C is for `bmhive`, which then ends the guests in order.
            .process_group(0)
            .spawn()?;
        Ok(Self { child, started: Instant::now(), qmp_socket: machine.qmp_socket(), log })
    }

    /// QEMU's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// When it was started.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.started
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<Ended> {
        let status = self.child.try_wait().ok()??;
        Some(Ended { status, last_words: last_words(&self.log).unwrap_or_default() })
    }

    /// A connection to its machine protocol.
    ///
    /// # Errors
    /// [`QmpError`], also while QEMU is not that far yet.
    pub fn qmp(&self) -> Result<Qmp, QmpError> {
        Qmp::connect(&self.qmp_socket)
    }

    /// Ends it without a warning, as a loss of power would.
    pub fn kill(&mut self) {
        // The only error is that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Becomes `program`, which ends when the parent of this process does. Returns only if that fails.
#[must_use]
pub fn launch(program: &Path, arguments: &[OsString]) -> io::Error {
    // The request to be killed outlives exec (prctl(2), PR_SET_PDEATHSIG).
    crate::end_with_parent();
    Command::new(program).args(arguments).exec()
}

fn last_words(log: &Path) -> io::Result<String> {
    let mut log = File::open(log)?;
    let length = log.metadata()?.len();
    log.seek(SeekFrom::Start(length.saturating_sub(LAST_WORDS)))?;
    let mut bytes = Vec::new();
    log.take(LAST_WORDS).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    Ok(lines[lines.len().saturating_sub(LAST_LINES)..].join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_are_the_last_lines() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let long: String = (0..1000).map(|n| format!("line {n}\n\n")).collect();
        std::fs::write(&log, long).unwrap();
        assert_eq!(last_words(&log).unwrap(), "line 995; line 996; line 997; line 998; line 999");
    }

    #[test]
    fn an_end_is_told_with_its_reason() {
        let ended = |raw, words: &str| Ended { status: ExitStatus::from_raw(raw), last_words: words.into() };
        assert_eq!(ended(0, "").to_string(), "QEMU ended in order");
        assert_eq!(ended(1 << 8, "no such device").to_string(), "QEMU ended with status 1: no such device");
        assert_eq!(ended(9, "").to_string(), "QEMU was ended by signal 9");
    }
}
