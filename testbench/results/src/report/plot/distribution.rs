//! Cumulative distributions of latencies.

use super::{
    Plot, PlotError,
    axis::{Axis, Frame},
    draw,
    series::{legend, legend_height, line, point},
};
use crate::{
    Latency,
    report::quantity::{duration, grouped},
};

/// Lines that a reader tells apart: as many as two rounds of the colours.
pub(in crate::report) const LINES: usize = 12;

/// Those of which there are lines: all, or of many the round trips, and the first of them if these are too
/// many still.
pub(super) fn told_apart(latencies: &[Latency]) -> Vec<Latency> {
    let few = latencies.len() <= LINES;
    let whole = |latency: &&Latency| few || latency.name.ends_with(".round_trip");
    let mut shown: Vec<_> = latencies.iter().filter(whole).take(LINES).cloned().collect();
    if shown.is_empty() {
        shown = latencies.iter().take(LINES).cloned().collect();
    }
    shown
}

/// One line each. Time is logarithmic, and so is the share of requests that took longer: each nine of the
/// percentile is one step up, which spreads the tail.
pub(super) fn distributions(latencies: &[Latency]) -> Result<Plot, PlotError> {
    let most = latencies.iter().map(|latency| latency.count).max().unwrap_or(1).max(10);
    let steps = (most as f64).log10().ceil();
    let marks = (0..=steps as u32).map(|step| (f64::from(step), percentile(f64::from(step)))).collect();
    let names: Vec<&str> = latencies.iter().map(|latency| latency.name.as_str()).collect();
    let top = legend_height(&names) + 44;
    let frame = Frame {
        left: 92,
        right: 860,
        top,
        bottom: top + 320,
        x: time_axis(latencies),
        y: Axis::new(0.0, steps, marks, "share of requests"),
    };
    let height = frame.bottom + 60;
    let svg = draw(height, |area| {
        frame.draw(area)?;
        for (index, latency) in latencies.iter().enumerate() {
            let place = |(ns, nines): (u64, f64)| Some(frame.at(frame.x.coordinate(ns as f64)?, nines));
            line(area, index, curve(latency).into_iter().filter_map(place).collect())?;
            for place in quantiles(latency).into_iter().filter_map(place) {
                point(area, index, place)?;
            }
        }
        legend(area, &names)
    })?;
    Ok(Plot::new("latencies".to_owned(), "Latencies", &sentence(latencies), height, svg))
}

/// What one sees: half of them, and the slow ones.
fn sentence(latencies: &[Latency]) -> String {
    let mut taken: Vec<_> = latencies.iter().filter(|latency| latency.count > 0).collect();
    taken.sort_by_key(|latency| latency.p50);
    let time = |ns: u64| duration(ns as f64);
    match taken.as_slice() {
        [] => "There were no requests.".to_owned(),
        [only] => format!(
            "Half of {} requests took at most {}, one in a hundred more than {}, the slowest {}.",
            grouped(only.count),
            time(only.p50),
            time(only.p99),
            time(only.max)
        ),
        [fastest, .., slowest] => {
            let p99 = taken.iter().map(|latency| latency.p99);
            let (least, most) = (p99.clone().min().unwrap_or(0), p99.max().unwrap_or(0));
            format!(
                "Half of the requests took at most {} ({}) to {} ({}); one in a hundred took more than {} to {}.",
                time(fastest.p50),
                fastest.name,
                time(slowest.p50),
                slowest.name,
                time(least),
                time(most)
            )
        }
    }
}

/// The share of requests at a step of the percentile axis: 0 %, 90 %, 99 %, 99.9 %, ...
fn percentile(step: f64) -> String {
    let decimals = (step - 2.0).max(0.0) as usize;
    format!("{:.decimals$} %", 100.0 * (1.0 - 10f64.powf(-step)))
}

/// From the shortest to the longest latency, between round marks.
fn time_axis(latencies: &[Latency]) -> Axis {
    let ends = latencies.iter().filter_map(|latency| Some([latency.buckets.first()?.0.max(1), latency.max]));
    let values = ends.flatten().map(|ns| ns as f64);
    Axis::logarithmic(values, "ns", "took at most".to_owned())
}

/// `(upper bound, nines)`: how many nines the percentile has that ends at the bound. The longest request ends
/// at the last nine that so many requests can tell.
fn curve(latency: &Latency) -> Vec<(u64, f64)> {
    let total = latency.buckets.iter().map(|(_, count)| *count).sum::<u64>().max(1);
    let mut seen = 0;
    let start = latency.buckets.first().map(|(upper, _)| ((*upper).max(1), 0.0));
    let steps = latency.buckets.iter().map(|(upper, count)| {
        seen += count;
        let slower = total.saturating_sub(seen).max(1);
        ((*upper).max(1), (total as f64 / slower as f64).log10())
    });
    start.into_iter().chain(steps).collect()
}

/// The quantiles of the row that so many requests can tell, as points of the curve.
fn quantiles(latency: &Latency) -> Vec<(u64, f64)> {
    let exact = [(latency.p50, 2.0), (latency.p90, 10.0), (latency.p99, 100.0), (latency.p999, 1000.0)];
    let told = exact.into_iter().filter(|(_, requests)| latency.count as f64 >= *requests);
    told.map(|(ns, requests)| (ns.max(1), requests.log10())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    fn few() -> Latency {
        Latency {
            count: 1000,
            buckets: vec![(10, 900), (20, 90), (30, 10)],
            ..sample::demonstration().latencies.remove(0)
        }
    }

    #[test]
    fn a_curve_rises_from_none_to_the_last_nine() {
        let nines: Vec<_> =
            curve(&few()).iter().map(|(ns, nines)| (*ns, (nines * 1e6).round() / 1e6)).collect();
        assert_eq!(nines, [(10, 0.0), (10, 1.0), (20, 2.0), (30, 3.0)]);
    }

    #[test]
    fn percentiles_gain_a_nine_a_step() {
        assert_eq!([0.0, 1.0, 2.0, 3.0, 4.0].map(percentile), ["0 %", "90 %", "99 %", "99.9 %", "99.99 %"]);
    }

    #[test]
    fn quantiles_are_marked_where_there_are_enough_requests() {
        let latency = Latency { count: 50, ..few() };
        let nines: Vec<_> = quantiles(&latency).iter().map(|(_, nines)| *nines).collect();
        assert_eq!(nines, [2f64.log10(), 1.0]);
    }

    #[test]
    fn of_many_latencies_the_round_trips_have_lines() {
        let named = |name: &str| Latency { name: name.to_owned(), ..few() };
        let names =
            |latencies: &[Latency]| told_apart(latencies).into_iter().map(|l| l.name).collect::<Vec<_>>();
        assert_eq!(names(&[named("a"), named("b")]), ["a", "b"]);
        let mut many = vec![named("hop"); LINES];
        assert_eq!(names(&many).len(), LINES);
        many.push(named("x.round_trip"));
        assert_eq!(names(&many), ["x.round_trip"]);
        assert_eq!(names(&vec![named("x.round_trip"); 2 * LINES]).len(), LINES);
    }

    #[test]
    fn the_sentence_names_the_ends() {
        let latencies = sample::demonstration().latencies;
        assert!(sentence(&latencies).contains("(blk.randread.4k.qd1) to"), "{}", sentence(&latencies));
        assert!(sentence(&latencies[..1]).starts_with("Half of 20\u{202f}000 requests"));
        assert_eq!(sentence(&[]), "There were no requests.");
    }
}
