//! Installs what the project needs beyond Rust, on Debian 12.
//!
//! Each need is probed by use and not by package name, so a machine that has the tool from elsewhere is left
//! alone, and a second run takes no time.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{command, report::Report, tree::Checkout};

const VENV: &str = "target/venv";
const REQUIREMENTS: &str = "iobond-model/spec/regs/requirements.txt";

/// Something a Debian package provides.
struct Need {
    /// Succeeds where the need is met.
    probe: &'static [&'static str],
    /// What provides it on Debian 12.
    package: &'static str,
}

const NEEDS: &[Need] = &[
    Need { probe: &["cc", "--version"], package: "gcc" },
    // libFuzzer is C++.
    Need { probe: &["c++", "--version"], package: "g++" },
    Need { probe: &["git", "--version"], package: "git" },
    // Debian splits `ensurepip` off python3; without it a virtual environment has no pip.
    Need { probe: &["python3", "-c", "import ensurepip, venv"], package: "python3-venv" },
];

/// Parts of the Rust toolchain that a minimal installation leaves out.
const COMPONENTS: &[&str] = &["clippy", "fmt"];

/// Meets every need; says whether it could.
pub fn run(checkout: &Checkout, report: &mut Report) -> bool {
    report.step("debian packages", || packages(NEEDS, is_root()?))
        && report.step("rust components", || components(checkout))
        && report.step("python environment", || python(checkout).map(drop))
}

fn missing(needs: &[Need]) -> Vec<&'static str> {
    let unmet = |need: &&Need| match need.probe {
        [program, arguments @ ..] => !command::succeeds(Command::new(program).args(arguments)),
        [] => false,
    };
    needs.iter().filter(unmet).map(|need| need.package).collect()
}

fn is_root() -> Result<bool> {
    // proc(5): the files of a process are owned by its effective user.
    Ok(fs::metadata("/proc/self").context("cannot read the owner of /proc/self")?.uid() == 0)
}

fn packages(needs: &[Need], root: bool) -> Result<()> {
    let wanted = missing(needs);
    if wanted.is_empty() {
        eprintln!("    nothing to install");
        return Ok(());
    }
    let list = wanted.join(" ");
    if !root {
        bail!(
            "missing: {list}. Run\n    sudo apt-get update && sudo apt-get install --yes --no-install-recommends {list}"
        );
    }
    eprintln!("    installing {list}");
    // The package lists of a fresh machine are empty: fetch them only where the first try shows it.
    if install(&wanted).is_err() {
        command::run(Command::new("apt-get").args(["--quiet", "update"]))?;
        install(&wanted)?;
    }
    let still = missing(needs).join(" ");
    if !still.is_empty() {
        bail!(
            "{still} is installed, yet the program that PATH finds first does not work; see `type -a cc c++ git python3`"
        );
    }
    Ok(())
}

fn install(packages: &[&str]) -> Result<()> {
    command::run(
        Command::new("apt-get")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["--quiet", "install", "--yes", "--no-install-recommends"])
            .args(packages),
    )
}

fn components(checkout: &Checkout) -> Result<()> {
    for component in COMPONENTS {
        if command::succeeds(checkout.cargo().args([component, "--version"])) {
            continue;
        }
        let name = if *component == "fmt" { "rustfmt" } else { component };
        command::run(Command::new("rustup").args(["component", "add", name]))
            .with_context(|| format!("`cargo {component}` is missing; install {name} for this toolchain"))?;
    }
    Ok(())
}

/// Folder with the programs of the Python environment, which is made where it is missing or out of date.
pub fn python(checkout: &Checkout) -> Result<PathBuf> {
    let venv = checkout.path(VENV);
    let programs = venv.join("bin");
    let wanted = fs::read_to_string(checkout.path(REQUIREMENTS))
        .with_context(|| format!("cannot read {REQUIREMENTS}"))?;
    let stamp = venv.join("requirements.txt");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(programs);
    }
    eprintln!("    installing {REQUIREMENTS} into {VENV}");
    command::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))
        .context("no Python environment; `cargo xtask setup` installs what making one needs")?;
    command::run(pip(&programs).arg(checkout.path(REQUIREMENTS)))?;
    // Last, so that an installation that was interrupted is made again.
    fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(programs)
}

fn pip(programs: &Path) -> Command {
    let mut pip = Command::new(programs.join("python"));
    // The requirements name the whole closure; anything else would be an unpinned version.
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--requirement",
    ]);
    pip
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unmet_needs_are_missing() {
        let needs = [
            Need { probe: &["sh", "-c", "exit 0"], package: "met" },
            Need { probe: &["sh", "-c", "exit 1"], package: "unmet" },
            Need { probe: &["a-program-that-is-not-there"], package: "absent" },
        ];
        assert_eq!(missing(&needs), ["unmet", "absent"]);
    }

    #[test]
    fn without_root_the_exact_command_is_the_error() {
        let unmet = |package| Need { probe: &["sh", "-c", "exit 1"], package };
        let error = packages(&[unmet("gcc"), unmet("git")], false).unwrap_err().to_string();
        assert!(error.contains("sudo apt-get install --yes --no-install-recommends gcc git"), "{error}");
        assert!(packages(&[], false).is_ok());
    }
}
