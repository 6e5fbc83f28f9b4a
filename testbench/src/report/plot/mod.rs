//! The plots of a report, as SVG that takes its colours from the page.
//!
//! plotters writes each colour as a literal attribute. [`PALETTE`] gives every role one literal for the light theme, which a
//! page that knows no CSS shows as it is; [`stylesheet`] maps each literal to a variable with a value per theme.

use std::{fmt::Write, io, ops::Range};

use plotters::{
    coord::Shift,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use super::quantity::{duration, percent, quantity};
use crate::result::{Figure, Latency, Stages};

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
/// Series in the order in which they are given out: neighbours differ in hue and in lightness.
const SERIES: [RGBColor; 6] = [
    RGBColor(0x2A, 0x78, 0xD6),
    RGBColor(0xEB, 0x68, 0x34),
    RGBColor(0x1B, 0xA3, 0x74),
    RGBColor(0x9B, 0x4F, 0xC4),
    RGBColor(0xC9, 0x91, 0x00),
    RGBColor(0xD6, 0x45, 0x7F),
];

const PALETTE: [Role; 10] = [
    Role { name: "ink", light: INK, dark: "#f1f0ea" },
    Role { name: "muted", light: MUTED, dark: "#a3a299" },
    Role { name: "grid", light: GRID, dark: "#35352f" },
    Role { name: "baseline", light: BASELINE, dark: "#65645c" },
    Role { name: "series-0", light: SERIES[0], dark: "#5b9ff0" },
    Role { name: "series-1", light: SERIES[1], dark: "#f08a5d" },
    Role { name: "series-2", light: SERIES[2], dark: "#3cc493" },
    Role { name: "series-3", light: SERIES[3], dark: "#b982dd" },
    Role { name: "series-4", light: SERIES[4], dark: "#dcb13c" },
    Role { name: "series-5", light: SERIES[5], dark: "#e879a6" },
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

/// The CSS variable of the n-th series.
pub(super) fn series_variable(index: usize) -> String {
    format!("var(--series-{})", index % SERIES.len())
}

fn series(index: usize) -> RGBColor {
    SERIES.get(index % SERIES.len()).copied().unwrap_or(INK)
}

fn label(color: RGBColor, h: HPos) -> TextStyle<'static> {
    ("sans-serif", TEXT).into_font().color(&color).pos(Pos::new(h, VPos::Center))
}

fn draw(height: u32, paint: impl FnOnce(&Area<'_>) -> Result<(), PlotError>) -> Result<String, PlotError> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        paint(&area)?;
        area.present()?;
    }
    Ok(svg)
}

/// Cumulative distributions, one line each in the order of the series. Time is logarithmic, and so is the share of requests
/// that took longer: each nine of the percentile is one step up, which gives the tail its room.
pub(super) fn distributions(latencies: &[Latency]) -> Result<String, PlotError> {
    let most = latencies.iter().map(|latency| latency.count).max().unwrap_or(1).max(10);
    let steps = (most as f64).log10().ceil();
    draw(400, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(12)
            .margin_right(40)
            .x_label_area_size(30)
            .y_label_area_size(92)
            .build_cartesian_2d(time_axis(latencies).log_scale(), 0.0..steps)?;
        let axis = ("sans-serif", TEXT).into_font().color(&MUTED);
        chart
            .configure_mesh()
            .axis_style(BASELINE)
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .x_labels(8)
            .y_labels(steps as usize + 1)
            .label_style(axis)
            .x_label_formatter(&|ns| duration(*ns))
            .y_label_formatter(&|step| percentile(*step))
            .draw()?;
        for (index, latency) in latencies.iter().enumerate() {
            chart.draw_series(LineSeries::new(curve(latency), series(index).stroke_width(3)))?;
        }
        Ok(())
    })
}

/// The share of requests at a step of the percentile axis: 0 %, 90 %, 99 %, 99.9 %, ...
fn percentile(step: f64) -> String {
    let decimals = (step - 2.0).max(0.0) as usize;
    format!("{:.decimals$} %", 100.0 * (1.0 - 10f64.powf(-step)))
}

/// From the shortest to the longest latency, widened to powers of ten so that the axis has round marks at its ends.
fn time_axis(latencies: &[Latency]) -> Range<f64> {
    let bounds = latencies.iter().filter_map(|latency| Some((latency.buckets.first()?.0, latency.max)));
    let (shortest, longest) = bounds.fold((u64::MAX, 1), |(low, high), (a, b)| (low.min(a), high.max(b)));
    let shortest = shortest.clamp(1, longest);
    let low = 10f64.powf((shortest as f64).log10().floor());
    let high = 10f64.powf((longest as f64).log10().ceil());
    low..high.max(low * 10.0)
}

/// `(upper bound, nines)`: how many nines the percentile has that ends at the bound. The longest request ends at the last
/// nine that so many requests can tell.
fn curve(latency: &Latency) -> Vec<(f64, f64)> {
    let total = latency.buckets.iter().map(|(_, count)| *count).sum::<u64>().max(1);
    let mut seen = 0;
    let start = latency.buckets.first().map(|(upper, _)| ((*upper).max(1) as f64, 0.0));
    let steps = latency.buckets.iter().map(|(upper, count)| {
        seen += count;
        let slower = total.saturating_sub(seen).max(1);
        ((*upper).max(1) as f64, (total as f64 / slower as f64).log10())
    });
    start.into_iter().chain(steps).collect()
}

/// One bar per figure that has a baseline, as long as its ratio; the baseline's end is a line through all of them.
pub(super) fn ratios(figures: &[&Figure]) -> Result<String, PlotError> {
    const ROW: i32 = 46;
    const LEFT: i32 = 230;
    const RIGHT: i32 = WIDTH as i32 - 300;
    let height = 40 + ROW * i32::try_from(figures.len()).unwrap_or(0);
    let longest = figures.iter().filter_map(|figure| figure.ratio).fold(1.0, f64::max);
    let at = |ratio: f64| LEFT + (f64::from(RIGHT - LEFT) * ratio / longest).round() as i32;
    draw(height.unsigned_abs(), |area| {
        area.draw(&Text::new("baseline = 1", (at(1.0), 14), label(MUTED, HPos::Center)))?;
        for (row, figure) in (0..).zip(figures) {
            let middle = 34 + ROW * row + ROW / 2;
            let ratio = figure.ratio.unwrap_or(0.0).max(0.0);
            let bar = [(LEFT, middle - 12), (at(ratio), middle + 12)];
            area.draw(&Rectangle::new(bar, series(0).filled()))?;
            area.draw(&Text::new(figure.name.clone(), (LEFT - 12, middle), label(INK, HPos::Right)))?;
            let factor = format!("{ratio:.2} \u{d7}");
            area.draw(&Text::new(factor, (RIGHT + 76, middle), label(INK, HPos::Right)))?;
            let note = if figure.higher_is_better() { "" } else { " (less is better)" };
            let absolute = quantity(figure.value, &figure.unit) + note;
            area.draw(&Text::new(absolute, (RIGHT + 92, middle), label(MUTED, HPos::Left)))?;
        }
        let line = vec![(at(1.0), 28), (at(1.0), height - 2)];
        area.draw(&PathElement::new(line, MUTED.stroke_width(2)))
    })
}

/// The stages of one request, each where it begins and as long as its mean, coloured by who works: the part of its name before
/// the colon.
pub(super) fn waterfall(stages: &Stages) -> Result<String, PlotError> {
    const ROW: i32 = 40;
    const LEFT: i32 = 290;
    const RIGHT: i32 = WIDTH as i32 - 150;
    let height = 16 + ROW * i32::try_from(stages.stages.len()).unwrap_or(0);
    let total: f64 = stages.stages.iter().map(|stage| stage.mean).sum();
    let at = |ns: f64| LEFT + (f64::from(RIGHT - LEFT) * ns / total.max(1.0)).round() as i32;
    draw(height.unsigned_abs(), |area| {
        let mut parties: Vec<&str> = Vec::new();
        let mut begun = 0.0;
        for (row, stage) in (0..).zip(&stages.stages) {
            let party = stage.name.split(':').next().unwrap_or_default();
            let color = parties.iter().position(|known| *known == party).unwrap_or_else(|| {
                parties.push(party);
                parties.len() - 1
            });
            let middle = 8 + ROW * row + ROW / 2;
            let rule = vec![(LEFT, middle), (RIGHT, middle)];
            area.draw(&PathElement::new(rule, GRID))?;
            let bar = [(at(begun), middle - 12), (at(begun + stage.mean).max(at(begun) + 2), middle + 12)];
            area.draw(&Rectangle::new(bar, series(color).filled()))?;
            area.draw(&Text::new(stage.name.clone(), (LEFT - 12, middle), label(INK, HPos::Right)))?;
            let share = if total > 0.0 { stage.mean / total } else { 0.0 };
            let text = format!("{} \u{b7} {}", duration(stage.mean), percent(share));
            area.draw(&Text::new(text, (RIGHT + 14, middle), label(MUTED, HPos::Left)))?;
            begun += stage.mean;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn every_colour_of_a_plot_has_a_role() {
        let sample = sample::demonstration();
        let compared: Vec<_> = sample.figures.iter().filter(|figure| figure.ratio.is_some()).collect();
        let svg = distributions(&sample.latencies).unwrap()
            + &ratios(&compared).unwrap()
            + &waterfall(&sample.stages[0]).unwrap();
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
    fn a_curve_rises_from_none_to_the_last_nine() {
        let latency = Latency {
            buckets: vec![(10, 900), (20, 90), (30, 10)],
            ..sample::demonstration().latencies.remove(0)
        };
        let nines: Vec<_> =
            curve(&latency).iter().map(|(ns, nines)| (*ns, (nines * 1e6).round() / 1e6)).collect();
        assert_eq!(nines, [(10.0, 0.0), (10.0, 1.0), (20.0, 2.0), (30.0, 3.0)]);
    }

    #[test]
    fn percentiles_gain_a_nine_a_step() {
        assert_eq!([0.0, 1.0, 2.0, 3.0, 4.0].map(percentile), ["0 %", "90 %", "99 %", "99.9 %", "99.99 %"]);
    }

    #[test]
    fn nothing_to_draw_is_no_error() {
        let empty = Latency { buckets: vec![], ..sample::demonstration().latencies.remove(0) };
        distributions(&[]).unwrap();
        distributions(&[empty]).unwrap();
        ratios(&[]).unwrap();
        waterfall(&Stages { name: "x".to_owned(), stages: vec![] }).unwrap();
    }
}
