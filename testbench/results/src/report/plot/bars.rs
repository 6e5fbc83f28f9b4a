//! Plots of horizontal bars: figures beside their baselines, and the stages of a request.

use plotters::{prelude::*, style::text_anchor::HPos};

use super::{GRID, INK, MUTED, Plot, PlotError, WIDTH, axis::Axis, draw, fit, label, series};
use crate::{
    Figure, Stages,
    report::quantity::{duration, grouped, percent, quantity},
};

/// How to read [`ratios`].
const RATIOS: &str = "Each bar is what was measured through IO-Bond, divided by its baseline from the same run. For rates \
                      (\u{2026}/s) a longer bar is better, for sizes a shorter one.";

/// One bar per figure that has a baseline, as long as its ratio; the baseline's end is a line through all of
/// them.
pub(super) fn ratios(figures: &[&Figure]) -> Result<Plot, PlotError> {
    const ROW: i32 = 46;
    const LEFT: i32 = 230;
    const RIGHT: i32 = WIDTH as i32 - 300;
    let height = 40 + ROW * i32::try_from(figures.len()).unwrap_or(0);
    let longest = figures.iter().filter_map(|figure| figure.ratio).fold(1.0, f64::max);
    let at = |ratio: f64| LEFT + (f64::from(RIGHT - LEFT) * ratio / longest).round() as i32;
    let svg = draw(height, |area| {
        area.draw(&Text::new("baseline = 1", (at(1.0), 14), label(MUTED, HPos::Center)))?;
        for (row, figure) in (0..).zip(figures) {
            let middle = 34 + ROW * row + ROW / 2;
            let ratio = figure.ratio.unwrap_or(0.0).max(0.0);
            let bar = [(LEFT, middle - 12), (at(ratio), middle + 12)];
            area.draw(&Rectangle::new(bar, series(0).filled()))?;
            area.draw(&Text::new(fit(&figure.name, 24), (LEFT - 12, middle), label(INK, HPos::Right)))?;
            let factor = format!("{ratio:.2} \u{d7}");
            area.draw(&Text::new(factor, (RIGHT + 76, middle), label(INK, HPos::Right)))?;
            let note = if figure.higher_is_better() { "" } else { " (less is better)" };
            let absolute = fit(&quantity(figure.value, &figure.unit), 24) + note;
            area.draw(&Text::new(absolute, (RIGHT + 92, middle), label(MUTED, HPos::Left)))?;
        }
        let line = vec![(at(1.0), 28), (at(1.0), height - 2)];
        area.draw(&PathElement::new(line, MUTED.stroke_width(2)))
    })?;
    Ok(Plot::new("figures".to_owned(), "Figures beside their baselines", RATIOS, height, svg))
}

/// The stages of one request, each where it begins and as long as its mean, coloured by the part that works:
/// the part of its name before the colon. Means add up to the whole, which medians do not; the median stands
/// beside.
pub(super) fn waterfall(stages: &Stages) -> Result<Plot, PlotError> {
    const ROW: i32 = 40;
    const TOP: i32 = 36;
    const LEFT: i32 = 290;
    const RIGHT: i32 = WIDTH as i32 - 190;
    let bottom = TOP + ROW * i32::try_from(stages.stages.len()).unwrap_or(0);
    let height = bottom + 60;
    let total: f64 = stages.stages.iter().map(|stage| stage.mean).sum();
    let axis = Axis::linear([total].into_iter(), "ns", "since the request began".to_owned());
    let at = |ns: f64| LEFT + (f64::from(RIGHT - LEFT) * (ns / axis.high).clamp(0.0, 1.0)).round() as i32;
    let svg = draw(height, |area| {
        for (ns, text) in &axis.marks {
            area.draw(&PathElement::new(vec![(at(*ns), TOP), (at(*ns), bottom)], GRID))?;
            area.draw(&Text::new(text.clone(), (at(*ns), bottom + 18), label(MUTED, HPos::Center)))?;
        }
        area.draw(&Text::new(axis.caption.clone(), (RIGHT, bottom + 44), label(MUTED, HPos::Right)))?;
        area.draw(&Text::new("p50", (RIGHT + 104, 16), label(MUTED, HPos::Right)))?;
        area.draw(&Text::new("share", (RIGHT + 176, 16), label(MUTED, HPos::Right)))?;
        let mut parties: Vec<&str> = Vec::new();
        let mut begun = 0.0;
        for (row, stage) in (0..).zip(&stages.stages) {
            let party = stage.name.split(':').next().unwrap_or_default();
            let color = parties.iter().position(|known| *known == party).unwrap_or_else(|| {
                parties.push(party);
                parties.len() - 1
            });
            let middle = TOP + ROW * row + ROW / 2;
            let bar = [(at(begun), middle - 12), (at(begun + stage.mean).max(at(begun) + 2), middle + 12)];
            area.draw(&Rectangle::new(bar, series(color).filled()))?;
            area.draw(&Text::new(fit(&stage.name, 31), (LEFT - 12, middle), label(INK, HPos::Right)))?;
            let median = duration(stage.p50 as f64);
            area.draw(&Text::new(median, (RIGHT + 104, middle), label(INK, HPos::Right)))?;
            let share = percent(share(stage.mean, total));
            area.draw(&Text::new(share, (RIGHT + 176, middle), label(INK, HPos::Right)))?;
            begun += stage.mean;
        }
        Ok(())
    })?;
    let title = format!("Where the time went: {}", stages.name);
    Ok(Plot::new(format!("stages.{}", stages.name), &title, &sentence(stages, total), height, svg))
}

fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

/// What one sees: how long it took, and where most of it went.
fn sentence(stages: &Stages, total: f64) -> String {
    let longest =
        stages.stages.iter().max_by(|a, b| a.mean.total_cmp(&b.mean)).filter(|stage| stage.count > 0);
    longest.map_or_else(
        || "No request was seen in all its stages.".to_owned(),
        |stage| {
            format!(
                "One request from left to right, {} in the mean of {}; the longest stage is \u{201c}{}\u{201d} with {}.",
                duration(total),
                grouped(stage.count),
                stage.name,
                percent(share(stage.mean, total))
            )
        },
    )
}
