//! Results that are made once: each file or folder is made under another name and renamed when it is whole,
//! and a stamp beside it says what it was made from.

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::io::FdFlags;
use sha2::{Digest, Sha256};

/// How long a run waits for another one: the longest seen was half a minute, a slow mirror may take ten times
/// that.
const TIMEOUT: Duration = Duration::from_mins(10);

/// What something is made from, as one number.
pub fn digest<'a>(inputs: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hash = Sha256::new();
    for input in inputs {
        // With its length, so that two inputs cannot be told from one.
        hash.update((input.len() as u64).to_le_bytes());
        hash.update(input);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A folder of results that belongs to one run at a time.
pub struct Cache {
    folder: PathBuf,
    /// Removed before any result changes and made last: while it exists, all results do.
    seal: &'static str,
    /// Released when it is closed.
    _lock: File,
}

impl Cache {
    /// Opens the folder, after any other run has ended.
    pub fn open(folder: PathBuf, seal: &'static str) -> Result<Self> {
        for part in ["stamps", "partial"] {
            let part = folder.join(part);
            fs::create_dir_all(&part).with_context(|| format!("cannot make {}", part.display()))?;
        }
        let path = folder.join("lock");
        let lock = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        acquire(&lock, &path, TIMEOUT)?;
        // Programs that a run starts inherit the lock: when the run is killed, the next one waits for what is
        // left of it.
        rustix::io::fcntl_setfd(&lock, FdFlags::empty()).context("cannot share the lock")?;
        Ok(Self { folder, seal, _lock: lock })
    }

    /// A path inside the folder.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.folder.join(relative)
    }

    /// Makes one result, unless it is there and was made from the same inputs; `make` gets the path to write
    /// to. Says whether it had to.
    pub fn make(&self, name: &str, inputs: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<bool> {
        let flat = name.replace('/', "-");
        let (result, stamp) = (self.path(name), self.folder.join("stamps").join(&flat));
        if result.exists() && fs::read_to_string(&stamp).is_ok_and(|made_from| made_from == inputs) {
            return Ok(false);
        }
        let partial = self.folder.join("partial").join(&flat);
        remove(&partial)?;
        make(&partial)?;
        // Only now, so that what fails or is interrupted leaves what was there before.
        for stale in [&self.path(self.seal), &stamp, &result] {
            remove(stale)?;
        }
        settle(&partial, &result)?;
        let partial_stamp = self.folder.join("partial").join(format!("{flat}.stamp"));
        fs::write(&partial_stamp, inputs)
            .with_context(|| format!("cannot write {}", partial_stamp.display()))?;
        settle(&partial_stamp, &stamp)?;
        Ok(true)
    }
}

fn acquire(lock: &File, path: &Path, timeout: Duration) -> Result<()> {
    let start = Instant::now();
    let mut told = false;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
            Err(TryLockError::WouldBlock) if start.elapsed() >= timeout => bail!(
                "another run has held {} for {} s; `fuser {0}` names it",
                path.display(),
                timeout.as_secs()
            ),
            Err(TryLockError::WouldBlock) => {
                if !told {
                    eprintln!("    waiting for another run, or for what it left running");
                    told = true;
                }
                thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

/// Gives a finished file or folder its name, once its contents are on the disk.
fn settle(from: &Path, to: &Path) -> Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let opened = File::open(from).with_context(|| format!("{} was not made", from.display()))?;
    rustix::fs::syncfs(&opened).with_context(|| format!("cannot sync {}", from.display()))?;
    fs::rename(from, to).with_context(|| format!("cannot rename {} to {}", from.display(), to.display()))
}

fn remove(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Err(_) => return Ok(()),
        Ok(data) if data.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    };
    removed.with_context(|| format!("cannot remove {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(text: &str) -> impl FnOnce(&Path) -> Result<()> {
        let text = text.to_owned();
        move |path| Ok(fs::write(path, text)?)
    }

    #[test]
    fn a_result_is_made_once_for_the_same_inputs_and_breaks_the_seal_when_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path().to_owned(), "seal").unwrap();
        assert!(cache.make("boot/kernel", "one", write("first")).unwrap());
        assert!(cache.make("seal", "one", write("whole")).unwrap());
        assert!(!cache.make("boot/kernel", "one", |_| bail!("made twice")).unwrap());
        assert!(cache.path("seal").exists());
        assert!(cache.make("boot/kernel", "two", write("second")).unwrap());
        assert_eq!(fs::read_to_string(cache.path("boot/kernel")).unwrap(), "second");
        assert!(!cache.path("seal").exists());
    }

    #[test]
    fn what_fails_to_be_made_anew_leaves_the_old_result_sealed() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path().to_owned(), "seal").unwrap();
        assert!(cache.make("root", "one", write("old")).unwrap());
        assert!(cache.make("seal", "one", write("whole")).unwrap());
        assert!(cache.make("root", "two", |_| bail!("no network")).is_err());
        assert_eq!(fs::read_to_string(cache.path("root")).unwrap(), "old");
        assert!(cache.path("seal").exists());
        assert!(cache.make("root", "two", write("new")).unwrap());
    }

    #[test]
    fn what_fails_half_way_leaves_no_result_and_is_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path().to_owned(), "seal").unwrap();
        let half = |path: &Path| {
            fs::create_dir(path)?;
            fs::write(path.join("a"), "half")?;
            bail!("out of space")
        };
        assert!(cache.make("root", "one", half).is_err());
        assert!(!cache.path("root").exists());
        let whole = |path: &Path| {
            assert!(!path.exists(), "the half is still there");
            Ok(fs::create_dir(path)?)
        };
        assert!(cache.make("root", "one", whole).unwrap());
    }

    #[test]
    fn two_runs_do_not_meet() {
        let folder = tempfile::tempdir().unwrap();
        let first = Cache::open(folder.path().to_owned(), "seal").unwrap();
        let path = folder.path().join("lock");
        let second = File::open(&path).unwrap();
        assert!(acquire(&second, &path, Duration::ZERO).is_err());
        drop(first);
        assert!(acquire(&second, &path, Duration::from_secs(10)).is_ok());
    }

    #[test]
    fn inputs_do_not_run_into_one_another() {
        let two: [&[u8]; 2] = [b"ab", b"c"];
        let other: [&[u8]; 2] = [b"a", b"bc"];
        assert_ne!(digest(two), digest(other));
    }
}
