//! The rows as a table on a terminal, in Markdown, and as JSON.

use results::report::{columns, quantity};

use super::Row;

/// What stands before and after the table in a document.
pub const BEGIN: &str = "<!-- written by `bmhive paper --markdown` -->\n";
/// The line behind the table, as [`BEGIN`] is the one before it.
pub const END: &str = "<!-- end of what is written -->\n";

/// Columns of the reasons below a table on a terminal.
const WIDTH: usize = 98;

fn value(value: f64, row: &Row) -> String {
    match row.unit.as_str() {
        // Ratios and indices: near 1 the third digit counts.
        "" => format!("{value:.3}"),
        unit => quantity(value, unit),
    }
}

fn cells(row: &Row) -> [String; 5] {
    [
        row.figure.clone(),
        row.published.map_or("-".to_owned(), |published| value(published, row)),
        value(row.ours, row),
        row.error.map_or("-".to_owned(), |error| format!("{:+.1} %", error * 100.0)),
        if row.calibrated { "calibrated" } else { "predicted" }.to_owned(),
    ]
}

const HEADER: [&str; 5] = ["figure", "published", "ours", "error", ""];

/// A table, and below it the reasons.
#[must_use]
pub fn terminal(rows: &[Row]) -> String {
    let mut header = HEADER.to_vec();
    header.push("why");
    let mut reasons = String::new();
    let mut count = 0;
    let lines = rows.iter().map(|row| {
        let mut line = cells(row).to_vec();
        line.push(row.reason.as_ref().map_or(String::new(), |reason| {
            count += 1;
            reasons += &format!("\n{}", wrapped(&format!("  [{count}] "), reason));
            format!("[{count}]")
        }));
        line
    });
    let table = columns(&header, &["", "why"], lines.collect::<Vec<_>>());
    format!("\n{table}{reasons}")
}

/// `text` in lines, the first behind `mark` and the others below it.
fn wrapped(mark: &str, text: &str) -> String {
    let (mut out, mut column) = (mark.to_owned(), mark.len());
    for (index, word) in text.split(' ').enumerate() {
        if index > 0 && column + 1 + word.len() > WIDTH {
            out += "\n";
            out += &" ".repeat(mark.len());
            column = mark.len();
        } else if index > 0 {
            out += " ";
            column += 1;
        }
        out += word;
        column += word.len();
    }
    out + "\n"
}

/// A table in Markdown, between [`BEGIN`] and [`END`], with how each value came about; below it the reasons.
#[must_use]
pub fn markdown(rows: &[Row]) -> String {
    let mut out = format!(
        "{BEGIN}\n| figure | published | ours | error | | how | why |\n|---|--:|--:|--:|---|---|---|\n"
    );
    let mut reasons = String::new();
    let mut count = 0;
    for row in rows {
        let why = row.reason.as_ref().map_or(String::new(), |reason| {
            count += 1;
            reasons += &format!("{count}. {reason}\n");
            format!("{count}")
        });
        out += &format!("| {} | {} | {why} |\n", cells(row).join(" | "), row.how);
    }
    if !reasons.is_empty() {
        out += &format!("\nWhy, where it is more than 10 %:\n\n{reasons}");
    }
    out + "\n" + END
}

/// `document` with `table`, a [`markdown`], in place of the one that it has; none if it has no place for one.
#[must_use]
pub fn inserted(document: &str, table: &str) -> Option<String> {
    let (before, rest) = document.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{table}{after}"))
}

/// An array of rows.
///
/// # Errors
/// A value is not a number, which JSON has no word for.
pub fn json(rows: &[Row]) -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(rows).map(|text| text + "\n")
}
