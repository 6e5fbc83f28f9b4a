//! One meaning each: words of a vocabulary of our own give way to those of virtio, PCIe and vhost-user, see
//! docs/glossary.md. They are looked for as whole words of prose, messages and identifiers, also inside
//! CamelCase and snake_case, and in the names of files.

use super::Violation;
use crate::tree::{File, Tree};

/// A word or phrase, and what to say instead.
const BANNED: &[(&str, &str)] = &[
    ("whoever", CALLER),
    ("whomever", CALLER),
    ("whom", CALLER),
    ("nobody", "\"no board\", \"no client\", \"no thread\""),
    ("somebody", CALLER),
    ("anybody", CALLER),
    ("everybody", CALLER),
    ("patience", "timeout"),
    ("mishap", "error counter"),
    ("mishaps", "error counters"),
    ("twin", "shadow descriptor"),
    ("twins", "shadow descriptors"),
    ("vantage", "cursor"),
    ("sight", "what is read ahead"),
    ("legacy", "\"saved\"; the word is for virtio 0.9.5 and transitional devices, named in the same line"),
    ("room", "module, writable bytes, range, capacity, free entries"),
    ("rooms", "modules"),
    ("door", "interface, boundary, listener, notification"),
    ("doors", "interfaces, boundaries, listeners, notifications"),
    ("life", "process, run, instance"),
    ("lives", "processes, runs; \"is in\", \"stands in\""),
    ("gone on with", "resumed"),
    ("goes on with", "resumes, continues"),
    ("go on with", "resume, continue"),
    ("let off", "suspended"),
    ("one a", "\"one per\""),
    ("is no", "\"is not a\""),
    ("are no", "\"are not\""),
    ("seat", "slot, board process"),
    ("welcome", "attach, accept"),
    ("happening", "event"),
    ("bed", "what the thread sleeps on"),
    ("shake", "wake"),
    ("fight", "measure, compare"),
    ("duel", "paired measurement"),
    ("rang", "notified; a ring is what holds descriptors"),
    ("rung", "notified; a ring is what holds descriptors"),
];
const CALLER: &str = "the caller, the client, the thread that does it";

/// Files with words of other times and of other people, and this one.
const SKIPPED: &[&str] = &["CHANGELOG.md", "docs/glossary.md", "xtask/src/house/words.rs"];

/// No word of [`BANNED`].
pub fn banned(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in tree.files.iter().filter(|file| is_prose(file)) {
        let in_path = said(&file.path).into_iter();
        violations.extend(in_path.map(|what| Violation::file(&file.path, what)));
        for (index, line) in file.text.lines().enumerate() {
            let in_line = said(line).into_iter();
            violations.extend(in_line.map(|what| Violation::line(&file.path, index, what)));
        }
    }
    violations
}

fn is_prose(file: &File) -> bool {
    let is_data = file.path.contains("/corpus/") || file.path.contains("proptest-regressions");
    file.is_ours() && !is_data && !SKIPPED.contains(&&*file.path)
}

/// What a line says that it may not.
fn said(line: &str) -> Vec<String> {
    let words = words(line);
    let mut said = Vec::new();
    for (phrase, instead) in BANNED {
        for (at, _) in words.match_indices(phrase) {
            let (before, after) = (&words[..at], &words[at + phrase.len()..]);
            let letter = |next: char| next.is_ascii_alphabetic();
            let is_whole = !before.ends_with(letter) && !after.starts_with(letter);
            if is_whole && !is_excepted(phrase, before.trim_end(), after, line) {
                said.push(format!("says `{phrase}`; say {instead}"));
            }
        }
    }
    said
}

/// Whether a phrase may stand there after all.
fn is_excepted(phrase: &str, before: &str, after: &str, line: &str) -> bool {
    match phrase {
        // The last is a method of `Transport` in crate virtio-drivers.
        "legacy" => {
            ["0.9.5", "ransitional", "fn requires_legacy_layout"].iter().any(|clause| line.contains(clause))
        }
        // Only after a value: "there is none" may be said with these words, too.
        "is no" | "are no" => {
            !before.ends_with(['`', '}', '"']) || after.starts_with(" longer") || after.starts_with(" more")
        }
        // The name of a user, as `start-stop-daemon -c` or systemd's `User=` take it.
        "nobody" => ["user", "user=", "-c"].iter().any(|option| before.ends_with(option)),
        // `bmhive ablation` writes it into docs/ablations.md, which stays as it was published.
        "whoever" => after.starts_with(" changes a latency"),
        "one a" => before.ends_with("give"),
        _ => false,
    }
}

/// A line in small letters, with spaces between the words of an identifier.
fn words(line: &str) -> String {
    let mut words = String::new();
    let mut letters = line.chars().peekable();
    let mut last = ' ';
    while let Some(letter) = letters.next() {
        // `aB` and, at the end of an abbreviation, `ABc` before its `B`.
        let is_end = last.is_ascii_uppercase() && letters.peek().is_some_and(char::is_ascii_lowercase);
        if letter.is_ascii_uppercase() && (last.is_ascii_lowercase() || is_end) {
            words.push(' ');
        }
        words.push(if letter == '_' { ' ' } else { letter.to_ascii_lowercase() });
        last = letter;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::house::samples::broken;

    fn says(line: &str) -> Vec<String> {
        let found = broken(banned, &[("docs/a.md", line)]);
        found.iter().filter_map(|what| Some(what.split('`').nth(1)?.to_owned())).collect()
    }

    #[test]
    fn words_are_whole_also_inside_identifiers() {
        assert_eq!(says("struct QueueRoom { in_door_of: u32 }"), ["room", "door"]);
        assert_eq!(says("A Room, MSIRoom; the door's"), ["room", "room", "door"]);
        assert_eq!(says("headroom, doorbell, lifetime, alive, bedrock"), [""; 0]);
        let expected = "a/src/door.rs: says `door`; say interface, boundary, listener, notification";
        assert_eq!(broken(banned, &[("a/src/door.rs", "")]), [expected]);
    }

    #[test]
    fn phrases_are_found_in_prose_and_in_names() {
        assert_eq!(says("A board gone on with"), ["gone on with"]);
        assert_eq!(says("fn a_board_is_gone_on_with_at_once()"), ["gone on with"]);
        assert_eq!(says("and goes on, with"), [""; 0]);
    }

    #[test]
    fn a_value_is_not_something_and_there_may_be_none() {
        let values = "`{0}` is no address; {0} is no number; {n} are no range";
        assert_eq!(says(values), ["is no", "is no", "are no"]);
        assert_eq!(says("\"is no socket\""), ["is no"]);
        assert_eq!(says("there is no board, `it` is no longer here, and there are no queues"), [""; 0]);
    }

    #[test]
    fn exceptions_are_those_that_others_named() {
        assert_eq!(says("a legacy driver (virtio 0.9.5), a transitional device's legacy part"), [""; 0]);
        assert_eq!(says("fn requires_legacy_layout(&self)"), [""; 0]);
        assert_eq!(says("fn requires_legacy(); the legacy of a process"), ["legacy", "legacy"]);
        assert_eq!(says("User=nobody, start-stop-daemon -c nobody, the user nobody"), [""; 0]);
        assert_eq!(says("nobody waits"), ["nobody"]);
    }

    #[test]
    fn changelog_glossary_and_data_may_say_everything() {
        let paths = ["CHANGELOG.md", "docs/glossary.md", "Cargo.lock", "a/fuzz/corpus/message/one"];
        assert_eq!(broken(banned, &paths.map(|path| (path, "everybody\n"))), [""; 0]);
    }
}
