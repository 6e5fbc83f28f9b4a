//! What is to happen when: a timing wheel of two levels (Varghese and Lauck 1987), and a map for what lies
//! beyond both.
//!
//! ```text
//!   near   4096 slots of 1.024 ns     the far slot that time is in, 4.2 us
//!   far    4096 slots of 4.2 us       the epoch that time is in, 17 ms
//!   later  a list per epoch           everything else
//! ```
//!
//! Events come out in the order of their times, and those of one time in the order in which they were put in.
//! No number says so: a list keeps the order in which it is filled, a far slot is emptied into the near ones
//! before anything else is put there, and the sort of a slot is stable.

use std::collections::{BTreeMap, VecDeque};

use super::Time;

/// Log2 of the picoseconds of a near slot.
const TICK: u32 = 10;
/// Log2 of the slots of a level.
const SLOTS_LOG2: u32 = 12;
const SLOTS: usize = 1 << SLOTS_LOG2;
const MASK: u64 = SLOTS as u64 - 1;
const WORDS: usize = SLOTS / 64;

/// One level: lists of events, and which of them are not empty.
#[derive(Debug)]
struct Level<E> {
    slots: Box<[Vec<(Time, E)>]>,
    occupied: [u64; WORDS],
    /// Words of `occupied` that are not zero.
    summary: u64,
}

impl<E> Level<E> {
    fn new() -> Self {
        Self { slots: (0..SLOTS).map(|_| Vec::new()).collect(), occupied: [0; WORDS], summary: 0 }
    }

    #[inline]
    fn put(&mut self, slot: usize, time: Time, event: E) {
        self.slots[slot].push((time, event));
        self.occupied[slot / 64] |= 1 << (slot % 64);
        self.summary |= 1 << (slot / 64);
    }

    /// The first slot behind `slot` that is not empty.
    #[inline]
    fn after(&self, slot: usize) -> Option<usize> {
        let word = slot / 64;
        let here = self.occupied[word] & (u64::MAX << (slot % 64) << 1);
        if here != 0 {
            return Some(word * 64 + here.trailing_zeros() as usize);
        }
        let words = self.summary & (u64::MAX << word << 1);
        let word = (words != 0).then(|| words.trailing_zeros() as usize)?;
        Some(word * 64 + self.occupied[word].trailing_zeros() as usize)
    }

    /// Takes a slot's list, which is not empty, and leaves `empty` in its place.
    #[inline]
    fn exchange(&mut self, slot: usize, empty: Vec<(Time, E)>) -> Vec<(Time, E)> {
        self.occupied[slot / 64] &= !(1 << (slot % 64));
        if self.occupied[slot / 64] == 0 {
            self.summary &= !(1 << (slot / 64));
        }
        std::mem::replace(&mut self.slots[slot], empty)
    }
}

/// Events and their times.
#[derive(Debug)]
pub struct Wheel<E> {
    now: Time,
    /// The near slot whose events are in `current`, counted from the beginning; never past the next event.
    here: u64,
    /// What happens now, first come first served; it was put in when `now` was reached already.
    ready: VecDeque<E>,
    /// Events of the slot that time is in, and of earlier ones, the next event last.
    current: Vec<(Time, E)>,
    near: Level<E>,
    far: Level<E>,
    later: BTreeMap<u64, Vec<(Time, E)>>,
    len: usize,
}

impl<E> Default for Wheel<E> {
    fn default() -> Self {
        Self {
            now: Time::ZERO,
            here: 0,
            ready: VecDeque::new(),
            current: Vec::new(),
            near: Level::new(),
            far: Level::new(),
            later: BTreeMap::new(),
            len: 0,
        }
    }
}

/// The near slot of a time, counted from the beginning.
#[inline]
const fn tick(time: Time) -> u64 {
    time.ps() >> TICK
}

/// The near slot `tick`, unless it begins after `until`.
#[inline]
const fn reach(tick: u64, until: Time) -> Option<u64> {
    if tick << TICK > until.ps() { None } else { Some(tick) }
}

impl<E> Wheel<E> {
    /// Whether no event is in.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Puts an event in. A time that is over is now.
    #[inline]
    pub fn put(&mut self, time: Time, event: E) {
        self.len += 1;
        if time <= self.now {
            self.ready.push_back(event);
            return;
        }
        let (tick, here) = (tick(time), self.here);
        if tick <= here {
            // Behind those of the same time, which stand further back in the list.
            let at = self.current.partition_point(|&(other, _)| other > time);
            self.current.insert(at, (time, event));
        } else if tick >> SLOTS_LOG2 == here >> SLOTS_LOG2 {
            self.near.put((tick & MASK) as usize, time, event);
        } else {
            self.put_far(time, event);
        }
    }

    fn put_far(&mut self, time: Time, event: E) {
        let (far, here) = (tick(time) >> SLOTS_LOG2, self.here >> SLOTS_LOG2);
        if far >> SLOTS_LOG2 == here >> SLOTS_LOG2 {
            self.far.put((far & MASK) as usize, time, event);
        } else {
            self.later.entry(far >> SLOTS_LOG2).or_default().push((time, event));
        }
    }

    /// Takes the next event out, unless it happens after `until`. Time is that event's afterwards.
    #[inline]
    pub fn take(&mut self, until: Time) -> Option<(Time, E)> {
        loop {
            if let Some((_, event)) = self.current.pop_if(|(time, _)| *time <= self.now) {
                self.len -= 1;
                return Some((self.now, event));
            }
            if let Some(event) = self.ready.pop_front() {
                self.len -= 1;
                return Some((self.now, event));
            }
            match self.current.last() {
                Some((time, _)) if *time > until => return None,
                Some((time, _)) => self.now = *time,
                None => self.turn(until)?,
            }
        }
    }

    /// Makes the next slot that is not empty the current one, or empties the next list into the level below.
    /// Nothing is done if it begins after `until`.
    fn turn(&mut self, until: Time) -> Option<()> {
        let here = self.here;
        if let Some(slot) = self.near.after((here & MASK) as usize) {
            self.here = reach(here & !MASK | slot as u64, until)?;
            // The buffers go round, so that a wheel that has turned a while allocates no more.
            let empty = std::mem::take(&mut self.current);
            self.current = self.near.exchange(slot, empty);
            self.current.sort_by_key(|(time, _)| *time);
            self.current.reverse();
            return Some(());
        }
        let far = here >> SLOTS_LOG2;
        if let Some(slot) = self.far.after((far & MASK) as usize) {
            self.here = reach((far & !MASK | slot as u64) << SLOTS_LOG2, until)?;
            // Its buffer goes: 4096 of them would grow to what the busiest moments of a long run put there.
            let mut events = self.far.exchange(slot, Vec::new());
            self.spill(&mut events);
            return Some(());
        }
        let (&epoch, _) = self.later.first_key_value()?;
        self.here = reach(epoch << SLOTS_LOG2 << SLOTS_LOG2, until)?;
        let (_, mut events) = self.later.pop_first()?;
        self.spill(&mut events);
        Some(())
    }

    /// Puts events in anew, now that time has come nearer to them.
    fn spill(&mut self, events: &mut Vec<(Time, E)>) {
        self.len -= events.len();
        for (time, event) in events.drain(..) {
            self.put(time, event);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cmp::Reverse, collections::BinaryHeap};

    use proptest::prelude::*;

    use super::*;

    /// What the wheel is compared with: a heap ordered by time, then by number.
    #[derive(Default)]
    struct Heap {
        now: Time,
        number: u32,
        heap: BinaryHeap<Reverse<(Time, u32)>>,
    }

    impl Heap {
        fn put(&mut self, time: Time) -> u32 {
            self.number += 1;
            self.heap.push(Reverse((time.max(self.now), self.number)));
            self.number
        }

        fn take(&mut self, until: Time) -> Option<(Time, u32)> {
            let Reverse((time, number)) = *self.heap.peek().filter(|Reverse((time, _))| *time <= until)?;
            self.heap.pop();
            self.now = time;
            Some((time, number))
        }
    }

    /// A delay in picoseconds: mostly within a slot, a level, an epoch; and on the edges between them.
    fn delay() -> impl Strategy<Value = u64> {
        let edge = |log2: u32| ((1u64 << log2) - 2)..((1u64 << log2) + 2);
        prop_oneof![
            Just(0),
            0u64..4,
            0u64..1 << 10,
            0u64..1 << 22,
            0u64..1 << 34,
            0u64..1 << 40,
            edge(10),
            edge(22),
            edge(34),
        ]
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// Puts events in, each so long after the time that it is.
        Put(Vec<u64>),
        /// Takes so many out.
        Take(u8),
        /// Takes out whatever happens within a while.
        Until(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            prop::collection::vec(delay(), 1..20).prop_map(Step::Put),
            (1u8..30).prop_map(Step::Take),
            delay().prop_map(Step::Until),
        ]
    }

    proptest! {
        #[test]
        fn the_wheel_agrees_with_a_heap(steps in prop::collection::vec(step(), 1..60)) {
            let (mut wheel, mut heap) = (Wheel::default(), Heap::default());
            for step in steps {
                match step {
                    Step::Put(delays) => for delay in delays {
                        let time = heap.now + crate::cycle::Span::from_ps(delay);
                        wheel.put(time, heap.put(time));
                    },
                    Step::Take(count) => for _ in 0..count {
                        prop_assert_eq!(wheel.take(Time::MAX), heap.take(Time::MAX));
                    },
                    Step::Until(delay) => {
                        let until = heap.now + crate::cycle::Span::from_ps(delay);
                        while let Some(expected) = heap.take(until) {
                            prop_assert_eq!(wheel.take(until), Some(expected));
                        }
                        prop_assert_eq!(wheel.take(until), None);
                    }
                }
                prop_assert_eq!(wheel.len, heap.heap.len());
            }
            while let Some(expected) = heap.take(Time::MAX) {
                prop_assert_eq!(wheel.take(Time::MAX), Some(expected));
            }
            prop_assert!(wheel.is_empty() && wheel.take(Time::MAX).is_none());
        }
    }

    /// What a level keeps does not grow with time, but to what its fullest slots had at once.
    #[test]
    fn a_wheel_keeps_no_memory_of_slots_that_are_over() {
        let mut wheel = Wheel::default();
        for n in 0..100 * SLOTS as u64 {
            // Far away, and another slot each time.
            wheel.put(wheel.now + crate::cycle::Span::from_us(100), n);
            if n >= 64 {
                wheel.take(Time::MAX);
            }
        }
        let kept: usize = wheel.far.slots.iter().filter(|slot| slot.capacity() > 0).count();
        assert!(kept <= 64, "{kept} slots keep a buffer");
    }

    #[test]
    fn the_last_moment_there_is_comes() {
        let mut wheel = Wheel::default();
        wheel.put(Time::MAX, 1);
        wheel.put(Time::from_ps(1), 0);
        assert_eq!(wheel.take(Time::MAX), Some((Time::from_ps(1), 0)));
        assert_eq!(wheel.take(Time::MAX), Some((Time::MAX, 1)));
        wheel.put(Time::ZERO, 2);
        assert_eq!(wheel.take(Time::MAX), Some((Time::MAX, 2)));
    }
}
