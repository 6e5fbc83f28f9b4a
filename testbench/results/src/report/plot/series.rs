//! Lines of several series over one frame, told apart by colour and by the shape of their points.

use plotters::{prelude::*, style::text_anchor::HPos};

use super::{Area, INK, PlotError, WIDTH, fit, label, series};

/// Height of a row of the legend.
const ROW: i32 = 28;
/// Characters of a name in the legend.
const LONGEST_NAME: usize = 40;
/// About what a character of a plot's text is wide.
const CHARACTER: i32 = 9;
/// Width of an entry of the legend beside its name: the piece of line before it and a gap behind.
const SWATCH: i32 = 66;

/// Where each entry of a legend begins, in rows from (0, 0), and how high all rows are.
fn places(names: &[&str]) -> (Vec<(i32, i32)>, i32) {
    let (mut x, mut y) = (12, 0);
    let mut places = Vec::new();
    for name in names {
        let width = SWATCH + CHARACTER * i32::try_from(fit(name, LONGEST_NAME).chars().count()).unwrap_or(0);
        if x > 12 && x + width > WIDTH as i32 {
            (x, y) = (12, y + ROW);
        }
        places.push((x, y));
        x += width;
    }
    (places, y + ROW)
}

/// Height of a legend with these names.
pub(super) fn legend_height(names: &[&str]) -> i32 {
    places(names).1
}

/// The names, each behind a piece of its line.
pub(super) fn legend(area: &Area<'_>, names: &[&str]) -> Result<(), PlotError> {
    for (index, (name, (x, y))) in names.iter().zip(places(names).0).enumerate() {
        let middle = y + ROW / 2;
        line(area, index, vec![(x, middle), (x + 32, middle)])?;
        point(area, index, (x + 16, middle))?;
        let text = Text::new(fit(name, LONGEST_NAME), (x + 42, middle), label(INK, HPos::Left));
        area.draw(&text)?;
    }
    Ok(())
}

/// The line of a series.
pub(super) fn line(area: &Area<'_>, index: usize, points: Vec<(i32, i32)>) -> Result<(), PlotError> {
    if points.len() < 2 {
        return Ok(());
    }
    area.draw(&PathElement::new(points, series(index).stroke_width(3)))
}

/// A point of a series, in its shape. There are five shapes and six colours, so that thirty series differ.
pub(super) fn point(area: &Area<'_>, index: usize, (x, y): (i32, i32)) -> Result<(), PlotError> {
    let filled = series(index).filled();
    let polygon = |corners: &[(i32, i32)]| {
        let corners: Vec<_> = corners.iter().map(|(dx, dy)| (x + dx, y + dy)).collect();
        Polygon::new(corners, filled)
    };
    match index % 5 {
        0 => area.draw(&Circle::new((x, y), 6, filled)),
        1 => area.draw(&Rectangle::new([(x - 5, y - 5), (x + 5, y + 5)], filled)),
        2 => area.draw(&polygon(&[(0, -7), (7, 6), (-7, 6)])),
        3 => area.draw(&polygon(&[(0, -8), (8, 0), (0, 8), (-8, 0)])),
        _ => area.draw(&polygon(&[(0, 7), (7, -6), (-7, -6)])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_legend_breaks_into_rows_that_fit() {
        let long = "x".repeat(100);
        let names: Vec<&str> = vec![&long, "p50", &long, "p99", "p99.9"];
        let (places, height) = places(&names);
        assert_eq!(places, [(12, 0), (438, 0), (12, ROW), (438, ROW), (531, ROW)]);
        assert_eq!(height, 2 * ROW);
        assert_eq!(legend_height(&[]), ROW);
    }
}
