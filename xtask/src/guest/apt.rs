//! Debian packages, resolved and fetched by apt beside the machine's own package state.
//!
//! apt gets a state, a cache, sources and an (empty) dpkg status of its own, so it resolves what a bare
//! machine would need and changes nothing of this one.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::sources::Mirror;
use crate::command;

/// Releases that the packages come from; the last one is preferred. `vfio-user-pci` needs QEMU 10.1, trixie
/// has 10.0.
pub const SUITES: [&str; 3] = ["trixie", "trixie-updates", "trixie-backports"];

/// An apt of our own below one folder.
pub struct Apt {
    folder: PathBuf,
}

impl Apt {
    /// Writes its configuration and its sources.
    pub fn new(folder: PathBuf, mirror: &Mirror) -> Result<Self> {
        let apt = Self { folder };
        for part in ["state/lists/partial", "cache/archives/partial"] {
            let part = apt.folder.join(part);
            fs::create_dir_all(&part).with_context(|| format!("cannot make {}", part.display()))?;
        }
        let line = |suite: &str| {
            let keyring = mirror.keyring.display();
            format!("deb [arch=amd64 signed-by={keyring}] {} {suite} main\n", mirror.uri)
        };
        apt.write("sources.list", &SUITES.map(line).concat())?;
        apt.write("status", "")?;
        apt.write("apt.conf", &configuration(&apt.folder))?;
        Ok(apt)
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Fetches the packages and everything that they depend on, and says which archives that makes. What an
    /// earlier run fetched is used, also a part of a file; archives of other packages and versions are
    /// dropped.
    pub fn fetch(&self, packages: &[&str]) -> Result<Vec<PathBuf>> {
        eprintln!("    fetching the lists of {}", SUITES.join(", "));
        let update = command::output(self.get().args(["update", "--error-on=any"]));
        update.with_context(|| {
            let [.., suite] = SUITES;
            format!(
                "cannot fetch the package lists; the machine's mirror must be reachable and carry {suite}, and \
                 debian-archive-keyring must verify it (upgrade that package when keys are missing)"
            )
        })?;
        let archives = self.folder.join("cache/archives");
        let install = ["install", "--yes", "--no-install-recommends"];
        // Named by file, before the download: what is there already is not listed afterwards.
        let simulated = self.folder.join("cache/simulated");
        let planned = command::output(
            self.get()
                .arg("-oDir::Cache::Archives=simulated")
                .args(install)
                .arg("--print-uris")
                .args(packages),
        );
        fs::remove_dir_all(&simulated).ok();
        let names = file_names(&planned?)?;
        eprintln!("    fetching {} packages", names.len());
        command::output(self.get().args(install).arg("--download-only").args(packages))?;
        drop_others(&archives, &names)?;
        let paths: Vec<_> = names.iter().map(|name| archives.join(name)).collect();
        match paths.iter().find(|path| !path.exists()) {
            Some(path) => bail!("apt did not fetch {}", path.display()),
            None => Ok(paths),
        }
    }

    fn get(&self) -> Command {
        let mut get = Command::new("apt-get");
        // apt reads this file last, so it wins over the machine's own configuration.
        get.arg("-c").arg(self.folder.join("apt.conf")).arg("--quiet").env("LC_ALL", "C");
        get
    }
}

fn configuration(folder: &Path) -> String {
    let folder = folder.display();
    let [.., preferred] = SUITES;
    format!(
        r#"Dir::State "{folder}/state";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}/cache";
Dir::Etc::SourceList "{folder}/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
APT::Architecture "amd64";
#clear APT::Architectures;
APT::Architectures {{ "amd64"; }};
APT::Default-Release "{preferred}";
APT::Install-Recommends "false";
// The folder is the user's, and apt's own user may not be able to enter it.
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "3";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
// Hooks and further indices are the machine's business.
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Install-Pkgs;
#clear DPkg::Post-Invoke;
#clear Acquire::IndexTargets::deb::DEP-11;
"#
    )
}

/// File names in the lines `'URI' FILE SIZE HASH` of `--print-uris`.
fn file_names(printed: &str) -> Result<Vec<String>> {
    let lines = printed.lines().filter(|line| line.starts_with('\''));
    let names: Vec<_> = lines.filter_map(|line| line.split_whitespace().nth(1)).map(str::to_owned).collect();
    if names.is_empty() || names.iter().any(|name| name.contains('/') || !name.ends_with(".deb")) {
        bail!("cannot tell which archives apt would fetch: {printed}");
    }
    Ok(names)
}

fn drop_others(archives: &Path, names: &[String]) -> Result<()> {
    let context = || format!("cannot tidy {}", archives.display());
    for entry in fs::read_dir(archives).with_context(context)? {
        let entry = entry.with_context(context)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".deb") && !names.contains(&name) {
            fs::remove_file(entry.path()).with_context(context)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_are_named_in_the_second_column() {
        let printed = "Reading package lists...\n\
                       'http://mirror.example/pool/f/fio/fio_3.39-1_amd64.deb' fio_3.39-1_amd64.deb 575528 SHA256:00\n\
                       'http://mirror.example/pool/q/q_1.1_amd64.deb' q_1%3a1.1_amd64.deb 1 SHA256:00\n";
        assert_eq!(file_names(printed).unwrap(), ["fio_3.39-1_amd64.deb", "q_1%3a1.1_amd64.deb"]);
        assert!(file_names("Reading package lists...\n").is_err());
        assert!(file_names("'http://mirror.example/x' ../x.deb 1\n").is_err());
    }
}
