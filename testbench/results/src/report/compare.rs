//! Two results side by side.

use std::{collections::BTreeMap, fmt::Write, iter::once};

use super::{quantity::quantity, table::columns};
use crate::{RunResult, higher_is_better};

/// One number in both results.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// `blk.randread.4k.qd1`, `blk.randread.4k.qd1 p99`, `blk.randread.4k.load p99 @ 100000 requests/s`.
    pub name: String,
    /// Unit of both values, as in a figure.
    pub unit: String,
    /// Whether higher is better.
    pub higher_is_better: bool,
    /// Its value in the first result; none where it is missing there.
    pub before: Option<f64>,
    /// Its value in the second result; none where it is missing there.
    pub after: Option<f64>,
    /// Where it is, if it is a point of a curve.
    pub point: Option<Point>,
}

/// A place on a curve. Only what was measured at exactly the same one is compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Name of the curve.
    pub curve: String,
    /// Name of the line.
    pub series: String,
    /// Where along the curve.
    pub x: f64,
    /// Unit of `x`, as the axis names it.
    pub x_unit: String,
}

impl Row {
    /// By how many percent the second is worse than the first: negative when it is better, infinite when the
    /// first is 0 and the second is not, none when either is missing.
    #[must_use]
    pub fn worse_by_percent(&self) -> Option<f64> {
        let (before, after) = (self.before?, self.after?);
        let gain = if self.higher_is_better { after - before } else { before - after };
        Some(if gain == 0.0 { 0.0 } else { -gain / before * 100.0 })
    }

    fn regressed(&self, percent: f64) -> bool {
        // What was measured and is no longer cannot be said to be as good.
        let vanished = self.before.is_some() && self.after.is_none();
        vanished || self.worse_by_percent().is_some_and(|worse| worse > percent)
    }
}

/// Every number of two results, and what makes comparing them doubtful.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// In the order of the first result, then what only the second has.
    pub rows: Vec<Row>,
    /// Why the numbers may not be comparable.
    pub warnings: Vec<String>,
}

impl Comparison {
    /// Lays `after` beside `before`.
    #[must_use]
    pub fn new(before: &RunResult, after: &RunResult) -> Self {
        let mut rows = numbers(before);
        let key = |row: &Row| (row.name.clone(), row.unit.clone());
        // Where a result has a name twice, the first counts.
        let mut places: BTreeMap<_, _> =
            rows.iter().enumerate().rev().map(|(place, row)| (key(row), place)).collect();
        for number in numbers(after) {
            let place = *places.entry(key(&number)).or_insert(rows.len());
            match rows.get_mut(place) {
                Some(row) => row.after = number.before,
                None => rows.push(Row { after: number.before, before: None, ..number }),
            }
        }
        Self { rows, warnings: warnings(before, after) }
    }

    /// The rows that are worse by more than `percent`, or gone.
    pub fn regressions(&self, percent: f64) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(move |row| row.regressed(percent))
    }

    /// Tables for a terminal, after the warnings.
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = self.warnings.iter().fold(String::new(), |mut out, warning| {
            let _ = writeln!(out, "warning: {warning}");
            out
        });
        let numbers = self.rows.iter().filter(|row| row.point.is_none());
        let numbers: Vec<_> = numbers.map(|row| once(row.name.clone()).chain(both(row)).collect()).collect();
        if !numbers.is_empty() {
            out.push_str(&columns(&["", "A", "B", "B - A", "B / A", " "], &[" "], numbers));
        }
        self.render_curves(&mut out);
        out
    }

    /// A table for each curve, or a line if only one of the results has it.
    fn render_curves(&self, out: &mut String) {
        let mut curves: Vec<(&str, Vec<(&Point, &Row)>)> = Vec::new();
        for (point, row) in self.rows.iter().filter_map(|row| Some((row.point.as_ref()?, row))) {
            match curves.iter_mut().find(|(name, _)| *name == point.curve) {
                Some((_, rows)) => rows.push((point, row)),
                None => curves.push((&point.curve, vec![(point, row)])),
            }
        }
        for (name, rows) in curves {
            let missing = |side: fn(&Row) -> Option<f64>| rows.iter().all(|(_, row)| side(row).is_none());
            let only = match (missing(|row| row.before), missing(|row| row.after)) {
                (true, _) => ": only in B",
                (_, true) => ": only in A",
                _ => "",
            };
            // Writing to a string does not fail.
            let _ = writeln!(out, "\n{name}{only}");
            if only.is_empty() {
                let cells = rows.iter().map(|(point, row)| {
                    let place = [point.series.clone(), quantity(point.x, &point.x_unit)];
                    place.into_iter().chain(both(row)).collect()
                });
                out.push_str(&columns(&["", "x", "A", "B", "B - A", "B / A", " "], &[" "], cells));
            }
        }
    }
}

/// What a row says of both results, and of their difference.
fn both(row: &Row) -> [String; 5] {
    let value = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |v| quantity(v, &row.unit));
    [value(row.before), value(row.after), delta(row), ratio(row), verdict(row)]
}

fn delta(row: &Row) -> String {
    let Some((before, after)) = row.before.zip(row.after) else { return String::new() };
    let sign = if after > before { "+" } else { "" };
    sign.to_owned() + &quantity(after - before, &row.unit)
}

fn ratio(row: &Row) -> String {
    let ratio = row.before.zip(row.after).map(|(before, after)| after / before);
    ratio.filter(|ratio| ratio.is_finite()).map_or(String::new(), |ratio| format!("{ratio:.3}"))
}

fn verdict(row: &Row) -> String {
    match (row.before, row.after, row.worse_by_percent()) {
        (None, _, _) => "only in B".to_owned(),
        (_, None, _) => "only in A".to_owned(),
        (.., Some(worse)) if worse.is_infinite() => if worse > 0.0 { "worse" } else { "better" }.to_owned(),
        (.., Some(worse)) if worse > 0.0 => format!("{worse:.1} % worse"),
        (.., Some(worse)) if worse < 0.0 => format!("{:.1} % better", -worse),
        _ => String::new(),
    }
}

/// Every figure, the percentiles of every latency and the points of every curve, as rows of a first result.
fn numbers(result: &RunResult) -> Vec<Row> {
    let figures = result.figures.iter().map(|figure| Row {
        name: figure.name.clone(),
        unit: figure.unit.clone(),
        higher_is_better: figure.higher_is_better(),
        before: Some(figure.value),
        after: None,
        point: None,
    });
    let latencies = result.latencies.iter().flat_map(|latency| {
        let percentiles = [
            ("p50", latency.p50),
            ("p90", latency.p90),
            ("p99", latency.p99),
            ("p99.9", latency.p999),
            ("max", latency.max),
        ];
        percentiles.map(|(percentile, value)| Row {
            name: format!("{} {percentile}", latency.name),
            unit: latency.unit.clone(),
            higher_is_better: false,
            before: Some(value as f64),
            after: None,
            point: None,
        })
    });
    figures.chain(latencies).chain(points(result)).collect()
}

/// Every point of every curve.
fn points(result: &RunResult) -> impl Iterator<Item = Row> {
    let lines = result.curves.iter().flat_map(|curve| curve.series.iter().map(move |series| (curve, series)));
    lines.flat_map(|(curve, series)| {
        series.points.iter().map(move |(x, y)| Row {
            name: format!("{} {} @ {x} {}", curve.name, series.name, curve.x.unit).trim_end().to_owned(),
            unit: curve.y.unit.clone(),
            higher_is_better: higher_is_better(&curve.y.unit),
            before: Some(*y),
            after: None,
            point: Some(Point {
                curve: curve.name.clone(),
                series: series.name.clone(),
                x: *x,
                x_unit: curve.x.unit.clone(),
            }),
        })
    })
}

fn warnings(before: &RunResult, after: &RunResult) -> Vec<String> {
    let mut warnings = Vec::new();
    if before.world != after.world {
        warnings.push(format!("different worlds: A is {}, B is {}", before.world, after.world));
    }
    if before.machine != after.machine {
        let (a, b) = (before.machine.summary(), after.machine.summary());
        warnings.push(format!("different machines:\n  A {a}\n  B {b}"));
    }
    let settings = |result: &RunResult| result.scenario.as_ref().map(|scenario| scenario.settings.clone());
    if settings(before) != settings(after) {
        let name = |result: &RunResult| {
            result.scenario.as_ref().map_or_else(|| "none".to_owned(), |s| format!("{} ({})", s.name, s.file))
        };
        warnings.push(format!("different scenarios: A is {}, B is {}", name(before), name(after)));
    }
    for (letter, result) in [("A", before), ("B", after)] {
        warnings.extend(
            result
                .checks
                .iter()
                .filter(|check| !check.passed)
                .map(|check| format!("a check of {letter} failed: {}", check.name)),
        );
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Figure, report::sample};

    fn with(figures: Vec<Figure>) -> RunResult {
        RunResult { figures, ..RunResult::new("x", None, sample::machine()) }
    }

    fn names<'a>(rows: impl Iterator<Item = &'a Row>) -> Vec<&'a str> {
        rows.map(|row| row.name.as_str()).collect()
    }

    #[test]
    fn a_result_does_not_differ_from_itself() {
        let sample = sample::demonstration();
        let comparison = Comparison::new(&sample, &sample);
        assert_eq!(comparison.rows.len(), 5 + 3 * 5 + 2 * 6 + 2 * 5);
        assert_eq!(comparison.regressions(0.0).count(), 0);
        assert_eq!(
            comparison.warnings.len(),
            2,
            "the sample's failed check, twice: {:?}",
            comparison.warnings
        );
    }

    #[test]
    fn direction_depends_on_the_unit() {
        let before = with(vec![
            Figure::new("rate", 100.0, "packets/s", None),
            Figure::new("size", 100.0, "bytes", None),
        ]);
        let halved = with(vec![
            Figure::new("rate", 50.0, "packets/s", None),
            Figure::new("size", 50.0, "bytes", None),
        ]);
        assert_eq!(names(Comparison::new(&before, &halved).regressions(10.0)), ["rate"]);
        assert_eq!(names(Comparison::new(&halved, &before).regressions(10.0)), ["size"]);
        assert_eq!(names(Comparison::new(&before, &halved).regressions(50.0)), [""; 0]);
    }

    #[test]
    fn what_one_side_lacks_is_marked_and_what_vanished_is_a_regression() {
        let old =
            with(vec![Figure::new("kept", 1.0, "bytes", None), Figure::new("gone", 1.0, "bytes", None)]);
        let new = with(vec![Figure::new("new", 1.0, "bytes", None), Figure::new("kept", 1.0, "bytes", None)]);
        let comparison = Comparison::new(&old, &new);
        assert_eq!(names(comparison.rows.iter()), ["kept", "gone", "new"]);
        assert_eq!(names(comparison.regressions(1000.0)), ["gone"]);
        let text = comparison.render();
        assert!(text.contains("only in A") && text.contains("only in B"), "{text}");
    }

    #[test]
    fn points_of_a_curve_are_compared_where_x_agrees() {
        let (mut old, mut new) = (with(vec![]), with(vec![]));
        (old.curves, new.curves) = (vec![sample::load(), sample::boards()], vec![sample::load()]);
        let points = &mut new.curves[0].series[1].points;
        points[0].1 *= 2.0;
        points[1].0 += 1e-3;
        let comparison = Comparison::new(&old, &new);
        let regressions = names(comparison.regressions(50.0));
        let expected =
            ["blk.randread.4k.load p99 @ 50000 requests/s", "blk.randread.4k.load p99 @ 100000 requests/s"];
        assert_eq!(regressions[..2], expected, "a higher latency, and a point that is gone");
        assert_eq!(regressions.len(), 2 + 2 * 5, "a curve that is gone");
        assert!(regressions[2..].contains(&"net.stream.boards two cores @ 16"), "{regressions:?}");
        let only_new = comparison.rows.last().unwrap();
        assert_eq!(only_new.name, "blk.randread.4k.load p99 @ 100000.001 requests/s");
        // Throughput is better when higher.
        let mut faster = old.clone();
        faster.curves[1].series.iter_mut().for_each(|series| series.points[0].1 *= 2.0);
        assert_eq!(Comparison::new(&old, &faster).regressions(0.0).count(), 0);
        assert_eq!(Comparison::new(&faster, &old).regressions(40.0).count(), 2);
    }

    #[test]
    fn a_changed_unit_is_another_number() {
        let old = with(vec![Figure::new("x", 1.0, "bytes", None)]);
        let new = with(vec![Figure::new("x", 1.0, "bytes/s", None)]);
        assert_eq!(Comparison::new(&old, &new).rows.len(), 2);
    }

    #[test]
    fn a_comparison_reads_like_this() {
        let before = sample::demonstration();
        let mut after = sample::demonstration();
        (after.machine.cores, after.scenario) = (64, None);
        after.checks.clear();
        after.figures.remove(0);
        after.figures[0].value *= 1.1;
        after.figures[1].value *= 0.75;
        after.figures.push(Figure::new("net.stream.1500", 2.5e9, "bytes/s", None));
        after.latencies.truncate(1);
        after.latencies[0].p999 *= 2;
        after.curves.truncate(1);
        after.curves[0].series[0].points.retain(|(load, _)| *load < 260e3);
        after.curves[0].series[1].points[2].1 *= 1.5;
        insta::assert_snapshot!(Comparison::new(&before, &after).render());
    }

    #[test]
    fn a_comment_does_not_make_another_scenario() {
        let before = sample::demonstration();
        let mut after = before.clone();
        if let Some(scenario) = &mut after.scenario {
            scenario.text.push_str("# a remark\n");
        }
        assert!(!Comparison::new(&before, &after).warnings.iter().any(|w| w.contains("scenario")));
    }

    #[test]
    fn something_is_infinitely_worse_than_nothing() {
        let zero = with(vec![Figure::new("x", 0.0, "bytes", None)]);
        let one = with(vec![Figure::new("x", 1.0, "bytes", None)]);
        assert_eq!(Comparison::new(&zero, &one).regressions(1e9).count(), 1);
        assert_eq!(Comparison::new(&zero, &zero).regressions(0.0).count(), 0);
        assert!(!Comparison::new(&zero, &one).render().contains("inf"));
    }
}
