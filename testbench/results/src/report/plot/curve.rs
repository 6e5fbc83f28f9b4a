//! A curve of a result: lines through points that were measured.

use super::{
    Plot, PlotError,
    axis::{Axis, Frame},
    draw, fit,
    series::{legend, legend_height, line, point},
};
use crate::{Curve, report::quantity::quantity};

/// Series that the sentence below a title speaks of.
const SPOKEN_OF: usize = 3;

pub(super) fn curve(curve: &Curve) -> Result<Plot, PlotError> {
    let points = || curve.series.iter().flat_map(|series| series.points.iter().copied());
    let names: Vec<&str> = curve.series.iter().map(|series| series.name.as_str()).collect();
    let top = legend_height(&names) + 44;
    let frame = Frame {
        left: 104,
        right: 860,
        top,
        bottom: top + 320,
        x: Axis::of_settings(&curve.x, curve.log_x, points().map(|(x, _)| x)),
        y: Axis::of(&curve.y, curve.log_y, points().map(|(_, y)| y)),
    };
    let height = frame.bottom + 60;
    let svg = draw(height, |area| {
        frame.draw(area)?;
        for (index, series) in curve.series.iter().enumerate() {
            let place =
                |(x, y): &(f64, f64)| Some(frame.at(frame.x.coordinate(*x)?, frame.y.coordinate(*y)?));
            let places: Vec<_> = series.points.iter().filter_map(place).collect();
            line(area, index, places.clone())?;
            for place in places {
                point(area, index, place)?;
            }
        }
        legend(area, &names)
    })?;
    Ok(Plot::new(format!("curve.{}", curve.name), &curve.title, &sentence(curve), height, svg))
}

/// What one sees: where each line begins and ends.
fn sentence(curve: &Curve) -> String {
    let xs = curve.series.iter().flat_map(|series| series.points.iter().map(|(x, _)| *x));
    let ends = xs.fold(None, |ends: Option<(f64, f64)>, x| {
        Some(ends.map_or((x, x), |(low, high)| (low.min(x), high.max(x))))
    });
    let Some((low, high)) = ends else { return "There are no points.".to_owned() };
    let lines = curve.series.iter().filter_map(|series| {
        let value = |y: f64| quantity(y, &curve.y.unit);
        let (first, last) = (series.points.first()?, series.points.last()?);
        Some(format!("from {} to {} ({})", value(first.1), value(last.1), fit(&series.name, 40)))
    });
    let mut lines: Vec<_> = lines.collect();
    if lines.len() > SPOKEN_OF {
        let more = lines.len() - SPOKEN_OF;
        lines.truncate(SPOKEN_OF);
        lines.push(format!("{more} more"));
    }
    let last = lines.pop().unwrap_or_default();
    let lines = if lines.is_empty() { last } else { format!("{} and {last}", lines.join(", ")) };
    let x = |value: f64| quantity(value, &curve.x.unit);
    format!("With {} from {} to {}, {} goes {lines}.", curve.x.label, x(low), x(high), curve.y.label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn the_sentence_says_where_lines_begin_and_end() {
        assert_eq!(
            sentence(&sample::load()),
            "With offered load from 50 k requests/s to 290 k requests/s, latency goes from 10.8 \u{b5}s to 270 \u{b5}s (p50) and \
             from 25.2 \u{b5}s to 630 \u{b5}s (p99)."
        );
        let mut many = sample::boards();
        many.series = vec![many.series[0].clone(); 5];
        assert!(sentence(&many).ends_with("(one core) and 2 more."), "{}", sentence(&many));
        assert_eq!(sentence(&Curve { series: vec![], ..many }), "There are no points.");
    }

    #[test]
    fn what_a_logarithm_does_not_know_is_left_out() {
        let mut load = sample::load();
        let circles = |curve: &Curve| super::curve(curve).unwrap().svg.matches("<circle").count();
        let before = circles(&load);
        load.series[0].points[0].1 = 0.0;
        assert_eq!(circles(&load), before - 1);
    }
}
