//! What a plan came to: how long requests took, and where; how busy the links were.

use std::cell::{Cell, RefCell};

use iobond_model::cycle::{Span, Time};
use results::{
    Latency, Stages,
    measure::{LatencyRecorder, Stage, StageTotals},
};

use super::{Window, moments::Stamps};

/// What is measured between which moments.
const MEASURED: [(&str, Stage, Stage); 4] = [
    ("doorbell_to_shadow", Stage::Doorbell, Stage::Shadow),
    ("shadow_to_back_end", Stage::Shadow, Stage::Kicked),
    ("back_end_to_guest", Stage::Used, Stage::Guest),
    ("round_trip", Stage::Begin, Stage::Done),
];

/// FNV-1a's offset basis and prime, 64 bits (Fowler, Noll, Vo).
const FNV_BASIS: u64 = 0xCBF2_9CE4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01B3;

/// Collects the requests of all queues.
#[derive(Debug)]
pub struct Recorder {
    warm_up: u64,
    /// When the measurement begins, and how long it is, if it is one of a time.
    window: Option<(Time, Span)>,
    latencies: RefCell<[LatencyRecorder; MEASURED.len()]>,
    stages: RefCell<StageTotals>,
    count: Cell<u64>,
    begin: Cell<Time>,
    end: Cell<Time>,
    digest: Cell<u64>,
}

/// How busy something was while requests were measured and before.
#[derive(Clone, Debug, PartialEq)]
pub struct Usage {
    /// The board and its link or engine, `board0: to the base`.
    pub name: String,
    /// The share of the time that it was busy, 0 to 1.
    pub share: f64,
    /// Bytes that it moved, framing included; none of what has no bytes.
    pub bytes: u64,
}

/// What one board got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Requests that were measured.
    pub requests: u64,
    /// Their payload in bytes, both ways.
    pub bytes: u64,
    /// Bytes of the network's wire that its frames took.
    pub wire_bytes: u64,
    /// Frames that came for it and were lost.
    pub lost: u64,
}

/// What a plan came to, in any world.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Requests that were measured.
    pub requests: u64,
    /// From the first that was measured to the end of the last.
    pub span: Span,
    /// Latencies: doorbell to shadow, shadow to back end, back end to guest, and the whole round trip.
    pub latencies: Vec<Latency>,
    /// Where the time went.
    pub stages: Stages,
    /// Links and DMA engines, and the network where there is one.
    pub usage: Vec<Usage>,
    /// What each board got, by number; none on the wall clock.
    pub boards: Vec<Share>,
    /// Doorbells that arrived at IO-Bonds, those of the warm-up among them.
    pub doorbells: u64,
    /// Interrupts that arrived at boards, likewise.
    pub interrupts: u64,
    /// Share of a processor that the thread of IO-Bonds, pollers and back ends had; none in virtual time.
    pub cpu_share: Option<f64>,
    /// Turns that tasks had.
    pub events: u64,
    /// Stands for every moment of every request: equal plans have equal ones.
    pub digest: u64,
}

impl Outcome {
    /// Requests a second, of all boards.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.requests as f64 / self.span.as_secs()
    }

    /// The latency of this name; none if nothing is called so.
    #[must_use]
    pub fn latency(&self, name: &str) -> Option<&Latency> {
        self.latencies.iter().find(|latency| latency.name == name)
    }
}

impl Recorder {
    /// Nothing yet; the first `warm_up` requests of each queue are not measured.
    #[must_use]
    pub fn new(warm_up: u64) -> Self {
        Self {
            warm_up,
            window: None,
            latencies: RefCell::new(std::array::from_fn(|_| LatencyRecorder::new())),
            stages: RefCell::default(),
            count: Cell::new(0),
            begin: Cell::new(Time::MAX),
            end: Cell::new(Time::ZERO),
            digest: Cell::new(FNV_BASIS),
        }
    }

    /// Measures in `window` instead, if there is one, counted from when the boards are `up`.
    #[must_use]
    pub fn within(self, window: Option<Window>, up: Time) -> Self {
        let window = window.map(|Window { after, length }| (up + after, length));
        Self { warm_up: if window.is_some() { 0 } else { self.warm_up }, window, ..self }
    }

    /// Requests that were measured so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count.get()
    }

    /// What was measured, without what only a simulation knows.
    pub(crate) fn taken(&self) -> Outcome {
        let latencies = self.latencies.borrow();
        let rows = MEASURED.iter().zip(latencies.iter()).map(|((name, ..), recorder)| recorder.latency(name));
        Outcome {
            requests: self.count.get(),
            span: self.window.map_or(self.end.get().since(self.begin.get()), |(_, length)| length),
            latencies: rows.collect(),
            stages: self.stages.borrow().stages("request"),
            usage: Vec::new(),
            boards: Vec::new(),
            doorbells: 0,
            interrupts: 0,
            cpu_share: None,
            events: 0,
            digest: self.digest.get(),
        }
    }

    /// Records a request; whether it is one of those that are measured.
    fn record(&self, request: u64, stamps: &Stamps) -> bool {
        let mix = |digest: u64, time: &Time| (digest ^ time.ps()).wrapping_mul(FNV_PRIME);
        self.digest.set(stamps.iter().fold(self.digest.get(), mix));
        let early = self.window.is_some_and(|(begin, _)| stamps[Stage::Done as usize] < begin);
        if request < self.warm_up || early {
            return false;
        }
        self.count.set(self.count.get() + 1);
        self.begin.set(self.begin.get().min(stamps[Stage::Begin as usize]));
        self.end.set(self.end.get().max(stamps[Stage::Done as usize]));
        let mut latencies = self.latencies.borrow_mut();
        for (recorder, (_, from, to)) in latencies.iter_mut().zip(MEASURED) {
            recorder.record_ns(stamps[to as usize].since(stamps[from as usize]).ps() / 1000);
        }
        let ns = stamps.map(Time::ns);
        self.stages.borrow_mut().record(&ns);
        true
    }
}

/// Gets every finished request: its number in its queue, and when it passed each stage.
pub(crate) trait Sink {
    fn finished(&self, request: u64, stamps: &Stamps);
}

impl Sink for Recorder {
    fn finished(&self, request: u64, stamps: &Stamps) {
        self.record(request, stamps);
    }
}

/// The requests of one board, which are recorded with all others'.
#[derive(Debug)]
pub(super) struct OfBoard<'a> {
    recorder: &'a Recorder,
    requests: Cell<u64>,
}

impl<'a> OfBoard<'a> {
    pub(super) fn new(recorder: &'a Recorder) -> Self {
        Self { recorder, requests: Cell::new(0) }
    }

    /// Those that were measured.
    pub(super) fn requests(&self) -> u64 {
        self.requests.get()
    }
}

impl Sink for OfBoard<'_> {
    fn finished(&self, request: u64, stamps: &Stamps) {
        self.requests.set(self.requests.get() + u64::from(self.recorder.record(request, stamps)));
    }
}
