//! A result for people: on the terminal, as a page, and beside another one.
//!
//! Pure functions from results to text.

pub mod compare;
mod html;
mod markdown;
mod plot;
mod quantity;
#[cfg(test)]
pub(crate) mod sample;
mod table;
mod terminal;

use std::path::{Path, PathBuf};

pub use html::ReportError;
pub use markdown::table as markdown_table;
pub use quantity::{grouped, quantity};
pub use table::columns;
pub use terminal::render as render_terminal;

use crate::{RunResult, replace};
use plot::Plots;

/// The page in a run's directory.
pub const FILE_NAME: &str = "report.html";

/// Beside the page, the folder with its plots as files of their own.
pub const PLOTS: &str = "plots";

/// Writes `report.html` into `directory`, which is made if need be: one file, no other resource. Its plots
/// are written as SVG files into [`PLOTS`] as well, for use elsewhere. Answers where the page is.
///
/// # Errors
/// [`ReportError`]: a plot cannot be drawn, or the file cannot be written.
pub fn write(result: &RunResult, directory: &Path) -> Result<PathBuf, ReportError> {
    let plots = Plots::of(result).map_err(ReportError::Plot)?;
    for (name, file) in plots.files() {
        replace(&directory.join(PLOTS).join(name), file.as_bytes())?;
    }
    let path = directory.join(FILE_NAME);
    replace(&path, html::render(result, &plots).as_bytes())?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plots_lie_beside_the_page() {
        let directory = tempfile::tempdir().unwrap();
        let page = write(&sample::demonstration(), directory.path()).unwrap();
        assert_eq!(page, directory.path().join("report.html"));
        let entries = directory.path().join("plots").read_dir().unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        let expected = [
            "curve.blk.randread.4k.load.svg",
            "curve.net.stream.boards.svg",
            "figures.svg",
            "latencies.svg",
            "stages.blk.randread.4k.qd1.svg",
        ];
        assert_eq!(names, expected);
        let without = tempfile::tempdir().unwrap();
        write(&RunResult::new("nothing", None, sample::machine()), without.path()).unwrap();
        assert_eq!(without.path().read_dir().unwrap().count(), 1, "a folder without plots");
    }
}
