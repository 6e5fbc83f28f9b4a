//! The files of the repository.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::command;

/// What a generator or a third party wrote: checked against its source, not against the rules of the house.
const NOT_OURS: &[&str] =
    &["iobond-model/spec/src/registers/", "docs/registers.", "LICENSE-APACHE", "LICENSE-MIT"];

/// A file that is UTF-8.
#[derive(Debug)]
pub struct File {
    /// Path from the root of the repository, with `/`.
    pub path: String,
    pub text: String,
}

impl File {
    /// Whether people wrote it.
    pub fn is_ours(&self) -> bool {
        !self.is_lock() && !NOT_OURS.iter().any(|prefix| self.path.starts_with(prefix))
    }

    /// Whether cargo wrote it: the lock file of a workspace.
    pub fn is_lock(&self) -> bool {
        self.path.rsplit('/').next() == Some("Cargo.lock")
    }

    /// The extension, or nothing.
    pub fn extension(&self) -> &str {
        Path::new(&self.path).extension().and_then(|extension| extension.to_str()).unwrap_or_default()
    }
}

/// Where the repository lies. Needs no other program.
#[derive(Debug)]
pub struct Checkout {
    root: PathBuf,
}

impl Checkout {
    /// The one that this program was built from.
    pub fn of_this_repository() -> Result<Self> {
        let root =
            Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the crate xtask has no parent folder")?;
        Ok(Self { root: root.to_owned() })
    }

    /// The root of the repository.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A path inside the repository.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// `cargo`, to be run at the root.
    pub fn cargo(&self) -> Command {
        let mut cargo = Command::new("cargo");
        cargo.current_dir(&self.root);
        cargo
    }

    /// Reads every text file that is tracked, or that would be after `git add --all`.
    pub fn tree(&self) -> Result<Tree> {
        let listing = command::output(Command::new("git").current_dir(&self.root).args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
            "--deduplicate",
        ]))?;
        // A path that is listed and not there was deleted and not yet committed; a file that is not UTF-8 is
        // not text.
        let read = |path: &str| {
            let text = fs::read_to_string(self.root.join(path)).ok()?;
            Some(File { path: path.to_owned(), text })
        };
        Ok(Tree { root: self.root.clone(), files: listing.split_terminator('\0').filter_map(read).collect() })
    }
}

/// The text files of a checkout.
#[derive(Debug)]
pub struct Tree {
    /// Absolute path of the root.
    pub root: PathBuf,
    /// Files in the order of their paths.
    pub files: Vec<File>,
}
