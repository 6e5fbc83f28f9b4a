//! `cargo xtask vfio-lab`: the whole chain from boards with Linux to back ends, through VFIO, for a person to
//! watch.
//!
//! It is a test of the tier `linux`, whose commands and answers are shown. Left out: a lab that stays;
//! `bmhive up` is one, without VFIO.

use crate::{command, guest, report::Report, static_programs, tree::Checkout};

/// The test, which machines it boots and what it looks at.
const TEST: &str = "linux_vfio_lab";

/// Makes what it takes, and runs it.
pub fn run(checkout: &Checkout, report: &mut Report) {
    if guest::run(checkout, report) && static_programs::run(checkout, report) {
        report.step("the lab", || {
            let mut cargo = checkout.cargo();
            command::run(cargo.args(["test", "-p", "bmhive", "--test", TEST, "--", "--nocapture"]))
        });
    }
}
