//! Fuzz targets with libFuzzer, in the layout of cargo-fuzz: `CRATE/fuzz/fuzz_targets/TARGET.rs` with the
//! committed corpus `CRATE/fuzz/corpus/TARGET/`.
//!
//! cargo-fuzz itself wants a nightly compiler for its sanitizers. Coverage alone is a pass of LLVM that a
//! stable compiler takes too, and in safe code a defect is a panic, which needs no sanitizer to be seen.

use std::{collections::BTreeSet, fs, process::Command};

use anyhow::{Context, Result, bail};

use crate::{
    command,
    report::Report,
    tree::{Checkout, Tree},
};

/// How long CI fuzzes each target.
pub const SECONDS: u32 = 60;
/// Any number will do; a fixed one repeats a run as far as the clock allows.
pub const SEED: u32 = 1;

const FOLDER: &str = "target/fuzz";
/// Given by name, so that flags reach the target alone and not the build scripts.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";
/// What cargo-fuzz passes for coverage without a sanitizer.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
                     -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions";
/// One input may take this many seconds; the slowest may not hang the run.
const SLOWEST_INPUT: u32 = 10;
/// "Memory stays bounded": far below this for messages of a few megabytes.
const MEMORY_MIB: u32 = 1024;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    /// Folder of its crate.
    package: String,
    name: String,
}

impl Target {
    /// From a path `PACKAGE/fuzz_targets/NAME.rs`.
    fn at(path: &str) -> Option<Self> {
        let (package, file) = path.split_once("/fuzz_targets/")?;
        let name = file.strip_suffix(".rs").filter(|name| !name.contains('/'))?;
        Some(Self { package: package.into(), name: name.into() })
    }

    fn all(tree: &Tree) -> Vec<Self> {
        tree.files.iter().filter_map(|file| Self::at(&file.path)).collect()
    }
}

/// Fuzzes one target or all; a step each.
pub fn run(checkout: &Checkout, report: &mut Report, only: Option<&str>, seconds: u32, seed: u32) {
    let mut targets = Vec::new();
    report.step("fuzz targets", || {
        targets = Target::all(&checkout.tree()?);
        let names = targets.iter().map(|target| target.name.clone()).collect::<Vec<_>>().join(", ");
        targets.retain(|target| only.is_none_or(|name| target.name == name));
        match (targets.is_empty(), only) {
            (false, _) => Ok(()),
            (true, Some(name)) => bail!("no fuzz target {name}; there are: {names}"),
            (true, None) => bail!("no crate has a fuzz/fuzz_targets/TARGET.rs"),
        }
    });
    for target in targets {
        report.step(&format!("fuzz {}", target.name), || target.fuzz(checkout, seconds, seed));
    }
}

/// Formatting and lints of the crates that hold fuzz targets: they are no members of the workspace.
pub fn check(checkout: &Checkout, lints: &[&str]) -> Result<()> {
    let packages: BTreeSet<_> =
        Target::all(&checkout.tree()?).into_iter().map(|target| target.package).collect();
    for package in packages {
        let manifest = format!("{package}/Cargo.toml");
        command::run(checkout.cargo().args(["fmt", "--check", "--manifest-path", &manifest]))?;
        command::run(cargo(checkout, "clippy", &manifest).arg("--").args(lints))?;
    }
    Ok(())
}

fn cargo(checkout: &Checkout, chore: &str, manifest: &str) -> Command {
    let mut cargo = checkout.cargo();
    cargo.env("RUSTFLAGS", FLAGS).args([chore, "--release", "--manifest-path", manifest]);
    cargo.args(["--target", TRIPLE, "--target-dir", FOLDER]);
    cargo
}

impl Target {
    fn fuzz(&self, checkout: &Checkout, seconds: u32, seed: u32) -> Result<()> {
        let manifest = format!("{}/Cargo.toml", self.package);
        command::run(cargo(checkout, "build", &manifest).args(["--bin", &self.name]))?;
        let program = format!("{FOLDER}/{TRIPLE}/release/{}", self.name);
        let committed = format!("{}/corpus/{}", self.package, self.name);
        let seeds = fs::read_dir(checkout.path(&committed))
            .with_context(|| format!("cannot list {committed}"))?
            .count();
        if seeds == 0 {
            bail!("{committed} is empty: a minute of fuzzing cannot start from nothing");
        }
        // libFuzzer writes what it finds interesting into its first folder: never the committed one.
        let found = format!("{FOLDER}/corpus/{}", self.name);
        let artifacts = format!("{FOLDER}/artifacts/{}/", self.name);
        for folder in [&found, &artifacts] {
            fs::create_dir_all(checkout.path(folder)).with_context(|| format!("cannot make {folder}"))?;
        }
        let mut fuzzer = Command::new(checkout.path(&program));
        fuzzer.current_dir(checkout.root()).arg(format!("-seed={seed}"));
        fuzzer.arg(format!("-max_total_time={seconds}")).arg(format!("-timeout={SLOWEST_INPUT}"));
        fuzzer.arg(format!("-rss_limit_mb={MEMORY_MIB}")).arg(format!("-artifact_prefix={artifacts}"));
        fuzzer.args([&found, &committed]);
        eprintln!("    {seeds} committed inputs, seed {seed}, {seconds} s");
        let (mut runs, mut replay) = (None, String::new());
        let outcome = command::watch(&mut fuzzer, |line| {
            runs = done(line).or(runs);
            replay.extend(written(line).map(|path| format!("    {program} {path}\n")));
        });
        if let Err(error) = outcome {
            let seeded = format!("{} failed with seed {seed}; replay at the root:\n{replay}", self.name);
            return Err(error.context(seeded));
        }
        match runs {
            Some(1..) => Ok(()),
            _ => bail!("`{}` did not say that it ran anything", command::line(&fuzzer)),
        }
    }
}

/// The number of runs in libFuzzer's last line, `Done 4096 runs in 61 second(s)`.
fn done(line: &str) -> Option<u64> {
    line.strip_prefix("Done ")?.split_once(" runs in ")?.0.parse().ok()
}

/// The file that libFuzzer keeps an input in which failed: `artifact_prefix='...'; Test unit written to
/// FILE`.
fn written(line: &str) -> Option<&str> {
    line.split_once("; Test unit written to ").map(|(_, path)| path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_found_where_cargo_fuzz_puts_them() {
        let expected = Target { package: "a/vfio/fuzz".into(), name: "message".into() };
        assert_eq!(Target::at("a/vfio/fuzz/fuzz_targets/message.rs"), Some(expected));
        assert_eq!(Target::at("a/vfio/fuzz/fuzz_targets/message/parts.rs"), None);
        assert_eq!(Target::at("a/vfio/fuzz/corpus/message/one.rs"), None);
    }

    #[test]
    fn what_failed_is_named() {
        let line = "artifact_prefix='target/fuzz/artifacts/toy/'; Test unit written to target/fuzz/artifacts/toy/crash-d4";
        assert_eq!(written(line), Some("target/fuzz/artifacts/toy/crash-d4"));
        assert_eq!(written("SUMMARY: libFuzzer: deadly signal"), None);
    }

    #[test]
    fn the_last_line_says_how_much_ran() {
        assert_eq!(done("Done 53422 runs in 61 second(s)"), Some(53_422));
        assert_eq!(done("#53422\tDONE   cov: 41 ft: 42 corp: 3/5b lim: 4096 exec/s: 53422 rss: 42Mb"), None);
    }
}
