//! A user's terminal on a board's: keys go there as they are pressed, what comes is shown as it comes.
//!
//! A terminal is put into raw mode, so that Ctrl-C reaches the board's shell, and is put back however this
//! ends. A pipe is no terminal: it is sent to its end, and what the board says to it is awaited for a moment.

use std::{
    io::{self, IsTerminal},
    os::{fd::AsFd, unix::net::UnixStream},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{Errno, read, write},
    termios::{OptionalActions, Termios, tcgetattr, tcsetattr},
};

/// Ctrl-], which telnet leaves by, too.
const DETACH: u8 = 0x1d;
/// How long nothing may come after the end of a pipe until the board is taken to have said all.
const LINGER: Duration = Duration::from_secs(1);
/// How often signals are looked at; they interrupt the wait as well, unless they come just before it.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Why a terminal is no longer attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// The user pressed Ctrl-].
    Detached,
    /// The pipe that stands for the keyboard is at its end, and the board has nothing more to say.
    EndOfInput,
    /// The board's side has closed the connection.
    Closed,
    /// The process was sent a signal.
    Interrupted,
}

/// Whether the keyboard is a terminal.
#[must_use]
pub fn is_interactive() -> bool {
    io::stdin().is_terminal()
}

/// Connects keyboard and screen to `board` until one side has enough; `interrupted` is asked ten times a
/// second.
///
/// # Errors
/// The terminal or the connection cannot be read or written.
pub fn attach(
    keyboard: &(impl AsFd + IsTerminal),
    screen: &impl AsFd,
    board: &UnixStream,
    interrupted: impl Fn() -> bool,
) -> io::Result<Left> {
    let raw = keyboard.is_terminal().then(|| Raw::new(keyboard)).transpose()?;
    board.set_nonblocking(true)?;
    let mut attached = Attached { interactive: raw.is_some(), typed: Vec::new(), quiet_since: None };
    loop {
        if interrupted() {
            return Ok(Left::Interrupted);
        }
        if let Some(left) = attached.turn(keyboard, screen, board)? {
            return Ok(left);
        }
    }
}

struct Attached {
    interactive: bool,
    /// Typed, and not yet taken by the board. More is read only when there is none.
    typed: Vec<u8>,
    /// When the keyboard had ended and the board last said something.
    quiet_since: Option<Instant>,
}

impl Attached {
    fn turn(
        &mut self,
        keyboard: &impl AsFd,
        screen: &impl AsFd,
        board: &UnixStream,
    ) -> io::Result<Option<Left>> {
        let wants_keys = self.typed.is_empty() && self.quiet_since.is_none();
        let for_board = if self.typed.is_empty() { PollFlags::IN } else { PollFlags::IN | PollFlags::OUT };
        let for_keyboard = if wants_keys { PollFlags::IN } else { PollFlags::empty() };
        let mut ready = [PollFd::new(board, for_board), PollFd::new(keyboard, for_keyboard)];
        match poll(if wants_keys { &mut ready } else { &mut ready[..1] }, Some(&LOOK)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let [board_ready, keyboard_ready] = ready.map(|entry| entry.revents());
        if !board_ready.is_empty()
            && let Some(left) = self.show_output(screen, board)?
        {
            return Ok(Some(left));
        }
        if wants_keys && !keyboard_ready.is_empty() && self.take_keys(keyboard)? {
            return Ok(Some(Left::Detached));
        }
        if self.send_keys(board)? {
            return Ok(Some(Left::Closed));
        }
        let over = self.quiet_since.is_some_and(|since| self.typed.is_empty() && since.elapsed() > LINGER);
        Ok(over.then_some(Left::EndOfInput))
    }

    fn show_output(&mut self, screen: &impl AsFd, board: &UnixStream) -> io::Result<Option<Left>> {
        let mut piece = [0; 4096];
        match read(board, &mut piece) {
            Ok(0) | Err(Errno::CONNRESET) => return Ok(Some(Left::Closed)),
            Ok(count) => {
                let (said, _) = piece.split_at(count);
                show(screen, said)?;
                self.quiet_since = self.quiet_since.map(|_| Instant::now());
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(None)
    }

    /// Returns whether the user detaches.
    fn take_keys(&mut self, keyboard: &impl AsFd) -> io::Result<bool> {
        let mut piece = [0; 1024];
        match read(keyboard, &mut piece) {
            Ok(0) => self.quiet_since = Some(Instant::now()),
            Ok(count) => {
                let (keys, _) = piece.split_at(count);
                if self.interactive && keys.contains(&DETACH) {
                    return Ok(true);
                }
                self.typed.extend(keys);
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            // A terminal that hung up.
            Err(Errno::IO) => return Ok(true),
            Err(errno) => return Err(errno.into()),
        }
        Ok(false)
    }

    /// Returns whether the board has closed the connection.
    fn send_keys(&mut self, board: &UnixStream) -> io::Result<bool> {
        if self.typed.is_empty() {
            return Ok(false);
        }
        match write(board, &self.typed) {
            Ok(count) => drop(self.typed.drain(..count)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(Errno::PIPE | Errno::CONNRESET) => return Ok(true),
            Err(errno) => return Err(errno.into()),
        }
        Ok(false)
    }
}

fn show(screen: &impl AsFd, mut said: &[u8]) -> io::Result<()> {
    while !said.is_empty() {
        match write(screen, said) {
            Ok(count) => (_, said) = said.split_at(count),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// A terminal in raw mode; dropping it puts it back.
struct Raw<'a, T: AsFd> {
    terminal: &'a T,
    before: Termios,
}

impl<'a, T: AsFd> Raw<'a, T> {
    fn new(terminal: &'a T) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(terminal, OptionalActions::Now, &raw)?;
        Ok(Self { terminal, before })
    }
}

impl<T: AsFd> Drop for Raw<'_, T> {
    fn drop(&mut self) {
        // A terminal that has gone needs no mode.
        let _ = tcsetattr(self.terminal, OptionalActions::Now, &self.before);
    }
}
