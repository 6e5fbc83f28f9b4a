//! A folder of a test's own. Whatever runs on its behalf names the folder on its command line, so that it is
//! found whichever process is its parent.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::wait::wait_until;
use rustix::process::{Pid, Signal, kill_process};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// How long a process that was told to end, or lost its parent, may take until it is gone.
const GRACE: Duration = Duration::from_secs(5);

pub struct TestFolder(TempDir);

impl TestFolder {
    pub fn new() -> Self {
        let folder = Self(tempfile::Builder::new().prefix("process-test-").tempdir().unwrap());
        fs::create_dir(folder.temporary()).unwrap();
        folder
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Where the programs under test are told to make their temporary files.
    pub fn temporary(&self) -> PathBuf {
        self.path("tmp")
    }

    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, contents).unwrap();
        path
    }

    /// Bytes that look like nothing else, from a seed.
    pub fn random_file(&self, name: &str, bytes: usize, seed: u64) -> Vec<u8> {
        let contents = random_bytes(bytes, seed);
        self.write(name, &contents);
        contents
    }

    /// What the programs under test left of their temporary files.
    pub fn leftovers(&self) -> Vec<PathBuf> {
        self.temporary().read_dir().unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    /// The processes that run on behalf of this test, with their command lines. Zombies have none and are not
    /// among them.
    pub fn processes(&self) -> Vec<(i32, String)> {
        let ours = self.0.path().to_str().unwrap();
        let mine = std::process::id().cast_signed();
        let pids = Path::new("/proc").read_dir().unwrap().filter_map(|entry| {
            entry.ok()?.file_name().to_str()?.parse::<i32>().ok().filter(|pid| *pid != mine)
        });
        let line = |pid: i32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            Some((pid, String::from_utf8_lossy(&line).replace('\0', " ")))
        };
        pids.filter_map(line).filter(|(_, line)| line.contains(ours)).collect()
    }

    /// The back ends among [`TestFolder::processes`].
    pub fn back_ends(&self) -> Vec<i32> {
        let back_end = |(pid, line): (i32, String)| line.contains(" backend ").then_some(pid);
        self.processes().into_iter().filter_map(back_end).collect()
    }

    /// Waits until nothing runs on behalf of this test any more.
    pub fn await_quiet(&self) {
        let quiet = wait_until(GRACE, || self.processes().is_empty());
        assert!(quiet, "still running after {GRACE:?}: {:#?}", self.processes());
    }
}

impl Drop for TestFolder {
    /// Ends what a failed test left behind.
    fn drop(&mut self) {
        for (pid, _) in self.processes() {
            if let Some(pid) = Pid::from_raw(pid) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}

/// As sha256sum says it.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The seed of a test that draws what it does, which can be given to run it again.
pub fn seed() -> u64 {
    let given = std::env::var("IOBOND_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| fastrand::u64(..));
    println!("IOBOND_SEED={seed}");
    seed
}

pub fn random_bytes(bytes: usize, seed: u64) -> Vec<u8> {
    let mut contents = vec![0; bytes];
    fastrand::Rng::with_seed(seed).fill(&mut contents);
    contents
}
