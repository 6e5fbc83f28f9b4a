//! What is wrong with a scenario, and where.

use std::{ops::Range, path::PathBuf};

use miette::{Diagnostic, NamedSource, SourceSpan};

use super::{
    locate::{line_and_column, path_at, span_of},
    problem::{Problem, suggest},
};

/// Why there is no scenario.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[allow(missing_docs, reason = "the fields are those of the message")]
pub enum ScenarioError {
    /// The file cannot be read.
    #[error("cannot read scenario {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    /// The contents are not a scenario.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Invalid(#[from] Box<Invalid>),
}

/// A place in a scenario that is wrong.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("{file}:{line}:{column}: {}{problem}", KeyPrefix(key))]
pub struct Invalid {
    /// The file's name as given.
    pub file: String,
    /// Line of the file, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The key, `board[0].function[1].mac`; empty when the text is not TOML at all.
    pub key: String,
    /// What is wrong and what was expected instead.
    pub problem: String,
    #[source_code]
    text: NamedSource<String>,
    #[label("{expected}")]
    place: SourceSpan,
    expected: String,
}

struct KeyPrefix<'a>(&'a str);

impl std::fmt::Display for KeyPrefix<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, "{}: ", self.0) }
    }
}

impl Invalid {
    pub(super) fn from_problem(file: &str, text: &str, problem: Problem) -> Box<Self> {
        let span = span_of(text, &problem.path);
        Self::new(file, text, span, problem.path.to_string(), problem.found, problem.expected)
    }

    pub(super) fn from_toml(file: &str, text: &str, error: &toml::de::Error) -> Box<Self> {
        let span = error.span().unwrap_or(0..0);
        let key = path_at(text, span.start).to_string();
        let (found, expected) = explain(error.message());
        Self::new(file, text, span, key, found, expected)
    }

    fn new(
        file: &str,
        text: &str,
        span: Range<usize>,
        key: String,
        found: String,
        expected: String,
    ) -> Box<Self> {
        let (line, column) = line_and_column(text, span.start);
        Box::new(Self {
            file: file.to_owned(),
            line,
            column,
            key,
            problem: format!("{found}; {expected}"),
            text: NamedSource::new(file, text.to_owned()),
            place: span.into(),
            expected,
        })
    }
}

/// Splits serde's one message into what was found and what was expected, in words of TOML instead of Rust's.
fn explain(message: &str) -> (String, String) {
    if let Some(key) = message.strip_prefix("missing field ") {
        return (format!("key {key} is missing"), format!("expected {key} in this table"));
    }
    // What a type of bm-hypervisor's configuration says of a text is a sentence.
    if let Some((found, expected)) = message.split_once("; expected ") {
        return (found.to_owned(), format!("expected {expected}"));
    }
    let (found, expected) = message.split_once(", expected ").unwrap_or((message, ""));
    let unknown = found.strip_prefix("unknown field ").or_else(|| found.strip_prefix("unknown variant "));
    if let Some(name) = unknown {
        let what = if found.starts_with("unknown field") { "key" } else { "value" };
        return (
            format!("unknown {what} {name}"),
            suggest(name.trim_matches('`'), &quoted(expected), expected),
        );
    }
    let found = found.trim_start_matches("invalid type: ").trim_start_matches("invalid value: ");
    let expected = match expected {
        "" => return (found.replace('\n', ", "), "expected valid TOML".to_owned()),
        "u8" | "u16" | "u32" | "u64" => "a whole number",
        "f64" => "a number",
        "a boolean" => "true or false",
        "path string" => "a file's path in quotes",
        other => other,
    };
    (format!("found {}", found.replace('\n', ", ")), format!("expected {expected}"))
}

/// The names between backquotes.
fn quoted(list: &str) -> Vec<&str> {
    list.split('`').skip(1).step_by(2).collect()
}
