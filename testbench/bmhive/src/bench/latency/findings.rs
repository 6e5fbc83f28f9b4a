//! What the points of a sweep come to in a result: the same names in every world.

use results::{Curve, Figure, Latency, RunResult, Stages, Table};

use simulation::Outcome;

use super::Load;

/// The share of what is asked for that comes through where a load is carried: the rest is chance, 1 % of
/// 10 000 requests at random times, and that of a machine which others use too.
const CARRIED: f64 = 0.95;

/// Results of a sweep.
#[derive(Debug, Default)]
pub struct Findings {
    figures: Vec<Figure>,
    latencies: Vec<Latency>,
    stages: Vec<Stages>,
    tables: Vec<Table>,
    notes: Vec<String>,
    load: Percentiles,
    size: Percentiles,
    queues: Percentiles,
    boards: Vec<(f64, f64)>,
}

/// Median and 99th percentile of round trips, each at an x.
#[derive(Debug, Default)]
struct Percentiles([Vec<(f64, f64)>; 2]);

impl Percentiles {
    fn add(&mut self, x: f64, outcome: &Outcome) {
        let Some(whole) = outcome.latency("round_trip") else { return };
        for (points, ns) in self.0.iter_mut().zip([whole.p50, whole.p99]) {
            points.push((x, ns as f64));
        }
    }

    /// The curve, if there is more than one point of it.
    fn curve(self, curve: Curve) -> Option<Curve> {
        let [median, tail] = self.0;
        (median.len() > 1).then(|| curve.with("p50", median).with("p99", tail))
    }
}

impl Findings {
    /// Requests of `size` bytes, one at a time.
    pub(super) fn idle(&mut self, size: u32, outcome: &Outcome) {
        // Load is that of one size; the first comes first.
        if self.load.0[0].is_empty() {
            self.load.add(Load::Idle.percent(), outcome);
        }
        self.size.add(size.into(), outcome);
        self.throughput(Load::Idle, size, outcome);
        self.where_time_went(Load::Idle, size, outcome);
    }

    /// Requests of `size` bytes at random times, `rate` of them in a second.
    pub(super) fn offered(&mut self, load: Load, size: u32, rate: f64, outcome: &Outcome) {
        self.load.add(load.percent(), outcome);
        let came = outcome.rate();
        if came < CARRIED * rate {
            self.notes.push(format!(
                "latency.{size}.{}: {came:.0} of {rate:.0} requests a second came through; they queue, so that its round trips are \
                 the longer the more requests are measured.",
                load.name()
            ));
        }
        self.loaded(load, size, outcome);
    }

    /// As many requests at random times as come through.
    pub(super) fn capacity(&mut self, size: u32, outcome: &Outcome) {
        let name = format!("latency.{size}.capacity.throughput");
        self.figures.push(Figure::new(&name, outcome.rate(), "requests/s", outcome.cpu_share));
    }

    /// Requests of `size` bytes at a load that is more than idle.
    pub(super) fn loaded(&mut self, load: Load, size: u32, outcome: &Outcome) {
        self.throughput(load, size, outcome);
        self.where_time_went(load, size, outcome);
    }

    /// How many requests of `size` bytes there were in a second.
    pub(super) fn throughput(&mut self, load: Load, size: u32, outcome: &Outcome) {
        let name = format!("latency.{size}.{}.throughput", load.name());
        self.figures.push(Figure::new(&name, outcome.rate(), "requests/s", outcome.cpu_share));
    }

    /// So many queues with one request each.
    pub(super) fn queues(&mut self, queues: u8, outcome: &Outcome) {
        self.queues.add(queues.into(), outcome);
    }

    /// So many boards, all saturated.
    pub(super) fn boards(&mut self, boards: u8, outcome: &Outcome) {
        self.boards.push((boards.into(), outcome.rate()));
    }

    /// What was busy on the first board when it was saturated.
    pub(super) fn busy(&mut self, outcome: &Outcome) {
        let first = outcome.usage.iter().filter_map(|usage| {
            let what = usage.name.strip_prefix("board0: ")?;
            Some(vec![what.to_owned(), format!("{:.1} %", usage.share * 100.0)])
        });
        let rows: Vec<_> = first.collect();
        if !rows.is_empty() {
            self.tables.push(Table {
                name: "latency.busy".to_owned(),
                title: "How busy links and DMA engine are at saturation".to_owned(),
                columns: ["IO-Bond's", "busy"].map(str::to_owned).to_vec(),
                rows,
            });
        }
    }

    fn where_time_went(&mut self, load: Load, size: u32, outcome: &Outcome) {
        let name = format!("latency.{size}.{}", load.name());
        let named =
            |latency: &Latency| Latency { name: format!("{name}.{}", latency.name), ..latency.clone() };
        self.latencies.extend(outcome.latencies.iter().map(named));
        self.stages.push(Stages { name, ..outcome.stages.clone() });
    }

    /// Puts all of it into a result.
    pub fn put_into(self, result: &mut RunResult) {
        let Self { figures, latencies, stages, tables, notes, load, size, queues, boards } = self;
        result.figures.extend(figures);
        result.latencies.extend(latencies);
        result.stages.extend(stages);
        result.tables.extend(tables);
        result.notes.extend(notes);
        let round_trip = ("round trip", "ns");
        let mut load = load.curve(Curve::new(
            "latency.load",
            "Round trip against load in percent of the capacity, 0 % being one request at a time",
            ("load", "%"),
            round_trip,
        ));
        let mut size = size.curve(Curve::new(
            "latency.size",
            "Round trip against size, one request at a time",
            ("size", "bytes"),
            round_trip,
        ));
        let queues = queues.curve(Curve::new(
            "latency.queues",
            "Round trip against queues, one request in each",
            ("queues", ""),
            round_trip,
        ));
        load.iter_mut().for_each(|curve| curve.log_y = true);
        size.iter_mut().for_each(|curve| (curve.log_x, curve.log_y) = (true, true));
        result.curves.extend([load, size, queues].into_iter().flatten());
        if boards.len() > 1 {
            let axes = (("boards", ""), ("requests", "requests/s"));
            let curve = Curve::new("latency.boards", "Requests of all boards, saturated", axes.0, axes.1);
            result.curves.push(curve.with("all boards", boards));
        }
    }
}
