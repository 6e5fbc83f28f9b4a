//! Shell scripts parse. (A script of `guest/` that does not would be a board that does not boot.)

use std::{
    io::Write,
    process::{Command, Stdio},
};

use super::Violation;
use crate::tree::{File, Tree};

/// Read by a shell, and therefore without a first line that names one.
const SOURCED: &[&str] = &["guest/profile"];

/// Every script is one for the shell that it names.
pub fn parse(tree: &Tree) -> Vec<Violation> {
    let scripts = tree.files.iter().filter_map(|file| Some((file, shell(file)?)));
    let wrong = |(file, shell): (&File, _)| {
        let said = complaint(shell, &file.text)?;
        Some(Violation::file(&file.path, format!("no script for {shell}: {said}")))
    };
    scripts.filter_map(wrong).collect()
}

fn shell(file: &File) -> Option<&'static str> {
    let first = file.text.lines().next().unwrap_or_default();
    let interpreter = first.strip_prefix("#!").map(|rest| rest.rsplit([' ', '/']).next().unwrap_or_default());
    match interpreter {
        Some("sh") => Some("sh"),
        Some("bash") => Some("bash"),
        None if SOURCED.contains(&&*file.path) => Some("sh"),
        _ => None,
    }
}

/// What `-n` says, which reads a script without running it.
fn complaint(shell: &str, text: &str) -> Option<String> {
    let (mut command, read) = (Command::new(shell), Stdio::piped());
    let spawned = command.arg("-n").stdin(read).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let checked = spawned.and_then(|mut child| {
        // A shell that stops at an error closes its end early; what it says counts.
        child.stdin.take().map(|mut input| input.write_all(text.as_bytes()));
        child.wait_with_output()
    });
    match checked {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim_end().to_owned()),
        Err(error) => Some(format!("cannot start it: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::house::samples::broken;

    #[test]
    fn a_script_that_does_not_parse_is_found() {
        let files = [
            ("guest/init", "#!/bin/sh\nif true; then\n  echo\nfi\n"),
            ("guest/fio", "#!/bin/sh\nif true; then\n"),
            (".ci/run", "#!/usr/bin/env bash\necho <(true)\n"),
            ("guest/profile", "export PS1='\n"),
            ("tool.py", "#!/usr/bin/env python3\nif True:\n  pass\n"),
            ("docs/a.md", "if"),
        ];
        let found = broken(parse, &files);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("guest/fio: no script for sh: "));
        assert!(found[1].starts_with("guest/profile: no script for sh: "));
    }
}
