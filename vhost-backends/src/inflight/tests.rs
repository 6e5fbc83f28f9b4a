//! A server that may end between any two stores, and the ones that come after it.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::rc::Rc;

use proptest::prelude::*;

use super::*;

/// Descriptors of the ring; every chain is one.
const SIZE: u16 = 8;

/// What outlives a server: the region, the used ring, and what was done to the disk. From the moment at which
/// the server ends, nothing that it still does has an effect.
#[derive(Default)]
struct World {
    region: RefCell<Vec<u8>>,
    /// Heads that were returned, in order; their number is the used index.
    used: RefCell<Vec<u16>>,
    /// How often each request was carried out, by its number.
    done: RefCell<BTreeMap<u32, u32>>,
    /// Stores that are left to the server until it ends.
    left: Cell<u32>,
}

impl World {
    /// Whether the server runs for one more effect.
    fn runs(&self) -> bool {
        let left = self.left.get();
        self.left.set(left.saturating_sub(1));
        left > 0
    }

    fn used_index(&self) -> u16 {
        self.used.borrow().len() as u16
    }
}

#[derive(Clone)]
struct Shared(Rc<World>);

impl Words for Shared {
    fn load<T: AtomicAccess + Default>(&self, at: usize) -> T {
        let mut value = T::default();
        value.as_mut_slice().copy_from_slice(&self.0.region.borrow()[at..at + size_of::<T>()]);
        value
    }

    fn store<T: AtomicAccess>(&self, at: usize, value: T) {
        if self.0.runs() {
            self.0.region.borrow_mut()[at..at + size_of::<T>()].copy_from_slice(value.as_slice());
        }
    }
}

/// The driver's side: which request lies at which head.
#[derive(Default)]
struct Driver {
    /// Heads in the order in which they were made available.
    available: Vec<u16>,
    at_head: BTreeMap<u16, u32>,
    free: VecDeque<u16>,
    requests: u32,
    taken_back: usize,
    returned: HashSet<u32>,
}

impl Driver {
    fn new() -> Self {
        Self { free: (0..SIZE).collect(), ..Self::default() }
    }

    /// Takes back what was returned, each at most once, and makes `more` requests if there are free
    /// descriptors.
    fn turn(&mut self, world: &World, more: usize) {
        for head in world.used.borrow().iter().skip(self.taken_back) {
            let request = self.at_head.remove(head).expect("a chain is returned that is not in flight");
            assert!(self.returned.insert(request), "request {request} is returned twice");
            assert!(world.done.borrow().contains_key(&request), "request {request} was never carried out");
            self.free.push_back(*head);
        }
        self.taken_back = world.used.borrow().len();
        for _ in 0..more {
            let Some(head) = self.free.pop_front() else { return };
            self.available.push(head);
            self.at_head.insert(head, self.requests);
            self.requests += 1;
        }
    }
}

/// Returns `head`, as the disk does: notes, used element and index, notes.
fn give_back(world: &World, tracker: &Tracker<Shared>, head: u16) {
    tracker.returning(head);
    // The element without its index is nothing, so that both are one effect.
    if world.runs() {
        world.used.borrow_mut().push(head);
    }
    tracker.returned(head, world.used_index());
}

fn carry_out(world: &World, driver: &Driver, head: u16) {
    if world.runs() {
        *world.done.borrow_mut().entry(driver.at_head[&head]).or_default() += 1;
    }
}

/// One server's run: it takes up what is there, and works with `held` requests in hand, returned in an order
/// that `picks` chooses, until its stores are used up or there is nothing left to do.
fn run(world: &Rc<World>, driver: &mut Driver, stores: u32, held: usize, mut picks: impl FnMut() -> usize) {
    world.left.set(stores);
    let done_before: HashSet<u32> = driver.returned.clone();
    let used = world.used_index();
    let recovered = Tracker::recover(Shared(Rc::clone(world)), SIZE, used);
    let (mut tracker, again) = recovered.expect("the version is ours");
    let mut next = usize::from(used) + again.len();
    // One that ended while it recovered does nothing about what it believes.
    for head in again.iter().filter(|_| world.left.get() > 0) {
        let request = driver.at_head.get(head).expect("a chain is done again that is not in flight");
        assert!(!done_before.contains(request), "request {request} was returned, and is done again");
    }
    let mut in_hand: VecDeque<u16> = again.into();
    while world.left.get() > 0 {
        driver.turn(world, picks() % 4);
        while in_hand.len() < held && next < driver.available.len() {
            let head = driver.available[next];
            tracker.taken(head);
            next += 1;
            in_hand.push_back(head);
        }
        if in_hand.is_empty() {
            if driver.requests > 400 {
                return;
            }
            driver.turn(world, 1);
            continue;
        }
        let head = in_hand.swap_remove_back(picks() % in_hand.len()).unwrap();
        carry_out(world, driver, head);
        give_back(world, &tracker, head);
    }
}

/// After any number of servers, a last one that nothing ends.
fn prove(runs: &[(u32, usize)], seed: u64) {
    let world = Rc::new(World { region: RefCell::new(vec![0; bytes(SIZE)]), ..World::default() });
    let mut driver = Driver::new();
    let mut state = seed | 1;
    let mut pick = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize
    };
    for (stores, held) in runs {
        run(&world, &mut driver, *stores, *held, &mut pick);
        // What the driver took back before the next server starts is all that it ever hears of this one.
        driver.turn(&world, 0);
    }
    // The last one drains the ring.
    world.left.set(u32::MAX);
    let used = world.used_index();
    let (mut tracker, again) = Tracker::recover(Shared(Rc::clone(&world)), SIZE, used).unwrap();
    let fresh = driver.available[usize::from(used) + again.len()..].to_vec();
    for head in &fresh {
        tracker.taken(*head);
    }
    for head in again.into_iter().chain(fresh) {
        carry_out(&world, &driver, head);
        give_back(&world, &tracker, head);
    }
    driver.turn(&world, 0);
    assert!(driver.at_head.is_empty(), "lost: {:?}", driver.at_head);
    assert_eq!(driver.returned.len(), driver.requests as usize);
}

#[test]
fn every_single_cut_is_survived() {
    // Alone and with several in hand, cut after each store of the first run.
    for held in [1, 3, 8] {
        for cut in 0..400 {
            prove(&[(cut, held), (37, held)], u64::from(cut));
        }
    }
}

proptest! {
    /// Whenever servers end, and in whatever order they return what they took: each request is returned once.
    #[test]
    fn nothing_is_lost_and_nothing_returned_twice(
        runs in prop::collection::vec((0u32..200, 1usize..9), 1..12), seed: u64,
    ) {
        prove(&runs, seed);
    }
}

/// Requests are done again in the order in which they were taken, which is not that of their heads.
#[test]
fn what_was_taken_first_is_done_again_first() {
    let world = Rc::new(World { region: RefCell::new(vec![0; bytes(SIZE)]), ..World::default() });
    world.left.set(u32::MAX);
    let (mut tracker, again) = Tracker::recover(Shared(Rc::clone(&world)), SIZE, 0).unwrap();
    assert!(again.is_empty());
    for head in [5, 2, 7, 0] {
        tracker.taken(head);
    }
    give_back(&world, &tracker, 7);
    let (_, again) = Tracker::recover(Shared(Rc::clone(&world)), SIZE, 1).unwrap();
    assert_eq!(again, [5, 2, 0]);
    let (_, again) = Tracker::recover(Shared(Rc::clone(&world)), SIZE, 1).unwrap();
    assert_eq!(again, [5, 2, 0], "a server that recovers may end, too");
}

/// A server that returns several at a time, as others do, ended before it had struck them out.
#[test]
fn the_last_batch_of_another_server_is_struck_out() {
    let world = Rc::new(World { region: RefCell::new(vec![0; bytes(SIZE)]), ..World::default() });
    world.left.set(u32::MAX);
    let (mut tracker, _) = Tracker::recover(Shared(Rc::clone(&world)), SIZE, 0).unwrap();
    for head in 0..6 {
        tracker.taken(head);
    }
    for head in [4, 1, 3] {
        tracker.returning(head);
    }
    let (_, again) = Tracker::recover(Shared(Rc::clone(&world)), SIZE, 3).unwrap();
    assert_eq!(again, [0, 2, 5]);
}

proptest! {
    /// The region comes from a socket: whatever is in it, what is done again are heads that there are, each
    /// once.
    #[test]
    fn no_region_is_too_wild(garbage in prop::collection::vec(any::<u8>(), bytes(SIZE)), used: u16, ours: bool) {
        let world = Rc::new(World { region: RefCell::new(garbage), ..World::default() });
        world.left.set(u32::MAX);
        let words = Shared(Rc::clone(&world));
        if ours {
            words.store(offset_of!(Header, version), VERSION);
        }
        if let Ok((_, heads)) = Tracker::recover(words, SIZE, used) {
            prop_assert!(heads.iter().all(|head| *head < SIZE));
            prop_assert_eq!(heads.iter().collect::<HashSet<_>>().len(), heads.len());
        }
    }
}
