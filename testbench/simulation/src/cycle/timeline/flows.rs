//! The requests of one queue, each from slice to slice.

use std::collections::{BTreeMap, VecDeque};

use crate::trace::Track;

/// Where a request is found in the picture, in the order in which it comes there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The driver makes it.
    Submit,
    /// IO-Bond's engine forwards it.
    Forward,
    /// bm-hypervisor tells the back end.
    Told,
    /// The back end serves it.
    Serve,
    /// bm-hypervisor sees that it was used.
    Seen,
    /// IO-Bond's engine returns it.
    Return,
    /// The driver takes it back.
    Complete,
}

const STOPS: usize = Stop::Complete as usize + 1;

/// Where a request was, and since when the slice of it was there.
type Stops = [Option<(Track, u64)>; STOPS];

/// Requests by number, the first made being 0. What is seen of them names their order, or the number that
/// they have for as long as they are under way.
#[derive(Debug, Default)]
pub(super) struct Flows {
    flows: BTreeMap<u64, Stops>,
    numbers: BTreeMap<u16, u64>,
    made: u64,
    forwarded: u64,
    told: u64,
    /// Used, and not returned yet.
    used: VecDeque<u64>,
    /// How many of those TAIL has passed, and TAIL.
    seen: usize,
    tail: u16,
    /// Those that the driver has found, and not taken back yet.
    found: Vec<u64>,
}

impl Flows {
    /// `request` is made; as which number.
    pub(super) fn make(&mut self, request: u16, at: (Track, u64)) {
        self.numbers.insert(request, self.made);
        self.flows.insert(self.made, [None; STOPS]);
        self.stop(self.made, Stop::Submit, at);
        self.made += 1;
    }

    /// The number of a request that is under way.
    pub(super) fn number(&self, request: u16) -> u64 {
        self.numbers.get(&request).copied().unwrap_or_default()
    }

    fn stop(&mut self, number: u64, stop: Stop, at: (Track, u64)) {
        if let Some(stops) = self.flows.get_mut(&number) {
            stops[stop as usize].get_or_insert(at);
        }
    }

    /// The next `count` were forwarded; the first of them.
    pub(super) fn forward(&mut self, count: u64, at: (Track, u64)) -> u64 {
        let first = self.forwarded;
        self.forwarded += count;
        (first..self.forwarded).for_each(|number| self.stop(number, Stop::Forward, at));
        first
    }

    /// The back end was told of all before `index`.
    pub(super) fn tell(&mut self, index: u16, at: (Track, u64)) {
        let count = index.wrapping_sub(self.told as u16);
        (self.told..).take(count.into()).for_each(|number| self.stop(number, Stop::Told, at));
        self.told += u64::from(count);
    }

    /// The back end served `request`.
    pub(super) fn serve(&mut self, request: u16, at: (Track, u64)) {
        self.stop(self.number(request), Stop::Serve, at);
    }

    /// The back end used `request`.
    pub(super) fn use_up(&mut self, request: u16) {
        self.used.push_back(self.number(request));
    }

    /// bm-hypervisor saw all before `index` used.
    pub(super) fn see(&mut self, index: u16, at: (Track, u64)) {
        let count = usize::from(index.wrapping_sub(self.tail));
        let numbers: Vec<_> = self.used.iter().skip(self.seen).take(count).copied().collect();
        numbers.into_iter().for_each(|number| self.stop(number, Stop::Seen, at));
        self.seen += count;
        self.tail = index;
    }

    /// The next `count` were returned; the first of them.
    pub(super) fn give_back(&mut self, count: u64, at: (Track, u64)) -> u64 {
        let first = self.used.front().copied().unwrap_or_default();
        for _ in 0..count {
            let Some(number) = self.used.pop_front() else { break };
            self.stop(number, Stop::Return, at);
        }
        self.seen = self.seen.saturating_sub(count as usize);
        first
    }

    /// The driver has found `request`.
    pub(super) fn find(&mut self, request: u16) {
        self.found.push(self.number(request));
    }

    /// It takes back what it found.
    pub(super) fn complete(&mut self, at: (Track, u64)) {
        for number in std::mem::take(&mut self.found) {
            self.stop(number, Stop::Complete, at);
        }
    }

    /// Those of which everything is known, or, if it is `over`, all that are complete: the number, and where
    /// each was since when. Slices are seen when they end, so that a long one may come after whatever its
    /// requests did next.
    pub(super) fn take_finished(&mut self, over: bool) -> Vec<(u64, Vec<(Track, u64)>)> {
        let known = |stop: Stop, stops: &Stops| stops[stop as usize].is_some();
        let ready = |stops: &Stops| {
            known(Stop::Complete, stops)
                && (over || (known(Stop::Forward, stops) && known(Stop::Return, stops)))
        };
        let finished: Vec<u64> =
            self.flows.iter().filter(|(_, stops)| ready(stops)).map(|(number, _)| *number).collect();
        finished
            .into_iter()
            .filter_map(|number| Some((number, points(&self.flows.remove(&number)?))))
            .collect()
    }
}

/// The stops of a request, each at a moment at which it can have been there: a slice may begin before
/// whatever one of its requests did before.
fn points(stops: &Stops) -> Vec<(Track, u64)> {
    let mut last = 0;
    let reached = stops.iter().flatten();
    reached
        .map(|&(track, at)| {
            last = at.max(last);
            (track, last)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Trace;

    /// Two requests that are forwarded together and used the other way round; the slices of the engine are
    /// seen last.
    ///
    /// ```text
    ///   engine  |10 forward                               90|
    ///   others     |20 submit|  |30 serve|  |40 pass|   |70 complete|
    /// ```
    #[test]
    fn arrows_wait_for_the_slices_that_are_seen_last() {
        let mut trace = Trace::new(0);
        let track = trace.track("g", "t");
        let at = |ps| (track, ps);
        let mut flows = Flows::default();
        flows.make(5, at(20));
        flows.make(3, at(20));
        flows.serve(5, at(30));
        flows.serve(3, at(31));
        flows.use_up(3);
        flows.see(1, at(29));
        flows.use_up(5);
        flows.see(2, at(40));
        assert_eq!(flows.give_back(2, at(50)), 1, "the first that was used was made as number 1");
        flows.find(3);
        flows.complete(at(70));
        assert_eq!(flows.take_finished(false), [], "it has not been seen forwarded");
        // Its name is another's by now.
        flows.make(3, at(71));
        assert_eq!(flows.number(3), 2);
        assert_eq!(flows.forward(2, at(10)), 0);
        let stops = |times: &[u64]| times.iter().map(|ps| at(*ps)).collect::<Vec<_>>();
        assert_eq!(flows.take_finished(false), [(1, stops(&[20, 20, 31, 31, 50, 70]))]);
        flows.find(5);
        flows.complete(at(80));
        assert_eq!(flows.take_finished(false), [(0, stops(&[20, 20, 30, 40, 50, 80]))]);
        // At the end what was not seen is passed over.
        flows.serve(3, at(82));
        flows.find(3);
        flows.complete(at(90));
        assert_eq!(flows.take_finished(false), []);
        assert_eq!(flows.take_finished(true), [(2, stops(&[71, 82, 90]))]);
    }

    #[test]
    fn indices_go_round() {
        let mut trace = Trace::new(0);
        let track = trace.track("g", "t");
        let mut flows = Flows::default();
        let rounds = 70_000;
        for number in 0..rounds {
            let at = |step| (track, number * 10 + step);
            flows.make(0, at(0));
            assert_eq!(flows.forward(1, at(1)), number);
            flows.tell((number + 1) as u16, at(2));
            flows.serve(0, at(3));
            flows.use_up(0);
            flows.see((number + 1) as u16, at(4));
            assert_eq!(flows.give_back(1, at(5)), number);
            flows.find(0);
            flows.complete(at(6));
            let stops: Vec<_> = (0..7).map(at).collect();
            assert_eq!(flows.take_finished(false), [(number, stops)]);
        }
        assert!(flows.flows.is_empty() && flows.used.is_empty());
    }
}
