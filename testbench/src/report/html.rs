//! A result as one HTML page: no script, no font, no other resource. `maud` escapes whatever is not a plot or a style.

use std::time::{Duration, UNIX_EPOCH};

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{
    plot::{self, PlotError},
    quantity::{duration, grouped, percent, quantity},
};
use crate::result::{Check, Figure, Latency, ResultError, RunResult, Stages};

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

pub(super) fn render(result: &RunResult) -> Result<String, ReportError> {
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
                    (figures(&result.figures)?)
                    (latencies(&result.latencies)?)
                    @for stages in &result.stages { (stages_section(stages)?) }
                    (boards(result))
                    (counters(result))
                    (appendix(result))
                }
            }
        }
    };
    Ok(page.into_string())
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

fn figures(figures: &[Figure]) -> Result<Markup, PlotError> {
    let compared: Vec<&Figure> = figures.iter().filter(|figure| figure.ratio.is_some()).collect();
    Ok(html! {
        @if !figures.is_empty() {
            section {
                h2 { "Figures" }
                @if !compared.is_empty() {
                    p.lead {
                        "Each bar is what was measured through IO-Bond, divided by its baseline from the same run. For rates "
                        "(\u{2026}/s) a longer bar is better, for sizes a shorter one."
                    }
                    figure { (PreEscaped(plot::ratios(&compared)?)) }
                }
                table {
                    thead { tr {
                        th { "figure" } th.number { "value" } th.number { "baseline" } th { "which is" } th.number { "ratio" }
                        th.number { "processor" }
                    } }
                    tbody { @for figure in figures { (figure_row(figure)) } }
                }
            }
        }
    })
}

fn figure_row(figure: &Figure) -> Markup {
    html! {
        tr {
            td { code { (figure.name) } }
            td.number { (quantity(figure.value, &figure.unit)) }
            td.number { @if let Some(value) = figure.baseline_value { (quantity(value, &figure.unit)) } }
            td { @if let Some(name) = &figure.baseline { (name) } }
            td.number { @if let Some(ratio) = figure.ratio { (format!("{ratio:.2} \u{d7}")) } }
            td.number { @if let Some(share) = figure.cpu_share { (percent(share)) } }
        }
    }
}

fn latencies(latencies: &[Latency]) -> Result<Markup, PlotError> {
    Ok(html! {
        @if !latencies.is_empty() {
            section {
                h2 { "Latencies" }
                p.lead {
                    "What share of requests (up) took at most how long (across). Both axes are logarithmic: each step up is ten "
                    "times fewer requests that took longer. A steep line far left is good, one that leans right has a slow tail."
                }
                ul.legend {
                    @for (index, latency) in latencies.iter().enumerate() {
                        li { i style=(format!("background:{}", plot::series_variable(index))) {} (latency.name) }
                    }
                }
                figure { (PreEscaped(plot::distributions(latencies)?)) }
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
    })
}

fn stages_section(stages: &Stages) -> Result<Markup, PlotError> {
    let total: f64 = stages.stages.iter().map(|stage| stage.mean).sum();
    let count = stages.stages.first().map_or(0, |stage| stage.count);
    Ok(html! {
        section {
            h2 { "Where the time went: " code { (stages.name) } }
            p.lead {
                "One request from left to right, the mean of " (grouped(count)) " requests, " (duration(total))
                " in all; one colour for each party that works on it."
            }
            figure { (PreEscaped(plot::waterfall(stages)?)) }
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
    })
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
    use crate::report::sample;

    #[test]
    fn the_page_holds_the_result() {
        let sample = sample::demonstration();
        let page = render(&sample).unwrap();
        let names = (sample.figures.iter().map(|figure| &figure.name))
            .chain(sample.latencies.iter().map(|latency| &latency.name))
            .chain(sample.checks.iter().map(|check| &check.expected));
        for name in names {
            assert!(page.contains(name), "{name} is missing");
        }
        assert_eq!(page.matches("<svg").count(), 3);
        assert!(page.contains("1 of 2 checks failed") && page.contains("2023-11-14T22:13:20Z"));
    }

    #[test]
    fn the_page_needs_no_other_resource() {
        let page = render(&sample::demonstration()).unwrap().replace("http://www.w3.org/2000/svg", "");
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
        (result.title, result.world) = (evil(), evil());
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
        if let Some(scenario) = &mut result.scenario {
            (scenario.name, scenario.file, scenario.text) = (evil(), evil(), evil());
        }
        let page = render(&result).unwrap();
        assert!(!page.contains("<script") && page.matches("</style>").count() == 1);
    }

    #[test]
    fn an_empty_result_is_a_page() {
        let page = render(&RunResult::new("nothing", None, sample::machine())).unwrap();
        assert!(page.contains("<h1>nothing</h1>") && !page.contains("<svg"));
    }
}
