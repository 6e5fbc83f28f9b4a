//! Crates know each other one way, as docs/architecture.md draws it.

use toml::{Table, Value};

use super::Violation;
use crate::tree::{File, Tree};

/// Every crate of ours, and which others it may know: none but those of rows above. A change of this list is
/// a change to review.
const CRATES: &[(&str, &str)] = &[
    ("iobond-spec", ""),
    ("unix-service", ""),
    ("results", ""),
    ("xtask", ""),
    ("iobond-vfio-user", "unix-service"),
    ("iobond-vfio-user-fuzz", "iobond-vfio-user"),
    ("vhost-backends", "unix-service"),
    ("iobond-model", "iobond-spec"),
    ("software-board", "iobond-spec"),
    ("iobond-emulator", "iobond-model iobond-spec iobond-vfio-user unix-service"),
    // Never the model: what bm-hypervisor relies on is the specification.
    ("bm-hypervisor", "iobond-spec iobond-vfio-user unix-service"),
    ("scenario", "bm-hypervisor iobond-model iobond-spec"),
    ("model-port", "bm-hypervisor iobond-model iobond-spec"),
    ("simulation", "bm-hypervisor iobond-model iobond-spec model-port results scenario"),
    (
        "bmhive-server",
        "bm-hypervisor iobond-emulator iobond-model iobond-spec iobond-vfio-user model-port results scenario \
         software-board unix-service",
    ),
    (
        "rig",
        "bm-hypervisor bmhive-server iobond-emulator iobond-model iobond-spec iobond-vfio-user scenario \
         software-board",
    ),
    (
        "bmhive",
        "bm-hypervisor bmhive-server iobond-emulator iobond-model iobond-spec iobond-vfio-user model-port \
         results rig scenario simulation software-board vhost-backends",
    ),
];

/// What a crate whose row names it may know only in tests, examples and benches.
const FOR_TESTS: &str = "rig";

/// Crates know those that [`CRATES`] lets them know.
pub fn known(tree: &Tree) -> Vec<Violation> {
    compare(tree, CRATES)
}

fn compare(tree: &Tree, crates: &[(&str, &str)]) -> Vec<Violation> {
    const LIST: &str = "the list of xtask/src/house/crates.rs";
    let manifests = tree.files.iter().filter(|file| file.path.ends_with("Cargo.toml"));
    let packages: Vec<_> = manifests.filter_map(|file| Some((file, package(file)?))).collect();
    let is_ours = |name: &str| packages.iter().any(|(_, (ours, _))| ours == name);
    let mut violations = Vec::new();
    for (file, (name, manifest)) in &packages {
        let Some((_, knows)) = crates.iter().find(|(listed, _)| listed == name) else {
            violations.push(Violation::file(&file.path, format!("{name} is not in {LIST}")));
            continue;
        };
        for kind in ["dependencies", "build-dependencies", "dev-dependencies"] {
            let may = |other: &str| {
                knows.split(' ').any(|known| known == other)
                    && (other != FOR_TESTS || kind == "dev-dependencies")
            };
            let others = dependencies(manifest, kind).into_iter();
            let unlisted = others.filter(|other| is_ours(other) && !may(other));
            let say = |other| Violation::file(&file.path, format!("{name} may not know {other} by {LIST}"));
            violations.extend(unlisted.map(say));
        }
    }
    let stale = crates.iter().filter(|(listed, _)| !is_ours(listed));
    violations.extend(stale.map(|(listed, _)| Violation::file(listed, format!("no crate, and in {LIST}"))));
    violations
}

/// The name and the manifest of a crate; none of a workspace alone.
fn package(file: &File) -> Option<(String, Table)> {
    let manifest: Table = file.text.parse().ok()?;
    let name = manifest.get("package")?.get("name")?.as_str()?.to_owned();
    Some((name, manifest))
}

/// The names of a crate's dependencies of one kind, on every target.
fn dependencies<'a>(manifest: &'a Table, kind: &str) -> Vec<&'a str> {
    let targets = manifest.get("target").and_then(Value::as_table).into_iter().flat_map(Table::values);
    let tables = targets.map(|target| target.get(kind)).chain([manifest.get(kind)]);
    let named = tables.flatten().filter_map(Value::as_table).flatten();
    named.map(|(name, value)| value.get("package").and_then(Value::as_str).unwrap_or(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::house::samples::broken;

    const LIST: &[(&str, &str)] = &[("rig", ""), ("spec", "rig"), ("model", "spec")];

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let rule = |tree: &Tree| compare(tree, LIST);
        let found = broken(rule, files).into_iter();
        found.map(|what| what.replace("the list of xtask/src/house/crates.rs", "LIST")).collect()
    }

    #[test]
    fn a_crate_knows_what_the_list_lets_it_know() {
        let spec = "[package]\nname = \"spec\"\n[dev-dependencies]\nrig.workspace = true\n\
                    [target.'cfg(unix)'.dependencies]\nthe-model = { package = \"model\", path = \"..\" }\n";
        let model = "[package]\nname = \"model\"\n[dependencies]\nspec = \"1\"\nserde = \"1\"\n\
                     [dev-dependencies]\nrig = \"1\"\n";
        let files = [
            ("Cargo.toml", "[workspace]\n"),
            ("spec/Cargo.toml", spec),
            ("model/Cargo.toml", model),
            ("rig/Cargo.toml", "[package]\nname = \"rig\"\n"),
        ];
        let expected = [
            "spec/Cargo.toml: spec may not know model by LIST",
            "model/Cargo.toml: model may not know rig by LIST",
        ];
        assert_eq!(found(&files), expected);
    }

    #[test]
    fn only_tests_know_the_rig() {
        let spec = "[package]\nname = \"spec\"\n[dependencies]\nrig = \"1\"\n";
        let files = [
            ("spec/Cargo.toml", spec),
            ("model/Cargo.toml", "[package]\nname = \"model\"\n"),
            ("rig/Cargo.toml", "[package]\nname = \"rig\"\n"),
        ];
        assert_eq!(found(&files), ["spec/Cargo.toml: spec may not know rig by LIST"]);
    }

    #[test]
    fn rows_name_crates_of_rows_above() {
        for (at, (name, knows)) in CRATES.iter().enumerate() {
            let is_above = |known: &str| CRATES[..at].iter().any(|(above, _)| *above == known);
            assert!(knows.split_whitespace().all(is_above), "{name}");
        }
    }

    #[test]
    fn crates_and_list_are_the_same() {
        let files = [
            ("a/Cargo.toml", "[package]\nname = \"new\"\n"),
            ("b/Cargo.toml", "[package]\nname = \"rig\"\n"),
        ];
        let expected = [
            "a/Cargo.toml: new is not in LIST",
            "spec: no crate, and in LIST",
            "model: no crate, and in LIST",
        ];
        assert_eq!(found(&files), expected);
    }
}
