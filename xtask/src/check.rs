//! What must hold for every commit, tests aside.

use crate::{command, house, registers, report::Report, tree::Checkout};

/// Runs every check, also after one has failed.
pub fn run(checkout: &Checkout, report: &mut Report) {
    report.step("format", || command::run(checkout.cargo().args(["fmt", "--all", "--check"])));
    report.step("lints", || {
        let lints = ["-D", "warnings", "-D", "clippy::too_many_lines"];
        command::run(checkout.cargo().args(["clippy", "--workspace", "--all-targets", "--"]).args(lints))
    });
    report.step("documentation", || {
        let arguments = ["doc", "--workspace", "--no-deps", "--document-private-items"];
        command::run(checkout.cargo().env("RUSTDOCFLAGS", "-D warnings").args(arguments))
    });
    registers::run(checkout, report, true);
    report.step("rules of the house", || house::check(checkout));
}
