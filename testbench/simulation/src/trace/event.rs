//! One line of the file: an event as a JSON object.

use std::{fmt::Write, io};

use serde_json::Value;

use super::Track;

/// Characters of a name or value that are kept, so that a limit on events is one on memory.
const LONGEST_TEXT: usize = 256;

/// The largest whole number that JavaScript, and so a viewer, holds exactly.
const LARGEST_NUMBER: u64 = 1 << 53;

/// What is known of a slice or an instant beside its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arg<'a> {
    /// Text.
    Text(&'a str),
    /// A number.
    Number(u64),
}

impl<'a> From<&'a str> for Arg<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

impl From<u64> for Arg<'_> {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

/// What an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Slice,
    FlowBegin,
    FlowStep,
    FlowEnd,
    Counter,
    Instant,
}

impl Kind {
    /// `ph` of the format.
    pub(super) const fn phase(self) -> &'static str {
        match self {
            Self::Slice => "X",
            Self::FlowBegin => "s",
            Self::FlowStep => "t",
            Self::FlowEnd => "f",
            Self::Counter => "C",
            Self::Instant => "i",
        }
    }

    /// Order at the same moment. An end is the last arrow of a flow also when all of it is at one moment.
    pub(super) const fn rank(self) -> u8 {
        self as u8
    }
}

/// An event that is kept. It is text already: that is the smallest form of it that needs no other table.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub at_ps: u64,
    pub kind: Kind,
    pub to_ps: u64,
    pub track: Track,
    pub line: Line,
}

/// An object that is being written, without its closing brace. What it is and when comes before any text of a
/// caller: some readers look for these two in a first pass that knows little of JSON.
#[derive(Clone, Debug)]
pub(super) struct Line(String);

impl Line {
    pub(super) fn new(phase: &str, group: u32, track: u32) -> Self {
        Self(format!("{{\"ph\":\"{phase}\",\"pid\":{group},\"tid\":{track}"))
    }

    /// A key of ours and a text of the caller's.
    pub(super) fn text(&mut self, key: &str, text: &str) {
        // Writing to a string does not fail.
        let _ = write!(self.0, ",\"{key}\":{}", quoted(text));
    }

    /// Picoseconds as microseconds: exact, in decimals, and without a float on the way.
    pub(super) fn time(&mut self, key: &str, picoseconds: u64) {
        let (whole, part) = (picoseconds / 1_000_000, picoseconds % 1_000_000);
        let _ = write!(self.0, ",\"{key}\":{whole}");
        if part > 0 {
            let decimals = format!("{part:06}");
            let _ = write!(self.0, ".{}", decimals.trim_end_matches('0'));
        }
    }

    pub(super) fn args(&mut self, args: &[(&str, Arg<'_>)]) {
        if args.is_empty() {
            return;
        }
        self.0.push_str(",\"args\":{");
        for (index, (key, value)) in args.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let _ = match value {
                Arg::Text(text) => write!(self.0, "{comma}{}:{}", quoted(key), quoted(text)),
                Arg::Number(number) if *number > LARGEST_NUMBER => {
                    write!(self.0, "{comma}{}:\"{number}\"", quoted(key))
                }
                Arg::Number(number) => write!(self.0, "{comma}{}:{number}", quoted(key)),
            };
        }
        self.0.push('}');
    }

    pub(super) fn write(&self, out: &mut impl io::Write) -> io::Result<()> {
        out.write_all(self.0.as_bytes())?;
        out.write_all(b"}")
    }
}

/// A metadata event: who a process or thread is.
pub(super) fn metadata(name: &str, group: u32, track: u32, key: &str, value: Arg<'_>) -> Line {
    let mut line = Line::new("M", group, track);
    line.text("name", name);
    line.args(&[(key, value)]);
    line
}

/// Text as JSON, shortened if need be.
fn quoted(text: &str) -> String {
    match text.char_indices().nth(LONGEST_TEXT) {
        Some((end, _)) => Value::from(format!("{}\u{2026}", text.get(..end).unwrap_or_default())).to_string(),
        None => Value::from(text).to_string(),
    }
}
