//! Axes with round marks, and the frame that two of them make.

use std::ops::RangeInclusive;

use plotters::{prelude::*, style::text_anchor::HPos};

use super::{Area, BASELINE, GRID, MUTED, PlotError, label};
use crate::report::quantity::mark;

/// What is drawn at most, and at least on a logarithmic axis: floats of which sums and differences are
/// finite.
const LARGEST: f64 = 1e300;
const SMALLEST: f64 = 1e-300;

/// An axis: where it begins and ends and what is marked, all in its own coordinate, which is the value or its
/// logarithm.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Axis {
    pub low: f64,
    pub high: f64,
    pub marks: Vec<(f64, String)>,
    pub caption: String,
    log: bool,
}

impl Axis {
    /// An axis of its own kind, linear in what it is given.
    pub(super) fn new(low: f64, high: f64, marks: Vec<(f64, String)>, caption: &str) -> Self {
        Self { low, high, marks, caption: caption.to_owned(), log: false }
    }

    /// From 0, or what is below it, to the first round mark that is not below any value.
    pub(super) fn linear(values: impl Iterator<Item = f64>, unit: &str, caption: String) -> Self {
        let (low, high) = bounds(values).unwrap_or((0.0, 1.0));
        let (low, high) = (low.min(0.0), high.max(0.0));
        let step = round_up((high - low) / 6.0);
        let (first, last) = ((low / step).floor() as i64, (high / step).ceil() as i64);
        let last = last.max(first + 1);
        let marks: Vec<_> =
            (first..=last).map(|turn| turn as f64 * step).map(|value| (value, mark(value, unit))).collect();
        Self { low: first as f64 * step, high: last as f64 * step, marks, caption, log: false }
    }

    /// Between round marks around all values above 0; in less than three decades also 2 and 5 are marked.
    pub(super) fn logarithmic(values: impl Iterator<Item = f64>, unit: &str, caption: String) -> Self {
        let (low, high) = bounds(values.filter(|value| *value > 0.0)).unwrap_or((1.0, 10.0));
        let (low, high) = (low.max(SMALLEST), high.max(SMALLEST));
        let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
        let span = decades.end() - decades.start();
        let mut marks = if span < 3 { fine(decades, low, high) } else { coarse(decades, span) };
        if marks.len() < 2 {
            marks = vec![low.min(high / 10.0), high];
        }
        let marks: Vec<_> = marks.into_iter().map(|value| (value.log10(), mark(value, unit))).collect();
        let ends = marks.first().zip(marks.last()).map_or((0.0, 1.0), |(first, last)| (first.0, last.0));
        // A mark that was left out, as labels would touch, may have been the last one.
        Self { low: ends.0, high: ends.1.max(high.log10()), marks, caption, log: true }
    }

    /// Marks at the values themselves, between the first and the last, if they are few and lie apart: counts
    /// of boards, say.
    fn at_values(self, mut values: Vec<f64>, unit: &str) -> Self {
        values.retain(|value| self.coordinate(*value).is_some());
        values.sort_by(f64::total_cmp);
        values.dedup();
        let marks: Vec<_> =
            values.iter().filter_map(|value| Some((self.coordinate(*value)?, mark(*value, unit)))).collect();
        let Some((low, high)) = marks.first().zip(marks.last()).map(|(first, last)| (first.0, last.0)) else {
            return self;
        };
        let least = (high - low) / 12.0;
        let apart = marks.windows(2).all(|pair| matches!(pair, [(a, _), (b, _)] if b - a >= least));
        if marks.len() < 2 || !apart {
            return self;
        }
        Self { low, high, marks, ..self }
    }

    /// The axis of what was set: on a logarithmic one, the values themselves are marked if they can be.
    pub(super) fn of_settings(
        axis: &crate::Axis,
        log: bool,
        values: impl Iterator<Item = f64> + Clone,
    ) -> Self {
        let round = Self::of(axis, log, values.clone());
        if log { round.at_values(values.collect(), &axis.unit) } else { round }
    }

    /// The axis of a curve that has these values on it.
    pub(super) fn of(axis: &crate::Axis, log: bool, values: impl Iterator<Item = f64>) -> Self {
        let caption = match axis.unit.as_str() {
            // Each mark carries it.
            "" | "ns" | "bytes" | "bytes/s" => axis.label.clone(),
            unit => format!("{} ({unit})", axis.label),
        };
        if log {
            Self::logarithmic(values, &axis.unit, caption)
        } else {
            Self::linear(values, &axis.unit, caption)
        }
    }

    /// The coordinate of a value; none for what a logarithm does not know.
    pub(super) fn coordinate(&self, value: f64) -> Option<f64> {
        let value = value.clamp(-LARGEST, LARGEST);
        if !self.log {
            return Some(value).filter(|value| value.is_finite());
        }
        (value > 0.0).then(|| value.max(SMALLEST).log10())
    }

    /// How far along the axis a coordinate is, 0 to 1.
    fn share(&self, coordinate: f64) -> f64 {
        ((coordinate - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }
}

fn bounds(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let values = values.filter(|value| value.is_finite()).map(|value| value.clamp(-LARGEST, LARGEST));
    values.fold(None, |bounds, value| {
        let (low, high) = bounds.unwrap_or((value, value));
        Some((value.min(low), value.max(high)))
    })
}

/// The first of 1, 2, 5, 10, ... times a power of ten that is not below `step`.
fn round_up(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let factors = [1.0, 2.0, 5.0, 10.0];
    let found = factors.into_iter().map(|factor| factor * power).find(|round| *round >= step * (1.0 - 1e-9));
    found.filter(|round| round.is_normal()).unwrap_or(1.0)
}

/// 1, 2 and 5 of each decade: the last that is not above `low`, the first that is not below `high`, and those
/// between.
fn fine(decades: RangeInclusive<i32>, low: f64, high: f64) -> Vec<f64> {
    let all: Vec<_> =
        decades.flat_map(|power| [1.0, 2.0, 5.0].map(|factor| factor * 10f64.powi(power))).collect();
    let first = all.iter().rposition(|value| *value <= low).unwrap_or(0);
    let last = all.iter().position(|value| *value >= high).unwrap_or(all.len().saturating_sub(1));
    all.get(first..=last).unwrap_or_default().to_vec()
}

/// Powers of ten, so few that their labels do not touch.
fn coarse(decades: RangeInclusive<i32>, span: i32) -> Vec<f64> {
    let apart = usize::try_from(span / 9 + 1).unwrap_or(1);
    decades.step_by(apart).map(|power| 10f64.powi(power)).collect()
}

/// The rectangle in which points are drawn, in user units.
#[derive(Debug)]
pub(super) struct Frame {
    pub left: i32,
    pub right: i32,
    pub top: i32,
    pub bottom: i32,
    pub x: Axis,
    pub y: Axis,
}

impl Frame {
    /// Where a pair of coordinates is.
    pub(super) fn at(&self, x: f64, y: f64) -> (i32, i32) {
        let (width, height) = (f64::from(self.right - self.left), f64::from(self.bottom - self.top));
        let down = height * self.y.share(y);
        (self.left + (width * self.x.share(x)).round() as i32, self.bottom - down.round() as i32)
    }

    /// Grid, marks and captions: that of x below its axis, that of y above its own, where it can be read.
    pub(super) fn draw(&self, area: &Area<'_>) -> Result<(), PlotError> {
        for (coordinate, text) in &self.y.marks {
            let (_, y) = self.at(self.x.low, *coordinate);
            area.draw(&PathElement::new(vec![(self.left, y), (self.right, y)], GRID))?;
            area.draw(&Text::new(text.clone(), (self.left - 10, y), label(MUTED, HPos::Right)))?;
        }
        for (coordinate, text) in &self.x.marks {
            let (x, _) = self.at(*coordinate, self.y.low);
            area.draw(&PathElement::new(vec![(x, self.top), (x, self.bottom)], GRID))?;
            area.draw(&Text::new(text.clone(), (x, self.bottom + 18), label(MUTED, HPos::Center)))?;
        }
        let corner = vec![(self.left, self.top), (self.left, self.bottom), (self.right, self.bottom)];
        area.draw(&PathElement::new(corner, BASELINE.stroke_width(2)))?;
        area.draw(&Text::new(self.y.caption.clone(), (12, self.top - 22), label(MUTED, HPos::Left)))?;
        let below = (self.right, self.bottom + 44);
        area.draw(&Text::new(self.x.caption.clone(), below, label(MUTED, HPos::Right)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.marks.iter().map(|(_, label)| label.as_str()).collect()
    }

    #[test]
    fn a_linear_axis_begins_at_zero_and_ends_at_a_round_mark() {
        let axis = Axis::linear([3.0, 47.0].into_iter(), "", String::new());
        assert_eq!(labels(&axis), ["0", "10", "20", "30", "40", "50"]);
        assert_eq!((axis.low, axis.high), (0.0, 50.0));
        let axis = Axis::linear([-1.5, 1.5].into_iter(), "ns", String::new());
        assert_eq!((axis.low, axis.high), (-1.5, 1.5));
    }

    #[test]
    fn what_was_set_is_marked_where_labels_do_not_touch() {
        let boards = crate::Axis { label: "boards".to_owned(), unit: String::new() };
        let axis = |values: &[f64]| Axis::of_settings(&boards, true, values.iter().copied());
        assert_eq!(labels(&axis(&[1.0, 2.0, 16.0, 4.0, 2.0])), ["1", "2", "4", "16"]);
        assert_eq!(labels(&axis(&[1.0, 2.0, 15.0, 16.0])), ["1", "2", "5", "10", "20"]);
    }

    #[test]
    fn a_logarithmic_axis_has_marks_that_fit_its_length() {
        let axis = |low: f64, high: f64| Axis::logarithmic([low, high].into_iter(), "ns", String::new());
        assert_eq!(labels(&axis(7.0, 40.0)), ["5 ns", "10 ns", "20 ns", "50 ns"]);
        assert_eq!(
            labels(&axis(7.0, 4e4)),
            ["1 ns", "10 ns", "100 ns", "1 \u{b5}s", "10 \u{b5}s", "100 \u{b5}s"]
        );
        assert!(axis(1e-20, 1e20).marks.len() <= 10);
    }

    /// Whatever a result holds, an axis has a length and few marks, and every value is on it.
    #[test]
    fn any_values_have_an_axis() {
        let values: &[&[f64]] = &[
            &[],
            &[0.0],
            &[5.0],
            &[1.0],
            &[-3.0, -3.0],
            &[f64::NAN, f64::INFINITY],
            &[f64::MAX, f64::MIN],
            &[f64::MIN_POSITIVE, f64::MAX],
            &[5e-324],
            &[1e-300, 2e-300],
        ];
        for values in values {
            for log in [false, true] {
                let unit = crate::Axis { label: "x".to_owned(), unit: "ns".to_owned() };
                let axis = Axis::of_settings(&unit, log, values.iter().copied());
                assert!(axis.low < axis.high && (axis.high - axis.low).is_finite(), "{values:?}: {axis:?}");
                assert!((2..=12).contains(&axis.marks.len()), "{values:?}: {axis:?}");
                for coordinate in values.iter().filter_map(|value| axis.coordinate(*value)) {
                    assert!((0.0..=1.0).contains(&axis.share(coordinate)), "{coordinate} on {axis:?}");
                }
            }
        }
    }
}
