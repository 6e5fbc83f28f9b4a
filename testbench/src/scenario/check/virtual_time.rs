//! Whether the world of virtual time can have such a base server.

use iobond_model::timing::TimingError;

use super::{Checked, Problem};
use crate::{
    scenario::{Scenario, locate::KeyPath},
    world::cycle::{Plan, PlanError},
};

pub(super) fn check(scenario: &Scenario) -> Checked<()> {
    Plan::of(scenario).check().map_err(|error| match error {
        PlanError::Timing(error) => timing_problem(&error),
        other => split(KeyPath::root("board"), &other.to_string()),
    })
}

/// The text of a timing error begins with its key, `timing.board.lanes`.
fn timing_problem(error: &TimingError) -> Problem {
    let text = error.to_string();
    let key = text.split([' ', ':']).next().unwrap_or_default();
    let mut steps = key.split('.');
    let root = KeyPath::root(steps.next().unwrap_or_default());
    let path = steps.clone().fold(root, |path, step| path.key(step));
    // The whole key stands before what is said of it; its last part makes a sentence of the rest.
    let last = steps.next_back().unwrap_or_default();
    split(path, &format!("{last}{}", text.get(key.len()..).unwrap_or_default()))
}

/// What is wrong, and behind the last semicolon or colon what to do.
fn split(path: KeyPath, text: &str) -> Problem {
    let (found, expected) = text.rsplit_once("; ").or_else(|| text.rsplit_once(": ")).unwrap_or((text, ""));
    Problem::new(path, found, expected)
}
