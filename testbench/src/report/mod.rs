//! A result for people: on the terminal, as a page, and beside another one.
//!
//! Everything but [`progress`] is a pure function from results to text.

pub mod compare;
mod html;
mod plot;
pub mod progress;
mod quantity;
#[cfg(test)]
pub(crate) mod sample;
mod status;
mod table;
mod terminal;

use std::path::{Path, PathBuf};

pub use html::ReportError;
pub use status::render as render_status;
pub use terminal::render as render_terminal;

use crate::result::{RunResult, replace};

/// The page in a run's directory.
pub const FILE_NAME: &str = "report.html";

/// Writes `report.html` into `directory`, which is made if need be: one file, no other resource.
///
/// # Errors
/// [`ReportError`]: a plot cannot be drawn, or the file cannot be written.
pub fn write(result: &RunResult, directory: &Path) -> Result<PathBuf, ReportError> {
    let path = directory.join(FILE_NAME);
    replace(&path, html::render(result)?.as_bytes())?;
    Ok(path)
}
