//! A table for a document: Markdown, with columns that line up in the source as well.

use crate::Table;

/// The table with its header; every column but the first is aligned to the right if all of its cells begin
/// with a digit.
#[must_use]
pub fn table(table: &Table) -> String {
    let escaped = |cell: &String| cell.replace('|', "\\|").replace('\n', " ");
    let columns: Vec<String> = table.columns.iter().map(escaped).collect();
    let rows: Vec<Vec<String>> = table.rows.iter().map(|row| row.iter().map(escaped).collect()).collect();
    let cell = |row: &Vec<String>, column: usize| row.get(column).cloned().unwrap_or_default();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| cell(row, column).chars().count());
        cells.chain([columns[column].chars().count(), 3]).max().unwrap_or(3)
    };
    let is_number = |row: &Vec<String>, column: usize| {
        cell(row, column).starts_with(|first: char| first.is_ascii_digit())
    };
    let right: Vec<bool> = (0..columns.len())
        .map(|column| column > 0 && rows.iter().all(|row| is_number(row, column)))
        .collect();
    let line = |cells: &Vec<String>| {
        let padded = (0..columns.len()).map(|column| match right[column] {
            true => format!("{:>width$}", cell(cells, column), width = width(column)),
            false => format!("{:<width$}", cell(cells, column), width = width(column)),
        });
        format!("| {} |\n", padded.collect::<Vec<_>>().join(" | "))
    };
    let rule = (0..columns.len()).map(|column| {
        let dashes = "-".repeat(width(column) + 1);
        if right[column] { format!("{dashes}:") } else { format!("-{dashes}") }
    });
    let rule = format!("|{}|\n", rule.collect::<Vec<_>>().join("|"));
    line(&columns) + &rule + &rows.iter().map(line).collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_right_and_bars_are_no_columns() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let text = table(&Table {
            name: "t".to_owned(),
            title: "T".to_owned(),
            columns: row(["what", "n", "why"]),
            rows: vec![row(["a|b", "1 ns", "so"]), row(["long name", "1000 ns", ""])],
        });
        let expected = "| what      |       n | why |\n\
                        |-----------|--------:|-----|\n\
                        | a\\|b      |    1 ns | so  |\n\
                        | long name | 1000 ns |     |\n";
        assert_eq!(text, expected);
    }
}
