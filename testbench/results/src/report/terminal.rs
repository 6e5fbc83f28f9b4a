//! A result in 100 columns of a terminal.

use std::fmt::Write;

use super::{
    quantity::{duration, grouped, percent, quantity},
    table::{bar, columns},
};
use crate::{Check, Curve, Figure, Latency, RunResult, Series, Stages, Table};

/// Cells of a stage's bar.
const BAR: usize = 30;

/// The whole result. With `colour`, headings and verdicts carry ANSI sequences.
#[must_use]
pub fn render(result: &RunResult, colour: bool) -> String {
    let paint = Paint(colour);
    let mut out = format!("\n{}\n", paint.bold(&result.title));
    let _ = writeln!(out, "  world {}, on {}", result.world, result.machine.summary());
    let mut section = |title: &str, body: String| {
        if !body.is_empty() {
            let _ = write!(out, "\n{}\n{body}", paint.bold(title));
        }
    };
    for board in &result.boards {
        let functions = board.functions.iter().map(|function| function.trim_end()).collect::<Vec<_>>();
        section(&format!("What {} finds on its PCIe bus", board.name), functions.join("\n\n") + "\n");
    }
    section("Checks", checks(&result.checks, paint));
    section("Figures", figures(&result.figures));
    section("Latencies", latencies(&result.latencies));
    for stages in &result.stages {
        section(&format!("Where the time went: {}", stages.name), stage_bars(stages));
    }
    for curve in &result.curves {
        section(&curve.title, points(curve));
    }
    for table in &result.tables {
        section(&table.title, cells(table));
    }
    section("Notes", result.notes.iter().fold(String::new(), |out, note| out + "  " + note + "\n"));
    out
}

#[derive(Clone, Copy)]
struct Paint(bool);

impl Paint {
    fn with(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn bold(self, text: &str) -> String {
        self.with("1", text)
    }
}

fn checks(checks: &[Check], paint: Paint) -> String {
    checks.iter().fold(String::new(), |mut out, Check { name, expected, actual, passed }| {
        let _ = if *passed {
            let gap = if name.len() + actual.len() < 85 { ": " } else { "\n          " };
            writeln!(out, "  {}      {name}{gap}{actual}", paint.with("32", "ok"))
        } else {
            let failed = paint.with("1;31", "FAILED");
            writeln!(out, "  {failed}  {name}\n          expected {expected}\n          found    {actual}")
        };
        out
    })
}

fn figures(figures: &[Figure]) -> String {
    let rows = figures.iter().map(|figure| {
        let baseline = match (&figure.baseline, figure.baseline_value) {
            // The unit is the value's; without it the row stays within the screen.
            (Some(name), Some(value)) => {
                let amount = quantity(value, &figure.unit);
                format!("{} {name}", amount.strip_suffix(&figure.unit).unwrap_or(&amount).trim_end())
            }
            _ => String::new(),
        };
        vec![
            figure.name.clone(),
            quantity(figure.value, &figure.unit),
            figure.ratio.map_or(String::new(), |ratio| format!("{ratio:.2} \u{d7}")),
            baseline,
            figure.cpu_share.map_or(String::new(), percent),
        ]
    });
    table_unless_empty(figures, &["", "value", "ratio", "baseline", "cpu"], &["baseline"], rows)
}

fn latencies(latencies: &[Latency]) -> String {
    let rows = latencies.iter().map(|row| {
        let mut cells = vec![row.name.clone(), grouped(row.count), duration(row.mean)];
        cells.extend([row.p50, row.p90, row.p99, row.p999, row.max].map(|ns| duration(ns as f64)));
        cells
    });
    let header = ["", "requests", "mean", "p50", "p90", "p99", "p99.9", "max"];
    table_unless_empty(latencies, &header, &[], rows)
}

/// Bars of the means, which add up to the whole; median and 99th percentile beside them.
fn stage_bars(stages: &Stages) -> String {
    let total: f64 = stages.stages.iter().map(|stage| stage.mean).sum();
    let longest = stages.stages.iter().map(|stage| stage.mean).fold(0.0, f64::max);
    let rows = stages.stages.iter().map(|stage| {
        vec![
            stage.name.clone(),
            duration(stage.mean),
            percent(if total > 0.0 { stage.mean / total } else { 0.0 }),
            bar(if longest > 0.0 { stage.mean / longest } else { 0.0 }, BAR),
            duration(stage.p50 as f64),
            duration(stage.p99 as f64),
        ]
    });
    let whole = ["whole request".to_owned(), duration(total), String::new()];
    let rows = rows.chain(std::iter::once(whole.into_iter().chain(vec![String::new(); 3]).collect()));
    table_unless_empty(&stages.stages, &["", "mean", "share", " ", "p50", "p99"], &[" "], rows)
}

/// A row for each x, a column for each line of the curve.
fn points(curve: &Curve) -> String {
    let mut xs: Vec<f64> =
        curve.series.iter().flat_map(|series| series.points.iter().map(|(x, _)| *x)).collect();
    xs.sort_by(f64::total_cmp);
    xs.dedup();
    let rows = xs.iter().map(|x| {
        let at = |series: &Series| {
            let point = series.points.iter().find(|point| point.0 == *x);
            point.map_or(String::new(), |(_, y)| quantity(*y, &curve.y.unit))
        };
        std::iter::once(quantity(*x, &curve.x.unit)).chain(curve.series.iter().map(at)).collect()
    });
    let names = curve.series.iter().map(|series| series.name.as_str());
    let header: Vec<&str> = std::iter::once(curve.x.label.as_str()).chain(names).collect();
    table_unless_empty(&xs, &header, &[], rows)
}

fn cells(table: &Table) -> String {
    let header: Vec<&str> = table.columns.iter().map(String::as_str).collect();
    table_unless_empty(&table.rows, &header, &[], table.rows.iter().cloned())
}

fn table_unless_empty<T>(
    items: &[T],
    header: &[&str],
    left: &[&str],
    rows: impl Iterator<Item = Vec<String>>,
) -> String {
    if items.is_empty() { String::new() } else { columns(header, left, rows) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn a_result_reads_like_this() {
        let text = render(&sample::demonstration(), false);
        let widest = text.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= 100, "{widest} columns\n{text}");
        assert!(!text.contains('\x1b'));
        insta::assert_snapshot!(text);
    }

    #[test]
    fn an_empty_result_has_no_empty_sections() {
        let text = render(&RunResult::new("nothing", None, sample::machine()), false);
        assert_eq!(text.lines().count(), 3, "{text}");
    }

    #[test]
    fn colour_marks_verdicts_only_when_asked() {
        let text = render(&sample::demonstration(), true);
        assert!(text.contains("\x1b[32mok\x1b[0m") && text.contains("\x1b[1;31mFAILED\x1b[0m"), "{text}");
    }
}
