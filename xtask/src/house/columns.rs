//! Comments as wide as the code: `max_width` of rustfmt.toml does not reach them.

use super::Violation;
use crate::tree::{File, Tree};

/// As `max_width` in rustfmt.toml.
const WIDEST: usize = 110;

/// No comment beyond column [`WIDEST`], but for a link or a row of a table, which cannot be broken.
pub fn comments(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in tree.files.iter().filter(|file| file.is_ours()) {
        let Some(marker) = marker(file) else { continue };
        for (index, line) in file.text.lines().enumerate() {
            let columns = line.chars().count();
            if columns > WIDEST && comment(line, marker).is_some_and(can_be_broken) {
                let what = format!("a comment of {columns} columns, at most {WIDEST}");
                violations.push(Violation::line(&file.path, index, what));
            }
        }
    }
    violations
}

/// What a comment starts with in a language that has any.
fn marker(file: &File) -> Option<&'static str> {
    match file.extension() {
        "rs" | "rdl" => Some("//"),
        "toml" | "py" | "sh" | "service" => Some("#"),
        _ => file.text.starts_with("#!").then_some("#"),
    }
}

/// The text of the comment in a line.
fn comment<'a>(line: &'a str, marker: &str) -> Option<&'a str> {
    let starts = |before: &str| {
        let is_in_string = before.matches('"').count() % 2 == 1;
        !is_in_string && before.chars().next_back().is_none_or(char::is_whitespace)
    };
    let (at, _) = line.match_indices(marker).find(|(at, _)| starts(&line[..*at]))?;
    Some(line[at..].trim_start_matches(['/', '!', '#']).trim())
}

fn can_be_broken(text: &str) -> bool {
    let words = text.trim_start_matches(['*', '-', ' ']).split(' ').filter(|word| !word.starts_with('['));
    !text.starts_with('|') && words.count() > 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::house::samples::broken;

    #[test]
    fn a_comment_may_have_110_columns_and_not_one_more() {
        let line = |start: &str, columns: usize| {
            let words = "ab ".repeat(columns);
            format!("{}c\n", &format!("{start}{words}")[..columns - 1])
        };
        let text = [line("/// ", 110), line("    //! ", 111), line("let a = \"//\"; // ", 112)].concat();
        let script = ["#!/bin/sh\n".to_owned(), line("# ", 111)].concat();
        let files = [("a/src/lib.rs", &*text), ("guest/init", &*script), ("docs/a.md", &*text)];
        let expected = [("a/src/lib.rs:2", 111), ("a/src/lib.rs:3", 112), ("guest/init:2", 111)];
        let expected = expected.map(|(at, wide)| format!("{at}: a comment of {wide} columns, at most 110"));
        assert_eq!(broken(comments, &files), expected);
    }

    #[test]
    fn strings_links_and_tables_stay_as_they_are() {
        let long = "x".repeat(120);
        let text = format!("let a = \"// a {long}\";\n// https://{long}\n//! * {long}\n//! | a | {long} |\n");
        let text = format!("{text}//! [link]: https://{long}\nin a string: https://a {long}\n");
        assert_eq!(broken(comments, &[("a/src/lib.rs", &text)]), [""; 0]);
    }
}
