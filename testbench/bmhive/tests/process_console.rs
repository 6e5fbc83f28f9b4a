//! `bmhive console` between a pseudo-terminal, on which a user would sit, and a serial port, which is this
//! test.
//!
//! ```text
//!   keys -> | pty | -- bmhive console left --serial -- left/serial.sock -> Board
//!   screen <-                (raw mode)                                 <-
//! ```
#![allow(clippy::unwrap_used, reason = "a test's own functions fail as its tests do")]

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::{
        fd::OwnedFd,
        unix::net::{UnixListener, UnixStream},
    },
    process::{Child, ExitStatus, Stdio},
    time::Duration,
};

use rig::{
    fake_qemu::{fake_board, fake_qemu},
    linux::Up,
    test_folder::TestFolder,
    toml::SERVER,
    wait::{wait_for, wait_until},
};
use rustix::{
    process::{Pid, Signal, kill_process},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, Termios, tcgetattr},
};

/// Nothing that a test waits for takes as long.
const DEADLINE: Duration = Duration::from_secs(10);

/// A user at a pseudo-terminal, attached to the serial port that this test is.
struct User {
    child: Child,
    /// The end of the terminal that is keyboard and screen.
    pty: File,
    /// The terminal as the command has it.
    terminal: OwnedFd,
    before: Termios,
    board: UnixStream,
    screen: String,
    // Ends last.
    _listener: UnixListener,
    _up: Up,
}

fn instance() -> (Up, UnixListener) {
    let folder = TestFolder::new();
    let [option, guest] = fake_qemu(&folder);
    let scenario = SERVER.to_owned() + &fake_board("left", "stay");
    let up = Up::start_in(folder, &scenario, &["--accel", "tcg", &option, &guest]);
    // The script that stands for QEMU makes no sockets.
    let listener = UnixListener::bind(up.run_directory().join("left/serial.sock")).unwrap();
    (up, listener)
}

fn accept(listener: &UnixListener) -> UnixStream {
    listener.set_nonblocking(true).unwrap();
    let client = wait_for(DEADLINE, || listener.accept().ok());
    let (stream, _) = client.unwrap_or_else(|| panic!("no client connects"));
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

impl User {
    fn attach() -> Self {
        let (up, listener) = instance();
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let terminal: OwnedFd =
            File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap().into();
        let before = tcgetattr(&terminal).unwrap();
        let end = || Stdio::from(terminal.try_clone().unwrap());
        let mut command = up.command(&["console", "left", "--serial"]);
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let board = accept(&listener);
        let pty = File::from(master);
        let mut user =
            Self { child, pty, terminal, before, board, screen: String::new(), _listener: listener, _up: up };
        user.sees("left: attached, Ctrl-] detaches");
        assert!(wait_until(DEADLINE, || user.is_raw()), "the terminal does not become raw");
        user
    }

    fn is_raw(&self) -> bool {
        !tcgetattr(&self.terminal).unwrap().local_modes.intersects(LocalModes::ICANON | LocalModes::ECHO)
    }

    /// Waits until `text` is on the screen. The other end of the terminal is open here too, so that reading
    /// does not end.
    fn sees(&mut self, text: &str) {
        while !self.screen.contains(text) {
            let mut piece = [0; 256];
            let count = self.pty.read(&mut piece).unwrap();
            self.screen.push_str(&String::from_utf8_lossy(&piece[..count]));
        }
    }

    fn types(&mut self, keys: &[u8]) {
        self.pty.write_all(keys).unwrap();
    }

    fn board_hears(&mut self, keys: &[u8]) {
        let mut heard = vec![0; keys.len()];
        self.board.read_exact(&mut heard).unwrap();
        assert_eq!(heard, keys);
    }

    fn ends(&mut self) -> ExitStatus {
        let status = wait_for(DEADLINE, || self.child.try_wait().unwrap());
        status.unwrap_or_else(|| panic!("bmhive console does not end; screen: {}", self.screen))
    }

    /// It ended in order, and the terminal is as it was.
    fn is_left_as_it_was(&mut self) {
        assert_eq!(self.ends().code(), Some(0), "{}", self.screen);
        let after = tcgetattr(&self.terminal).unwrap();
        assert!(!self.is_raw(), "the terminal is still raw");
        let modes = |of: &Termios| (of.input_modes, of.output_modes, of.control_modes, of.local_modes);
        assert_eq!(modes(&after), modes(&self.before));
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn keys_go_to_the_board_as_they_are_and_ctrl_bracket_detaches() {
    let mut user = User::attach();
    user.board.write_all(b"board0 login: ").unwrap();
    user.sees("board0 login: ");
    // Neither Ctrl-C, Ctrl-Z, Ctrl-D nor Enter is the terminal's.
    user.types(b"root\r\x03\x1a\x04");
    user.board_hears(b"root\r\x03\x1a\x04");
    user.types(b"\x1d");
    user.is_left_as_it_was();
    user.sees("left: detached");
    assert_eq!(user.board.read(&mut [0]).unwrap(), 0, "Ctrl-] is not the board's");
}

#[test]
fn a_signal_detaches_too() {
    for signal in [Signal::TERM, Signal::HUP, Signal::INT] {
        let mut user = User::attach();
        kill_process(Pid::from_child(&user.child), signal).unwrap();
        user.is_left_as_it_was();
    }
}

#[test]
fn a_board_that_hangs_up_is_told() {
    let mut user = User::attach();
    user.board.shutdown(std::net::Shutdown::Both).unwrap();
    user.is_left_as_it_was();
    user.sees("left: the console was closed");
}

#[test]
fn a_board_that_does_not_read_stops_the_keyboard_and_nothing_else() {
    let mut user = User::attach();
    // More than a socket takes; a terminal that is not read takes no more than its own buffer.
    let mut keyboard = user.pty.try_clone().unwrap();
    std::thread::spawn(move || while keyboard.write_all(&[b'x'; 4096]).is_ok() {});
    std::thread::sleep(Duration::from_millis(300));
    user.board.write_all(b"still here").unwrap();
    user.sees("still here");
    kill_process(Pid::from_child(&user.child), Signal::TERM).unwrap();
    user.is_left_as_it_was();
}

#[test]
fn a_pipe_is_sent_to_its_end_and_answered() {
    let (up, listener) = instance();
    let typed = up.folder.write("typed", "uptime\nCtrl-] is a byte as any: \x1d\n");
    let mut command = up.command(&["--quiet", "console", "left", "--serial"]);
    let screen = up.folder.path("screen");
    let mut child =
        command.stdin(File::open(typed).unwrap()).stdout(File::create(&screen).unwrap()).spawn().unwrap();
    let mut board = accept(&listener);
    let expected = b"uptime\nCtrl-] is a byte as any: \x1d\n";
    let mut heard = vec![0; expected.len()];
    board.read_exact(&mut heard).unwrap();
    assert_eq!(heard, expected);
    for part in ["up ", "3 ", "days\n"] {
        board.write_all(part.as_bytes()).unwrap();
        // Much shorter than what comes last is waited for.
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(fs::read_to_string(screen).unwrap(), "up 3 days\n");
}
