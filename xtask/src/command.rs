//! Running other programs. Every error names the whole command line and how it ended.

use std::{
    io::{BufRead, BufReader, IsTerminal},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, anyhow, bail};

/// The command line as one would type it, for messages.
pub fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Runs a command that talks to the user; fails when it does.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start `{}`", line(command)))?;
    if !status.success() {
        bail!("`{}` ended with {status}", line(command));
    }
    Ok(())
}

/// Runs a command for what it prints; on failure the error carries what it said.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start `{}`", line(command)))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` ended with {}: {}", line(command), output.status, said.trim_end());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a command can be started and succeeds; what it prints is dropped.
pub fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}

/// Runs a command through, showing its output (standard error joined to standard output) and handing each
/// line on.
pub fn watch(command: &mut Command, mut each: impl FnMut(&str)) -> Result<()> {
    let (reader, writer) = std::io::pipe().context("cannot make a pipe")?;
    command.stdout(writer.try_clone().context("cannot share a pipe")?).stderr(writer).stdin(Stdio::null());
    if std::io::stderr().is_terminal() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    let mut child = command.spawn().with_context(|| format!("cannot start `{}`", line(command)))?;
    // The command holds the write ends; without this the pipe would never end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    for text in BufReader::new(reader).split(b'\n') {
        let text = text.with_context(|| format!("cannot read what `{}` prints", line(command)))?;
        let text = String::from_utf8_lossy(&text);
        eprintln!("{text}");
        each(&without_colours(&text));
    }
    let status = child.wait().with_context(|| format!("cannot wait for `{}`", line(command)))?;
    if status.success() { Ok(()) } else { Err(anyhow!("`{}` ended with {status}", line(command))) }
}

/// A line without ANSI escape sequences (ECMA-48, 5.4: ESC `[`, parameters, one final letter).
fn without_colours(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character == '\u{1b}' {
            characters.by_ref().find(char::is_ascii_alphabetic);
        } else {
            plain.push(character);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_failure_names_the_command_and_what_it_said() {
        let error = output(&mut shell("echo nonsense >&2; exit 3")).unwrap_err().to_string();
        assert!(
            error.contains("sh -c") && error.contains("exit status: 3") && error.contains("nonsense"),
            "{error}"
        );
        assert!(run(&mut shell("exit 1")).is_err());
        assert!(!succeeds(&mut Command::new("a-program-that-is-not-there")));
    }

    #[test]
    fn watch_sees_both_streams_without_colours() {
        let mut seen = Vec::new();
        let script = r"printf '\033[32mgreen\033[0m\n'; echo plain >&2; exit 1";
        assert!(watch(&mut shell(script), |text| seen.push(text.to_owned())).is_err());
        assert_eq!(seen, ["green", "plain"]);
    }
}
