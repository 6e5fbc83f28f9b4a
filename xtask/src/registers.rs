//! Generates the register layer and its reference from `iobond.rdl`, or tells whether the committed files
//! have drifted.
//!
//! Everything is generated below `target/registers`, at the paths it has in the repository; then the two are
//! compared.

use std::{
    collections::BTreeSet,
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{command, report::Report, setup, tree::Checkout};

const SOURCE: &str = "iobond-model/spec/regs/iobond.rdl";
const GENERATOR: &str = "iobond-model/spec/regs/generate.py";
/// Where PeakRDL's output goes: a folder that holds nothing else.
const ACCESSORS: &str = "iobond-model/spec/src/registers";
/// What the generator of our own writes, in the order of its arguments.
const FILES: [&str; 3] = ["iobond-model/spec/src/offsets.rs", "docs/registers.md", "docs/registers.html"];
const STAGING: &str = "target/registers";

/// Generates; with `check` nothing in the repository changes and drift is an error.
pub fn run(checkout: &Checkout, report: &mut Report, check: bool) {
    report.step("registers", || {
        let staging = checkout.path(STAGING);
        generate(checkout, &staging)?;
        let drift = compare(&staging, checkout.root())?;
        match (drift.is_empty(), check) {
            (true, _) => eprintln!("    {SOURCE} and the generated files agree"),
            (false, false) => drift.iter().try_for_each(|change| change.apply(&staging, checkout.root()))?,
            (false, true) => bail!(
                "{} generated files differ from {SOURCE}; run `cargo xtask registers` and commit:\n{}",
                drift.len(),
                drift.iter().map(|change| format!("    {change}")).collect::<Vec<_>>().join("\n")
            ),
        }
        Ok(())
    });
}

fn generate(checkout: &Checkout, staging: &Path) -> Result<()> {
    let programs = setup::python(checkout)?;
    if staging.exists() {
        fs::remove_dir_all(staging).with_context(|| format!("cannot empty {}", staging.display()))?;
    }
    for path in FILES.iter().chain([&ACCESSORS]).filter_map(|path| Path::new(path).parent()) {
        fs::create_dir_all(staging.join(path)).with_context(|| format!("cannot make {}", path.display()))?;
    }
    // `--fmt` finds the repository's rustfmt.toml, because the staging folder lies inside the repository.
    let peakrdl = programs.join("peakrdl");
    command::output(
        Command::new(peakrdl)
            .current_dir(checkout.root())
            .args(["rust", SOURCE, "--fmt", "-o"])
            .arg(staging.join(ACCESSORS)),
    )?;
    let outputs = FILES.iter().map(|path| staging.join(path));
    command::output(
        Command::new(programs.join("python"))
            .current_dir(checkout.root())
            .args([GENERATOR, SOURCE])
            .args(outputs),
    )?;
    Ok(())
}

/// How one file of the repository differs from what was generated.
#[derive(Debug, PartialEq, Eq)]
enum Drift {
    Missing(PathBuf),
    Extra(PathBuf),
    Changed { path: PathBuf, line: usize, committed: String, generated: String },
}

impl Drift {
    fn apply(&self, staging: &Path, root: &Path) -> Result<()> {
        let path = match self {
            Self::Extra(path) => {
                eprintln!("    removed {}", path.display());
                return fs::remove_file(root.join(path))
                    .with_context(|| format!("cannot remove {}", path.display()));
            }
            Self::Missing(path) | Self::Changed { path, .. } => path,
        };
        let to = root.join(path);
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        fs::copy(staging.join(path), &to).with_context(|| format!("cannot write {}", to.display()))?;
        eprintln!("    wrote {}", path.display());
        Ok(())
    }
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(path) => write!(f, "{}: missing", path.display()),
            Self::Extra(path) => write!(f, "{}: not generated any more", path.display()),
            Self::Changed { path, line, committed, generated } => {
                write!(f, "{}:{line}:\n      - {committed}\n      + {generated}", path.display())
            }
        }
    }
}

fn compare(staging: &Path, root: &Path) -> Result<Vec<Drift>> {
    let generated = listing(staging)?;
    let committed = listing(root)?;
    let mut drift = Vec::new();
    for path in generated.union(&committed) {
        if !committed.contains(path) {
            drift.push(Drift::Missing(path.clone()));
        } else if !generated.contains(path) {
            drift.push(Drift::Extra(path.clone()));
        } else {
            drift.extend(difference(path, &read(&root.join(path))?, &read(&staging.join(path))?));
        }
    }
    Ok(drift)
}

/// The generated files that exist below `root`, as paths relative to it.
fn listing(root: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut found: BTreeSet<_> =
        FILES.iter().map(PathBuf::from).filter(|path| root.join(path).exists()).collect();
    let mut folders = vec![PathBuf::from(ACCESSORS)];
    while let Some(folder) = folders.pop().filter(|folder| root.join(folder).exists()) {
        let entries =
            fs::read_dir(root.join(&folder)).with_context(|| format!("cannot list {}", folder.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("cannot list {}", folder.display()))?;
            let path = folder.join(entry.file_name());
            if entry.path().is_dir() {
                folders.push(path);
            } else {
                found.insert(path);
            }
        }
    }
    Ok(found)
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The first line in which two texts differ.
fn difference(path: &Path, committed: &str, generated: &str) -> Option<Drift> {
    if committed == generated {
        return None;
    }
    let pairs = committed.lines().zip(generated.lines());
    let same = pairs.take_while(|(committed, generated)| committed == generated).count();
    let line_of = |text: &str| text.lines().nth(same).unwrap_or("(end of file)").to_owned();
    Some(Drift::Changed {
        path: path.to_owned(),
        line: same + 1,
        committed: line_of(committed),
        generated: line_of(generated),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Two trees below the system's temporary folder, removed when dropped.
    struct Trees(PathBuf);

    impl Trees {
        fn new(test: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("xtask-registers-{test}-{}", std::process::id()));
            fs::create_dir_all(folder.join("generated")).unwrap();
            fs::create_dir_all(folder.join("committed")).unwrap();
            Self(folder)
        }
        fn generated(&self) -> PathBuf {
            self.0.join("generated")
        }
        fn committed(&self) -> PathBuf {
            self.0.join("committed")
        }
    }

    impl Drop for Trees {
        fn drop(&mut self) {
            // A folder that stays behind in the temporary folder does no harm.
            fs::remove_dir_all(&self.0).ok();
        }
    }

    #[test]
    fn drift_is_a_changed_a_missing_or_an_extra_file_and_applying_it_mends_it() {
        let trees = Trees::new("drift");
        let (generated, committed) = (trees.generated(), trees.committed());
        let inside = |name: &str| format!("{ACCESSORS}/{name}");
        write(&generated, FILES[0], "one\ntwo\nthree\n");
        write(&committed, FILES[0], "one\n2\nthree\n");
        write(&generated, &inside("queue_t/new.rs"), "new\n");
        write(&committed, &inside("old/gone.rs"), "old\n");
        write(&generated, &inside("same.rs"), "same\n");
        write(&committed, &inside("same.rs"), "same\n");
        write(&committed, "docs/architecture.md", "not generated\n");

        let drift = compare(&generated, &committed).unwrap();
        let changed =
            Drift::Changed { path: FILES[0].into(), line: 2, committed: "2".into(), generated: "two".into() };
        let expected = [
            changed,
            Drift::Extra(inside("old/gone.rs").into()),
            Drift::Missing(inside("queue_t/new.rs").into()),
        ];
        assert_eq!(drift, expected);

        for change in &drift {
            change.apply(&generated, &committed).unwrap();
        }
        assert_eq!(compare(&generated, &committed).unwrap(), []);
        assert!(committed.join("docs/architecture.md").exists());
    }

    #[test]
    fn a_text_that_only_lost_its_end_differs_there() {
        let drift = difference(Path::new("a.rs"), "one\n", "one\ntwo\n").unwrap().to_string();
        assert_eq!(drift, "a.rs:2:\n      - (end of file)\n      + two");
        assert!(difference(Path::new("a.rs"), "one\n", "one").is_some());
    }
}
