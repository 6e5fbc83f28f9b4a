//! A result on disk.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::{RunResult, SCHEMA};

/// The file in a run's directory that holds its result.
pub const FILE_NAME: &str = "result.json";

/// Why a result could not be written or read.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are those of the message")]
pub enum ResultError {
    /// The file or its directory cannot be written.
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    /// The file cannot be read.
    #[error("cannot read result {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// The file is not a result.
    #[error("{} is not a result", path.display())]
    Malformed {
        path: PathBuf,
        /// What the parser said, with line and column.
        source: serde_json::Error,
    },
    /// The file is a result of another kind or major version.
    #[error("{} has schema {found:?}, this program reads {SCHEMA:?}: use the version of bmhive that wrote it", path.display())]
    Schema { path: PathBuf, found: String },
}

impl RunResult {
    /// Writes `result.json` into `directory`, which is made if need be: whole, or not at all.
    ///
    /// # Errors
    /// [`ResultError::Write`].
    pub fn write(&self, directory: &Path) -> Result<PathBuf, ResultError> {
        let path = directory.join(FILE_NAME);
        let mut text = serde_json::to_vec_pretty(self)
            .map_err(|error| ResultError::Write { path: path.clone(), source: error.into() })?;
        text.push(b'\n');
        replace(&path, &text)?;
        Ok(path)
    }

    /// Reads a result: a file, or the `result.json` in a directory.
    ///
    /// # Errors
    /// [`ResultError::Read`], [`ResultError::Malformed`], or [`ResultError::Schema`] for another major
    /// version.
    pub fn read(path: &Path) -> Result<Self, ResultError> {
        #[derive(Deserialize)]
        struct Header {
            schema: String,
        }

        let path = if path.is_dir() { path.join(FILE_NAME) } else { path.to_owned() };
        let text = fs::read(&path).map_err(|source| ResultError::Read { path: path.clone(), source })?;
        let malformed = |source| ResultError::Malformed { path: path.clone(), source };
        let header: Header = serde_json::from_slice(&text).map_err(malformed)?;
        if header.schema != SCHEMA {
            return Err(ResultError::Schema { path, found: header.schema });
        }
        serde_json::from_slice(&text).map_err(malformed)
    }
}

/// Puts `contents` at `path` by way of a temporary file in the same directory, which is made if need be.
///
/// # Errors
/// [`ResultError`]: the directory cannot be made, or the file cannot be written.
pub fn replace(path: &Path, contents: &[u8]) -> Result<(), ResultError> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let attempt = || {
        fs::create_dir_all(directory)?;
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(contents)?;
        // The temporary file is private; the result is as readable as any file that a program makes.
        file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
        file.persist(path)?;
        Ok(())
    };
    attempt().map_err(|source: io::Error| ResultError::Write { path: path.to_owned(), source })
}
