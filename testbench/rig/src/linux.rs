//! `bmhive up` as a child process, and a shell on one of its boards.
//!
//! ```text
//!   Up -- bmhive up --+-- QEMU: board0 ---- terminal socket -- Shell: run("cmd") -> (status, output)
//!                     +-- bmhive backend blk, net, console
//!   ask --------------+   control.sock
//! ```

use std::{
    fs::{self, File},
    io::{ErrorKind, Read, Write},
    os::unix::{net::UnixStream, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::{Duration, Instant},
};

use crate::{
    bmhive::{Ended, program},
    test_folder::TestFolder,
    wait::{wait_for, wait_until},
};
use bmhive_server::{
    guest::{self, GuestFiles},
    instance::{BoardStatus, Power, Status},
};
use rustix::process::{Pid, Signal, kill_process};

/// How long an instance may take from its start until it answers.
const UP: Duration = Duration::from_secs(30);
/// How long it may take to end: as long as it waits for guests, and a busy machine.
const DOWN: Duration = Duration::from_secs(20);
/// How long a board may take until its shell answers; TCG on a busy machine.
pub const BOOT: Duration = Duration::from_secs(120);
/// How long a command may take that says nothing else.
const COMMAND: Duration = Duration::from_secs(60);
/// The name of a test's instance, which is in a folder of its own.
const NAME: &str = "test";
/// What init says before the first shell.
const READY: &str = "bmhive: ready";

/// A running `bmhive up`. Dropping it kills it and whatever runs on its behalf.
pub struct Up {
    pub folder: TestFolder,
    child: Child,
    started: Instant,
}

/// `bmhive COMMAND ARGUMENTS` that came to its end.
#[derive(Debug)]
pub struct Answer {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Answer {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

/// The guest files that `bmhive` itself would find.
pub fn guest_files() -> GuestFiles {
    let built = program().ancestors().nth(2).unwrap().join("guest");
    let named = std::env::var_os("BMHIVE_GUEST").map(PathBuf::from);
    guest::find(Some(&named.unwrap_or(built))).unwrap()
}

/// `bmhive`, which finds the instances of `folder`.
pub fn command(folder: &TestFolder, arguments: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.args(arguments).stdin(Stdio::null()).current_dir(folder.path(""));
    command.env("XDG_RUNTIME_DIR", folder.path("")).env("TMPDIR", folder.temporary()).env_remove("RUST_LOG");
    command
}

impl Up {
    /// Starts what a scenario says with the guest files of `cargo xtask guest`, in TCG, and waits until it
    /// answers.
    pub fn start(scenario: &str) -> Self {
        Self::start_in(TestFolder::new(), scenario, &["--accel", "tcg"])
    }

    /// The same in a folder that the test has filled, with options of the test's own.
    pub fn start_in(folder: TestFolder, scenario: &str, options: &[&str]) -> Self {
        let mut up = Self::begin(folder, scenario, options);
        let answered = wait_until(UP, || {
            let ended = up.child.try_wait().unwrap();
            assert!(ended.is_none(), "bmhive up ended: {:#?}", up.ended(ended));
            up.ask(&["status"]).code == Some(0)
        });
        assert!(answered, "no answer after {UP:?}: {:#?}", up.ended(None));
        up
    }

    /// The same, without waiting.
    pub fn begin(folder: TestFolder, scenario: &str, options: &[&str]) -> Self {
        let file = folder.write("scenario.toml", scenario);
        let mut command = command(&folder, &["up", "--name", NAME]);
        let [stdout, stderr] =
            ["up.stdout", "up.stderr"].map(|name| File::create(folder.path(name)).unwrap());
        let child = command.args(options).arg(file).stdout(stdout).stderr(stderr).spawn().unwrap();
        Self { folder, child, started: Instant::now() }
    }

    /// The directory that the instance owns.
    pub fn run_directory(&self) -> PathBuf {
        self.folder.path("bmhive").join(NAME)
    }

    /// `bmhive COMMAND ARGUMENTS --name ...` to its end.
    pub fn ask(&self, arguments: &[&str]) -> Answer {
        self.command(arguments).output().unwrap().into()
    }

    /// The same, to be started by the test.
    pub fn command(&self, arguments: &[&str]) -> Command {
        command(&self.folder, &[arguments, &["--name", NAME]].concat())
    }

    /// The same, which has to succeed; its standard output.
    pub fn done(&self, arguments: &[&str]) -> String {
        let answer = self.ask(arguments);
        assert_eq!(answer.code, Some(0), "bmhive {arguments:?}: {answer:#?}\n{}", self.stderr());
        answer.stdout
    }

    pub fn status(&self) -> Status {
        serde_json::from_str(&self.done(&["status", "--json"])).unwrap()
    }

    pub fn board(&self, name: &str) -> BoardStatus {
        self.status().boards.into_iter().find(|board| board.name == name).unwrap()
    }

    /// Waits until a board is as `is` says.
    pub fn await_board(&self, name: &str, what: &str, is: impl Fn(&BoardStatus) -> bool) -> BoardStatus {
        let start = Instant::now();
        loop {
            let board = self.board(name);
            if is(&board) {
                return board;
            }
            assert!(
                start.elapsed() < BOOT,
                "{name} is not {what} after {BOOT:?}: {board:#?}\n{}",
                self.stderr()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn await_power(&self, name: &str, power: &Power) -> BoardStatus {
        self.await_board(name, power.word(), |board| board.power == *power)
    }

    /// A shell on a board, when it is ready.
    pub fn shell(&self, name: &str) -> Shell {
        let terminal = self.board(name).terminal.unwrap();
        Shell::connect(&terminal, self.run_directory().join(name).join("serial.log"))
    }

    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.path("up.stderr")).unwrap()).into_owned()
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Waits for the end.
    pub fn finish(&mut self) -> Ended {
        let status = wait_for(DOWN, || self.child.try_wait().unwrap());
        let ended = self.ended(status);
        assert!(status.is_some(), "did not end within {DOWN:?}: {ended:#?}");
        ended
    }

    /// Neither processes nor files are left.
    pub fn assert_nothing_left(&self) {
        self.folder.await_quiet();
        assert!(!self.run_directory().exists(), "{} is left", self.run_directory().display());
        assert_eq!(self.folder.leftovers(), Vec::<PathBuf>::new());
    }

    fn ended(&self, status: Option<ExitStatus>) -> Ended {
        Ended {
            code: status.and_then(|status| status.code()),
            signal: status.and_then(|status| status.signal()),
            stdout: String::from_utf8_lossy(&fs::read(self.folder.path("up.stdout")).unwrap()).into_owned(),
            stderr: self.stderr(),
            took: self.started.elapsed(),
        }
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        // Whatever it started dies with it; what does not is killed with the folder.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A root shell on a board's terminal. It outlives reboots of its board.
pub struct Shell {
    stream: UnixStream,
    /// Heard, and not yet looked at.
    heard: String,
    /// Commands so far; every mark is used once, so that what a terminal repeats is not mistaken for an
    /// answer.
    marks: u64,
    /// Sets the marks of one connection apart from those of another.
    tag: u32,
    /// What the kernel says before there is a console, and when it is in trouble.
    serial_log: PathBuf,
}

impl Shell {
    /// Connects to a terminal socket and waits until a shell answers.
    pub fn connect(terminal: &Path, serial_log: PathBuf) -> Self {
        let stream = UnixStream::connect(terminal).unwrap();
        let mut shell = Self { stream, heard: String::new(), marks: 0, tag: fastrand::u32(..), serial_log };
        shell.await_ready();
        shell
    }

    /// Waits until init is ready (once more, after a reboot) and the shell answers.
    pub fn await_ready(&mut self) {
        let deadline = Instant::now() + BOOT;
        self.read_until(READY, deadline);
        // Without echo, prompt and the kernel's messages what comes back is output only. Typed twice when the
        // first comes before the shell.
        loop {
            let mark = self.mark();
            let (start, end) = mark.split_at(2);
            self.send(&format!("dmesg -n 1; stty -echo; PS1=; PS2=; echo \"{start}\"\"{end}\""));
            let again = Instant::now() + Duration::from_secs(5);
            if self.heard_by(&mark, again.min(deadline)).is_some() {
                self.read_until("\n", deadline);
                return;
            }
            assert!(Instant::now() < deadline, "no shell after {BOOT:?}; {}", self.evidence());
        }
    }

    /// Runs a command (lines of the shell's language) and returns its exit status and what it said on either
    /// output.
    pub fn run(&mut self, command: &str) -> (i32, String) {
        self.run_within(command, COMMAND)
    }

    /// The same for one that takes longer.
    pub fn run_within(&mut self, command: &str, timeout: Duration) -> (i32, String) {
        let mark = self.mark();
        self.send(&format!("{{ {command}\n}} </dev/null 2>&1; echo \"{mark} $?\""));
        let deadline = Instant::now() + timeout;
        let Some(output) = self.heard_by(&mark, deadline) else {
            panic!("{command:?} did not end within {timeout:?}; {}", self.evidence());
        };
        let status = self.heard_by("\n", deadline).unwrap_or_default();
        (
            status.trim().parse().unwrap_or_else(|_| panic!("{command:?} ended with {status:?}: {output}")),
            output,
        )
    }

    /// Runs a command that has to succeed; what it said.
    pub fn check(&mut self, command: &str) -> String {
        let (status, output) = self.run(command);
        assert_eq!(status, 0, "{command:?}: {output}");
        output
    }

    /// Types a line and does not wait, as for `poweroff`.
    pub fn send(&mut self, line: &str) {
        self.stream.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// Reads until `text` was heard, and past it.
    fn read_until(&mut self, text: &str, deadline: Instant) {
        assert!(self.heard_by(text, deadline).is_some(), "no {text:?} in time; {}", self.evidence());
    }

    /// What there is to go by when a board is silent.
    fn evidence(&self) -> String {
        let serial = fs::read(&self.serial_log).unwrap_or_default();
        format!("heard: {}\non its serial port: {}", self.heard, String::from_utf8_lossy(&serial))
    }

    fn mark(&mut self) -> String {
        self.marks += 1;
        format!("@@{:08x}-{}", self.tag, self.marks)
    }

    /// What comes before `text`, if that comes in time; both are consumed then. Line ends are `\n`.
    fn heard_by(&mut self, text: &str, deadline: Instant) -> Option<String> {
        loop {
            if let Some(at) = self.heard.find(text) {
                let rest = self.heard.split_off(at + text.len());
                let before = std::mem::replace(&mut self.heard, rest);
                return before.strip_suffix(text).map(str::to_owned);
            }
            let left = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
            self.stream.set_read_timeout(Some(left)).unwrap();
            let mut piece = [0; 4096];
            match self.stream.read(&mut piece) {
                Ok(0) => panic!("the terminal was closed; heard: {}", self.heard),
                Ok(count) => {
                    let fresh = String::from_utf8_lossy(&piece[..count]);
                    self.heard.extend(fresh.chars().filter(|character| *character != '\r'));
                }
                Err(error) if [ErrorKind::WouldBlock, ErrorKind::Interrupted].contains(&error.kind()) => {}
                Err(error) => panic!("the terminal failed: {error}"),
            }
        }
    }
}
