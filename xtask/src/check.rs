//! What must hold for every commit, tests aside.

use crate::{command, fuzz, house, registers, report::Report, tree::Checkout};

const LINTS: [&str; 4] = ["-D", "warnings", "-D", "clippy::too_many_lines"];

/// Runs every check, also after one has failed.
pub fn run(checkout: &Checkout, report: &mut Report) {
    report.step("format", || command::run(checkout.cargo().args(["fmt", "--all", "--check"])));
    report.step("lints", || {
        command::run(checkout.cargo().args(["clippy", "--workspace", "--all-targets", "--"]).args(LINTS))
    });
    report.step("fuzz targets", || fuzz::check(checkout, &LINTS));
    report.step("documentation", || {
        let arguments = ["doc", "--workspace", "--no-deps", "--document-private-items"];
        command::run(checkout.cargo().env("RUSTDOCFLAGS", "-D warnings").args(arguments))
    });
    registers::run(checkout, report, true);
    report.step("rules of the house", || house::check(checkout, None));
}
