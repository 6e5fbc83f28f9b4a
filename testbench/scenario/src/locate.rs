//! Where in a TOML text a key stands, and which key stands at a place.

use std::{fmt, ops::Range};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// The way from a document's root to a value, printed as `board[0].function[1].mac`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct KeyPath(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

impl KeyPath {
    /// The path of a key of the document itself.
    pub(super) fn root(key: &str) -> Self {
        Self::default().key(key)
    }

    /// The key of a table.
    pub(super) fn key(&self, key: &str) -> Self {
        self.with(Step::Key(key.to_owned()))
    }

    /// The element of an array, or the n-th `[[table]]` of a name.
    pub(super) fn index(&self, index: usize) -> Self {
        self.with(Step::Index(index))
    }

    fn with(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if position == 0 => write!(f, "{key}")?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// The bytes of the value at `path`, or of the innermost table on the way that exists; the file's start when
/// none does.
pub(super) fn span_of(text: &str, path: &KeyPath) -> Range<usize> {
    let Ok(document) = DeTable::parse(text) else { return 0..0 };
    let mut span = 0..0;
    let mut value: Option<&Spanned<DeValue<'_>>> = None;
    for step in &path.0 {
        let next = match (step, value) {
            (Step::Key(key), None) => document.get_ref().get(key.as_str()),
            (Step::Key(key), Some(inside)) => inside.get_ref().get(key.as_str()),
            (Step::Index(index), Some(inside)) => inside.get_ref().get(*index),
            (Step::Index(_), None) => None,
        };
        let Some(found) = next else { break };
        span = found.span();
        value = next;
    }
    span
}

/// The key or value that covers byte `offset`, as far down as one does; empty when the text is not TOML.
pub(super) fn path_at(text: &str, offset: usize) -> KeyPath {
    let Ok(document) = DeTable::parse(text) else { return KeyPath::default() };
    in_table(document.get_ref(), offset, &KeyPath::default()).unwrap_or_default()
}

fn in_table(table: &DeTable<'_>, offset: usize, path: &KeyPath) -> Option<KeyPath> {
    table.iter().find_map(|(key, value)| {
        let here = path.key(key.get_ref());
        // A table's own span is its header, so its entries are looked at whether or not it covers the offset.
        in_value(value, offset, &here).or_else(|| key.span().contains(&offset).then_some(here))
    })
}

fn in_value(value: &Spanned<DeValue<'_>>, offset: usize, here: &KeyPath) -> Option<KeyPath> {
    let inside = match value.get_ref() {
        DeValue::Table(table) => in_table(table, offset, here),
        DeValue::Array(array) => array
            .iter()
            .enumerate()
            .find_map(|(index, element)| in_value(element, offset, &here.index(index))),
        _ => None,
    };
    inside.or_else(|| value.span().contains(&offset).then(|| here.clone()))
}

/// Line and column of byte `offset`, both from 1; the column counts characters.
pub(super) fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let column = before.get(line_start..).map_or(0, |line| line.chars().count());
    (before.matches('\n').count() + 1, column + 1)
}
