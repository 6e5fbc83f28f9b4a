//! The rules of the house that no compiler knows (CONTRIBUTING.md says why each is there).

mod links;
mod places;
mod scripts;
mod sources;
mod unsafety;

use std::fmt;

use anyhow::{Result, bail};

use crate::tree::{Checkout, Tree};

/// A place that breaks a rule.
#[derive(Debug, PartialEq, Eq)]
struct Violation {
    path: String,
    /// Counted from 1; none when the whole file is meant.
    line: Option<usize>,
    what: String,
}

impl Violation {
    fn file(path: &str, what: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line: None, what: what.into() }
    }

    /// `index` counts from 0, as `enumerate` does.
    fn line(path: &str, index: usize, what: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line: Some(index + 1), what: what.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.path, self.what),
            None => write!(f, "{}: {}", self.path, self.what),
        }
    }
}

type Rule = fn(&Tree) -> Vec<Violation>;

const RULES: &[Rule] = &[
    sources::lengths,
    sources::names,
    unsafety::listed,
    unsafety::inherited,
    places::machine_paths,
    places::registry_hosts,
    links::resolve,
    scripts::parse,
];

/// Fails with every place that breaks a rule.
pub fn check(checkout: &Checkout) -> Result<()> {
    let tree = checkout.tree()?;
    let broken: Vec<_> = RULES.iter().flat_map(|rule| rule(&tree)).collect();
    if broken.is_empty() {
        eprintln!("    {} files keep {} rules", tree.files.len(), RULES.len());
        return Ok(());
    }
    let list = broken.iter().map(|violation| format!("    {violation}")).collect::<Vec<_>>().join("\n");
    bail!("{} places break a rule of the house:\n{list}", broken.len())
}

#[cfg(test)]
mod samples {
    use std::path::PathBuf;

    use super::{Rule, Violation};
    use crate::tree::{File, Tree};

    /// What a rule says about a tree of these paths and texts.
    pub fn broken(rule: Rule, files: &[(&str, &str)]) -> Vec<String> {
        let files = files.iter().map(|&(path, text)| File { path: path.into(), text: text.into() }).collect();
        let tree = Tree { root: PathBuf::from("/srv/checkout"), files };
        rule(&tree).iter().map(Violation::to_string).collect()
    }
}
