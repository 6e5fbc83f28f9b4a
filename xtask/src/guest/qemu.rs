//! Which QEMU compute boards run in: the machine's own where it can carry IO-Bond, else the one among the
//! packages.

use std::process::Command;

use anyhow::{Context, Result};

use super::root::{LIBRARIES, LOADER};
use crate::command;

/// The program, by the name that packages give it.
pub const PROGRAM: &str = "qemu-system-x86_64";
/// The first release with `vfio-user-pci`.
const OLDEST: (u32, u32) = (10, 1);
const DEVICE: &str = "vfio-user-pci";

/// The machine's own QEMU.
pub struct Own {
    /// Absolute path of the program.
    pub path: String,
    /// As it prints it.
    pub version: String,
}

/// The machine's own QEMU, if it is new enough and has the device.
pub fn of_this_machine() -> Option<Own> {
    let path = command::output(Command::new("sh").args(["-c", "command -v \"$0\"", PROGRAM])).ok()?;
    let path = path.trim().to_owned();
    let version = ask(&mut Command::new(&path)).ok()?;
    let devices = command::output(Command::new(&path).args(["-device", "help"])).ok()?;
    let fits = number(&version)? >= OLDEST && devices.contains(&format!("\"{DEVICE}\""));
    fits.then_some(Own { path, version })
}

/// Asks a QEMU for its version.
pub fn ask(program: &mut Command) -> Result<String> {
    let said = command::output(program.arg("--version"))?;
    version(&said).with_context(|| format!("cannot tell QEMU's version from `{}`", said.trim()))
}

/// The version in `QEMU emulator version 11.1.3 (Debian 1:11.1.3+ds-1~bpo13+1)`.
fn version(said: &str) -> Option<String> {
    let (_, rest) = said.split_once(" version ")?;
    rest.split_whitespace().next().map(str::to_owned)
}

fn number(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

/// A script that becomes QEMU, so that the process one starts is the process one can signal.
pub fn script(own: Option<&str>) -> String {
    let head = "#!/bin/sh\n# Written by `cargo xtask guest`.\n";
    match own {
        Some(path) => format!("{head}exec '{}' \"$@\"\n", path.replace('\'', r"'\''")),
        None => format!(
            r#"{head}# QEMU from the unpacked packages, through the loader that came with them.
set -eu
here=$(cd "${{0%/*}}/.." && pwd)
root=$here/root
QEMU_MODULE_DIR=$root/{LIBRARIES}/qemu
export QEMU_MODULE_DIR
exec "$root/{LOADER}" --library-path "$root/{LIBRARIES}" --argv0 {PROGRAM} \
    "$root/usr/bin/{PROGRAM}" -L "$root/usr/share/qemu" -L "$root/usr/share/seabios" -L "$root/usr/lib/ipxe/qemu" "$@"
"#
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        let said =
            |version| format!("QEMU emulator version {version} (Debian 1:7.2+dfsg-7+deb12u18)\nCopyright\n");
        let new_enough = |v| number(&version(&said(v)).unwrap()).unwrap() >= OLDEST;
        assert!(new_enough("10.1.0") && new_enough("11.0.50") && new_enough("10.10.0"));
        assert!(!new_enough("9.2.4") && !new_enough("10.0.7") && !new_enough("7.2.22"));
        assert_eq!(version("nonsense"), None);
    }

    #[test]
    fn the_script_becomes_the_named_program_with_the_arguments_it_got() {
        let folder = tempfile::tempdir().unwrap();
        let script_path = folder.path().join("qemu");
        std::fs::write(&script_path, script(Some("/bin/echo"))).unwrap();
        let said =
            command::output(Command::new("sh").arg(&script_path).args(["-name", "a board", ""])).unwrap();
        assert_eq!(said, "-name a board \n");
    }
}
