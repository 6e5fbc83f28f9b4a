//! `bm-keeper` and a command other than bm-hypervisor: this program itself, as [`the_command`].
//!
//! ```text
//!   test -- starts --> bm-keeper -- starts --> this program, --exact the_command
//!                        ^  NOTIFY_SOCKET              |
//!                        +-----------------------------+
//! ```
#![allow(clippy::unwrap_used, reason = "a test's own functions fail as its tests do")]

use std::{
    fs::File,
    io::{self, Read},
    os::{fd::AsFd, unix::net::UnixStream},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio, exit},
    thread,
    time::{Duration, Instant},
};

use nix::unistd::{Gid, Uid, getuid, setgid, setgroups, setuid};
use rustix::process::{Pid, Signal, kill_process};
use sd_notify::NotifyState;
use signal_hook::consts::SIGTERM;

/// Longer than anything here takes, and less than bm-keeper waits for a command that does not end.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Says which command it is to be.
const ROLE: &str = "KEEPER_TEST_ROLE";
/// An unprivileged user and its group, which Linux distributions reserve for that.
const UNPRIVILEGED: u32 = 65_534;
/// More messages than wait in a socket.
const MANY: usize = 1_000;

/// bm-keeper with this program as its command; killed with the test.
struct Keeper(Child);

impl Keeper {
    fn start(role: &str, folder: &Path) -> Self {
        let mut keeper = Command::new(env!("CARGO_BIN_EXE_bm-keeper"));
        keeper.arg("--").arg(std::env::current_exe().unwrap());
        keeper.args(["--exact", "the_command", "--ignored"]);
        keeper.env(ROLE, role).env("READY", folder.join("ready"));
        keeper.stdout(Stdio::null()).stderr(File::create(folder.join("said")).unwrap());
        Self(keeper.spawn().unwrap())
    }

    /// Waits for its end, and says how it ended.
    fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        until("the end of bm-keeper", || {
            status = self.0.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // In order, so that its command goes too; each fails when it has ended.
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
        let deadline = Instant::now() + TIMEOUT;
        while self.0.try_wait().is_ok_and(|status| status.is_none()) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !done() {
        assert!(Instant::now() < deadline, "{what}: not within {TIMEOUT:?}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// The program that bm-keeper runs in these tests.
#[test]
#[ignore = "not a test but the command of those here"]
fn the_command() {
    match std::env::var(ROLE).as_deref() {
        Ok("give up root") => give_up_root_and_store(),
        Ok("end slowly") => release_much_at_the_end(),
        _ => {}
    }
}

/// Stores a descriptor as the user that `bm-hypervisor --user` becomes, and crashes; all is well if the next
/// process has it.
fn give_up_root_and_store() {
    // An error where nothing is kept yet.
    let mut kept = sd_notify::listen_fds_with_names().into_iter().flatten();
    if kept.any(|(_, name)| name == "kept") {
        exit(0);
    }
    if getuid().is_root() {
        setgroups(&[Gid::from_raw(UNPRIVILEGED)]).unwrap();
        setgid(Gid::from_raw(UNPRIVILEGED)).unwrap();
        setuid(Uid::from_raw(UNPRIVILEGED)).unwrap();
    }
    store("kept").unwrap();
    exit(1);
}

/// Ends in order once it has taken back what it stored, one message after the other.
fn release_much_at_the_end() {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    signal_hook::low_level::pipe::register(SIGTERM, theirs).unwrap();
    File::create(std::env::var_os("READY").unwrap()).unwrap();
    ours.read_exact(&mut [0]).unwrap();
    for index in 0..MANY {
        let name = format!("in-flight-{index}");
        sd_notify::notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(&name)]).unwrap();
    }
    exit(7);
}

fn store(name: &str) -> io::Result<()> {
    let (fd, _) = UnixStream::pair()?;
    sd_notify::notify_with_fds(&[NotifyState::FdStore, NotifyState::FdName(name)], &[fd.as_fd()])
}

#[test]
fn what_a_command_stores_is_there_for_the_next_process_though_it_gave_up_root() {
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = Keeper::start("give up root", folder.path());
    assert_eq!(keeper.ended().code(), Some(0));
    let said = std::fs::read_to_string(folder.path().join("said")).unwrap();
    assert!(said.contains("again, with 1 descriptors"), "{said}");
}

#[test]
fn a_command_that_takes_much_back_is_not_held_up_at_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = Keeper::start("end slowly", folder.path());
    until("the command", || folder.path().join("ready").exists());
    kill_process(Pid::from_child(&keeper.0), Signal::TERM).unwrap();
    assert_eq!(keeper.ended().code(), Some(7));
}
