//! `cargo xtask static`: programs that run in a machine without libraries, such as the initramfs of a base
//! server in a guest.

use crate::{command, report::Report, tree::Checkout};

/// Where cargo puts them; apart, since other flags would have it build everything else anew.
const FOLDER: &str = "target/static";
/// Named, so that the flags are not those of build scripts and macros, which must stay shared objects.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// All of libc inside, and none of the debugging information, which is ten times the program.
const FLAGS: &str = "-C target-feature=+crt-static -C strip=debuginfo";

/// Builds what is out of date; says whether everything is there.
pub fn run(checkout: &Checkout, report: &mut Report) -> bool {
    report.step("static programs", || {
        let mut cargo = checkout.cargo();
        cargo.env("RUSTFLAGS", FLAGS).args(["build", "--target", TARGET, "--target-dir", FOLDER]);
        command::run(cargo.args(["-p", "bm-hypervisor", "-p", "vhost-backends", "--bins", "--examples"]))
    })
}
