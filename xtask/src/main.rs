//! The chores of this repository: `cargo xtask setup | guest | static | vfio-lab | registers | check | house
//! | fuzz | test`.
//!
//! What CI runs is what a developer runs: `.ci/run` calls `cargo xtask test`. Left out: whatever cargo does
//! by itself (`cargo run --release` is the demonstration).

mod check;
mod command;
mod fuzz;
mod guest;
mod house;
mod registers;
mod report;
mod setup;
mod static_programs;
mod tier;
mod tree;
mod vfio_lab;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{report::Report, tier::Tier, tree::Checkout};

/// The chores of this repository.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Install what the project needs: Debian packages and a Python environment under target/venv.
    Setup,
    /// Make what compute boards boot, below target/guest: QEMU >= 10.1, a stock Debian kernel, an initramfs.
    ///
    /// QEMU is the machine's own where it is new enough. Everything else is fetched by apt from the mirror in
    /// the machine's sources and unpacked, not installed. What is there already is kept; remove target/guest
    /// to get newer packages.
    Guest,
    /// Build bm-hypervisor, its tools and the back ends without shared libraries, below target/static: for a
    /// base server in a guest.
    Static,
    /// Boot a base server with an IOMMU, and two boards that it serves through VFIO, all with Linux, and show
    /// what they do.
    VfioLab,
    /// Generate the register layer and the register reference from iobond.rdl.
    Registers {
        /// Change nothing; fail when a committed file differs from what would be generated.
        #[arg(long)]
        check: bool,
    },
    /// Formatting, lints, documentation, generated files and the rules of the house.
    Check,
    /// The rules of the house alone, which take no build.
    House {
        /// Which one, such as `words` or `imports`; without a name all of them.
        rule: Option<String>,
    },
    /// Fuzz one target or all of them; what is found goes below target/fuzz, never into the committed corpus.
    Fuzz {
        /// Which target: the name of a file in fuzz/fuzz_targets.
        target: Option<String>,
        /// How long each target runs.
        #[arg(long, default_value_t = fuzz::SECONDS)]
        seconds: u32,
        /// Where the fuzzer's random numbers start.
        #[arg(long, default_value_t = fuzz::SEED)]
        seed: u32,
    },
    /// Run one tier of tests; without a tier: setup, guest, check and every tier.
    Test {
        /// Which tier to run.
        tier: Option<Tier>,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut report = Report::default();
    match Checkout::of_this_repository() {
        Ok(checkout) => run(&arguments.chore, &checkout, &mut report),
        Err(error) => {
            report.step("find the repository", || Err(error));
        }
    }
    report.close()
}

/// Runs a chore; what fails is in the report.
fn run(chore: &Chore, checkout: &Checkout, report: &mut Report) {
    match chore {
        Chore::Setup => {
            setup::run(checkout, report);
        }
        Chore::Guest => {
            guest::run(checkout, report);
        }
        Chore::Static => {
            static_programs::run(checkout, report);
        }
        Chore::VfioLab => vfio_lab::run(checkout, report),
        Chore::Registers { check } => registers::run(checkout, report, *check),
        Chore::Check => check::run(checkout, report),
        Chore::House { rule } => {
            report.step("rules of the house", || house::check(checkout, rule.as_deref()));
        }
        Chore::Fuzz { target, seconds, seed } => {
            fuzz::run(checkout, report, target.as_deref(), *seconds, *seed);
        }
        Chore::Test { tier: Some(tier) } => tier.run(checkout, report),
        Chore::Test { tier: None } => {
            if setup::run(checkout, report) {
                // Early: what it needs from the network is missing now or never. The tier that boots it asks
                // again.
                guest::run(checkout, report);
                check::run(checkout, report);
                for tier in Tier::ALL {
                    tier.run(checkout, report);
                }
            }
        }
    }
}
