//! A value that breaks a limit, and how to say so.

use super::locate::KeyPath;

/// A value that breaks a limit.
#[derive(Debug)]
pub(super) struct Problem {
    pub path: KeyPath,
    pub found: String,
    pub expected: String,
}

pub(super) type Checked<T> = Result<T, Problem>;

impl Problem {
    pub(super) fn new(path: KeyPath, found: impl Into<String>, expected: impl Into<String>) -> Self {
        Self { path, found: found.into(), expected: expected.into() }
    }

    /// Two keys of the table at `path` exclude each other.
    pub(super) fn both(path: &KeyPath, one: &str, other: &str) -> Self {
        Self::new(path.key(other), format!("found `{one}` and `{other}`"), "expected one of the two")
    }

    /// The table at `path` wants one of two keys.
    pub(super) fn neither(path: &KeyPath, one: &str, other: &str) -> Self {
        let found = format!("`{one}` and `{other}` are both missing");
        Self::new(path.clone(), found, "expected one of the two in this table")
    }
}

/// Checks that `value` is from `low` to `high`.
pub(super) fn within<T: PartialOrd + std::fmt::Display>(
    path: &KeyPath,
    value: T,
    low: T,
    high: T,
    unit: &str,
) -> Checked<()> {
    if value >= low && value <= high {
        return Ok(());
    }
    Err(Problem::new(path.clone(), format!("found {value}"), format!("expected {low} to {high} {unit}")))
}

/// Checks that `value` is a power of two from `low` to `high`.
pub(super) fn power_of_two(path: &KeyPath, value: u32, low: u32, high: u32) -> Checked<()> {
    if value.is_power_of_two() && (low..=high).contains(&value) {
        return Ok(());
    }
    let expected = format!("expected a power of two from {low} to {high}");
    Err(Problem::new(path.clone(), format!("found {value}"), expected))
}

/// "did you mean ...?" when one of `names` is close enough to be a slip of the finger, otherwise what was
/// expected.
pub(super) fn suggest(typed: &str, names: &[&str], expected: &str) -> String {
    /// Jaro-Winkler similarity from which two words look like one with a typo; the value that clap uses for
    /// Jaro is 0.7.
    const CLOSE: f64 = 0.8;
    names
        .iter()
        .map(|name| (strsim::jaro_winkler(typed, name), name))
        .filter(|(similarity, _)| *similarity > CLOSE)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map_or_else(|| format!("expected {expected}"), |(_, name)| format!("did you mean `{name}`?"))
}
