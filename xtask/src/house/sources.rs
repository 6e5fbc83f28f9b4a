//! Files one can read at a sitting, named for what they hold. (Clippy bounds functions, see clippy.toml.)

use super::Violation;
use crate::tree::{File, Tree};

const LONGEST_FILE: usize = 600;

/// Names that say nothing about what the module holds.
const NAMELESS: &[&str] = &[
    "base",
    "common",
    "helper",
    "helpers",
    "misc",
    "miscellaneous",
    "shared",
    "stuff",
    "util",
    "utilities",
    "utils",
];

/// No file over [`LONGEST_FILE`] lines.
pub fn lengths(tree: &Tree) -> Vec<Violation> {
    let long = |file: &&File| file.text.lines().count() > LONGEST_FILE;
    let ours = tree.files.iter().filter(|file| file.is_ours());
    ours.filter(long)
        .map(|file| {
            let lines = file.text.lines().count();
            Violation::file(
                &file.path,
                format!("{lines} lines, at most {LONGEST_FILE}: split it by what it holds"),
            )
        })
        .collect()
}

/// No crate, module or folder with a name of [`NAMELESS`].
pub fn names(tree: &Tree) -> Vec<Violation> {
    let nameless = |name: &str| NAMELESS.contains(&name.to_ascii_lowercase().as_str());
    let mut violations = Vec::new();
    for file in tree.files.iter().filter(|file| file.is_ours()) {
        let parts = file.path.split('/').map(|part| part.split_once('.').map_or(part, |(stem, _)| stem));
        violations.extend(
            parts
                .filter(|part| nameless(part))
                .map(|part| Violation::file(&file.path, named_for_nothing(part))),
        );
        if file.extension() == "rs" {
            let modules =
                file.text.lines().enumerate().filter_map(|(index, line)| Some((index, module(line)?)));
            violations.extend(
                modules
                    .filter(|(_, name)| nameless(name))
                    .map(|(index, name)| Violation::line(&file.path, index, named_for_nothing(name))),
            );
        }
    }
    violations
}

fn named_for_nothing(name: &str) -> String {
    format!("`{name}` says nothing about what it holds")
}

/// The name in a line that opens or declares a module.
fn module(line: &str) -> Option<&str> {
    let (before, after) = line.split_once("mod ")?;
    let visibility = before.trim();
    if !(visibility.is_empty() || visibility.starts_with("pub")) {
        return None;
    }
    Some(after.trim_end_matches(['{', ';', ' ']))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::house::samples::broken;

    #[test]
    fn a_file_may_have_600_lines_and_not_one_more() {
        let longest = "line\n".repeat(600);
        let too_long = "line\n".repeat(601);
        let files = [("a/src/lib.rs", &*longest), ("a/src/long.rs", &*too_long), ("Cargo.lock", &*too_long)];
        assert_eq!(
            broken(lengths, &files),
            ["a/src/long.rs: 601 lines, at most 600: split it by what it holds"]
        );
    }

    #[test]
    fn folders_files_and_modules_are_named_for_what_they_hold() {
        let files = [
            ("a/utils/ring.rs", ""),
            ("a/tests/common.rs", ""),
            ("a/src/lib.rs", "pub(crate) mod misc {\n}\nmod base_address;\n// the mod base\n"),
            ("docs/database.md", "mod util;"),
        ];
        let expected = [
            "a/utils/ring.rs: `utils` says nothing about what it holds",
            "a/tests/common.rs: `common` says nothing about what it holds",
            "a/src/lib.rs:1: `misc` says nothing about what it holds",
        ];
        assert_eq!(broken(names, &files), expected);
    }
}
