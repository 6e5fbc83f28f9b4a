//! The file that has everything the driver printed.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use tracing::warn;

use crate::Error;

/// A log file that is open for appending.
#[derive(Debug)]
pub(crate) struct Log {
    file: File,
    path: PathBuf,
    /// The first failure was reported; the others would only repeat it.
    warned: bool,
}

impl Log {
    /// Opens the file, or makes it, to append to it.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let file = OpenOptions::new().append(true).create(true).open(path);
        let file = file.map_err(|source| Error::Log { path: path.into(), source })?;
        Ok(Self { file, path: path.into(), warned: false })
    }

    /// Appends `bytes`. They are in the file, not in a buffer of ours, when this returns. A failure leaves a
    /// gap.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        if let Err(error) = self.file.write_all(bytes)
            && !self.warned
        {
            self.warned = true;
            warn!("log {}: {error}; it has a gap, further ones are not reported", self.path.display());
        }
    }
}
