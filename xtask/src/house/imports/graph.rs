//! Which modules import which of their siblings, and in which circles.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt::Write,
};

use super::paths::Path;
use crate::house::Violation;

/// Where an import stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Import<'a> {
    pub path: &'a str,
    /// Counted from 1.
    pub line: usize,
}

/// Of each parent, which child imports which other one, and where it does so first.
#[derive(Default)]
pub struct Graph<'a> {
    siblings: BTreeMap<Path, BTreeMap<(String, String), Import<'a>>>,
}

/// Children of `parent`, each of which imports the next one and the last one the first.
#[derive(Debug, PartialEq, Eq)]
pub struct Circle<'a> {
    parent: Path,
    imports: Vec<(String, Import<'a>)>,
}

impl<'a> Graph<'a> {
    /// Notes that `from` names something of `to`: an import of the two siblings in which they lie, if there
    /// are two.
    pub fn add(&mut self, from: &Path, to: &Path, import: Import<'a>) {
        let shared = from.iter().zip(to).take_while(|(from, to)| from == to).count();
        if let (Some(left), Some(right)) = (from.get(shared), to.get(shared)) {
            let siblings = self.siblings.entry(from[..shared].to_vec()).or_default();
            siblings.entry((left.clone(), right.clone())).or_insert(import);
        }
    }

    /// The shortest circle through each module that is in one.
    pub fn circles(&self) -> Vec<Circle<'a>> {
        let mut circles = Vec::new();
        for (parent, edges) in &self.siblings {
            let starts: BTreeSet<_> = edges.keys().map(|(from, _)| from.as_str()).collect();
            let found: BTreeSet<_> = starts.into_iter().filter_map(|start| shortest(edges, start)).collect();
            circles.extend(found.into_iter().map(|names| {
                let next = names.iter().cycle().skip(1);
                let import = |(from, to): (&&str, &&str)| {
                    let edge = ((*from).to_owned(), (*to).to_owned());
                    edges.get(&edge).map(|import| (edge.0, *import))
                };
                Circle {
                    parent: parent.clone(),
                    imports: names.iter().zip(next).filter_map(import).collect(),
                }
            }));
        }
        circles
    }
}

/// The shortest way from `start` back to it, as the names on it from the smallest one on.
fn shortest<'e, T>(edges: &'e BTreeMap<(String, String), T>, start: &'e str) -> Option<Vec<&'e str>> {
    let mut ways = VecDeque::from([vec![start]]);
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop_front() {
        for (_, to) in edges.keys().filter(|(from, _)| way.last() == Some(&from.as_str())) {
            if to == start {
                let first = way.iter().enumerate().min_by_key(|(_, name)| **name).map_or(0, |(at, _)| at);
                return Some([&way[first..], &way[..first]].concat());
            }
            if seen.insert(to) {
                ways.push_back([&*way, &[to.as_str()]].concat());
            }
        }
    }
    None
}

impl Circle<'_> {
    /// What to say about it in the crate whose sources lie in `root`.
    pub fn violation(&self, root: &str) -> Violation {
        let names: Vec<_> = self.imports.iter().map(|(name, _)| name.as_str()).collect();
        let next = names.iter().cycle().skip(1);
        let mut what = format!("modules import each other: {} > {}", names.join(" > "), names[0]);
        for ((from, import), to) in self.imports.iter().zip(next) {
            // Writing to a string does not fail.
            write!(what, "\n        {}:{}: {from} imports {to}", import.path, import.line).ok();
        }
        Violation::file(&format!("{root}{}", self.parent.join("/")), what)
    }
}
