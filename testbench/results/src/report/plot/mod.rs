//! The plots of a report, as SVG that takes its colours from the page.
//!
//! plotters writes each colour as a literal attribute. [`PALETTE`] gives every role one literal for the light
//! theme, which a page that knows no CSS shows as it is; [`stylesheet`] maps each literal to a variable with
//! a value per theme.

mod axis;
mod bars;
mod curve;
pub(super) mod distribution;
mod series;

use std::{collections::BTreeSet, fmt::Write, io};

use maud::{Markup, PreEscaped, html};
use plotters::{
    coord::Shift,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use crate::RunResult;

/// Why a plot could not be drawn.
pub(super) type PlotError = DrawingAreaErrorKind<io::Error>;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A role, its literal in the SVG and in the light theme, and its colour in the dark one.
struct Role {
    name: &'static str,
    light: RGBColor,
    dark: &'static str,
}

const INK: RGBColor = RGBColor(0x1B, 0x1B, 0x19);
const MUTED: RGBColor = RGBColor(0x6B, 0x6A, 0x64);
const GRID: RGBColor = RGBColor(0xE2, 0xE1, 0xDB);
const BASELINE: RGBColor = RGBColor(0xB5, 0xB3, 0xAA);
/// Series in the order in which they are given out: the colours that Okabe and Ito chose for readers of any
/// colour vision ("Color Universal Design", 2008), without black and yellow, which the themes' backgrounds
/// would swallow.
const SERIES: [RGBColor; 6] = [
    RGBColor(0x00, 0x72, 0xB2),
    RGBColor(0xD5, 0x5E, 0x00),
    RGBColor(0x00, 0x9E, 0x73),
    RGBColor(0xCC, 0x79, 0xA7),
    RGBColor(0xE6, 0x9F, 0x00),
    RGBColor(0x56, 0xB4, 0xE9),
];

const PALETTE: [Role; 10] = [
    Role { name: "ink", light: INK, dark: "#f1f0ea" },
    Role { name: "muted", light: MUTED, dark: "#a3a299" },
    Role { name: "grid", light: GRID, dark: "#35352f" },
    Role { name: "baseline", light: BASELINE, dark: "#65645c" },
    Role { name: "series-0", light: SERIES[0], dark: "#2388d4" },
    Role { name: "series-1", light: SERIES[1], dark: "#e2691c" },
    Role { name: "series-2", light: SERIES[2], dark: "#16a880" },
    Role { name: "series-3", light: SERIES[3], dark: "#d890b8" },
    Role { name: "series-4", light: SERIES[4], dark: "#f0b93a" },
    Role { name: "series-5", light: SERIES[5], dark: "#8ed2fa" },
];

/// Width of every plot in user units; the page scales it.
const WIDTH: u32 = 900;
const TEXT: f64 = 17.0;

/// CSS variables of both themes, and rules that put them in place of the literals.
pub(super) fn stylesheet() -> String {
    let (mut light, mut dark, mut rules) = (String::new(), String::new(), String::new());
    for role in &PALETTE {
        let RGBColor(r, g, b) = role.light;
        let (name, literal) = (role.name, format!("#{r:02X}{g:02X}{b:02X}"));
        // Writing to a string does not fail.
        let _ = write!(light, "--{name}:{literal};");
        let _ = write!(dark, "--{name}:{};", role.dark);
        let _ = writeln!(rules, "svg [fill=\"{literal}\"]{{fill:var(--{name})}}");
        let _ = writeln!(rules, "svg [stroke=\"{literal}\"]{{stroke:var(--{name})}}");
    }
    format!(":root{{{light}}}\n@media (prefers-color-scheme:dark){{:root{{{dark}}}}}\n{rules}")
}

fn series(index: usize) -> RGBColor {
    SERIES.get(index % SERIES.len()).copied().unwrap_or(INK)
}

fn label(color: RGBColor, h: HPos) -> TextStyle<'static> {
    ("sans-serif", TEXT).into_font().color(&color).pos(Pos::new(h, VPos::Center))
}

fn draw(height: i32, paint: impl FnOnce(&Area<'_>) -> Result<(), PlotError>) -> Result<String, PlotError> {
    let mut svg = String::new();
    {
        let size = (WIDTH, height.unsigned_abs());
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        paint(&area)?;
        area.present()?;
    }
    Ok(svg)
}

/// Text of at most so many characters.
fn fit(text: &str, longest: usize) -> String {
    if text.chars().count() <= longest {
        return text.to_owned();
    }
    text.chars().take(longest.saturating_sub(1)).chain(['\u{2026}']).collect()
}

/// A sentence in which no line ends between a number and its unit.
fn unbroken(sentence: &str) -> String {
    let mut number = false;
    let keep = |c: char| {
        let blank = c == ' ' && number;
        number = c.is_ascii_digit();
        if blank { '\u{a0}' } else { c }
    };
    sentence.chars().map(keep).collect()
}

/// A plot, and what is said about it wherever it stands.
#[derive(Clone, Debug)]
pub(super) struct Plot {
    /// Dotted name of its file, not yet safe for one.
    name: String,
    pub title: String,
    /// What the plot shows, in a sentence for readers who cannot see it.
    pub sentence: String,
    height: i32,
    svg: String,
}

impl Plot {
    fn new(name: String, title: &str, sentence: &str, height: i32, svg: String) -> Self {
        Self { name, title: title.to_owned(), sentence: unbroken(sentence), height, svg }
    }

    /// For a page that has [`stylesheet`], with title and sentence of its own.
    pub(super) fn inline(&self) -> Markup {
        let attributes = html! { svg role="img" aria-label=(self.title) {} }.into_string();
        let opening = attributes.split('>').next().unwrap_or("<svg").to_owned() + " ";
        PreEscaped(self.svg.replacen("<svg ", &opening, 1))
    }

    /// A file of its own, with title and sentence in it.
    pub(super) fn file(&self) -> String {
        /// Characters of the sentence in a line.
        const LINE: usize = 112;
        let lines = wrapped(&self.sentence, LINE);
        let head = 52 + 22 * i32::try_from(lines.len()).unwrap_or(0);
        let height = head + self.height;
        let body = self.svg.replacen("<svg ", &format!("<svg y=\"{head}\" "), 1);
        let page = html! {
            svg xmlns="http://www.w3.org/2000/svg" width=(WIDTH) height=(height) viewBox=(format!("0 0 {WIDTH} {height}"))
                font-family="sans-serif" {
                title { (self.title) }
                desc { (self.sentence) }
                style { (PreEscaped(stylesheet())) (PreEscaped(CARD)) }
                rect class="card" width="100%" height="100%" {}
                text x="12" y="32" font-size="22" font-weight="bold" fill="#1B1B19" { (self.title) }
                @for (row, line) in lines.iter().enumerate() {
                    text x="12" y=(56 + 22 * row) font-size="15" fill="#6B6A64" { (line) }
                }
                (PreEscaped(body))
            }
        };
        // XML has no other control characters, escaped or not.
        page.into_string().replace(|c: char| c.is_control() && c != '\n', "\u{fffd}") + "\n"
    }
}

/// What lies under a plot that is a file.
const CARD: &str = ".card{fill:#ffffff}\n@media (prefers-color-scheme:dark){.card{fill:#201f1c}}\n";

/// Words in lines of so many characters; a longer word has a line for itself.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// All plots of a result.
#[derive(Debug)]
pub(super) struct Plots {
    /// Of the figures that have a baseline, if there are any.
    pub figures: Option<Plot>,
    /// Of the latencies, if there are any.
    pub latencies: Option<Plot>,
    /// One for each request whose stages are known.
    pub stages: Vec<Plot>,
    /// One for each curve.
    pub curves: Vec<Plot>,
}

impl Plots {
    pub(super) fn of(result: &RunResult) -> Result<Self, PlotError> {
        let compared: Vec<_> = result.figures.iter().filter(|figure| figure.ratio.is_some()).collect();
        let some = |there: bool, plot: Result<Plot, PlotError>| if there { plot.map(Some) } else { Ok(None) };
        Ok(Self {
            figures: some(!compared.is_empty(), bars::ratios(&compared))?,
            latencies: some(
                !result.latencies.is_empty(),
                distribution::distributions(&distribution::told_apart(&result.latencies)),
            )?,
            stages: result.stages.iter().map(bars::waterfall).collect::<Result<_, _>>()?,
            curves: result.curves.iter().map(curve::curve).collect::<Result<_, _>>()?,
        })
    }

    /// File names and files: the same names for results with the same names in them. Of two that would be one
    /// file the second has a number.
    pub(super) fn files(&self) -> Vec<(String, String)> {
        let all = self.figures.iter().chain(&self.latencies).chain(&self.stages).chain(&self.curves);
        let mut taken = BTreeSet::new();
        all.map(|plot| {
            let stem = file_stem(&plot.name);
            let numbered = (2..).map(|number| format!("{stem}-{number}"));
            let name = std::iter::once(stem.clone()).chain(numbered).find(|name| !taken.contains(name));
            let name = name.unwrap_or(stem);
            taken.insert(name.clone());
            (name + ".svg", plot.file())
        })
        .collect()
    }
}

/// A name that is one on every file system, whatever a result calls its parts.
fn file_stem(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' || c == '-' { c } else { '_' };
    name.chars().map(|c| plain(c.to_ascii_lowercase())).take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Curve, Figure, Latency, Machine, StageShare, Stages, report::sample};

    /// The smallest result that has a plot of each kind.
    fn small() -> RunResult {
        let latency = |name: &str, factor: u64| Latency {
            name: name.to_owned(),
            count: 100,
            p50: 1_000 * factor,
            p90: 1_500 * factor,
            p99: 4_000 * factor,
            p999: 4_000 * factor,
            max: 5_000 * factor,
            buckets: vec![(1_000 * factor, 60), (2_000 * factor, 38), (5_000 * factor, 2)],
            ..sample::demonstration().latencies.remove(0)
        };
        let stage = |name: &str, mean: u64| StageShare {
            name: name.to_owned(),
            count: 10,
            mean: mean as f64,
            p50: mean * 9 / 10,
            p99: mean * 3,
        };
        let mut load =
            Curve::new("load", "Latency against load", ("offered load", "requests/s"), ("latency", "ns"))
                .with("p50", [(1e5, 9e3), (2e5, 18e3), (3e5, 90e3)])
                .with("p99", [(1e5, 2e4), (2e5, 5e4), (3e5, 7e5)]);
        load.log_y = true;
        RunResult {
            figures: vec![Figure::new("disk", 5e4, "requests/s", None).beside("direct", 1e5)],
            latencies: vec![latency("read", 1), latency("write <&>", 3)],
            stages: vec![Stages {
                name: "read".to_owned(),
                stages: vec![
                    stage("driver: submit", 300),
                    stage("IO-Bond: forward", 1_200),
                    stage("driver: done", 500),
                ],
            }],
            curves: vec![load],
            ..RunResult::new("small", None, Machine::default())
        }
    }

    #[test]
    fn plots_as_files_are_these() {
        for (name, file) in Plots::of(&small()).unwrap().files() {
            insta::assert_snapshot!(name.trim_end_matches(".svg"), file);
        }
    }

    #[test]
    fn every_colour_of_a_plot_has_a_role() {
        let svg: String =
            Plots::of(&sample::demonstration()).unwrap().files().into_iter().map(|(_, file)| file).collect();
        let known = stylesheet();
        let mut literals = 0;
        for attribute in ["fill=\"", "stroke=\""] {
            for (at, _) in svg.match_indices(attribute) {
                let literal = svg[at + attribute.len()..].split('"').next().unwrap();
                assert!(literal == "none" || known.contains(literal), "{literal}");
                literals += 1;
            }
        }
        assert!(literals > 50, "{literals}");
    }

    #[test]
    fn nothing_to_draw_is_no_error() {
        let empty = Latency { buckets: vec![], ..sample::demonstration().latencies.remove(0) };
        let result = RunResult {
            latencies: vec![empty],
            stages: vec![Stages { name: "x".to_owned(), stages: vec![] }],
            curves: vec![Curve { series: vec![], ..sample::load() }],
            ..RunResult::new("x", None, Machine::default())
        };
        assert_eq!(Plots::of(&result).unwrap().files().len(), 3);
        let none = RunResult::new("x", None, Machine::default());
        assert!(Plots::of(&none).unwrap().files().is_empty());
    }

    #[test]
    fn files_have_names_of_their_own_that_lead_nowhere_else() {
        let mut result = RunResult::new("x", None, Machine::default());
        let named = |name: &str| Curve { name: name.to_owned(), ..sample::load() };
        result.curves = ["../../etc/passwd", "Load", "load", "lo\u{0}d", ""].map(named).to_vec();
        let names: Vec<_> = Plots::of(&result).unwrap().files().into_iter().map(|(name, _)| name).collect();
        let expected = [
            "curve..._.._etc_passwd.svg",
            "curve.load.svg",
            "curve.load-2.svg",
            "curve.lo_d.svg",
            "curve..svg",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn a_file_has_no_character_that_xml_has_not() {
        let curve =
            Curve { title: "a\u{0}\u{1b}<b>".to_owned(), ..sample::load() }.with("\u{7}", [(1e5, 1e5)]);
        let result = RunResult { curves: vec![curve], ..RunResult::new("x", None, Machine::default()) };
        let file = &Plots::of(&result).unwrap().files()[0].1;
        assert!(!file.contains(|c: char| c.is_control() && c != '\n'));
        assert!(file.contains("<title>a\u{fffd}\u{fffd}&lt;b&gt;</title>"), "{file}");
    }

    #[test]
    fn the_same_result_gives_the_same_plots() {
        let plots = || Plots::of(&sample::demonstration()).unwrap().files();
        assert!(plots() == plots());
    }

    #[test]
    fn a_sentence_is_broken_between_words() {
        assert_eq!(wrapped("a bc def g", 4), ["a bc", "def", "g"]);
        assert_eq!(wrapped("", 4), [""]);
        assert_eq!(fit("abcdef", 4), "abc\u{2026}");
        assert_eq!(unbroken("the 5 ms of 7 %."), "the 5\u{a0}ms of 7\u{a0}%.");
    }
}
