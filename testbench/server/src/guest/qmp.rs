//! A client of QEMU's machine protocol (QMP): the few commands that a board's power switch needs.
//!
//! QEMU speaks first: `{"QMP": {...}}`. Then commands are a line of JSON each, and so are their answers;
//! lines with `event` come in between.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

/// How long one command and its answer may take. QEMU answers from its main loop, in milliseconds unless it
/// hangs.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Longest line that QEMU may send; a greeting has a few hundred bytes.
const LONGEST: usize = 64 << 10;

/// QEMU did not do as it was told.
#[allow(missing_docs, reason = "the fields are those of the message")]
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// The socket failed, or nothing came in time.
    #[error("QEMU does not answer on its QMP socket: {0}")]
    Socket(#[from] io::Error),
    /// What came is not QMP.
    #[error("QEMU said {0:?} on its QMP socket")]
    Nonsense(String),
    /// QEMU refused a command.
    #[error("QEMU refused {command}: {reason}")]
    Refused { command: &'static str, reason: String },
}

/// A connection to one QEMU. Each exchange is over within 3 s.
#[derive(Debug)]
pub struct Qmp {
    stream: UnixStream,
    received: Vec<u8>,
}

impl Qmp {
    /// Connects and leaves the negotiation mode.
    ///
    /// # Errors
    /// [`QmpError`]
    pub fn connect(socket: &Path) -> Result<Self, QmpError> {
        let stream = UnixStream::connect(socket)?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        let mut client = Self { stream, received: Vec::new() };
        let greeting = client.line(Instant::now() + TIMEOUT)?;
        if greeting.get("QMP").is_none() {
            return Err(QmpError::Nonsense(greeting.to_string()));
        }
        client.execute("qmp_capabilities")?;
        Ok(client)
    }

    /// Ends QEMU as if it had been told on its command line's terminal.
    ///
    /// # Errors
    /// [`QmpError`]
    pub fn quit(&mut self) -> Result<(), QmpError> {
        self.execute("quit")
    }

    /// Presses the power button. What comes of it is the guest's.
    ///
    /// # Errors
    /// [`QmpError`]
    pub fn system_powerdown(&mut self) -> Result<(), QmpError> {
        self.execute("system_powerdown")
    }

    /// Resets the machine, without a word to the guest.
    ///
    /// # Errors
    /// [`QmpError`]
    pub fn system_reset(&mut self) -> Result<(), QmpError> {
        self.execute("system_reset")
    }

    fn execute(&mut self, command: &'static str) -> Result<(), QmpError> {
        let deadline = Instant::now() + TIMEOUT;
        self.stream.write_all(format!("{}\n", json!({ "execute": command })).as_bytes())?;
        loop {
            let answer = self.line(deadline)?;
            if answer.get("return").is_some() {
                return Ok(());
            }
            if let Some(error) = answer.get("error") {
                let reason =
                    error.get("desc").and_then(Value::as_str).unwrap_or("without a reason").to_owned();
                return Err(QmpError::Refused { command, reason });
            }
            if answer.get("event").is_none() {
                return Err(QmpError::Nonsense(answer.to_string()));
            }
        }
    }

    /// The next line, by `deadline`.
    fn line(&mut self, deadline: Instant) -> Result<Value, QmpError> {
        loop {
            if let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                return serde_json::from_slice(&line).map_err(|_| {
                    QmpError::Nonsense(String::from_utf8_lossy(&line).chars().take(100).collect())
                });
            }
            if self.received.len() > LONGEST {
                return Err(QmpError::Nonsense(format!("more than {LONGEST} bytes without an end of line")));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::Error::from(io::ErrorKind::TimedOut).into());
            }
            self.stream.set_read_timeout(Some(left))?;
            let mut piece = [0; 4096];
            match self.stream.read(&mut piece) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Ok(count) => self.received.extend(piece.iter().take(count)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(io::Error::from(io::ErrorKind::TimedOut).into());
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader},
        os::unix::net::UnixListener,
        thread,
    };

    use super::*;

    const GREETING: &str = r#"{"QMP": {"version": {}, "capabilities": ["oob"]}}"#;
    const DONE: &str = r#"{"return": {}}"#;

    /// Connects to a QEMU that says the greeting, then `answers` to one command each, in pieces, and then is
    /// silent.
    fn against<T>(
        greeting: &str,
        answers: &[&str],
        act: impl FnOnce(Result<Qmp, QmpError>) -> T,
    ) -> (T, Vec<String>) {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("qmp");
        let listener = UnixListener::bind(&socket).unwrap();
        let said = [&[greeting], answers].concat().into_iter().map(str::to_owned).collect::<Vec<_>>();
        let qemu = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut commands = Vec::new();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            for (number, answer) in said.iter().enumerate() {
                if number > 0 {
                    let Some(Ok(line)) = lines.next() else { break };
                    commands.push(line);
                }
                // A client that has heard enough goes.
                let line = format!("{answer}\r\n");
                if line.as_bytes().chunks(7).any(|piece| stream.write_all(piece).is_err()) {
                    break;
                }
            }
            commands.extend(lines.map_while(Result::ok));
            commands
        });
        let outcome = act(Qmp::connect(&socket));
        (outcome, qemu.join().unwrap())
    }

    #[test]
    fn commands_go_out_one_by_one_and_events_in_between_are_passed_over() {
        let event = "{\"event\": \"RESET\", \"data\": {}}\r\n{\"return\": {}}";
        let ((), commands) = against(GREETING, &[DONE, event, DONE], |qmp| {
            let mut qmp = qmp.unwrap();
            qmp.system_reset().unwrap();
            qmp.quit().unwrap();
        });
        let expected =
            ["qmp_capabilities", "system_reset", "quit"].map(|name| json!({ "execute": name }).to_string());
        assert_eq!(commands, expected);
    }

    #[test]
    fn a_refusal_is_passed_on_in_qemus_words() {
        let refusal = r#"{"error": {"class": "GenericError", "desc": "not now"}}"#;
        let (error, _) =
            against(GREETING, &[DONE, refusal], |qmp| qmp.unwrap().system_powerdown().unwrap_err());
        assert_eq!(error.to_string(), "QEMU refused system_powerdown: not now");
    }

    #[test]
    fn silence_is_an_error_in_time() {
        let (error, _) = against(GREETING, &[DONE], |qmp| qmp.unwrap().system_reset().unwrap_err());
        assert!(
            matches!(&error, QmpError::Socket(error) if error.kind() == io::ErrorKind::TimedOut),
            "{error}"
        );
    }

    #[test]
    fn nonsense_is_an_error() {
        for nonsense in ["hello", "[1]", &"x".repeat(2 * LONGEST)] {
            let (error, _) = against(nonsense, &[], |qmp| qmp.unwrap_err());
            assert!(matches!(error, QmpError::Nonsense(_)), "{error}");
        }
    }
}
