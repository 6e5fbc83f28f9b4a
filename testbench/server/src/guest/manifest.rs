//! `guest.toml`: the QEMU, kernel and initial RAM disk that boards run when their scenario names no others.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;

/// Name of the manifest in a directory of guest files.
const MANIFEST: &str = "guest.toml";
/// Where the guest files are when no option says so.
const VARIABLE: &str = "BMHIVE_GUEST";
/// What a manifest may measure: a hundred times what it does.
const LONGEST: u64 = 64 << 10;

/// What a guest is made of.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestFiles {
    /// QEMU, 10.1 or later: the first with `vfio-user-pci`.
    pub qemu: PathBuf,
    /// Its version, as it says itself.
    pub qemu_version: String,
    /// An uncompressed kernel with a PVH entry.
    pub kernel: PathBuf,
    /// The kernel's release, as `uname -r` says it.
    pub kernel_version: String,
    /// The initial RAM disk with the test init.
    pub initrd: PathBuf,
}

/// What to do about a manifest that cannot be used.
const NEW: &str = "`cargo xtask guest` makes a new one";

/// Guest files that cannot be used.
#[allow(missing_docs, reason = "the fields are those of the message")]
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// No directory has any.
    #[error(
        "there are no guest files in {}; `cargo xtask guest` makes them, --guest names another directory",
        places(looked)
    )]
    Missing { looked: Vec<PathBuf> },
    /// A manifest cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{}: it has {length} bytes, which no manifest has; {NEW}", path.display())]
    TooLong { path: PathBuf, length: u64 },
    #[error("{}: line {line}: {}; {NEW}", path.display(), reason.message().replace('\n', ", "))]
    Syntax { path: PathBuf, line: usize, reason: Box<toml::de::Error> },
    /// It names a file that is not there.
    #[error("{}: it names {}, which is not there; {NEW}", path.display(), file.display())]
    NoFile { path: PathBuf, file: PathBuf },
}

fn places(looked: &[PathBuf]) -> String {
    looked.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" or ")
}

impl GuestFiles {
    /// Reads the manifest in `directory`. Its paths are made absolute, and all of them exist.
    ///
    /// # Errors
    /// [`ManifestError`], with the manifest's path and what is wrong with it.
    pub fn load(directory: &Path) -> Result<Self, ManifestError> {
        let path = directory.join(MANIFEST);
        let cannot_read = |source| ManifestError::Read { path: path.clone(), source };
        let directory = directory.canonicalize().map_err(cannot_read)?;
        let length = fs::metadata(&path).map_err(cannot_read)?.len();
        if length > LONGEST {
            return Err(ManifestError::TooLong { path, length });
        }
        let text = fs::read_to_string(&path).map_err(cannot_read)?;
        let mut files: Self = toml::from_str(&text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            ManifestError::Syntax { path: path.clone(), line, reason: Box::new(error) }
        })?;
        for file in [&mut files.qemu, &mut files.kernel, &mut files.initrd] {
            *file = directory.join(&*file);
            if !file.is_file() {
                return Err(ManifestError::NoFile { path, file: file.clone() });
            }
        }
        Ok(files)
    }
}

/// Finds and reads guest files: in `directory` where one is named, else where the environment variable
/// `BMHIVE_GUEST` says, else in `target/guest` of the current directory, else beside the executable's build
/// directory.
///
/// # Errors
/// [`ManifestError`], with every place that was looked at.
pub fn find(directory: Option<&Path>) -> Result<GuestFiles, ManifestError> {
    let named = directory.map(Path::to_owned).or_else(|| std::env::var_os(VARIABLE).map(PathBuf::from));
    let executable = std::env::current_exe().ok();
    // target/PROFILE/bmhive
    let built = executable
        .as_deref()
        .and_then(Path::parent)
        .and_then(Path::parent)
        .map(|target| target.join("guest"));
    first(candidates(named, built))
}

fn candidates(named: Option<PathBuf>, built: Option<PathBuf>) -> Vec<PathBuf> {
    match named {
        Some(directory) => vec![directory],
        None => std::iter::once(PathBuf::from("target/guest")).chain(built).collect(),
    }
}

fn first(looked: Vec<PathBuf>) -> Result<GuestFiles, ManifestError> {
    match looked.iter().find(|directory| directory.join(MANIFEST).exists()) {
        Some(directory) => GuestFiles::load(directory),
        None => Err(ManifestError::Missing { looked }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "qemu = \"bin/qemu\"\nqemu_version = \"11.1.3\"\nkernel = \"boot/vmlinux\"\n\
                        kernel_version = \"7.2.12\"\ninitrd = \"boot/initrd\"\n";

    fn directory(manifest: &str) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for file in ["bin/qemu", "boot/vmlinux", "boot/initrd"] {
            let path = directory.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        fs::write(directory.path().join(MANIFEST), manifest).unwrap();
        directory
    }

    #[test]
    fn paths_are_those_of_the_manifests_directory() {
        let directory = directory(GOOD);
        let files = GuestFiles::load(directory.path()).unwrap();
        let root = directory.path().canonicalize().unwrap();
        assert_eq!(files.kernel, root.join("boot/vmlinux"));
        assert_eq!((files.qemu_version.as_str(), files.kernel_version.as_str()), ("11.1.3", "7.2.12"));
    }

    #[test]
    fn a_manifest_that_is_wrong_is_named_with_its_fault() {
        for (from, to, part) in [
            ("boot/initrd", "boot/inítrd", "which is not there"),
            ("kernel_version = \"7.2.12\"", "", "kernel_version"),
            ("qemu_version", "qemu_versoin", "qemu_versoin"),
        ] {
            let directory = directory(&GOOD.replace(from, to));
            let error = GuestFiles::load(directory.path()).unwrap_err().to_string();
            assert!(
                error.contains(part) && error.contains(MANIFEST) && error.contains("xtask guest"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_named_directory_is_the_only_one_looked_at() {
        let built = directory(GOOD);
        let error =
            first(candidates(Some("/no/such".into()), Some(built.path().into()))).unwrap_err().to_string();
        assert!(error.contains("/no/such") && !error.contains(" or "), "{error}");
        assert!(first(candidates(None, Some(built.path().into()))).is_ok());
    }
}
