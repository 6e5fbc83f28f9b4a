//! The unpacked packages: a tree from which programs run in place, through the loader that came with them.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::command;

/// The x86-64 psABI's loader, as a merged /usr has it.
pub const LOADER: &str = "usr/lib64/ld-linux-x86-64.so.2";
/// Debian's folder of libraries for the architecture.
pub const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
/// Libraries that programs find through the run path of others, which names this folder absolutely.
const CEPH: &str = "usr/lib/x86_64-linux-gnu/ceph";
/// Folders that packages still name at the root.
const MERGED: [&str; 4] = ["bin", "lib", "lib64", "sbin"];
/// What no program reads: a quarter of all files.
const UNREAD: [&str; 5] =
    ["usr/share/doc", "usr/share/info", "usr/share/locale", "usr/share/man", "usr/share/lintian"];

/// The names of the packages' archives, versions and all, a line each.
pub const CONTENTS: &str = "archives";

/// Unpacks archives into a new folder and orders the modules of the kernel in it.
pub fn unpack(archives: &[PathBuf], folder: &Path) -> Result<()> {
    fs::create_dir_all(folder.join("usr")).with_context(|| format!("cannot make {}", folder.display()))?;
    for name in MERGED {
        let (target, link) = (Path::new("usr").join(name), folder.join(name));
        fs::create_dir_all(folder.join(&target))
            .with_context(|| format!("cannot make {}", target.display()))?;
        symlink(&target, &link).with_context(|| format!("cannot link {}", link.display()))?;
    }
    for archive in archives {
        command::output(Command::new("dpkg-deb").arg("--extract").arg(archive).arg(folder))?;
        // Unpacking a package whose tree has `./lib` as a folder would replace the link.
        if let Some(name) = MERGED.iter().find(|name| !folder.join(name).is_symlink()) {
            bail!("{} has a folder /{name} beside /usr/{name}", archive.display());
        }
    }
    for path in UNREAD.map(|path| folder.join(path)).iter().filter(|path| path.exists()) {
        fs::remove_dir_all(path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    let root = Root { folder: folder.to_owned() };
    let version = root.kernel_version()?;
    let names = archives.iter().filter_map(|archive| archive.file_name()?.to_str());
    let contents = names.map(|name| format!("{name}\n")).collect::<String>();
    fs::write(root.path(CONTENTS), contents).with_context(|| format!("cannot write {CONTENTS}"))?;
    // A kernel's package leaves this to its maintainer scripts, which do not run here.
    command::output(root.program("depmod", "usr/bin/kmod").arg("--basedir").arg(folder).arg(version))?;
    Ok(())
}

/// A tree that was unpacked.
pub struct Root {
    folder: PathBuf,
}

impl Root {
    /// The tree in this folder.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// A path inside the tree.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.folder.join(relative)
    }

    /// The bytes of a file of the tree.
    pub fn read(&self, relative: &str) -> Result<Vec<u8>> {
        fs::read(self.path(relative)).with_context(|| format!("the guest's packages hold no {relative}"))
    }

    /// The one kernel of the tree, as `uname -r` names it.
    pub fn kernel_version(&self) -> Result<String> {
        let folder = self.path("usr/lib/modules");
        let entries = fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
        let mut names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        match (names.next(), names.next()) {
            (Some(name), None) => name,
            _ => bail!("{} does not hold exactly one kernel", folder.display()),
        }
    }

    /// A program of the tree, run under a name.
    pub fn program(&self, name: &str, path: &str) -> Command {
        let mut command = self.loader();
        command.args(["--argv0", name]).arg(self.path(path));
        command
    }

    fn loader(&self) -> Command {
        let mut command = Command::new(self.path(LOADER));
        let libraries = [LIBRARIES, CEPH].map(|path| self.path(path).display().to_string()).join(":");
        command.args(["--library-path", &libraries]);
        command
    }

    /// The libraries that programs of the tree need, as paths inside it, in the order of the paths.
    pub fn libraries(&self, programs: &[&str]) -> Result<Vec<String>> {
        let mut paths = Vec::new();
        for program in programs {
            let listing = command::output(self.loader().arg("--list").arg(self.path(program)))?;
            let found = libraries(&listing, &self.folder);
            paths.extend(found.with_context(|| format!("cannot tell what {program} needs"))?);
        }
        paths.sort();
        paths.dedup();
        Ok(paths)
    }
}

/// Paths inside `root` in lines `NAME => PATH (ADDRESS)`; the kernel's own object has no path.
fn libraries(listing: &str, root: &Path) -> Result<Vec<String>> {
    let path = |line: &str| {
        let (_, found) = line.split_once(" => ")?;
        let (path, _) = found.rsplit_once(" (").unwrap_or((found, ""));
        let inside = Path::new(path).strip_prefix(root).ok().and_then(Path::to_str);
        Some(
            inside
                .map(str::to_owned)
                .with_context(|| format!("not among the guest's packages: {}", line.trim())),
        )
    };
    listing.lines().filter_map(path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_paths_inside_the_tree() {
        let listing = "\tlinux-vdso.so.1 (0x00007efceafbf000)\n\
                       \tlibc.so.6 => /srv/root/usr/lib/libc.so.6 (0x00007efceacb3000)\n\
                       \t/lib64/ld-linux-x86-64.so.2 => /srv/root/usr/lib64/ld-linux-x86-64.so.2 (0x00007efceafc1000)\n";
        let expected = ["usr/lib/libc.so.6", "usr/lib64/ld-linux-x86-64.so.2"];
        assert_eq!(libraries(listing, Path::new("/srv/root")).unwrap(), expected);
    }

    #[test]
    fn a_library_of_the_machine_is_an_error() {
        for line in ["\tlibc.so.6 => /usr/lib/libc.so.6 (0x00)\n", "\tlibz.so.1 => not found\n"] {
            assert!(libraries(line, Path::new("/srv/root")).is_err(), "{line}");
        }
    }
}
