//! The directory that a running instance owns: its lock, its sockets, its logs.
//!
//! `$XDG_RUNTIME_DIR/bmhive/NAME`, or `/tmp/bmhive-UID/NAME` where there is no such variable. The process
//! that holds the lock on `NAME/lock` owns the directory; the lock goes with its process, so what an instance
//! leaves that was killed is known to be stale.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::{
        fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
        net::UnixStream,
    },
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

/// Longest name of an instance: it becomes part of a socket's path, of which Linux takes 107 bytes.
const NAME_LENGTH: usize = 32;
/// Bytes below the directory that a socket's name takes at most: a board's name of 32, a slash, and
/// `15.7.vfio` or `serial.sock`.
const LONGEST_SOCKET: usize = 48;
/// Bytes of a socket's path, with the zero at its end (unix(7), `sun_path`).
const SOCKET_PATH: usize = 108;
const LOCK: &str = "lock";
const CONTROL: &str = "control.sock";

/// A directory that cannot be owned, or found.
#[allow(missing_docs, reason = "the fields are those of the message")]
#[derive(Debug, thiserror::Error)]
pub enum RunDirectoryError {
    #[error(
        "an instance cannot be called {0:?}; a name has 1 to {NAME_LENGTH} lower case letters, digits or '-'"
    )]
    Name(String),
    /// The directory's path is too long for names of sockets behind it.
    #[error("{} is too long for a directory of sockets; set XDG_RUNTIME_DIR to a shorter path", .0.display())]
    TooLong(PathBuf),
    /// Another user's directory stands where ours should.
    #[error("{} belongs to user {owner} or may be written by others; remove it or set XDG_RUNTIME_DIR", path.display())]
    Foreign { path: PathBuf, owner: u32 },
    #[error(
        "instance {name:?} runs already (process {pid}); end it with Ctrl-C where it runs, or give another --name"
    )]
    Running { name: String, pid: String },
    #[error(
        "no instance {name:?} runs in {}{}; `bmhive up --name {name}` starts it",
        home.display(),
        others(running)
    )]
    Absent { name: String, home: PathBuf, running: Vec<String> },
    /// The system refused something.
    #[error("cannot use {}: {reason}; XDG_RUNTIME_DIR names another directory for it", path.display())]
    System { path: PathBuf, reason: io::Error },
}

impl RunDirectoryError {
    /// No instance `name` runs.
    pub(super) fn absent(name: &str) -> Self {
        let home = home();
        // Only for the message.
        let there = fs::read_dir(&home).into_iter().flatten().filter_map(Result::ok);
        let mut running: Vec<_> = there
            .filter(|entry| UnixStream::connect(entry.path().join(CONTROL)).is_ok())
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        running.sort();
        Self::Absent { name: name.into(), home, running }
    }
}

fn others(running: &[String]) -> String {
    if running.is_empty() {
        String::new()
    } else {
        format!(" (there is --name {})", running.join(", --name "))
    }
}

/// The directory of this process's instance. Dropping it removes it.
#[derive(Debug)]
pub struct RunDirectory {
    path: PathBuf,
    /// Held for its lock.
    _lock: File,
}

impl RunDirectory {
    /// Makes the directory of instance `name` and takes its lock. What a dead instance of that name left is
    /// removed.
    ///
    /// # Errors
    /// [`RunDirectoryError`], among them [`RunDirectoryError::Running`].
    pub fn claim(name: &str) -> Result<Self, RunDirectoryError> {
        Self::claim_in(&home(), name)
    }

    fn claim_in(home: &Path, name: &str) -> Result<Self, RunDirectoryError> {
        check_name(name)?;
        make_private(home)?;
        let path = home.join(name);
        if path.as_os_str().len() + LONGEST_SOCKET > SOCKET_PATH {
            return Err(RunDirectoryError::TooLong(path));
        }
        make_private(&path)?;
        let mut lock = lock(&path, name)?;
        let system = |path: &Path| {
            let path = path.to_owned();
            move |reason| RunDirectoryError::System { path, reason }
        };
        for stale in fs::read_dir(&path).map_err(system(&path))? {
            let stale = stale.map_err(system(&path))?;
            if stale.file_name() != LOCK {
                remove(&stale.path()).map_err(system(&stale.path()))?;
            }
        }
        let pid = || {
            lock.set_len(0)?;
            write!(lock, "{}", std::process::id())
        };
        let written: io::Result<()> = { pid }();
        written.map_err(system(&path))?;
        Ok(Self { path, _lock: lock })
    }

    /// The directory's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where other commands reach the instance.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        self.path.join(CONTROL)
    }

    /// Makes the directory of a board.
    ///
    /// # Errors
    /// [`RunDirectoryError::System`]
    pub fn make(&self, board: &str) -> Result<PathBuf, RunDirectoryError> {
        let path = self.path.join(board);
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map(|()| path.clone()).map_err(|reason| RunDirectoryError::System { path, reason })
    }
}

impl Drop for RunDirectory {
    fn drop(&mut self) {
        // The lock goes last, with the descriptor: until then no other process may take the directory for its
        // own. What cannot be removed is removed by the next instance of the name.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// The control socket of instance `name`, which is there.
///
/// # Errors
/// [`RunDirectoryError::Absent`] or [`RunDirectoryError::Name`]
pub fn locate(name: &str) -> Result<PathBuf, RunDirectoryError> {
    check_name(name)?;
    let path = home().join(name).join(CONTROL);
    if path.exists() { Ok(path) } else { Err(RunDirectoryError::absent(name)) }
}

/// The directory of all instances of this user.
fn home() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR").filter(|path| !path.is_empty()) {
        Some(path) => PathBuf::from(path).join("bmhive"),
        None => PathBuf::from(format!("/tmp/bmhive-{}", rustix::process::getuid().as_raw())),
    }
}

fn check_name(name: &str) -> Result<(), RunDirectoryError> {
    let fits = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if fits && (1..=NAME_LENGTH).contains(&name.len()) {
        Ok(())
    } else {
        Err(RunDirectoryError::Name(name.into()))
    }
}

/// A directory that is ours alone, made if it is not there. In /tmp anyone may have made it before.
fn make_private(path: &Path) -> Result<(), RunDirectoryError> {
    let system = |reason| RunDirectoryError::System { path: path.to_owned(), reason };
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made.map_err(system)?,
    }
    let found = fs::symlink_metadata(path).map_err(system)?;
    let ours =
        found.is_dir() && found.uid() == rustix::process::getuid().as_raw() && found.mode() & 0o022 == 0;
    if ours { Ok(()) } else { Err(RunDirectoryError::Foreign { path: path.into(), owner: found.uid() }) }
}

/// Takes the lock of the directory at `path`.
fn lock(path: &Path, name: &str) -> Result<File, RunDirectoryError> {
    let file_path = path.join(LOCK);
    let system = |reason| RunDirectoryError::System { path: file_path.clone(), reason };
    let opened =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&file_path);
    let mut file = opened.map_err(system)?;
    let running = |pid: &str| RunDirectoryError::Running { name: name.into(), pid: pid.trim().into() };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut pid = String::new();
            // Only for the message.
            let _ = (&mut file).take(16).read_to_string(&mut pid);
            return Err(running(if pid.is_empty() { "unknown" } else { &pid }));
        }
        Err(errno) => return Err(system(errno.into())),
    }
    // An instance that ended in between has removed the file whose lock this is.
    let (ours, there) = (file.metadata().map_err(system)?, fs::symlink_metadata(&file_path));
    if there.is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())) {
        Ok(file)
    } else {
        Err(running("ending"))
    }
}

fn remove(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_directory_has_one_owner_and_goes_with_it() {
        let home = tempfile::tempdir().unwrap();
        let first = RunDirectory::claim_in(home.path(), "default").unwrap();
        let error = RunDirectory::claim_in(home.path(), "default").unwrap_err().to_string();
        assert!(error.contains(&std::process::id().to_string()) && error.contains("--name"), "{error}");
        let other = RunDirectory::claim_in(home.path(), "other").unwrap();
        let path = first.path().to_owned();
        drop(first);
        assert!(!path.exists() && other.path().exists());
        RunDirectory::claim_in(home.path(), "default").unwrap();
    }

    #[test]
    fn what_a_dead_instance_left_is_removed() {
        let home = tempfile::tempdir().unwrap();
        let stale = home.path().join("default");
        fs::create_dir_all(stale.join("board0")).unwrap();
        fs::write(stale.join("board0/serial.log"), "old").unwrap();
        fs::write(stale.join(CONTROL), "").unwrap();
        fs::write(stale.join(LOCK), "123456").unwrap();
        fs::set_permissions(&stale, fs::Permissions::from_mode(0o700)).unwrap();
        let claimed = RunDirectory::claim_in(home.path(), "default").unwrap();
        let left: Vec<_> =
            claimed.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, [LOCK]);
    }

    #[test]
    fn a_directory_that_others_may_write_is_refused() {
        let home = tempfile::tempdir().unwrap();
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let error = RunDirectory::claim_in(home.path(), "default").unwrap_err();
        assert!(matches!(error, RunDirectoryError::Foreign { .. }), "{error}");
    }

    #[test]
    fn names_are_names_and_paths_are_short() {
        let home = tempfile::tempdir().unwrap();
        for name in ["", "..", "a/b", "Board", &"x".repeat(NAME_LENGTH + 1)] {
            let error = RunDirectory::claim_in(home.path(), name).unwrap_err();
            assert!(matches!(error, RunDirectoryError::Name(_)), "{error}");
        }
        let deep = home.path().join("d".repeat(60));
        let error = RunDirectory::claim_in(&deep, "default").unwrap_err();
        assert!(matches!(error, RunDirectoryError::TooLong(_)), "{error}");
    }
}
