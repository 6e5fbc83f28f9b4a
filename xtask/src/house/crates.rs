//! Crates know each other one way, as docs/architecture.md draws it.

use toml::{Table, Value};

use super::Violation;
use crate::tree::{File, Tree};

/// A crate of ours, and which others it may know.
struct Crate {
    name: &'static str,
    knows: &'static [&'static str],
    /// Which more its tests, examples and benches may know.
    tests_know: &'static [&'static str],
}

/// Every crate of ours, from those that know no other to those that know all. A change of this list is a
/// change to review.
const CRATES: &[Crate] = &[
    Crate { name: "iobond-spec", knows: &[], tests_know: &[] },
    Crate { name: "unix-service", knows: &[], tests_know: &[] },
    Crate { name: "results", knows: &[], tests_know: &[] },
    Crate { name: "xtask", knows: &[], tests_know: &[] },
    Crate { name: "iobond-vfio-user", knows: &["unix-service"], tests_know: &[] },
    Crate { name: "iobond-vfio-user-fuzz", knows: &["iobond-vfio-user"], tests_know: &[] },
    Crate { name: "vhost-backends", knows: &["unix-service"], tests_know: &[] },
    Crate { name: "iobond-model", knows: &["iobond-spec"], tests_know: &[] },
    Crate { name: "software-board", knows: &["iobond-spec"], tests_know: &[] },
    Crate {
        name: "iobond-emulator",
        knows: &["iobond-model", "iobond-spec", "iobond-vfio-user", "unix-service"],
        tests_know: &[],
    },
    // Never the model: what bm-hypervisor relies on is the specification.
    Crate {
        name: "bm-hypervisor",
        knows: &["iobond-spec", "iobond-vfio-user", "unix-service"],
        tests_know: &[],
    },
    Crate { name: "scenario", knows: &["bm-hypervisor", "iobond-model", "iobond-spec"], tests_know: &[] },
    Crate { name: "model-port", knows: &["bm-hypervisor", "iobond-model", "iobond-spec"], tests_know: &[] },
    Crate {
        name: "simulation",
        knows: &["bm-hypervisor", "iobond-model", "iobond-spec", "model-port", "results", "scenario"],
        tests_know: &[],
    },
    Crate {
        name: "bmhive-server",
        knows: &[
            "bm-hypervisor",
            "iobond-emulator",
            "iobond-model",
            "iobond-spec",
            "iobond-vfio-user",
            "model-port",
            "results",
            "scenario",
            "software-board",
            "unix-service",
        ],
        tests_know: &[],
    },
    Crate { name: "bmhive", knows: ALL, tests_know: &["rig"] },
    Crate { name: "rig", knows: ALL, tests_know: &[] },
];

/// Everything below the program.
const ALL: &[&str] = &[
    "bm-hypervisor",
    "bmhive-server",
    "iobond-emulator",
    "iobond-model",
    "iobond-spec",
    "iobond-vfio-user",
    "model-port",
    "results",
    "scenario",
    "simulation",
    "software-board",
    "unix-service",
    "vhost-backends",
];

/// Crates know those that [`CRATES`] lets them know.
pub fn known(tree: &Tree) -> Vec<Violation> {
    compare(tree, CRATES)
}

fn compare(tree: &Tree, crates: &[Crate]) -> Vec<Violation> {
    const LIST: &str = "the list of xtask/src/house/crates.rs";
    let manifests = tree.files.iter().filter(|file| file.path.ends_with("Cargo.toml"));
    let packages: Vec<_> = manifests.filter_map(|file| Some((file, package(file)?))).collect();
    let names: Vec<_> = packages.iter().map(|(_, (name, _))| name.as_str()).collect();
    let mut violations = Vec::new();
    for (file, (name, manifest)) in &packages {
        let Some(listed) = crates.iter().find(|listed| listed.name == name) else {
            violations.push(Violation::file(&file.path, format!("{name} is not in {LIST}")));
            continue;
        };
        let knows = |kind, more: &[&str]| {
            let all = dependencies(manifest, kind).filter(|other| names.contains(&other.as_str()));
            all.filter(|other| ![listed.knows, more].concat().contains(&other.as_str())).collect::<Vec<_>>()
        };
        let unlisted = [knows("dependencies", &[]), knows("build-dependencies", &[])].concat();
        let unlisted = unlisted.into_iter().chain(knows("dev-dependencies", listed.tests_know));
        let say = |other| Violation::file(&file.path, format!("{name} may not know {other} by {LIST}"));
        violations.extend(unlisted.map(say));
    }
    let stale = crates.iter().filter(|listed| !names.contains(&listed.name));
    violations.extend(stale.map(|listed| Violation::file(listed.name, format!("no crate, and in {LIST}"))));
    violations
}

/// The name and the manifest of a crate; none of a workspace alone.
fn package(file: &File) -> Option<(String, Table)> {
    let manifest: Table = file.text.parse().ok()?;
    let name = manifest.get("package")?.get("name")?.as_str()?.to_owned();
    Some((name, manifest))
}

/// The names of a crate's dependencies of one kind, on every target.
fn dependencies(manifest: &Table, kind: &str) -> impl Iterator<Item = String> {
    let targets = manifest.get("target").and_then(Value::as_table).into_iter().flat_map(Table::values);
    let tables = targets.map(|target| target.get(kind)).chain([manifest.get(kind)]);
    let tables = tables.flatten().filter_map(Value::as_table).collect::<Vec<_>>();
    tables
        .into_iter()
        .flatten()
        .map(|(name, value)| {
            let renamed = value.get("package").and_then(Value::as_str);
            renamed.unwrap_or(name).to_owned()
        })
        .collect::<Vec<_>>()
        .into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::house::samples::broken;

    const LIST: &[Crate] = &[
        Crate { name: "spec", knows: &[], tests_know: &["rig"] },
        Crate { name: "model", knows: &["spec"], tests_know: &[] },
        Crate { name: "rig", knows: &["spec"], tests_know: &[] },
    ];

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
