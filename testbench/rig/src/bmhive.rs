//! `bmhive` as a child process, with a deadline.

use std::{
    ffi::OsStr,
    fs::{self, File},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use crate::{test_folder::TestFolder, wait::wait_for};
use rustix::process::{Pid, Signal, kill_process};

/// `bmhive`, which cargo puts beside the folder of the test programs, as all programs of the workspace.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("bmhive"))
}

/// No run of a test takes as long on a busy machine. One that does is killed and fails its test.
const DEADLINE: Duration = Duration::from_secs(30);

pub struct Bmhive<'a> {
    folder: &'a TestFolder,
    child: Child,
    started: Instant,
}

/// A run that has ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

impl TestFolder {
    /// `bmhive ARGUMENTS`, with temporary files below [`TestFolder::temporary`].
    pub fn bmhive<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Bmhive<'_> {
        let mut command = Command::new(program());
        command.args(arguments);
        self.start(command)
    }

    /// `bmhive --quiet run SCENARIO --out out` to its end.
    pub fn run(&self, scenario: &str) -> Ended {
        self.start_run(scenario).finish()
    }

    /// The same, without waiting for its end.
    pub fn start_run(&self, scenario: &str) -> Bmhive<'_> {
        let file = self.write("scenario.toml", scenario);
        let [run, out] = ["run", "--out"].map(OsStr::new);
        self.bmhive([OsStr::new("--quiet"), run, file.as_os_str(), out, self.out().as_os_str()])
    }

    /// Where [`TestFolder::run`] leaves its results.
    pub fn out(&self) -> PathBuf {
        self.path("out")
    }

    pub fn start(&self, mut command: Command) -> Bmhive<'_> {
        let [stdout, stderr] = ["stdout", "stderr"].map(|name| File::create(self.path(name)).unwrap());
        command.env("TMPDIR", self.temporary()).env_remove("RUST_LOG").current_dir(self.path(""));
        let child = command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).spawn().unwrap();
        Bmhive { folder: self, child, started: Instant::now() }
    }
}

impl Bmhive<'_> {
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Waits until `count` back ends run. The run must not end before.
    pub fn await_back_ends(&mut self, count: usize) -> Vec<i32> {
        let all = wait_for(DEADLINE, || {
            let back_ends = self.folder.back_ends();
            if back_ends.len() == count {
                return Some(back_ends);
            }
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "ended with {} back ends: {:?}", back_ends.len(), self.ended(ended));
            None
        });
        all.unwrap_or_else(|| panic!("{} of {count} back ends", self.folder.back_ends().len()))
    }

    pub fn finish(mut self) -> Ended {
        let status = wait_for(DEADLINE, || self.child.try_wait().unwrap());
        let ended = self.ended(status);
        assert!(status.is_some(), "did not end within {DEADLINE:?}: {ended:?}");
        ended
    }

    fn ended(&self, status: Option<ExitStatus>) -> Ended {
        let text = |name| String::from_utf8_lossy(&fs::read(self.folder.path(name)).unwrap()).into_owned();
        Ended {
            code: status.and_then(|status| status.code()),
            signal: status.and_then(|status| status.signal()),
            stdout: text("stdout"),
            stderr: text("stderr"),
            took: self.started.elapsed(),
        }
    }
}

impl Drop for Bmhive<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// The run failed with one line on standard error, and said nothing of a success. Returns the line.
    pub fn complaint(&self) -> &str {
        assert_eq!((self.code, self.stderr.lines().count()), (Some(1), 1), "{self:#?}");
        assert!(self.stderr.starts_with("error: "), "{self:#?}");
        self.stderr.trim_end()
    }
}
