//! A link, one direction at a time: a packet waits for its turn and for credits, and what is sent arrives in
//! order.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
};

use super::{Clock, Line, Link, Pcie, Signal, Span, Time, Tlp};

/// Credits of one kind: what the receiver can take, and when what was sent frees it again (PCIe 5.0, 2.6.1).
#[derive(Debug, Default)]
struct Ledger {
    headers: u64,
    data: u64,
    /// When how many come back, in order.
    spent: VecDeque<(Time, u16, u16)>,
}

impl Ledger {
    /// When there are credits for `headers` and `data` more, from `now` on.
    fn available_at(
        &mut self,
        now: Time,
        (headers, data): (u16, u16),
        (most_headers, most_data): (u16, u16),
    ) -> Time {
        let mut from = now;
        let fits = |ledger: &Self| {
            ledger.headers + u64::from(headers) <= u64::from(most_headers)
                && ledger.data + u64::from(data) <= u64::from(most_data)
        };
        while self.spent.front().is_some_and(|&(back, ..)| back <= now || !fits(self)) {
            let Some((back, headers, data)) = self.spent.pop_front() else { break };
            self.headers -= u64::from(headers);
            self.data -= u64::from(data);
            from = from.max(back);
        }
        from
    }

    fn spend(&mut self, back: Time, (headers, data): (u16, u16)) {
        self.headers += u64::from(headers);
        self.data += u64::from(data);
        self.spent.push_back((back, headers, data));
    }
}

/// What went over a direction so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets of any kind.
    pub tlps: u64,
    /// Bytes on the wire, framing included.
    pub bytes: u64,
    /// How long the wire was busy with them.
    pub busy: Span,
    /// How long packets waited for credits while the wire was free.
    pub starved: Span,
}

/// A packet on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Its kind and its data.
    pub tlp: Tlp,
    /// When it was sent: it may have had to wait.
    pub at: Time,
    /// When its first byte left.
    pub from: Time,
    /// When its last byte left.
    pub to: Time,
}

/// One direction of a PCIe link.
///
/// Packets leave in the order in which they are sent, whatever their kind: of the rules that let one pass
/// another (PCIe 5.0, 2.4.1) none is used. Completions never wait for credits: a receiver reserves space
/// before it sends the request (2.6.1).
pub struct Wire {
    pcie: Pcie,
    rate: Link,
    flight: Span,
    line: Line,
    posted: RefCell<Ledger>,
    non_posted: RefCell<Ledger>,
    traffic: Cell<Traffic>,
    watch: Option<Box<dyn Fn(Sent)>>,
}

impl Wire {
    /// A direction in which what has left arrives `flight` later.
    #[must_use]
    pub fn new(pcie: Pcie, flight: Span) -> Self {
        Self {
            pcie,
            rate: pcie.link(),
            flight,
            line: Line::default(),
            posted: RefCell::default(),
            non_posted: RefCell::default(),
            traffic: Cell::default(),
            watch: None,
        }
    }

    /// Shows `watch` every packet that is sent.
    #[must_use]
    pub fn watched_by(mut self, watch: impl Fn(Sent) + 'static) -> Self {
        self.watch = Some(Box::new(watch));
        self
    }

    /// The link that this is a direction of.
    #[must_use]
    pub fn pcie(&self) -> &Pcie {
        &self.pcie
    }

    /// How long what has left is under way.
    #[must_use]
    pub fn flight(&self) -> Span {
        self.flight
    }

    /// What went over it so far.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.traffic.get()
    }

    /// When what is sent now would begin to leave, credits apart.
    #[must_use]
    pub fn free_at(&self) -> Time {
        self.line.free_at()
    }

    /// Sends a packet, from `now` on; when its last byte arrives.
    #[inline]
    pub fn send(&self, now: Time, tlp: Tlp) -> Time {
        let bytes = u64::from(self.pcie.wire_bytes(tlp));
        let span = self.rate.serialization(bytes);
        let (ledger, most) = self.ledger(tlp);
        let need = Pcie::credits_of(tlp);
        let from = ledger.map_or(now, |ledger| ledger.borrow_mut().available_at(now, need, most));
        let turn = now.max(self.line.free_at());
        let begin = from.max(turn);
        let gone = self.line.occupy(from, span);
        let there = gone + self.flight;
        if let Some(ledger) = ledger {
            // The receiver is never slow: what arrived is done with, and the update flies back.
            ledger.borrow_mut().spend(there + self.flight, need);
        }
        let Traffic { tlps, bytes: before, busy, starved } = self.traffic.get();
        let starved = starved + from.since(turn);
        self.traffic.set(Traffic { tlps: tlps + 1, bytes: before + bytes, busy: busy + span, starved });
        if let Some(watch) = &self.watch {
            watch(Sent { tlp, at: now, from: begin, to: gone });
        }
        there
    }

    fn ledger(&self, tlp: Tlp) -> (Option<&RefCell<Ledger>>, (u16, u16)) {
        let credits = &self.pcie.credits;
        match tlp {
            Tlp::MemoryWrite { .. } => (Some(&self.posted), (credits.posted_headers, credits.posted_data)),
            Tlp::MemoryRead => (Some(&self.non_posted), (credits.non_posted_headers, u16::MAX)),
            Tlp::Completion { .. } => (None, (u16::MAX, u16::MAX)),
        }
    }
}

/// What is under way, in the order in which it arrives.
#[derive(Debug)]
pub struct Flight<T> {
    under_way: RefCell<VecDeque<(Time, T)>>,
    signal: Signal,
}

impl<T> Default for Flight<T> {
    fn default() -> Self {
        Self { under_way: RefCell::default(), signal: Signal::default() }
    }
}

impl<T> Flight<T> {
    /// `what` arrives at `time`, after whatever is under way.
    #[inline]
    pub fn launch(&self, clock: &Clock, time: Time, what: T) {
        let mut under_way = self.under_way.borrow_mut();
        if under_way.is_empty() {
            self.signal.raise(clock);
        }
        under_way.push_back((time, what));
    }

    /// Waits for the next arrival. One task does.
    pub async fn land(&self, clock: &Clock) -> T {
        loop {
            let next = self.under_way.borrow().front().map(|(time, _)| *time);
            match next {
                None => self.signal.wait(clock).await,
                Some(time) => {
                    clock.until(time).await;
                    if let Some((_, what)) = self.under_way.borrow_mut().pop_front() {
                        return what;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cycle::{Credits, Generation};

    const FLIGHT: Span = Span::from_ns(400);

    fn wire(change: impl Fn(&mut Credits)) -> Wire {
        let mut pcie = Pcie::new(Generation::Gen3, 4);
        change(&mut pcie.credits);
        Wire::new(pcie, FLIGHT)
    }

    fn on_the_wire(tlp: Tlp) -> Span {
        let pcie = Pcie::new(Generation::Gen3, 4);
        pcie.serialization(pcie.wire_bytes(tlp).into())
    }

    #[test]
    fn packets_follow_one_another_and_arrive_in_order() {
        let wire = wire(|_| ());
        let (write, completion) = (Tlp::MemoryWrite { data: 64 }, Tlp::Completion { data: 64 });
        let first = wire.send(Time::ZERO, write);
        let second = wire.send(Time::ZERO, completion);
        assert_eq!(first, Time::ZERO + on_the_wire(write) + FLIGHT);
        assert_eq!(second, first + on_the_wire(completion));
        let Traffic { tlps, busy, starved, .. } = wire.traffic();
        assert_eq!((tlps, busy, starved), (2, on_the_wire(write) + on_the_wire(completion), Span::ZERO));
    }

    /// ```text
    ///   send   |w|w|                  |w|
    ///   there          |w|w|
    ///   back                   |c|c|
    /// ```
    #[test]
    fn who_has_no_credits_waits_until_they_fly_back() {
        let wire = wire(|credits| credits.posted_headers = 2);
        let write = Tlp::MemoryWrite { data: 4 };
        let [first, _, third] = [(); 3].map(|()| wire.send(Time::ZERO, write));
        assert_eq!(third, first + FLIGHT + on_the_wire(write) + FLIGHT);
        assert_eq!(wire.traffic().starved, (FLIGHT * 2).saturating_sub(on_the_wire(write)));
        // Reads have credits of their own, completions need none; both wait for the wire only.
        let read = wire.send(Time::ZERO, Tlp::MemoryRead);
        assert_eq!(read, third + on_the_wire(Tlp::MemoryRead));
    }

    /// 16 units of 16 bytes are one largest write under way: a 256-byte write every round trip.
    #[test]
    fn data_credits_bound_the_rate() {
        let wire = wire(|credits| credits.posted_data = 16);
        let write = Tlp::MemoryWrite { data: 256 };
        let (count, mut last) = (100, Time::ZERO);
        for _ in 0..count {
            last = wire.send(Time::ZERO, write);
        }
        let round = on_the_wire(write) + FLIGHT * 2;
        assert_eq!(last, Time::ZERO + round * (count - 1) + on_the_wire(write) + FLIGHT);
    }
}
