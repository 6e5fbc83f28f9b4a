//! The requests of one queue on their way, and when each of them passed each stage.
//!
//! Requests are made, published and taken in one order, and used, returned and finished in another, that of
//! their back end. Both are ring order, so that an index names requests.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
};

use iobond_model::cycle::Time;
use results::measure::{MOMENTS, Stage};

/// When a request passed each stage, by [`Stage`].
pub type Stamps = [Time; MOMENTS];

/// Requests of one queue. Each has a number of its own, from 0 on, for as long as it is under way.
#[derive(Debug)]
pub(super) struct Requests {
    stamps: RefCell<Box<[Stamps]>>,
    free: RefCell<VecDeque<u16>>,
    /// Which request was made as which, and which was used as which.
    made_as: RefCell<Box<[u16]>>,
    used_as: RefCell<Box<[u16]>>,
    made: Cell<u64>,
    submitted: Cell<u64>,
    shadowed: Cell<u64>,
    taken: Cell<u64>,
    used: Cell<u64>,
    told: Cell<u64>,
    landed: Cell<u64>,
    done: Cell<u64>,
}

/// `counter` moved on to where the low 16 bits of it are `index`.
pub(crate) fn reach(counter: u64, index: u16) -> u64 {
    counter + u64::from(index.wrapping_sub(counter as u16))
}

fn at(order: &RefCell<Box<[u16]>>, position: u64) -> u16 {
    let order = order.borrow();
    order[(position % order.len() as u64) as usize]
}

fn set(order: &RefCell<Box<[u16]>>, position: u64, request: u16) {
    let mut order = order.borrow_mut();
    let length = order.len() as u64;
    order[(position % length) as usize] = request;
}

impl Requests {
    /// None yet; at most `most` are ever under way.
    pub(super) fn new(most: u16) -> Self {
        let length = usize::from(most);
        let order = || RefCell::new(vec![0; length].into());
        Self {
            stamps: RefCell::new(vec![[Time::ZERO; MOMENTS]; length].into()),
            free: RefCell::new((0..most).collect()),
            made_as: order(),
            used_as: order(),
            made: Cell::new(0),
            submitted: Cell::new(0),
            shadowed: Cell::new(0),
            taken: Cell::new(0),
            used: Cell::new(0),
            told: Cell::new(0),
            landed: Cell::new(0),
            done: Cell::new(0),
        }
    }

    /// Whether one more may be under way.
    pub(super) fn has_free(&self) -> bool {
        !self.free.borrow().is_empty()
    }

    /// How many were made so far.
    pub(super) fn made(&self) -> u64 {
        self.made.get()
    }

    /// How many are finished.
    pub(super) fn done(&self) -> u64 {
        self.done.get()
    }

    /// How many the back end has taken.
    pub(super) fn taken(&self) -> u64 {
        self.taken.get()
    }

    /// How many it has used.
    pub(super) fn used(&self) -> u64 {
        self.used.get()
    }

    fn stamp(&self, request: u16, stage: Stage, time: Time) {
        self.stamps.borrow_mut()[usize::from(request)][stage as usize] = time;
    }

    /// One is made that was due at `due`; its number, none if as many as may be are under way.
    pub(super) fn make(&self, due: Time) -> Option<u16> {
        let request = self.free.borrow_mut().pop_front()?;
        set(&self.made_as, self.made.replace(self.made.get() + 1), request);
        self.stamp(request, Stage::Begin, due);
        Some(request)
    }

    /// All that were made are published: their doorbell rings, or need not.
    pub(super) fn submit(&self, now: Time) {
        (self.submitted.get()..self.made.get())
            .for_each(|nth| self.stamp(at(&self.made_as, nth), Stage::Doorbell, now));
        self.submitted.set(self.made.get());
    }

    /// The shadow available index says `index`.
    pub(super) fn shadow(&self, index: u16, now: Time) {
        let to = reach(self.shadowed.get(), index);
        (self.shadowed.get()..to).for_each(|nth| self.stamp(at(&self.made_as, nth), Stage::Shadow, now));
        self.shadowed.set(to);
    }

    /// The back end takes the next one; its number.
    pub(super) fn take(&self, now: Time) -> u16 {
        let request = at(&self.made_as, self.taken.replace(self.taken.get() + 1));
        self.stamp(request, Stage::Kicked, now);
        request
    }

    /// The back end has used `request`.
    pub(super) fn finish(&self, request: u16, now: Time) {
        set(&self.used_as, self.used.replace(self.used.get() + 1), request);
        self.stamp(request, Stage::Used, now);
    }

    /// TAIL is told to be `index`.
    pub(super) fn tell(&self, index: u16, now: Time) {
        let to = reach(self.told.get(), index);
        (self.told.get()..to).for_each(|nth| self.stamp(at(&self.used_as, nth), Stage::Tail, now));
        self.told.set(to);
    }

    /// The guest's used index says `index`.
    pub(super) fn land(&self, index: u16, now: Time) {
        let to = reach(self.landed.get(), index);
        (self.landed.get()..to).for_each(|nth| self.stamp(at(&self.used_as, nth), Stage::Guest, now));
        self.landed.set(to);
    }

    /// The driver takes the next answer that is there: as which it was used, its number, and its moments.
    pub(super) fn take_back(&self, now: Time) -> Option<(u64, u16, Stamps)> {
        if self.done.get() == self.landed.get() {
            return None;
        }
        let nth = self.done.replace(self.done.get() + 1);
        let request = at(&self.used_as, nth);
        self.stamp(request, Stage::Done, now);
        self.free.borrow_mut().push_back(request);
        Some((nth, request, self.stamps.borrow()[usize::from(request)]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ```text
    ///   made     0 1 2   3 0' 1'
    ///   used     1 2 0   ...
    /// ```
    #[test]
    fn each_request_keeps_its_own_stamps_whatever_the_order() {
        let (requests, at) = (Requests::new(3), |ps| Time::from_ps(ps));
        for round in 0..30_000 {
            let (before, base) = (3 * round, 1000 * round);
            let made: Vec<u16> = (0..3).filter_map(|n| requests.make(at(base + n))).collect();
            assert_eq!((made.len(), requests.has_free(), requests.make(at(0))), (3, false, None));
            requests.submit(at(base + 10));
            requests.shadow((before + 3) as u16, at(base + 20));
            assert_eq!((0..3).map(|n| requests.take(at(base + 30 + n))).collect::<Vec<_>>(), made);
            for (nth, n) in [1, 2, 0].into_iter().enumerate() {
                requests.finish(made[n], at(base + 40 + nth as u64));
            }
            requests.tell((before + 2) as u16, at(base + 50));
            requests.tell((before + 3) as u16, at(base + 51));
            requests.land((before + 3) as u16, at(base + 60));
            for (nth, n) in [1, 2, 0].into_iter().enumerate() {
                let (nth, tail) = (nth as u64, if nth < 2 { 50 } else { 51 });
                let stamps = [n, 10, 20, 30 + n, 40 + nth, tail, 60, 70].map(|ps| at(base + ps));
                assert_eq!(requests.take_back(at(base + 70)), Some((before + nth, made[n as usize], stamps)));
            }
            assert_eq!(requests.take_back(at(0)), None);
        }
    }

    #[test]
    fn one_that_is_slow_is_not_taken_for_another() {
        let (requests, now) = (Requests::new(2), Time::from_ps(5));
        let slow = requests.make(Time::ZERO).unwrap();
        let mut used = 0;
        for _ in 0..10 {
            let quick = requests.make(now).unwrap();
            assert_ne!(quick, slow);
            requests.finish(quick, now);
            used += 1;
            requests.land(used, now);
            assert_eq!(requests.take_back(now).unwrap().2[Stage::Begin as usize], now);
        }
        requests.finish(slow, now);
        requests.land(used + 1, now);
        assert_eq!(requests.take_back(now).unwrap().2[Stage::Begin as usize], Time::ZERO);
    }
}
