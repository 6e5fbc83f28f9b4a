//! A back end in a process of its own: started, waited for, and ended with its parent.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Read},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// How long a back end may take until its sockets are there.
const START_TIME: Duration = Duration::from_secs(10);
/// Between two looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(50);
/// How long it may take to end when it is asked to.
const STOP_TIME: Duration = Duration::from_secs(3);

/// A back end that did not start.
#[allow(missing_docs, reason = "the fields are those of the message")]
#[derive(Debug, thiserror::Error)]
pub enum BackEndError {
    /// The program could not be run.
    #[error("cannot start back end {name} ({}): {source}", program.display())]
    Spawn { name: String, program: PathBuf, source: std::io::Error },
    /// It ended before it listened.
    #[error("back end {name} did not come up: {said}")]
    Ended { name: String, said: String },
    /// The caller gave up.
    #[error("back end {name} was not waited for any longer")]
    GivenUp { name: String },
    /// It neither listened nor ended.
    #[error("back end {name} opened {opened} of {wanted} sockets in {START_TIME:?}; it was ended")]
    Silent { name: String, opened: usize, wanted: usize },
}

/// A running back end. Dropping it ends it.
#[derive(Debug)]
pub struct BackEndProcess {
    name: String,
    child: Child,
}

impl BackEndProcess {
    /// Starts `program backend ARGS` and waits until it listens on `sockets` sockets, which it says on
    /// standard output, a line each, or until `give_up` says that it is not wanted any more.
    ///
    /// # Errors
    /// [`BackEndError`]; nothing is left running then.
    pub fn start<S: AsRef<OsStr>>(
        name: &str,
        program: &Path,
        args: impl IntoIterator<Item = S>,
        sockets: usize,
        give_up: &dyn Fn() -> bool,
    ) -> Result<Self, BackEndError> {
        let spawned = Command::new(program)
            .arg("backend")
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A Ctrl-C at the terminal is for us: we end back ends when no board uses them any more.
            .process_group(0)
            .spawn();
        let child = spawned.map_err(|source| BackEndError::Spawn {
            name: name.to_owned(),
            program: program.to_owned(),
            source,
        })?;
        let mut process = Self { name: name.to_owned(), child };
        let came_up = process.await_sockets(sockets, give_up);
        if came_up.is_err() {
            // It serves no client yet for which it would have to end in order.
            process.kill();
        }
        came_up.map(|()| process)
    }

    fn await_sockets(&mut self, wanted: usize, give_up: &dyn Fn() -> bool) -> Result<(), BackEndError> {
        let errors = self.child.stderr.take().map(lines_of);
        let lines = self.child.stdout.take().map(lines_of);
        let deadline = Instant::now() + START_TIME;
        let mut opened = 0;
        while opened < wanted {
            let left = deadline.saturating_duration_since(Instant::now());
            match lines.as_ref().map(|lines| lines.recv_timeout(left.min(LOOK))) {
                Some(Ok(_)) => opened += 1,
                Some(Err(mpsc::RecvTimeoutError::Timeout)) if give_up() => {
                    return Err(BackEndError::GivenUp { name: self.name.clone() });
                }
                Some(Err(mpsc::RecvTimeoutError::Timeout)) if left.is_zero() => {
                    return Err(BackEndError::Silent { name: self.name.clone(), opened, wanted });
                }
                Some(Err(mpsc::RecvTimeoutError::Timeout)) => {}
                Some(Err(mpsc::RecvTimeoutError::Disconnected)) | None => {
                    let said: Vec<String> = errors.iter().flat_map(mpsc::Receiver::iter).collect();
                    let said =
                        if said.is_empty() { "it ended without a word".into() } else { said.join("; ") };
                    return Err(BackEndError::Ended { name: self.name.clone(), said });
                }
            }
        }
        // From here on its complaints are ours to pass on.
        if let Some(errors) = errors {
            let name = self.name.clone();
            std::thread::spawn(move || {
                errors.iter().for_each(|line| tracing::info!(back_end = name, "{line}"));
            });
        }
        Ok(())
    }

    /// The back end's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        // The only error is that it was waited for elsewhere, which is done nowhere.
        self.child.try_wait().ok().flatten()
    }

    /// Its name in the scenario.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Kills it without a warning, as a crash would.
    pub fn kill(&mut self) {
        // The only error is that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for BackEndProcess {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
            && matches!(self.child.try_wait(), Ok(None))
        {
            // It ends between the two calls at worst; the child has not been waited for, so the pid is still
            // its own.
            let _ = kill_process(pid, Signal::TERM);
        }
        let deadline = Instant::now() + STOP_TIME;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        self.kill();
    }
}

/// The lines of a pipe, as they come; the channel closes with the pipe. A line is cut at 4 KiB, so that a
/// back end gone mad fills no memory.
fn lines_of(pipe: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    const LONGEST: u64 = 4096;
    let (send, receive) = mpsc::sync_channel(64);
    std::thread::spawn(move || {
        let mut reader = BufReader::new(pipe);
        let mut line = Vec::new();
        while matches!(reader.by_ref().take(LONGEST).read_until(b'\n', &mut line), Ok(1..)) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            line.clear();
            if send.send(text).is_err() {
                break;
            }
        }
        // No receiver is left, but the pipe must not fill up.
        let _ = std::io::copy(&mut reader, &mut std::io::sink());
    });
    receive
}

/// Ends this process when its parent does: called first thing in a back end that a base server started.
pub fn end_with_parent() {
    // Only an invalid signal could fail, and this one is valid.
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    if rustix::process::getppid().is_none_or(|parent| parent.is_init()) {
        std::process::exit(0);
    }
}
