//! What must hold for every commit, tests aside.

use crate::{command, house, registers, report::Report, tree::Tree};

/// Runs every check, also after one has failed.
pub fn run(tree: &Tree, report: &mut Report) {
    report.step("format", || command::run(tree.cargo().args(["fmt", "--all", "--check"])));
    report.step("lints", || {
        let lints = ["-D", "warnings", "-D", "clippy::too_many_lines"];
        command::run(tree.cargo().args(["clippy", "--workspace", "--all-targets", "--"]).args(lints))
    });
    report.step("documentation", || {
        let arguments = ["doc", "--workspace", "--no-deps", "--document-private-items"];
        command::run(tree.cargo().env("RUSTDOCFLAGS", "-D warnings").args(arguments))
    });
    registers::run(tree, report, true);
    report.step("rules of the house", || house::check(tree));
}
