//! What happened when, in simulated time, as a file that trace viewers open: the JSON object form of the
//! Trace Event Format.
//!
//! ```text
//! group "board0"   track "driver"    [ submit ]                               [ complete ]
//!                                          \  flow: one descriptor             ^
//! group "IO-Bond"  track "queue 0"          v [ forward ]        [ retire ] --/
//!                  counter "in flight"    __________/""""""""""""""""\______
//! ```
//!
//! A group is a process to the viewer and a track a thread of it; nothing else is meant by either. Times are
//! picoseconds since the world began. The file has them in microseconds, as the format demands, to the last
//! picosecond; viewers may keep less (Perfetto keeps nanoseconds). The same calls give the same bytes.
//!
//! Left out: where the moments come from, and where the file goes.

mod event;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

pub use event::Arg;
use event::{Event, Kind, Line, metadata};

/// A row of the picture. Belongs to the [`Trace`] that gave it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Track(usize);

/// Who a track is to the viewer.
#[derive(Clone, Debug)]
struct Place {
    group: u32,
    number: u32,
    name: String,
}

/// A recording, kept in memory until it is written.
#[derive(Clone, Debug)]
pub struct Trace {
    limit: usize,
    left_out: u64,
    /// Numbers given out so far. Groups and tracks share them, since a thread that has its process's number
    /// is special.
    numbers: u32,
    groups: BTreeMap<String, u32>,
    known: BTreeMap<(u32, String), Track>,
    tracks: Vec<Place>,
    /// The names of groups and tracks, in the order in which they were made.
    heads: Vec<Line>,
    events: Vec<Event>,
    /// Flows whose beginning was kept.
    flows: BTreeSet<(u64, String)>,
}

impl Trace {
    /// A trace that keeps `limit` events, a few hundred bytes each; what comes later is counted.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self {
            limit,
            left_out: 0,
            numbers: 0,
            groups: BTreeMap::new(),
            known: BTreeMap::new(),
            tracks: Vec::new(),
            heads: Vec::new(),
            events: Vec::new(),
            flows: BTreeSet::new(),
        }
    }

    /// The track `name` in `group`, made when it is asked for first. Viewers show groups, and tracks in a
    /// group, in the order in which they were made.
    pub fn track(&mut self, group: &str, name: &str) -> Track {
        let group = self.group(group);
        if let Some(track) = self.known.get(&(group, name.to_owned())) {
            return *track;
        }
        let number = self.number();
        self.heads.push(metadata("thread_name", group, number, "name", name.into()));
        self.heads.push(metadata("thread_sort_index", group, number, "sort_index", u64::from(number).into()));
        let track = Track(self.tracks.len());
        self.tracks.push(Place { group, number, name: name.to_owned() });
        self.known.insert((group, name.to_owned()), track);
        track
    }

    fn group(&mut self, name: &str) -> u32 {
        if let Some(number) = self.groups.get(name) {
            return *number;
        }
        let number = self.number();
        self.groups.insert(name.to_owned(), number);
        self.heads.push(metadata("process_name", number, number, "name", name.into()));
        self.heads.push(metadata(
            "process_sort_index",
            number,
            number,
            "sort_index",
            u64::from(number).into(),
        ));
        number
    }

    /// From 1: viewers take 0 for the idle process.
    const fn number(&mut self) -> u32 {
        self.numbers = self.numbers.saturating_add(1);
        self.numbers
    }

    /// Something that took from `from_ps` to `to_ps`. Slices of one track lie apart or one in the other
    /// ([`Self::crossing`]); one that ends before it begins takes no time.
    pub fn slice(&mut self, track: Track, name: &str, from_ps: u64, to_ps: u64, args: &[(&str, Arg<'_>)]) {
        let to_ps = to_ps.max(from_ps);
        self.push(track, Kind::Slice, from_ps, to_ps, |line, _| {
            line.text("name", name);
            line.time("dur", to_ps - from_ps);
            line.args(args);
        });
    }

    /// An arrow begins in the slice of `track` that covers `at_ps`: from its first picosecond to the last
    /// before its end. A viewer that keeps nanoseconds misses one in the last of them; the moment at which
    /// the slice begins is always safe. The flow has this `id` among those of the same name.
    pub fn flow_begin(&mut self, track: Track, id: u64, at_ps: u64, name: &str) {
        if self.flow(track, Kind::FlowBegin, id, at_ps, name) {
            self.flows.insert((id, name.to_owned()));
        }
    }

    /// The arrow ends in the slice there, and the next one begins. Left out where the flow's beginning is not
    /// kept.
    pub fn flow_step(&mut self, track: Track, id: u64, at_ps: u64, name: &str) {
        self.flow_on(track, Kind::FlowStep, id, at_ps, name);
    }

    /// The last arrow ends in the slice there. Left out where the flow's beginning is not kept.
    pub fn flow_end(&mut self, track: Track, id: u64, at_ps: u64, name: &str) {
        if self.flow_on(track, Kind::FlowEnd, id, at_ps, name) {
            self.flows.remove(&(id, name.to_owned()));
        }
    }

    /// A flow that is over: arrows from point to point, all of them or, where that would be more than the
    /// limit, none.
    pub fn arrows(&mut self, id: u64, name: &str, points: &[(Track, u64)]) {
        let [(first, begin), between @ .., (last, end)] = points else { return };
        if self.limit - self.events.len() < points.len() {
            self.left_out += points.len() as u64;
            return;
        }
        self.flow_begin(*first, id, *begin, name);
        between.iter().for_each(|(track, at)| self.flow_step(*track, id, *at, name));
        self.flow_end(*last, id, *end, name);
    }

    fn flow_on(&mut self, track: Track, kind: Kind, id: u64, at_ps: u64, name: &str) -> bool {
        // Viewers complain about an arrow from nowhere.
        let begun = self.flows.contains(&(id, name.to_owned()));
        if !begun {
            self.left_out += 1;
        }
        begun && self.flow(track, kind, id, at_ps, name)
    }

    fn flow(&mut self, track: Track, kind: Kind, id: u64, at_ps: u64, name: &str) -> bool {
        self.push(track, kind, at_ps, at_ps, |line, _| {
            line.text("name", name);
            line.text("cat", "flow");
            // In a string: JavaScript holds whole numbers to 2^53 only.
            line.text("id", &format!("{id:#x}"));
            if kind == Kind::FlowEnd {
                // To the enclosing slice, as the others are, and not to the next one.
                line.text("bp", "e");
            }
        })
    }

    /// `name` of `track` is `value` from `at_ps` on. The viewer shows it as a counter of the group.
    pub fn counter(&mut self, track: Track, name: &str, at_ps: u64, value: u64) {
        self.push(track, Kind::Counter, at_ps, at_ps, |line, place| {
            // Counters are told apart by name in their process, whatever their thread.
            line.text("name", &format!("{} {name}", place.name));
            line.args(&[("value", Arg::Number(value))]);
        });
    }

    /// Something that took no time.
    pub fn instant(&mut self, track: Track, name: &str, at_ps: u64, args: &[(&str, Arg<'_>)]) {
        self.push(track, Kind::Instant, at_ps, at_ps, |line, _| {
            line.text("name", name);
            line.text("s", "t");
            line.args(args);
        });
    }

    /// Keeps an event, or counts it. Says whether it is kept.
    fn push(
        &mut self,
        track: Track,
        kind: Kind,
        at_ps: u64,
        to_ps: u64,
        fill: impl FnOnce(&mut Line, &Place),
    ) -> bool {
        let place = self.tracks.get(track.0).filter(|_| self.events.len() < self.limit);
        let Some(place) = place else {
            self.left_out += 1;
            return false;
        };
        let mut line = Line::new(kind.phase(), place.group, place.number);
        line.time("ts", at_ps);
        fill(&mut line, place);
        self.events.push(Event { at_ps, kind, to_ps, track, line });
        true
    }

    /// Events that are kept.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether nothing is kept.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Events that are not kept: over the limit, or arrows of a flow whose beginning is not kept.
    #[must_use]
    pub const fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Slices that begin inside another one of their track and end after it. The format has no place for
    /// them, and viewers leave them out: they belong on a track of their own.
    #[must_use]
    pub fn crossing(&self) -> usize {
        let mut open: BTreeMap<Track, Vec<u64>> = BTreeMap::new();
        let slices = self.ordered().into_iter().filter(|event| event.kind == Kind::Slice);
        slices
            .filter(|slice| {
                let ends = open.entry(slice.track).or_default();
                while ends.last().is_some_and(|end| *end <= slice.at_ps) {
                    ends.pop();
                }
                let crosses = ends.last().is_some_and(|end| *end < slice.to_ps);
                if !crosses {
                    ends.push(slice.to_ps);
                }
                crosses
            })
            .count()
    }

    /// By time. At the same moment an outer slice comes before an inner one and both before the arrows that
    /// begin and end in them: readers bind what they read to what they have read.
    fn ordered(&self) -> Vec<&Event> {
        let mut events: Vec<_> = self.events.iter().collect();
        // Stable: what is equal stays in the order in which it was recorded.
        events.sort_by_key(|event| (event.at_ps, event.kind.rank(), std::cmp::Reverse(event.to_ps)));
        events
    }

    /// Writes the file, an event a line.
    ///
    /// # Errors
    /// What `out` answers.
    pub fn write(&self, mut out: impl io::Write) -> io::Result<()> {
        let (left_out, crossing) = (self.left_out, self.crossing());
        write!(
            out,
            "{{\"displayTimeUnit\":\"ns\",\"otherData\":{{\"clock\":\"simulated\",\"events_left_out\":\"{left_out}\",\
             \"slices_that_cross\":\"{crossing}\"}},\"traceEvents\":["
        )?;
        let events = self.ordered();
        let note = (left_out > 0).then(|| self.note(&events));
        let lines = self.heads.iter().chain(events.iter().map(|event| &event.line)).chain(&note);
        for (index, line) in lines.enumerate() {
            out.write_all(if index == 0 { b"\n" } else { b",\n" })?;
            line.write(&mut out)?;
        }
        out.write_all(b"\n]}\n")?;
        out.flush()
    }

    /// Says in the picture, where it ends, that it is not all.
    fn note(&self, events: &[&Event]) -> Line {
        let group = self.tracks.first().map_or(0, |place| place.group);
        let mut line = Line::new(Kind::Instant.phase(), group, group);
        line.time("ts", events.iter().map(|event| event.to_ps).max().unwrap_or(0));
        line.text("name", &format!("{} events left out, limit {}", self.left_out, self.limit));
        line.text("s", "g");
        line
    }
}
