//! The rules of the house that no compiler knows (CONTRIBUTING.md says why each is there).

mod clocks;
mod columns;
mod crates;
mod imports;
mod links;
mod modules;
mod places;
mod scripts;
mod sources;
mod unsafety;
mod words;

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

/// Each rule by the name that `cargo xtask house NAME` takes.
const RULES: &[(&str, Rule)] = &[
    ("lengths", sources::lengths),
    ("names", sources::names),
    ("columns", columns::comments),
    ("words", words::banned),
    ("modules", modules::style),
    ("imports", imports::circles),
    ("crates", crates::known),
    ("clocks", clocks::judged),
    ("unsafe", unsafety::listed),
    ("lints", unsafety::inherited),
    ("paths", places::machine_paths),
    ("registries", places::registry_hosts),
    ("links", links::resolve),
    ("scripts", scripts::parse),
];

/// Fails with every place that breaks a rule, or the one called `only`.
pub fn check(checkout: &Checkout, only: Option<&str>) -> Result<()> {
    let tree = checkout.tree()?;
    let rules: Vec<_> = RULES.iter().filter(|(name, _)| only.is_none_or(|only| only == *name)).collect();
    if rules.is_empty() {
        let names = RULES.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        bail!("no rule of that name; there are: {names}");
    }
    let broken: Vec<_> =
        rules.iter().flat_map(|(name, rule)| rule(&tree).into_iter().map(move |v| (name, v))).collect();
    if broken.is_empty() {
        eprintln!("    {} files keep {} rules", tree.files.len(), rules.len());
        return Ok(());
    }
    let list = broken.iter().map(|(name, violation)| format!("    {name}: {violation}")).collect::<Vec<_>>();
    bail!("{} places break a rule of the house:\n{}", broken.len(), list.join("\n"))
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
