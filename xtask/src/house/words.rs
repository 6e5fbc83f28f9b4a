//! One meaning each: words of a vocabulary of our own give way to those of virtio, PCIe and vhost-user, see
//! docs/glossary.md. They are looked for as whole words of prose, messages and identifiers, also inside
//! CamelCase and snake_case, and in the names of files.

use std::{collections::BTreeMap, ops::Range};

use super::Violation;
use crate::tree::{File, Tree};

/// A word or phrase in two halves, so that this file keeps its own rule, and what to say instead. The words
/// of a phrase stand one space or underscore apart.
const BANNED: &[(&str, &str, &str)] = &[
    ("who", "ever", CALLER),
    ("who", "mever", CALLER),
    ("who", "m", CALLER),
    ("no", "body", "\"no board\", \"no client\", \"no thread\""),
    ("some", "body", CALLER),
    ("any", "body", CALLER),
    ("every", "body", CALLER),
    ("pat", "ience", "timeout"),
    ("mis", "hap", "error counter"),
    ("mis", "haps", "error counters"),
    ("tw", "in", "shadow descriptor"),
    ("tw", "ins", "shadow descriptors"),
    ("van", "tage", "cursor"),
    ("si", "ght", "what is read ahead"),
    (
        "leg",
        "acy",
        "\"saved\"; the word is for virtio 0.9.5 and transitional devices, named in the same line",
    ),
    ("ro", "om", "module, writable bytes, range, capacity, free entries"),
    ("ro", "oms", "modules"),
    ("do", "or", "interface, boundary, listener, notification"),
    ("do", "ors", "interfaces, boundaries, listeners, notifications"),
    ("li", "fe", "process, run, instance"),
    ("li", "ves", "processes, runs; \"is in\", \"stands in\""),
    ("gone on", " with", "resumed"),
    ("goes on", " with", "resumes, continues"),
    ("go on", " with", "resume, continue"),
    ("let", " off", "suspended"),
    ("one", " a", "\"one per\""),
    ("is", " no", "\"is not a\""),
    ("are", " no", "\"are not\""),
    ("se", "at", "slot, board process"),
    ("wel", "come", "attach, accept"),
    ("happe", "ning", "event"),
    ("be", "d", "what the thread sleeps on"),
    ("sha", "ke", "wake"),
    ("fi", "ght", "measure, compare"),
    ("du", "el", "paired measurement"),
    ("ra", "ng", "notified; a ring is what holds descriptors"),
    ("ru", "ng", "notified; a ring is what holds descriptors"),
];
const CALLER: &str = "the caller, the client, the thread that does it";

/// Files with words of other times and of other people.
const SKIPPED: &[&str] = &["CHANGELOG.md", "docs/glossary.md"];

/// Where a banned word was found.
struct Hit<'a> {
    before: &'a str,
    after: &'a str,
    line: &'a str,
}

impl Hit<'_> {
    /// Whether it may stand there after all.
    fn is_excepted(&self, word: &str) -> bool {
        let before = self.before.trim_end();
        match word.split_at(1) {
            // The last is a method of `Transport` in crate virtio-drivers.
            ("l", "egacy") => {
                ["0.9.5", "ransitional", "fn requires_"].iter().any(|clause| self.line.contains(clause))
            }
            // Only after a value: "there is none" may be said with these words, too.
            ("i" | "a", "s no" | "re no") => {
                !before.ends_with(['`', '}', '"']) || ["longer", "more"].iter().any(|word| self.goes_on(word))
            }
            // The name of a user, as `start-stop-daemon -c` or systemd's `User=` take it.
            ("n", "obody") => ["user", "User=", "-c"].iter().any(|option| before.ends_with(option)),
            // `bmhive ablation` writes it into docs/ablations.md, which stays as it was published.
            ("w", "hoever") => self.goes_on("changes a latency"),
            ("o", "ne a") => before.ends_with("give"),
            _ => false,
        }
    }

    fn goes_on(&self, with: &str) -> bool {
        self.after.trim_start().starts_with(with)
    }
}

/// No word of [`BANNED`].
pub fn banned(tree: &Tree) -> Vec<Violation> {
    let banned = by_first_word();
    let mut violations = Vec::new();
    for file in tree.files.iter().filter(|file| is_prose(file)) {
        let in_path = found(&file.path, &banned).into_iter();
        violations.extend(in_path.map(|(said, instead)| Violation::file(&file.path, wording(said, instead))));
        for (index, line) in file.text.lines().enumerate() {
            let in_line = found(line, &banned).into_iter();
            violations.extend(
                in_line.map(|(said, instead)| Violation::line(&file.path, index, wording(said, instead))),
            );
        }
    }
    violations
}

fn is_prose(file: &File) -> bool {
    let is_data = file.path.contains("/corpus/") || file.path.contains("proptest-regressions");
    file.is_ours() && !is_data && !SKIPPED.contains(&&*file.path)
}

fn wording(said: &str, instead: &str) -> String {
    format!("says `{said}`; say {instead}")
}

/// The banned words and phrases, of which no two start with the same word, and what to say instead.
type Banned = BTreeMap<String, (String, &'static str)>;

fn by_first_word() -> Banned {
    let phrases = BANNED.iter().map(|(left, right, instead)| (format!("{left}{right}"), *instead));
    phrases.map(|phrase| (phrase.0.split(' ').take(1).collect(), phrase)).collect()
}

/// What a line says of `banned`, and what to say instead.
fn found<'a>(line: &'a str, banned: &Banned) -> Vec<(&'a str, &'static str)> {
    let words = words(line);
    let mut found = Vec::new();
    for word in &words {
        let Some((phrase, instead)) = banned.get(&line[word.clone()].to_ascii_lowercase()) else { continue };
        let range = word.start..word.start + phrase.len();
        if is_said(line, &words, &range, phrase) {
            let hit = Hit { before: &line[..range.start], after: &line[range.end..], line };
            found.extend((!hit.is_excepted(phrase)).then_some((&line[range], *instead)));
        }
    }
    found
}

/// Whether `phrase` stands in this range of a line with these words, and ends with one of them.
fn is_said(line: &str, words: &[Range<usize>], range: &Range<usize>, phrase: &str) -> bool {
    let same = |(said, meant): (&u8, u8)| said.eq_ignore_ascii_case(&meant) || (*said, meant) == (b'_', b' ');
    let said = line.as_bytes().get(range.clone());
    said.is_some_and(|said| said.iter().zip(phrase.bytes()).all(same))
        && words.iter().any(|word| word.end == range.end)
}

/// The words of a line: runs of letters, cut where CamelCase does.
fn words(line: &str) -> Vec<Range<usize>> {
    let bytes = line.as_bytes();
    let letter = |at: usize| bytes.get(at).filter(|byte| byte.is_ascii_alphabetic());
    let small = |at: usize| letter(at).is_some_and(u8::is_ascii_lowercase);
    let capital = |at: usize| letter(at).is_some_and(u8::is_ascii_uppercase);
    let mut words: Vec<Range<usize>> = Vec::new();
    for at in 0..bytes.len() {
        // `aB` and, at the end of an abbreviation, `ABc` before its `B`.
        let is_cut = capital(at) && at > 0 && (small(at - 1) || small(at + 1));
        match words.last_mut() {
            _ if letter(at).is_none() => {}
            Some(word) if word.end == at && !is_cut => word.end = at + 1,
            _ => words.push(at..at + 1),
        }
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
        let (left, right) = (concat!("Ro", "om"), concat!("do", "or"));
        assert_eq!(says(&format!("struct Queue{left} {{ in_{right}_of: u32 }}")), [left, right]);
        assert_eq!(says(&format!("A {left}, MSI{left}; the {right}'s")), [left, left, right]);
        let longer = format!("head{}, {right}bell, lifetime, alive, bedrock", left.to_lowercase());
        assert_eq!(says(&longer), [""; 0]);
        let path = format!("a/src/{right}.rs");
        let found = broken(banned, &[(&path, "")]);
        let expected = "interface, boundary, listener, notification";
        assert_eq!(found, [format!("{path}: says `{right}`; say {expected}")]);
    }

    #[test]
    fn phrases_are_found_in_prose_and_in_names() {
        let phrase = concat!("gone on", " with");
        assert_eq!(says(&format!("A board {phrase}")), [phrase]);
        let name = phrase.replace(' ', "_");
        assert_eq!(says(&format!("fn a_board_is_{name}_at_once()")), [name]);
        assert_eq!(says(concat!("and goes on", ", with")), [""; 0]);
    }

    #[test]
    fn a_value_is_not_something_and_there_may_be_none() {
        let (is, are) = (concat!("is", " no"), concat!("are", " no"));
        assert_eq!(
            says(&format!("`{{0}}` {is} address; {{0}} {is} number; {{n}} {are} range")),
            [is, is, are]
        );
        assert_eq!(says(&format!("\"{is} socket\"")), [is]);
        assert_eq!(
            says(&format!("there {is} board, `it` {is} longer here, and there {are} queues")),
            [""; 0]
        );
    }

    #[test]
    fn exceptions_are_those_that_others_named() {
        let (old, user) = (concat!("leg", "acy"), concat!("no", "body"));
        assert_eq!(
            says(&format!("a {old} driver (virtio 0.9.5), a transitional device's {old} part")),
            [""; 0]
        );
        assert_eq!(says(&format!("the {old} of a process")), [old]);
        assert_eq!(says(&format!("User={user}, start-stop-daemon -c {user}, the user {user}")), [""; 0]);
        assert_eq!(says(&format!("{user} waits")), [user]);
    }

    #[test]
    fn changelog_glossary_and_data_may_say_everything() {
        let text = concat!("every", "body\n");
        let paths = ["CHANGELOG.md", "docs/glossary.md", "Cargo.lock", "a/fuzz/corpus/message/one"];
        assert_eq!(broken(banned, &paths.map(|path| (path, text))), [""; 0]);
    }
}
