//! A checkout works wherever it lies and whichever mirror its packages come from: no file names a folder of
//! one machine or a registry's host.

use super::Violation;
use crate::tree::Tree;

/// Where people and build servers keep checkouts. Each is followed by a name to be a hit. In two halves each,
/// so that this file keeps its own rule.
const CHECKOUTS: &[(&str, &str)] =
    &[("/ho", "me/"), ("/ro", "ot/"), ("/Us", "ers/"), ("/wo", "rk/"), ("/work", "space/"), ("/bui", "lds/")];

/// Hosts that packages come from; which one is the business of a machine's own configuration.
const REGISTRIES: &[(&str, &str)] = &[
    ("deb.", "debian.org"),
    ("static.", "crates.io"),
    ("index.", "crates.io"),
    ("registry.", "npmjs.org"),
    ("files.", "pythonhosted.org"),
    ("pypi", ".org"),
];

/// No file names an absolute path below [`CHECKOUTS`], or the folder of this very checkout.
pub fn machine_paths(tree: &Tree) -> Vec<Violation> {
    let here = tree.root.to_string_lossy().into_owned();
    let known = CHECKOUTS.iter().map(|(left, right)| format!("{left}{right}"));
    named(tree, &known.chain([here]).collect::<Vec<_>>(), |before| {
        // After one of these it is the middle of a longer path.
        !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '}' | '*'))
    })
}

/// No file names a host of [`REGISTRIES`].
pub fn registry_hosts(tree: &Tree) -> Vec<Violation> {
    let hosts: Vec<_> = REGISTRIES.iter().map(|(left, right)| format!("{left}{right}")).collect();
    named(tree, &hosts, |before| !before.is_some_and(char::is_alphanumeric))
}

/// Lines that hold one of these names behind a character (none at the start of the line) that `starts` takes.
fn named(tree: &Tree, names: &[String], starts: fn(Option<char>) -> bool) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in tree.files.iter().filter(|file| !file.is_lock()) {
        for (index, line) in file.text.lines().enumerate() {
            let found = |name: &&String| {
                line.match_indices(name.as_str()).any(|(at, _)| starts(line[..at].chars().next_back()))
            };
            let hits = names.iter().filter(found);
            violations.extend(hits.map(|name| Violation::line(&file.path, index, format!("names `{name}`"))));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::house::samples::broken;

    #[test]
    fn folders_of_a_machine_are_found_and_relative_ones_are_not() {
        let home = concat!("/ho", "me/");
        let text = format!("open({home}ada/disk.img)\ntarget{home}disk.img\n\n/srv/checkout/target\n");
        let expected =
            [format!("docs/a.md:1: names `{home}`"), "docs/a.md:4: names `/srv/checkout`".to_owned()];
        assert_eq!(broken(machine_paths, &[("docs/a.md", &text)]), expected);
    }

    #[test]
    fn hosts_of_registries_are_found() {
        let host = concat!("deb.", "debian.org");
        let text = format!("# a comment\nhttp://{host}/debian\nnot{host}\n");
        assert_eq!(broken(registry_hosts, &[("setup.sh", &text)]), [format!("setup.sh:2: names `{host}`")]);
    }
}
