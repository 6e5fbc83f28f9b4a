//! Imports go one way: neither the modules of a crate nor those of one of its folders import each other in a
//! circle.
//!
//! A module imports another when a path of its files, or of files below it, leads there, also through a name
//! that a module above both brings in. That a module names its parent or its children is no import.

mod graph;
mod paths;

use std::collections::{BTreeMap, BTreeSet};

use self::{
    graph::Graph,
    paths::{Named, Path},
};
use super::Violation;
use crate::tree::{File, Tree};

/// No circle of modules that import each other.
pub fn circles(tree: &Tree) -> Vec<Violation> {
    let mut crates: BTreeMap<&str, Vec<(Path, &File)>> = BTreeMap::new();
    for file in tree.files.iter().filter(|file| file.extension() == "rs" && file.is_ours()) {
        if let Some((root, module)) = place(&file.path) {
            crates.entry(root).or_default().push((module, file));
        }
    }
    crates.into_iter().flat_map(|(root, files)| of_crate(root, &files)).collect()
}

/// The root folder of the crate that a file belongs to, and the module that it is there.
fn place(path: &str) -> Option<(&str, Path)> {
    let sources = path.find("/src/")? + "/src/".len();
    let program = path[sources..].strip_prefix("bin/").map(|inside| inside.find('/'));
    let root = match program {
        None => sources,
        Some(Some(folder)) => sources + "bin/".len() + folder + 1,
        // A program in one file has no modules.
        Some(None) => return None,
    };
    let mut module: Path = path[root..].strip_suffix(".rs")?.split('/').map(str::to_owned).collect();
    module.pop_if(|last| matches!(&**last, "mod" | "lib" | "main"));
    Some((&path[..root], module))
}

fn of_crate(root: &str, files: &[(Path, &File)]) -> Vec<Violation> {
    let mut modules: BTreeSet<Path> = files.iter().map(|(module, _)| module.clone()).collect();
    let (mut tests, mut named, mut violations) = (Vec::new(), Vec::new(), Vec::new());
    for (module, file) in files {
        match paths::read(module, &file.text) {
            Ok(contents) => {
                modules.extend(contents.inline);
                tests.extend(contents.tests);
                named.extend(contents.named.into_iter().map(|named| (&*file.path, named)));
            }
            Err(error) => violations.push(Violation::file(&file.path, format!("cannot be read: {error}"))),
        }
    }
    named.retain(|(_, named)| !tests.iter().any(|test| named.module.starts_with(test)));
    let names = Names::new(&modules, named.iter().map(|(_, named)| named));
    let mut graph = Graph::default();
    for (path, Named { module, path: said, line, .. }) in &named {
        if let Some(target) = names.module_of(module, said) {
            graph.add(module, &target, format!("{path}:{line}"));
        }
    }
    violations.extend(graph.circles(root));
    violations
}

/// What the modules of a crate are, and what they bring in by `use`.
struct Names<'a> {
    modules: &'a BTreeSet<Path>,
    imports: BTreeMap<(&'a Path, &'a str), &'a Path>,
}

impl<'a> Names<'a> {
    fn new(modules: &'a BTreeSet<Path>, named: impl Iterator<Item = &'a Named>) -> Self {
        let import = |named: &'a Named| Some(((&named.module, named.import.as_deref()?), &named.path));
        Self { modules, imports: named.filter_map(import).collect() }
    }

    /// The module in which what `module` calls `said` is defined; none when another crate does.
    fn module_of(&self, module: &Path, said: &[String]) -> Option<Path> {
        let mut path = self.absolute(module, said)?;
        // A name may be brought in from where it was brought in, but not for ever.
        for _ in 0..8 {
            let known = (0..=path.len()).rev().find(|&count| self.modules.contains(&path[..count]))?;
            let (module, rest) = (path[..known].to_vec(), &path[known..]);
            let import = rest.first().and_then(|name| self.imports.get(&(&module, &**name)));
            match import.map(|from| self.absolute(&module, from)) {
                Some(Some(from)) if from != path[..=known] => path = [&*from, &rest[1..]].concat(),
                // Another crate's.
                Some(None) => return None,
                Some(Some(_)) | None => return Some(module),
            }
        }
        None
    }

    fn absolute(&self, module: &Path, said: &[String]) -> Option<Path> {
        let supers = said.iter().take_while(|name| *name == "super").count();
        let (from, rest) = match said.first().map(String::as_str)? {
            "crate" => (&[][..], &said[1..]),
            "self" => (&module[..], &said[1..]),
            "super" => (&module[..module.len().checked_sub(supers)?], &said[supers..]),
            child => {
                let is_child = self.modules.contains(&[&**module, &[child.to_owned()]].concat());
                (is_child.then_some(&module[..])?, said)
            }
        };
        Some([from, rest].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::house::samples::broken;

    #[test]
    fn the_shortest_circle_is_told_with_its_imports() {
        let files = [
            ("a/src/lib.rs", "mod board;\nmod queue;\nmod trace;\npub use queue::Queue;\n"),
            ("a/src/board/mod.rs", "mod notes;\nuse crate::queue::Queue;\n"),
            ("a/src/board/notes.rs", "use super::Board;\nuse crate::trace;\n"),
            ("a/src/queue.rs", "\nfn f() { crate::board::notes::note() }\nuse crate::board::Board;\n"),
            ("a/src/trace.rs", "use crate::Queue;\n"),
        ];
        let expected = [
            "a/src/: modules import each other: board > queue > board\
             \n        a/src/board/mod.rs:2: board imports queue\
             \n        a/src/queue.rs:2: queue imports board",
            "a/src/: modules import each other: board > trace > queue > board\
             \n        a/src/board/notes.rs:2: board imports trace\
             \n        a/src/trace.rs:1: trace imports queue\
             \n        a/src/queue.rs:2: queue imports board",
        ];
        assert_eq!(broken(circles, &files), expected);
    }

    #[test]
    fn siblings_in_a_folder_are_modules_too_and_programs_are_crates() {
        let files = [
            ("a/src/main.rs", "mod board;\n"),
            ("a/src/board/mod.rs", "mod ring;\nmod slot;\n"),
            ("a/src/board/ring.rs", "use super::slot::Slot;\n"),
            ("a/src/board/slot.rs", "use super::ring;\n"),
            ("a/src/bin/tool/main.rs", "mod ring;\nmod slot;\n"),
            ("a/src/bin/tool/ring.rs", "use crate::slot;\n"),
            ("a/src/bin/tool/slot.rs", "use crate::ring;\n"),
        ];
        let found = broken(circles, &files);
        let places: Vec<_> = found.iter().filter_map(|what| what.lines().next()).collect();
        let say = |place: &str| format!("{place}: modules import each other: ring > slot > ring");
        assert_eq!(places, [say("a/src/board"), say("a/src/bin/tool/")]);
    }

    #[test]
    fn parents_children_tests_and_other_crates_close_no_circle() {
        let files = [
            ("a/src/lib.rs", "mod board;\nmod queue;\npub use std::fmt::Error;\npub struct Own;\n"),
            ("a/src/board/mod.rs", "mod ring;\nuse ring::Ring;\n#[cfg(test)]\nmod tests;\n"),
            ("a/src/board/ring.rs", "use super::Board;\nuse crate::{Error, Own};\n"),
            ("a/src/board/tests.rs", "use crate::queue::Queue;\n"),
            ("a/src/queue.rs", "use crate::board::Board;\n"),
        ];
        assert_eq!(broken(circles, &files), [""; 0]);
    }
}
