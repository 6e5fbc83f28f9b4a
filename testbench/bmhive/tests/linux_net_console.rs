//! The console of a Linux board: long outputs, long pastes, several terminals, and `bmhive console` on a
//! terminal.
//!
//! ```text
//!   board0: sh -- hvc0 -- virtio_console -- IO-Bond -- bmhive backend console -- terminals, bmhive console
//!           vda: seeded text                                                \- log
//! ```
#![allow(clippy::unwrap_used, reason = "a test's own functions fail as its tests do")]

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::{fd::AsFd, unix::net::UnixStream},
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use bmhive_server::instance::Power;
use rig::{
    linux::Up,
    test_folder::TestFolder,
    toml::{SERVER, blk, linux},
    wait::{wait_for, wait_until},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{Mode, OFlags},
    process::{Pid, Signal, kill_process},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, tcgetattr},
};
use sha2::{Digest, Sha256};

/// What the board prints, in bytes.
const PRINTED: usize = 1 << 20;
/// What is pasted, in bytes: more than the 64 KiB that the back end keeps for a driver.
const PASTED: usize = 100 << 10;
/// What a terminal that comes late is shown of what was printed before.
const REPLAY: usize = 64 << 10;
/// How long any of it may take.
const TIMEOUT: Duration = Duration::from_secs(60);
/// What a terminal does itself unless it is raw: lines, echo, signals.
const COOKED: LocalModes = LocalModes::ICANON.union(LocalModes::ECHO).union(LocalModes::ISIG);
/// Ctrl-], by which `bmhive console` is left.
const DETACH: &[u8] = b"\x1d";

/// A board that prints what is on its disk.
fn start(printed: impl AsRef<[u8]>) -> Up {
    let folder = TestFolder::new();
    folder.write("text.img", printed);
    let board = linux("board0", 1, 256, &[blk("image = \"text.img\"\nread_only = true")]);
    Up::start_in(folder, &(SERVER.to_owned() + &board), &["--accel", "tcg"])
}

/// Lines of printable characters. Control characters would mean something to a terminal, and 0x0f to a
/// kernel's console.
fn text(bytes: usize, seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let character = |at: usize| if at % 80 == 79 { b'\n' } else { random.u8(b' '..=b'~') };
    (0..bytes).map(character).collect()
}

/// Reads up to the first `end`, and past it whatever came along.
fn read_to(from: &mut (impl Read + AsFd), end: &[u8]) -> Vec<u8> {
    let (start, mut heard) = (Instant::now(), Vec::new());
    let mut searched = 0;
    while !heard[searched..].windows(end.len()).any(|window| window == end) {
        searched = heard.len().saturating_sub(end.len());
        let left = Timespec::try_from(TIMEOUT.saturating_sub(start.elapsed())).unwrap();
        let ready = poll(&mut [PollFd::new(from, PollFlags::IN)], Some(&left)).unwrap();
        let mut piece = [0; 4096];
        let count = if ready > 0 { from.read(&mut piece).unwrap() } else { 0 };
        let (wanted, last) = (String::from_utf8_lossy(end), String::from_utf8_lossy(&heard[searched..]));
        assert!(count > 0, "no {wanted:?} after {TIMEOUT:?} or the end; {} bytes, {last:?}", heard.len());
        heard.extend(&piece[..count]);
    }
    heard
}

/// One more terminal on the board's console.
fn terminal(up: &Up) -> UnixStream {
    let stream = UnixStream::connect(up.board("board0").terminal.unwrap()).unwrap();
    stream.set_write_timeout(Some(TIMEOUT)).unwrap();
    stream
}

fn end(mut up: Up) {
    up.signal(Signal::INT);
    let ended = up.finish();
    assert_eq!((ended.code, ended.signal), (Some(0), None), "{ended:#?}");
    up.assert_nothing_left();
}

/// ```text
///   board0: cat /dev/vda ====== 1 MiB =====> log, a shell, a terminal that reads, one that reads afterwards
///                                            one that comes afterwards: the last 64 KiB
///   board0: head >/tmp/pasted <= 100 KiB === one of them
/// ```
#[test]
fn long_outputs_and_pastes_arrive_byte_for_byte() {
    let (printed, pasted) = (text(PRINTED, 0x9417), text(PASTED, 0x9a57));
    let up = start(&printed);
    let mut shell = up.shell("board0");

    let (mut prompt, mut late) = (terminal(&up), terminal(&up));
    let expected = [&printed[..], b"@@over\n"].concat();
    // Without `opost` a line ends as it is written.
    let print = "stty -F /dev/hvc0 -opost; cat /dev/vda; echo @@over; stty -F /dev/hvc0 opost";
    let (said, heard) = thread::scope(|scope| {
        let heard = scope.spawn(|| read_to(&mut prompt, b"@@over\n"));
        (shell.check(print), heard.join().unwrap())
    });
    assert!(said.as_bytes() == expected, "{} bytes", said.len());
    let log = fs::read(up.board("board0").terminal.unwrap().with_extension("log")).unwrap();
    for heard in [heard, read_to(&mut late, b"@@over\n"), log.clone()] {
        let found = heard.windows(expected.len()).filter(|window| *window == expected);
        assert_eq!(found.count(), 1, "{} bytes", heard.len());
    }
    let mut replay = vec![0; REPLAY];
    let mut typist = terminal(&up);
    typist.set_read_timeout(Some(TIMEOUT)).unwrap();
    typist.read_exact(&mut replay).unwrap();
    assert!(log.ends_with(&replay), "{:?}", String::from_utf8_lossy(&replay));

    let paste = format!(
        "stty -F /dev/hvc0 raw -echo; echo @@go; head -c {PASTED} </dev/hvc0 >/tmp/pasted\n\
         stty -F /dev/hvc0 sane -echo; cat /tmp/pasted | sha256sum"
    );
    let said = thread::scope(|scope| {
        let said = scope.spawn(|| shell.check(&paste));
        read_to(&mut typist, b"@@go\n");
        typist.write_all(&pasted).unwrap();
        said.join().unwrap()
    });
    let digest: String = Sha256::digest(&pasted).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(said, format!("@@go\n{digest}  -\n"));
    assert_eq!(shell.check("echo as before"), "as before\n");
    end(up);
}

/// `bmhive console board0` on a terminal of its own.
struct Attached {
    child: Child,
    user: File,
    /// The end that the program has.
    terminal: File,
}

impl Attached {
    fn start(up: &Up) -> Self {
        let user = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&user).unwrap();
        unlockpt(&user).unwrap();
        let name = ptsname(&user, Vec::new()).unwrap();
        let terminal = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty());
        let (user, terminal) = (File::from(user), File::from(terminal.unwrap()));
        let end = || Stdio::from(terminal.try_clone().unwrap());
        let mut command = up.command(&["console", "board0"]);
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let mut attached = Self { child, user, terminal };
        attached.sees("attached, Ctrl-] detaches");
        attached.await_raw();
        attached
    }

    fn types(&mut self, keys: &[u8]) {
        self.user.write_all(keys).unwrap();
    }

    fn sees(&mut self, text: &str) {
        read_to(&mut self.user, text.as_bytes());
    }

    /// Waits until keys go to the program as they are pressed, and the terminal shows none of them itself.
    fn await_raw(&self) {
        let raw = wait_until(TIMEOUT, || !self.modes().intersects(COOKED));
        assert!(raw, "not raw: {:?}", self.modes());
    }

    fn modes(&self) -> LocalModes {
        tcgetattr(&self.terminal).unwrap().local_modes
    }

    /// The program ends with status 0, and the terminal is what it was.
    fn assert_gone(&mut self) {
        let status = wait_for(TIMEOUT, || self.child.try_wait().unwrap());
        assert!(status.is_some_and(|status| status.success()), "bmhive console: {status:?}");
        assert!(self.modes().contains(COOKED), "{:?}", self.modes());
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// ```text
///   terminal 0 -- bmhive console board0 --\
///                                          hvc0: what one types, both see; Ctrl-C reaches the shell
///   terminal 1 -- bmhive console board0 --/
///   Ctrl-] in 0: terminal as before --------- 1 goes on
///   SIGTERM to 1: terminal as before
/// ```
#[test]
fn terminals_attach_share_the_console_and_detach() {
    let up = start(text(PRINTED, 0x7e47));
    let mut shell = up.shell("board0");
    let [mut first, mut second] = [(); 2].map(|()| Attached::start(&up));

    first.types(b"echo first-$((6 * 7))\r");
    first.sees("first-42");
    second.sees("first-42");
    // Said by the foreground itself: a Ctrl-C before it would meet the shell that is about to start it.
    second.types(b"sh -c 'echo asleep; exec sleep 1000'\r");
    first.sees("asleep\r\n");
    first.types(b"\x03");
    first.sees("\r\n"); // what was typed before the signal is delivered is thrown away with it
    first.types(b"echo woken-$?\r"); // 128 and SIGINT
    for attached in [&mut first, &mut second] {
        attached.sees("woken-130");
    }

    first.types(DETACH);
    first.sees("board0: detached");
    first.assert_gone();
    second.types(b"echo second-$((6 * 9))\r");
    second.sees("second-54");
    kill_process(Pid::from_child(&second.child), Signal::TERM).unwrap();
    second.assert_gone();

    assert_eq!(up.board("board0").power, Power::Running);
    // Without echo: what all terminals heard, and the line that Ctrl-C ends.
    let heard = "first-42\nasleep\n\nwoken-130\nsecond-54\nstill here\n";
    assert_eq!(shell.check("echo still here"), heard);
    end(up);
}
