//! `unsafe` stands in a few named files. The workspace denies the lint `unsafe_code`, so a file that wants
//! `unsafe` must allow it in an attribute; here those attributes are held against a list. (Clippy demands `//
//! SAFETY:` at each block.)

use super::Violation;
use crate::tree::{File, Tree};

/// Where `unsafe` is allowed. A change of this list is a change to review.
const ALLOWED: &[&str] = &[
    "bm-hypervisor/src/pool/view.rs",
    "bm-hypervisor/src/port/vfio/kernel.rs",
    "bm-hypervisor/src/port/vfio/mapped.rs",
    "bm-hypervisor/src/program/kept.rs",
    "bm-hypervisor/tests/pass_allocates_nothing.rs",
    "iobond-model/spec/src/lib.rs",
    "iobond-model/spec/src/register_access.rs",
    "testbench/board/src/hal.rs",
    "testbench/board/src/queue.rs",
    "vhost-backends/src/blk/vectored.rs",
];

/// Exactly the files of [`ALLOWED`] allow `unsafe_code`.
pub fn listed(tree: &Tree) -> Vec<Violation> {
    compare(tree, ALLOWED)
}

fn compare(tree: &Tree, allowed: &[&str]) -> Vec<Violation> {
    const LIST: &str = "the list of xtask/src/house/unsafety.rs";
    let mut violations = Vec::new();
    let mut idle = allowed.to_vec();
    for file in tree.files.iter().filter(|file| file.extension() == "rs" && file.is_ours()) {
        let allowances = allowances(file);
        if !allowances.is_empty() {
            idle.retain(|path| *path != file.path);
        }
        if !allowed.contains(&&*file.path) {
            let unlisted = |index| {
                Violation::line(&file.path, index, format!("allows unsafe_code and is not in {LIST}"))
            };
            violations.extend(allowances.into_iter().map(unlisted));
        }
    }
    violations.extend(
        idle.into_iter().map(|path| Violation::file(path, format!("allows no unsafe_code and is in {LIST}"))),
    );
    violations
}

/// Every crate takes the lints of the workspace, without which nothing above holds.
pub fn inherited(tree: &Tree) -> Vec<Violation> {
    let manifests = tree.files.iter().filter(|file| file.path.ends_with("/Cargo.toml"));
    let deaf = manifests.filter(|file| !file.text.contains("[lints]\nworkspace = true"));
    deaf.map(|file| Violation::file(&file.path, "does not say `[lints] workspace = true`")).collect()
}

/// Lines (from 0) on which an attribute starts that allows the lint.
fn allowances(file: &File) -> Vec<usize> {
    let lines: Vec<_> = file.text.lines().map(str::trim_start).collect();
    let attributes =
        lines.iter().enumerate().filter(|(_, line)| line.starts_with("#[") || line.starts_with("#!["));
    attributes.filter(|&(index, _)| allows(&attribute(&lines[index..]))).map(|(index, _)| index).collect()
}

/// The attribute that starts with the first line, without comments, up to the bracket that closes it.
fn attribute(lines: &[&str]) -> String {
    let mut text = String::new();
    for line in lines {
        text.push_str(line.split("//").next().unwrap_or_default());
        if text.matches('[').count() == text.matches(']').count() {
            break;
        }
    }
    text
}

fn allows(attribute: &str) -> bool {
    let levels = attribute.contains("allow(") || attribute.contains("expect(") || attribute.contains("warn(");
    levels && attribute.split(|c: char| !(c.is_alphanumeric() || c == '_')).any(|word| word == "unsafe_code")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::house::samples::broken;

    #[test]
    fn an_allowance_outside_of_the_list_is_found_however_it_is_written() {
        let files = [
            ("a/src/plain.rs", "//! Doc.\n#![allow(unsafe_code)] // why\n"),
            ("a/src/several.rs", "#[allow(\n    missing_docs, // why\n    unsafe_code,\n)]\nmod ring;\n"),
            ("a/src/sometimes.rs", "    #[cfg_attr(test, expect(unsafe_code))]\n"),
            (
                "a/src/strict.rs",
                "#![deny(unsafe_code)]\n#![allow(missing_docs)]\n// #![allow(unsafe_code)]\n",
            ),
        ];
        let what = "allows unsafe_code and is not in the list of xtask/src/house/unsafety.rs";
        let expected =
            ["plain.rs:2", "several.rs:1", "sometimes.rs:1"].map(|at| format!("a/src/{at}: {what}"));
        assert_eq!(broken(|tree| compare(tree, &[]), &files), expected);
        let rule = |tree: &Tree| compare(tree, &["a/src/plain.rs", "a/src/several.rs", "a/src/sometimes.rs"]);
        assert_eq!(broken(rule, &files), [""; 0]);
    }

    #[test]
    fn a_listed_file_that_is_safe_or_gone_leaves_the_list() {
        let rule = |tree: &Tree| compare(tree, &["a/src/safe.rs", "a/src/gone.rs"]);
        let what = "allows no unsafe_code and is in the list of xtask/src/house/unsafety.rs";
        let expected = ["a/src/safe.rs", "a/src/gone.rs"].map(|path| format!("{path}: {what}"));
        assert_eq!(broken(rule, &[("a/src/safe.rs", "//! Safe by now.\n")]), expected);
    }

    #[test]
    fn a_crate_that_does_not_take_the_lints_is_found() {
        let files = [
            ("Cargo.toml", "[workspace]\n"),
            ("a/Cargo.toml", "[package]\n\n[lints]\nworkspace = true\n"),
            ("b/Cargo.toml", "[package]\n"),
        ];
        assert_eq!(broken(inherited, &files), ["b/Cargo.toml: does not say `[lints] workspace = true`"]);
    }
}
