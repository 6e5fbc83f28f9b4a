//! Which modules import which of their siblings, and in which circles.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::paths::Path;
use crate::house::Violation;

/// Of each module, which siblings it imports, and where it does so first.
type Imports = BTreeMap<String, BTreeMap<String, String>>;

/// The imports among the children of each parent.
#[derive(Default)]
pub struct Graph(BTreeMap<Path, Imports>);

impl Graph {
    /// Notes that `from` names something of `to`: an import of the two siblings in which they lie, if there
    /// are two.
    pub fn add(&mut self, from: &Path, to: &Path, place: String) {
        let shared = from.iter().zip(to).take_while(|(from, to)| from == to).count();
        if let (Some(left), Some(right)) = (from.get(shared), to.get(shared)) {
            let siblings = self.0.entry(from[..shared].to_vec()).or_default();
            siblings.entry(left.clone()).or_default().entry(right.clone()).or_insert(place);
        }
    }

    /// The shortest circle through each module that is in one, of the crate whose sources lie in `root`.
    pub fn circles(&self, root: &str) -> Vec<Violation> {
        let mut violations = Vec::new();
        for (parent, imports) in &self.0 {
            let circles: BTreeSet<_> = imports.keys().filter_map(|start| shortest(imports, start)).collect();
            for names in circles {
                let next = names.iter().cycle().skip(1);
                let import = |(from, to): (&&str, &&str)| {
                    format!("\n        {}: {from} imports {to}", imports[*from][*to])
                };
                let places: String = names.iter().zip(next).map(import).collect();
                let circle = format!("modules import each other: {} > {}", names.join(" > "), names[0]);
                violations.push(Violation::file(&format!("{root}{}", parent.join("/")), circle + &places));
            }
        }
        violations
    }
}

/// The shortest way from `start` back to it, as the names on it from the smallest one on.
fn shortest<'a>(imports: &'a Imports, start: &'a str) -> Option<Vec<&'a str>> {
    let mut ways = VecDeque::from([vec![start]]);
    let mut seen = BTreeSet::new();
    while let Some(mut way) = ways.pop_front() {
        for to in imports.get(*way.last()?).into_iter().flat_map(BTreeMap::keys) {
            if to == start {
                let first = (0..way.len()).min_by_key(|&at| way[at])?;
                way.rotate_left(first);
                return Some(way);
            }
            if seen.insert(to) {
                ways.push_back([&*way, &[to.as_str()]].concat());
            }
        }
    }
    None
}
