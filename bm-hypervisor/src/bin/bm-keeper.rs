//! `bm-keeper`: keeps a hypervisor's descriptors and starts it anew when it crashed, where no systemd does
//! (its FDSTORE and `Restart=on-failure`; systemd.service(5), sd_notify(3), sd_listen_fds(3)).
//!
//! ```text
//!   bm-keeper -- bm-hypervisor --config board.toml
//!      |  NOTIFY_SOCKET   <-- FDSTORE=1, FDNAME=pool, and the descriptor
//!      |  LISTEN_FDS, LISTEN_FDNAMES, LISTEN_PID --> the next process
//! ```
//! It does nothing else, so that there is little in it that could crash, and knows nothing of boards.

use std::{
    ffi::OsString,
    fs::{self, Permissions},
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{
            fs::PermissionsExt,
            net::{UnixDatagram, UnixStream},
            process::ExitStatusExt,
        },
    },
    path::PathBuf,
    process::{Child, Command, ExitCode, ExitStatus},
    thread,
    time::{Duration, Instant},
};

use clap::Parser;
use command_fds::{CommandFdExt, FdMapping};
use rustix::{
    event::{PollFd, PollFlags, poll},
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg, sockopt::set_socket_passcred},
    process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open},
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// First descriptor of those that are passed on (sd_listen_fds(3), `SD_LISTEN_FDS_START`).
const FIRST_FD: i32 = 3;
/// Descriptors that are kept at most, as systemd's `FileDescriptorStoreMax` has it: several times what a
/// board of eight functions stores.
const MOST_FDS: usize = 64;
/// Bytes of a notification.
const MESSAGE: usize = 4096;
/// Notifications that are taken at a time, more than a socket holds: a sender without end holds nothing else
/// up.
const BURST: usize = 1024;
/// A run shorter than this is a failure to start: the next one is put off, longer and longer.
const SHORT_RUN: Duration = Duration::from_secs(1);
/// How long it is put off at first, and at most.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(5)];
/// How long the command may take to end when told to.
const GRACE: Duration = Duration::from_secs(20);
/// Mode of the notify socket: every user may write to it, as to systemd's. The command may be another user by
/// then (`--user`); what other processes write is not taken.
const MODE: u32 = 0o666;

/// Run a command, keep the descriptors that it stores, and start it anew with them when it crashed
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The command, usually bm-hypervisor --config FILE
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

fn main() -> ExitCode {
    let Arguments { command } = Arguments::parse();
    match keep(&command) {
        Ok(status) => ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)),
        Err(error) => {
            eprintln!("bm-keeper: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the command until it ends by itself, or a signal ends both.
fn keep(command: &[OsString]) -> io::Result<ExitStatus> {
    let name = format!("bm-keeper-{}.sock", std::process::id());
    let notify = NotifySocket::bind(std::env::temp_dir().join(name))?;
    let (ours, theirs) = UnixStream::pair()?;
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        signal_hook::low_level::pipe::register(signal, theirs.try_clone()?)?;
    }
    let (mut store, mut pause) = (Store::default(), Duration::ZERO);
    loop {
        let born = Instant::now();
        let mut child = spawn(command, &notify, &store)?;
        let status = match watch(&mut child, &notify, &ours, &mut store)? {
            End::Told => return end(&mut child, &notify, &mut store),
            End::Itself(status) if status.success() => return Ok(status),
            End::Itself(status) => status,
        };
        let kept = store.0.len();
        match status.signal() {
            Some(signal) => eprintln!(
                "bm-keeper: the command was ended by signal {signal}; again, with {kept} descriptors"
            ),
            None => eprintln!("bm-keeper: the command ended with {status}; again, with {kept} descriptors"),
        }
        // The crash of a command that had worked is mended at once: a board waits.
        let [first, longest] = PAUSES;
        let short = born.elapsed() < SHORT_RUN;
        pause = if short { (2 * pause).clamp(first, longest) } else { Duration::ZERO };
        thread::sleep(pause);
    }
}

/// Where the command's notifications come in. Its path is removed in the end.
struct NotifySocket {
    socket: UnixDatagram,
    path: PathBuf,
}

impl NotifySocket {
    fn bind(path: PathBuf) -> io::Result<Self> {
        // An earlier process of this number cannot be there any more.
        let _ = fs::remove_file(&path);
        let notify = Self { socket: UnixDatagram::bind(&path)?, path };
        set_socket_passcred(&notify.socket, true)?;
        fs::set_permissions(&notify.path, Permissions::from_mode(MODE))?;
        notify.socket.set_nonblocking(true)?;
        Ok(notify)
    }

    /// Takes up what has come from process `from`, and drops what has come from others.
    fn take(&self, from: Pid, store: &mut Store) {
        for _ in 0..BURST {
            let mut bytes = [0; MESSAGE];
            let mut space =
                [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS), ScmCredentials(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut into = [IoSliceMut::new(&mut bytes)];
            let Ok(received) = recvmsg(&self.socket, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC) else {
                return;
            };
            let (mut fds, mut sender) = (Vec::new(), None);
            for message in control.drain() {
                match message {
                    RecvAncillaryMessage::ScmRights(rights) => fds.extend(rights),
                    // The kernel's word, not the sender's: only root may name another process (unix(7)).
                    RecvAncillaryMessage::ScmCredentials(credentials) => sender = Some(credentials.pid),
                    _ => {}
                }
            }
            if sender == Some(from) {
                let text = bytes.get(..received.bytes).unwrap_or_default();
                store.note(&String::from_utf8_lossy(text), fds);
            }
        }
    }
}

impl Drop for NotifySocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// How a wait for the command ended.
enum End {
    /// By a signal to this process.
    Told,
    /// The command ended by itself.
    Itself(ExitStatus),
}

/// Descriptors by name, in the order in which they came.
#[derive(Default)]
struct Store(Vec<(String, OwnedFd)>);

impl Store {
    /// Takes up one notification and its descriptors.
    fn note(&mut self, text: &str, fds: Vec<OwnedFd>) {
        let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        // Names are joined with colons for the next process.
        let name = value("FDNAME").unwrap_or("stored").replace(':', "_");
        if value("FDSTOREREMOVE") == Some("1") {
            self.0.retain(|(stored, _)| *stored != name);
        }
        if value("FDSTORE") == Some("1") {
            let left = MOST_FDS.saturating_sub(self.0.len());
            self.0.extend(fds.into_iter().take(left).map(|fd| (name.clone(), fd)));
        }
    }
}

/// Starts the command with what is stored. `LISTEN_PID` has to name the process that it becomes, which only a
/// shell in its place knows.
fn spawn(command: &[OsString], notify: &NotifySocket, store: &Store) -> io::Result<Child> {
    let mut child = Command::new("/bin/sh");
    child.arg("-c").arg("export LISTEN_PID=$$; exec \"$@\"").arg("sh").args(command);
    child.env("NOTIFY_SOCKET", &notify.path);
    let names: Vec<_> = store.0.iter().map(|(name, _)| name.as_str()).collect();
    child.env("LISTEN_FDS", names.len().to_string()).env("LISTEN_FDNAMES", names.join(":"));
    let mapping = |((_, fd), child_fd): (&(String, OwnedFd), i32)| {
        fd.try_clone().map(|parent_fd| FdMapping { parent_fd, child_fd })
    };
    let mappings = store.0.iter().zip(FIRST_FD..).map(mapping).collect::<io::Result<Vec<_>>>()?;
    child.fd_mappings(mappings).map_err(io::Error::other)?;
    child.spawn()
}

/// Takes up notifications until the command or a signal to this process ends that.
fn watch(
    child: &mut Child,
    notify: &NotifySocket,
    signals: &UnixStream,
    store: &mut Store,
) -> io::Result<End> {
    let ended = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    loop {
        let wait = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
        let mut ready = [wait(notify.socket.as_fd()), wait(ended.as_fd()), wait(signals.as_fd())];
        match poll(&mut ready, None) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other.map(drop)?,
        }
        let [said, gone, told] = ready.map(|fd| !fd.revents().is_empty());
        // What it said before its end counts.
        if said || gone {
            notify.take(Pid::from_child(child), store);
        }
        if told {
            return Ok(End::Told);
        }
        if gone {
            return child.wait().map(End::Itself);
        }
    }
}

/// Ends the command in order, or after a while without. It takes back what it had kept, and waits where few
/// messages fit the socket (`net.unix.max_dgram_qlen`): so they are taken.
fn end(child: &mut Child, notify: &NotifySocket, store: &mut Store) -> io::Result<ExitStatus> {
    // Fails only when it has ended already.
    let _ = kill_process(Pid::from_child(child), Signal::TERM);
    let deadline = Instant::now() + GRACE;
    loop {
        notify.take(Pid::from_child(child), store);
        match child.try_wait()? {
            Some(status) => return Ok(status),
            None if Instant::now() >= deadline => {
                child.kill()?;
                return child.wait();
            }
            None => thread::sleep(Duration::from_millis(5)),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // of tests
mod tests {
    use std::io::IoSlice;

    use rustix::{
        net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, sendmsg_addr},
        process::{getpid, getppid},
    };

    use super::*;

    fn fd() -> OwnedFd {
        UnixStream::pair().unwrap().0.into()
    }

    #[test]
    fn all_users_may_write_and_one_process_is_listened_to() {
        let folder = tempfile::tempdir().unwrap();
        let notify = NotifySocket::bind(folder.path().join("notify")).unwrap();
        assert_eq!(fs::metadata(&notify.path).unwrap().permissions().mode() & 0o777, MODE);
        let send = |name: &str| {
            let (text, fd) = (format!("FDSTORE=1\nFDNAME={name}"), fd());
            let (fds, mut space) = ([fd.as_fd()], [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))]);
            let mut control = SendAncillaryBuffer::new(&mut space);
            assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
            let to = SocketAddrUnix::new(&notify.path).unwrap();
            let from = UnixDatagram::unbound().unwrap();
            let text = [IoSlice::new(text.as_bytes())];
            sendmsg_addr(&from, &to, &text, &mut control, SendFlags::empty()).unwrap();
        };
        let (this, another) = (getpid(), getppid().unwrap());
        let mut store = Store::default();
        send("foreign");
        notify.take(another, &mut store);
        assert!(store.0.is_empty());
        send("own");
        notify.take(this, &mut store);
        assert_eq!(store.0.len(), 1);
        assert_eq!(store.0[0].0, "own");
    }

    #[test]
    fn descriptors_are_kept_by_name_until_they_are_taken_back() {
        let mut store = Store::default();
        store.note("FDSTORE=1\nFDNAME=pool\n", vec![fd()]);
        store.note("READY=1\n", vec![fd()]);
        store.note("FDSTORE=1\nFDNAME=a:b", vec![fd(), fd()]);
        let names = |store: &Store| store.0.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&store), ["pool", "a_b", "a_b"]);
        store.note("FDSTOREREMOVE=1\nFDNAME=a_b\n", vec![]);
        assert_eq!(names(&store), ["pool"]);
        for _ in 0..2 * MOST_FDS {
            store.note("FDSTORE=1\n", vec![fd()]);
        }
        assert_eq!(store.0.len(), MOST_FDS);
    }
}
