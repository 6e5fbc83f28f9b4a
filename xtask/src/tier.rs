//! Tiers of tests, told apart by the name of the file: of any crate, `tests/process_*.rs` starts other
//! processes, `tests/linux_*.rs` boots Linux, `fuzz/fuzz_targets/*.rs` is fuzzed, and every other test is a
//! unit test.
//!
//! `cargo nextest` runs them where it is installed (it ends a test that hangs, see .config/nextest.toml),
//! `cargo test` otherwise. Both select by target, so both run the same tests.

use std::{collections::BTreeSet, process::Command};

use anyhow::{Result, anyhow, bail};
use clap::ValueEnum;

use crate::{
    command, fuzz, guest,
    report::{Counts, Report},
    static_programs,
    tree::{Checkout, Tree},
};

/// A tier of tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Tier {
    /// Everything inside one process, and the examples in the documentation.
    Unit,
    /// Tests that start the programs of this workspace.
    Process,
    /// A minute of fuzzing for each fuzz target.
    Fuzz,
    /// Tests that boot Linux on compute boards.
    Linux,
}

impl Tier {
    /// Every tier, the fastest first.
    pub const ALL: [Self; 4] = [Self::Unit, Self::Process, Self::Fuzz, Self::Linux];

    pub fn run(self, checkout: &Checkout, report: &mut Report) {
        match self {
            Self::Unit => {
                report.tests("unit tests", || self.test(checkout, "default", &["--lib", "--bins"]));
                report.tests("documentation tests", || {
                    watch(checkout.cargo().args(["test", "--workspace", "--doc"]), Closing::Libtest)
                });
            }
            Self::Process => self.with_programs(checkout, report, "process"),
            Self::Fuzz => fuzz::run(checkout, report, None, fuzz::SECONDS, fuzz::SEED),
            Self::Linux => {
                if guest::run(checkout, report) && static_programs::run(checkout, report) {
                    self.with_programs(checkout, report, "linux");
                }
            }
        }
    }

    /// Runs tests that find the programs of other crates beside their own; cargo builds only those of a
    /// test's own crate. Without optimisation, as they are built for the other tiers: under TCG it is the
    /// guest that takes the time.
    fn with_programs(self, checkout: &Checkout, report: &mut Report, profile: &str) {
        let build = || command::run(checkout.cargo().args(["build", "--workspace", "--bins"]));
        if report.step("programs", build) {
            report.tests(&format!("{profile} tests"), || self.test(checkout, profile, &[]));
        }
    }

    /// Runs targets of these kinds and the tier's integration tests, with a profile of .config/nextest.toml
    /// where nextest is there.
    fn test(self, checkout: &Checkout, profile: &str, kinds: &[&str]) -> (Counts, Result<()>) {
        let targets = match checkout.tree() {
            Ok(tree) => self.targets(&tree),
            Err(error) => return (Counts::NONE, Err(error)),
        };
        if kinds.is_empty() && targets.is_empty() {
            return (Counts::NONE, Err(anyhow!("the tier has no test: no crate has a tests/{profile}_*.rs")));
        }
        let mut cargo = checkout.cargo();
        let nextest = command::succeeds(checkout.cargo().args(["nextest", "--version"]));
        match nextest {
            true => cargo.args(["nextest", "run", "--profile", profile]),
            false => cargo.arg("test"),
        };
        if self != Self::Unit {
            // One at a time, as the profiles have it, also where nextest is not there to read them.
            cargo.env("RUST_TEST_THREADS", "1");
        }
        let closing = if nextest { Closing::Nextest } else { Closing::Libtest };
        cargo.args(["--workspace", "--no-fail-fast"]).args(kinds);
        cargo.args(targets.iter().flat_map(|target| ["--test", target]));
        match watch(&mut cargo, closing) {
            (Counts::NONE, Ok(())) => (Counts::NONE, Err(anyhow!("`{}` ran no test", command::line(&cargo)))),
            ran => ran,
        }
    }

    /// Names of the integration tests of this tier: `CRATE/tests/NAME.rs` and `CRATE/tests/NAME/main.rs`.
    fn targets(self, tree: &Tree) -> BTreeSet<String> {
        let names = tree.files.iter().filter_map(|file| target(&file.path));
        names.filter(|name| Self::of(name) == self).map(str::to_owned).collect()
    }

    /// The tier of an integration test.
    fn of(name: &str) -> Self {
        match name.split_once('_') {
            Some(("process", _)) => Self::Process,
            Some(("linux", _)) => Self::Linux,
            _ => Self::Unit,
        }
    }
}

fn target(path: &str) -> Option<&str> {
    let (folder, inside) = path.split_once("/tests/")?;
    // A module called `tests` is not a folder of integration tests.
    if folder.split('/').any(|name| name == "src") {
        return None;
    }
    let name = inside.strip_suffix("/main.rs").or_else(|| inside.strip_suffix(".rs"))?;
    (!name.contains('/')).then_some(name)
}

/// Runs a test runner and counts. A runner that is content though it counted a failure is an error too.
fn watch(cargo: &mut Command, closing: Closing) -> (Counts, Result<()>) {
    let mut counts = Counts::NONE;
    let outcome = command::watch(cargo, |line| counts = counts + closing.counts(line).unwrap_or_default());
    let outcome = outcome.and_then(|()| match counts {
        Counts { failed: 1.., .. } => bail!("{counts}"),
        Counts { .. } => Ok(()),
    });
    (counts, outcome)
}

/// The line with which a runner closes. Nextest also shows libtest's line for each test that failed, so one
/// must know which to count.
#[derive(Clone, Copy, Debug)]
enum Closing {
    /// `Summary [ 0.1s] 3 tests run: 2 passed, 1 failed, 0 skipped`
    Nextest,
    /// `test result: ok. 3 passed; 0 failed; 0 ignored; ...`
    Libtest,
}

impl Closing {
    fn counts(self, line: &str) -> Option<Counts> {
        let line = line.trim_start();
        let tail = match self {
            Self::Nextest => line.strip_prefix("Summary [")?.split_once("run:")?.1,
            Self::Libtest => line.strip_prefix("test result:")?,
        };
        let words: Vec<_> = tail.split([' ', ',', ';', '(']).filter(|word| !word.is_empty()).collect();
        let count = |names: &[&str]| {
            let pairs = words.windows(2).filter(|pair| names.contains(&pair[1]));
            pairs.filter_map(|pair| pair[0].parse::<u32>().ok()).sum()
        };
        Some(Counts { passed: count(&["passed"]), failed: count(&["failed", "timed", "exec"]) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::File;

    #[test]
    fn the_name_of_the_file_decides_the_tier() {
        let paths = [
            "testbench/bmhive/tests/process_demo.rs",
            "vhost-backends/tests/process_blk/main.rs",
            "vhost-backends/tests/process_blk/image.rs",
            "testbench/bmhive/tests/linux_two_boards.rs",
            "iobond-model/spec/tests/layout.rs",
            "iobond-model/src/process_not.rs",
            "bm-hypervisor/src/virtio_pci/tests/linux.rs",
            "iobond-model/tests/seeds.txt",
        ];
        let files = paths.map(|path| File { path: path.into(), text: String::new() }).into();
        let tree = Tree { root: "/".into(), files };
        let targets = |tier: Tier| tier.targets(&tree).into_iter().collect::<Vec<_>>();
        assert_eq!(targets(Tier::Unit), ["layout"]);
        assert_eq!(targets(Tier::Process), ["process_blk", "process_demo"]);
        assert_eq!(targets(Tier::Linux), ["linux_two_boards"]);
    }

    #[test]
    fn closing_lines_of_both_runners_are_counted() {
        let count =
            |closing: Closing, line| closing.counts(line).map(|Counts { passed, failed }| (passed, failed));
        let nextest = |line| count(Closing::Nextest, line);
        assert_eq!(
            nextest("     Summary [   0.015s] 12 tests run: 12 passed (1 slow), 0 skipped"),
            Some((12, 0))
        );
        let failures =
            "Summary [  60.1s] 9/12 tests run: 5 passed, 2 failed, 1 timed out, 1 exec failed, 0 skipped";
        assert_eq!(nextest(failures), Some((5, 4)));
        let libtest = "test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 2 filtered out; finished in 0.1s";
        assert_eq!(count(Closing::Libtest, libtest), Some((3, 1)));
        assert_eq!(nextest(libtest), None);
        assert_eq!(nextest("        PASS [   0.01s] a test about 3 passed frames"), None);
    }
}
