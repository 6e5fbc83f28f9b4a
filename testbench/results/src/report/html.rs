//! A result as one HTML page: no script, no font, no other resource. `maud` escapes whatever is not a plot or
//! a style.

use std::time::{Duration, UNIX_EPOCH};

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{
    plot::{self, Plot, PlotError, Plots, distribution},
    quantity::{duration, grouped, percent, quantity},
};
use crate::{Check, Curve, Figure, Latency, ResultError, RunResult, Stages, Table};

const STYLE: &str = include_str!("report.css");

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A plot cannot be drawn.
    #[error("cannot draw a plot of the report")]
    Plot(#[from] PlotError),
    /// The page cannot be written.
    #[error(transparent)]
    Write(#[from] ResultError),
}

pub(super) fn render(result: &RunResult, plots: &Plots) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (result.title) " \u{b7} IO-Bond" }
                style { (PreEscaped(plot::stylesheet())) (PreEscaped(STYLE)) }
            }
            body {
                main {
                    (header(result))
                    (checks(&result.checks))
                    (figures(&result.figures, plots.figures.as_ref()))
                    (latencies(&result.latencies, plots.latencies.as_ref()))
                    @for (stages, plot) in result.stages.iter().zip(&plots.stages) { (stages_section(stages, plot)) }
                    @for (curve, plot) in result.curves.iter().zip(&plots.curves) { (curve_section(curve, plot)) }
                    @for table in &result.tables { (table_section(table)) }
                    (boards(result))
                    (counters(result))
                    (appendix(result))
                }
            }
        }
    };
    page.into_string()
}

/// A plot under what is said about it.
fn shown(plot: &Plot) -> Markup {
    html! {
        p.lead { (plot.sentence) }
        figure { (plot.inline()) }
    }
}

fn header(result: &RunResult) -> Markup {
    // RFC 3339 ends with the year 9999.
    let started = UNIX_EPOCH + Duration::from_secs(result.started_unix_seconds.min(253_402_300_799));
    let failed = result.checks.iter().filter(|check| !check.passed).count();
    html! {
        header {
            p.eyebrow { "IO-Bond \u{b7} world " (result.world) }
            h1 { (result.title) }
            p.meta { (humantime::format_rfc3339_seconds(started)) " \u{b7} " (result.machine.summary()) }
            @if !result.checks.is_empty() {
                @if failed == 0 {
                    p.verdict.ok { "\u{2713} all " (result.checks.len()) " checks passed" }
                } @else {
                    p.verdict.failed { "\u{2717} " (failed) " of " (result.checks.len()) " checks failed" }
                }
            }
            @for note in &result.notes { p.note { (note) } }
        }
    }
}

fn checks(checks: &[Check]) -> Markup {
    html! {
        @if !checks.is_empty() {
            section {
                h2 { "Checks" }
                table {
                    thead { tr { th { "check" } th { "expected" } th { "found" } th { "" } } }
                    tbody {
                        @for check in checks {
                            tr {
                                td { (check.name) }
                                td.value { (check.expected) }
                                td.value { (check.actual) }
                                td.number { @if check.passed { span.ok { "\u{2713} ok" } } @else { span.failed { "\u{2717} failed" } } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn figures(figures: &[Figure], plot: Option<&Plot>) -> Markup {
    // Without a baseline anywhere its columns would be empty.
    let compared = figures.iter().any(|figure| figure.baseline.is_some());
    html! {
        @if !figures.is_empty() {
            section {
                h2 { "Figures" }
                @if let Some(plot) = plot { (shown(plot)) }
                table {
                    thead { tr {
                        th { "figure" } th.number { "value" }
                        @if compared { th.number { "baseline" } th { "which is" } th.number { "ratio" } }
                        th.number { "processor" }
                    } }
                    tbody { @for figure in figures { (figure_row(figure, compared)) } }
                }
            }
        }
    }
}

fn figure_row(figure: &Figure, compared: bool) -> Markup {
    html! {
        tr {
            td { code { (figure.name) } }
            td.number { (quantity(figure.value, &figure.unit)) }
            @if compared {
                td.number { @if let Some(value) = figure.baseline_value { (quantity(value, &figure.unit)) } }
                td { @if let Some(name) = &figure.baseline { (name) } }
                td.number { @if let Some(ratio) = figure.ratio { (format!("{ratio:.2} \u{d7}")) } }
            }
            td.number { @if let Some(share) = figure.cpu_share { (percent(share)) } }
        }
    }
}

fn latencies(latencies: &[Latency], plot: Option<&Plot>) -> Markup {
    html! {
        @if !latencies.is_empty() {
            section {
                h2 { "Latencies" }
                @if let Some(plot) = plot { (shown(plot)) }
                p.lead {
                    "Both axes are logarithmic: each step up is ten times fewer requests that took longer. A steep line far left is "
                    "good, one that leans right has a slow tail. Marks are at the quantiles of the table."
                    @if latencies.len() > distribution::LINES { " Of so many only the round trips have lines." }
                }
                table {
                    thead { tr {
                        th { "request" } th.number { "count" } th.number { "mean" } th.number { "p50" } th.number { "p90" }
                        th.number { "p99" } th.number { "p99.9" } th.number { "max" }
                    } }
                    tbody {
                        @for row in latencies {
                            tr {
                                td { code { (row.name) } }
                                td.number { (grouped(row.count)) }
                                td.number { (duration(row.mean)) }
                                @for ns in [row.p50, row.p90, row.p99, row.p999, row.max] {
                                    td.number { (duration(ns as f64)) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn stages_section(stages: &Stages, plot: &Plot) -> Markup {
    html! {
        section {
            h2 { "Where the time went: " code { (stages.name) } }
            (shown(plot))
            p.lead {
                "Each bar begins where the one before it ends and is as long as its stage in the mean, of which it has its share; "
                "one colour for each party that works on the request."
            }
            table {
                thead { tr { th { "stage" } th.number { "mean" } th.number { "p50" } th.number { "p99" } } }
                tbody {
                    @for stage in &stages.stages {
                        tr {
                            td { (stage.name) }
                            td.number { (duration(stage.mean)) }
                            td.number { (duration(stage.p50 as f64)) }
                            td.number { (duration(stage.p99 as f64)) }
                        }
                    }
                }
            }
        }
    }
}

fn curve_section(curve: &Curve, plot: &Plot) -> Markup {
    let points =
        curve.series.iter().flat_map(|series| series.points.iter().map(move |point| (&series.name, point)));
    html! {
        section {
            h2 { (curve.title) }
            (shown(plot))
            details {
                summary { "points of " code { (curve.name) } }
                table {
                    thead { tr { th { "line" } th.number { (curve.x.label) } th.number { (curve.y.label) } } }
                    tbody {
                        @for (name, (x, y)) in points {
                            tr {
                                td { (name) }
                                td.number { (quantity(*x, &curve.x.unit)) }
                                td.number { (quantity(*y, &curve.y.unit)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn table_section(table: &Table) -> Markup {
    // Numbers line up at their ends: a column of which every cell begins as one.
    let number = |column: usize| {
        let cells = || table.rows.iter().filter_map(|row| row.get(column)).filter(|cell| !cell.is_empty());
        let begins =
            |cell: &String| cell.trim_start_matches(['-', '+']).starts_with(|c: char| c.is_ascii_digit());
        (cells().next().is_some() && cells().all(begins)).then_some("number")
    };
    html! {
        section {
            h2 { (table.title) }
            table {
                thead { tr { @for (index, name) in table.columns.iter().enumerate() { th class=[number(index)] { (name) } } } }
                tbody {
                    @for row in &table.rows {
                        tr { @for (index, cell) in row.iter().enumerate() { td class=[number(index)] { (cell) } } }
                    }
                }
            }
        }
    }
}

fn boards(result: &RunResult) -> Markup {
    html! {
        @if !result.boards.is_empty() {
            section {
                h2 { "What the boards saw" }
                @for board in &result.boards {
                    details {
                        summary { (board.name) ", " (board.functions.len()) " PCI functions" }
                        @for function in &board.functions { pre { (function) } }
                    }
                }
            }
        }
    }
}

fn counters(result: &RunResult) -> Markup {
    html! {
        @if !result.counters.is_empty() {
            section {
                h2 { "Counters" }
                details {
                    summary { "of every queue" }
                    table {
                        thead { tr { th { "queue" } th { "counter" } th.number { "value" } } }
                        tbody {
                            @for (queue, counters) in &result.counters {
                                @for (name, value) in counters {
                                    tr { td { code { (queue) } } td { (name) } td.number { (grouped(*value)) } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn appendix(result: &RunResult) -> Markup {
    let machine = &result.machine;
    html! {
        section {
            h2 { "How it came about" }
            table {
                tbody {
                    tr { th { "processor" } td { (machine.cpu) } }
                    tr { th { "processors usable" } td { (machine.cores) } }
                    tr { th { "memory" } td { (quantity(machine.memory_bytes as f64, "bytes")) } }
                    tr { th { "kernel" } td { (machine.kernel) } }
                    tr { th { "governor" } td { (machine.governor.as_deref().unwrap_or("not readable")) } }
                    tr { th { "schema" } td { code { (result.schema) } } }
                }
            }
            @if let Some(scenario) = &result.scenario {
                details {
                    summary { "Scenario " code { (scenario.file) } ": " (scenario.name) }
                    pre { (scenario.text) }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Machine, Table, report::sample};

    fn render(result: &RunResult) -> String {
        super::render(result, &Plots::of(result).unwrap())
    }

    #[test]
    fn the_page_holds_the_result() {
        let sample = sample::demonstration();
        let page = render(&sample);
        let names = (sample.figures.iter().map(|figure| &figure.name))
            .chain(sample.latencies.iter().map(|latency| &latency.name))
            .chain(sample.checks.iter().map(|check| &check.expected))
            .chain(sample.curves.iter().flat_map(|curve| [&curve.name, &curve.title, &curve.series[0].name]))
            .chain(
                sample.tables.iter().flat_map(|table| [&table.title, &table.columns[0], &table.rows[0][0]]),
            );
        for name in names {
            assert!(page.contains(name), "{name} is missing");
        }
        assert_eq!(page.matches("<svg").count(), 5);
        assert!(page.contains("1 of 2 checks failed") && page.contains("2023-11-14T22:13:20Z"));
    }

    #[test]
    fn the_page_needs_no_other_resource() {
        let page = render(&sample::demonstration()).replace("http://www.w3.org/2000/svg", "");
        for loader in
            ["<script", "<link", "<img", "<iframe", "src=", "href=", "url(", "@import", "http:", "https:"]
        {
            assert!(!page.contains(loader), "the page has {loader}");
        }
    }

    #[test]
    fn names_cannot_break_out_of_the_text() {
        const EVIL: &str = "</style><script>alert('&\"')</script>";
        let mut result = sample::demonstration();
        let evil = || EVIL.to_owned();
        result.title = evil();
        (result.machine.cpu, result.machine.governor) = (evil(), Some(evil()));
        result.boards[0].name = evil();
        result.boards[0].functions[0] = evil();
        result.figures[1].name = evil();
        result.figures[1].unit = evil();
        result.figures[1].baseline = Some(evil());
        result.latencies[0].name = evil();
        result.stages[0].name = evil();
        result.stages[0].stages[0].name = evil();
        (result.checks[0].name, result.checks[0].expected, result.checks[0].actual) =
            (evil(), evil(), evil());
        result.counters.entry(evil()).or_default().insert(evil(), 1);
        result.notes.push(evil());
        let curve = &mut result.curves[0];
        (curve.name, curve.title, curve.series[0].name) = (evil(), evil(), evil());
        for axis in [&mut curve.x, &mut curve.y] {
            (axis.label, axis.unit) = (evil(), evil());
        }
        let table = &mut result.tables[0];
        (table.title, table.columns[0], table.rows[0][0]) = (evil(), evil(), evil());
        if let Some(scenario) = &mut result.scenario {
            (scenario.name, scenario.file, scenario.text) = (evil(), evil(), evil());
        }
        let page = render(&result);
        assert!(!page.contains("<script") && page.matches("</style>").count() == 1);
        for (name, file) in Plots::of(&result).unwrap().files() {
            assert!(!file.contains("<script") && file.matches("</style>").count() == 1, "{name}");
        }
    }

    /// Without the plots, which have pictures of their own.
    #[test]
    fn sections_of_curves_and_tables_are_these() {
        let mut result = RunResult::new("x", None, Machine::default());
        let mut curve = sample::boards();
        curve.series.truncate(1);
        result.curves = vec![curve];
        let ragged = [vec!["a <&> b", "-12 B", ""], vec!["c", "5"]];
        result.tables = vec![Table {
            name: "t".to_owned(),
            title: "A table".to_owned(),
            columns: ["what", "size", "note"].map(str::to_owned).to_vec(),
            rows: ragged.map(|row| row.into_iter().map(str::to_owned).collect()).to_vec(),
        }];
        let page = render(&result);
        let plot = page.find("<svg").unwrap()..page.find("</svg>").unwrap();
        let page = page.replace(&page[plot], "(plot)");
        let sections = page.find("<section>").unwrap()..page.find("<h2>How it").unwrap();
        insta::assert_snapshot!(page[sections].replace("><", ">\n<"));
    }

    #[test]
    fn there_are_columns_of_a_baseline_where_a_figure_has_one() {
        let mut result = sample::demonstration();
        assert!(render(&result).contains(">which is<"));
        result.figures.truncate(1);
        let page = render(&result);
        assert!(page.contains("disk.write") && !page.contains(">which is<"));
    }

    #[test]
    fn an_empty_result_is_a_page() {
        let page = render(&RunResult::new("nothing", None, sample::machine()));
        assert!(page.contains("<h1>nothing</h1>") && !page.contains("<svg"));
    }
}
