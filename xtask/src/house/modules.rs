//! One style of module files: a module with modules of its own is `x/mod.rs`.

use super::Violation;
use crate::tree::Tree;

/// No `x.rs` beside a folder `x/` of modules, but in a crate's `tests/`: there cargo makes a program of every
/// `x.rs`, whose own modules stand in `x/`.
pub fn style(tree: &Tree) -> Vec<Violation> {
    let sources = tree.files.iter().filter(|file| file.extension() == "rs" && file.is_ours());
    let paths: Vec<_> = sources.map(|file| &*file.path).filter(|path| path.contains("/src/")).collect();
    let beside = |path: &&str| {
        let folder = format!("{}/", path.strip_suffix(".rs")?);
        let is_there = paths.iter().any(|other| other.starts_with(&folder));
        is_there.then(|| Violation::file(path, format!("stands beside its folder: make it {folder}mod.rs")))
    };
    paths.iter().filter_map(beside).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::house::samples::broken;

    #[test]
    fn a_module_with_modules_stands_in_their_folder() {
        let paths = [
            "a/src/lib.rs",
            "a/src/queue.rs",
            "a/src/queue/ring.rs",
            "a/src/device/mod.rs",
            "a/src/device/queue.rs",
            "a/src/check.rs",
            "a/src/check/snapshots/one.snap",
            "a/tests/served.rs",
            "a/tests/served/rig.rs",
        ];
        let expected = ["a/src/queue.rs: stands beside its folder: make it a/src/queue/mod.rs"];
        assert_eq!(broken(style, &paths.map(|path| (path, ""))), expected);
    }
}
