//! Back ends that are killed under load, again and again, and started again.
//!
//! ```text
//!   Disk -- IO-Bond -- bm-hypervisor == bmhive backend blk -- image
//!     \__ every block is written once; then the host stamps it; a second write destroys the stamp
//! ```
#![allow(clippy::unwrap_used, reason = "a test's own functions fail as its tests do")]

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    os::unix::fs::FileExt,
    time::{Duration, Instant},
};

use bm_hypervisor::BackEndState;
use bmhive_server::LiveError;
use fastrand::Rng;
use rig::{
    live_world::{DEADLINE, Disk, World, prove},
    test_folder::seed,
    toml::{blk, board, net},
    wait::wait_until,
};
use rustix::process::{Pid, Signal, kill_process};
use scenario::BackEnd;
use software_board::{blk::SECTOR, queue::RingOptions};

/// Bytes of a request: several sectors, so that a request that is torn shows.
const BLOCK: usize = 8 * SECTOR;
/// Requests that are in flight at once.
const DEPTH: usize = 32;
/// How often the back end is killed.
const KILLS: u64 = 20;

/// A world that waits for `back_end` when it dies. Nothing kills it but the test: its own time does not come.
fn waiting_for(back_end: &str, execution: &str, boards: &[String]) -> World {
    let fault = format!("[[fault]]\nkill = {back_end:?}\nafter_ms = 600000\nrestart_after_ms = 10\n");
    World::start(&format!("[server]\nname = \"live\"\nexecution = {execution:?}\n{}{fault}", boards.concat()))
}

/// What block `number` is written with.
fn contents(number: u64) -> Vec<u8> {
    (0..BLOCK as u64 / 8).flat_map(|word| (number << 16 | word).to_le_bytes()).collect()
}

/// What the host makes of it when it is done.
fn stamp(number: u64) -> Vec<u8> {
    (!number).to_le_bytes().repeat(BLOCK / 8)
}

/// Writes blocks, each once and all different.
struct Writer {
    disk: Disk,
    image: File,
    blocks: u64,
    next: u64,
    in_flight: HashMap<u16, u64>,
    done: u64,
    last: Instant,
    longest: Duration,
}

impl Writer {
    fn new(world: &World, disk: Disk) -> Self {
        let image = OpenOptions::new().read(true).write(true).open(world.image(0, 0)).unwrap();
        let blocks = disk.capacity() / (BLOCK / SECTOR) as u64;
        let (next, done, in_flight) = (0, 0, HashMap::new());
        Self { disk, image, blocks, next, in_flight, done, last: Instant::now(), longest: Duration::ZERO }
    }

    /// Fills the queue, as long as there are blocks.
    fn fill(&mut self) {
        while self.next < self.blocks && self.in_flight.len() < DEPTH && self.disk.can_submit() {
            let sector = self.next * (BLOCK / SECTOR) as u64;
            let token = self.disk.submit_write(sector, contents(self.next)).unwrap();
            assert_eq!(self.in_flight.insert(token, self.next), None, "a token twice");
            self.next += 1;
        }
        self.disk.kick();
    }

    /// Keeps the queue full for a while.
    fn work(&mut self, world: &World, until: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !until(self) && self.done < self.blocks {
            self.fill();
            let Self { disk, in_flight, image, .. } = self;
            let finished = disk.poll_completions(|completion| {
                completion.outcome.unwrap();
                let block = in_flight.remove(&completion.token).unwrap();
                let mut found = vec![0; BLOCK];
                image.read_exact_at(&mut found, block * BLOCK as u64).unwrap();
                assert!(found == contents(block), "block {block} is said to be written, and is not");
                image.write_all_at(&stamp(block), block * BLOCK as u64).unwrap();
            });
            let finished = finished.unwrap();
            if finished > 0 {
                self.done += finished as u64;
                self.longest = self.longest.max(self.last.elapsed());
                self.last = Instant::now();
            }
            assert!(
                self.last.max(start).elapsed() < DEADLINE,
                "nothing for {DEADLINE:?}, {} of {} are done; {:?}, {:#?}",
                self.done,
                self.blocks,
                world.live.failure(),
                world.live.boards()[0].statistics()
            );
            self.disk.relax();
        }
    }

    /// Every block was written once: its stamp is whole.
    fn prove(&self) {
        assert_eq!((self.done, self.in_flight.len()), (self.blocks, 0));
        for block in 0..self.blocks {
            let mut found = vec![0; BLOCK];
            self.image.read_exact_at(&mut found, block * BLOCK as u64).unwrap();
            assert!(found == stamp(block), "block {block} was written again after it was done");
        }
    }
}

#[test]
fn a_disk_that_is_killed_twenty_times_loses_nothing_and_does_nothing_twice() {
    let mut random = Rng::with_seed(seed());
    let mut world = waiting_for("board.0", "threads", &[board("board", &[blk("size_mib = 16")])]);
    let disk = world.software(0).disk(0, RingOptions::default());
    let mut writer = Writer::new(&world, disk);
    let which = BackEnd::Disk { board: 0, function: 0 };
    let (mut pauses, mut caught) = (Vec::new(), 0);
    for kill in 1..=KILLS {
        let most = writer.blocks * kill / (KILLS + 1);
        let moment = Instant::now() + Duration::from_micros(random.u64(0..20_000));
        writer.work(&world, |writer| writer.done >= most || Instant::now() >= moment);
        assert!(writer.done < writer.blocks, "the disk is full before it was killed {kill} times");
        // What was in flight may all have just been completed.
        writer.fill();
        if random.bool() {
            // An upgrade: it ends in order, with what it has in hand done, and without a word to its front
            // end.
            end(&world, which);
        }
        world.live.kill(which);
        assert!(!writer.in_flight.is_empty(), "kill {kill} catches nothing");
        caught += writer.in_flight.len();
        let killed = Instant::now();
        // Sometimes the loss is noticed long before it is started again, sometimes not at all.
        let absence = Duration::from_millis(random.u64(0..40));
        writer.work(&world, |_| killed.elapsed() >= absence);
        world.live.restart(which).unwrap();
        let listens = Instant::now();
        let done = writer.done;
        writer.work(&world, |writer| writer.done >= done + 2 * DEPTH as u64);
        pauses.push(listens.elapsed());
    }
    writer.work(&world, |_| false);
    writer.prove();
    pauses.sort();
    println!(
        "{} writes in all, {caught} in flight at {KILLS} kills; from listening to {} more completions: median {:?}, longest {:?}; longest gap between two completions {:?}",
        writer.blocks,
        2 * DEPTH,
        pauses[pauses.len() / 2],
        pauses[pauses.len() - 1],
        writer.longest
    );
    let function = world.await_statistics(0, 0, |function| function.reconnects == KILLS);
    assert_eq!((function.needs_reset, function.back_end), (0, BackEndState::Connected));
    assert!(world.live.failure().is_none());
}

/// Asks a back end to end, and waits until it has.
fn end(world: &World, which: BackEnd) {
    let (_, process) = world.live.back_ends().find(|(candidate, _)| **candidate == which).unwrap();
    let pid = process.pid();
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::TERM).unwrap();
    let is_over =
        || std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "));
    assert!(wait_until(DEADLINE, is_over), "it does not end");
}

/// On one thread, where nothing polls while the back end starts.
#[test]
fn a_disk_comes_back_to_a_world_on_one_thread() {
    let mut world = waiting_for("board.0", "inline", &[board("board", &[blk("size_mib = 1\nqueues = 2")])]);
    let mut disk = world.software(0).disk(0, RingOptions::default());
    for turn in 1..=3 {
        prove(&mut disk, turn);
        world.live.kill(BackEnd::Disk { board: 0, function: 0 });
        world.await_statistics(0, 0, |function| function.back_end != BackEndState::Connected);
        world.live.restart(BackEnd::Disk { board: 0, function: 0 }).unwrap();
        prove(&mut disk, turn + 10);
        world.await_statistics(0, 0, |function| function.reconnects == turn && function.needs_reset == 0);
    }
    // There is no switch.
    let error = world.live.restart(BackEnd::Switch).unwrap_err();
    assert!(matches!(error, LiveError::NoBackEnd(BackEnd::Switch)), "{error}");
}

/// Frames that were under way may be gone or come twice; the cards work as before.
#[test]
fn a_switch_comes_back_to_both_its_cards() {
    let boards = [board("left", &[net(0)]), board("right", &[net(1)])];
    let mut world = waiting_for("switch", "threads", &boards);
    let mut random = Rng::with_seed(seed());
    let mut left = world.software(0).net(0, RingOptions::default());
    let mut right = world.software(1).net(0, RingOptions::default());
    let frame = |number: u8| [&[0xFF; 6][..], &left_mac(), &[0x88, 0xB5], &[number; 50]].concat();
    for run in 0..5u8 {
        // Until one comes through: those of former runs may come first.
        let start = Instant::now();
        let mut found = false;
        while !found {
            assert!(start.elapsed() < DEADLINE, "nothing passes in run {run}");
            left.send(&frame(run)).unwrap();
            while let Some(frame) = right.receive().unwrap() {
                found |= frame.bytes().get(14) == Some(&run);
                right.recycle(frame).unwrap();
            }
            right.kick();
            left.relax();
        }
        world.live.kill(BackEnd::Switch);
        let absence = Instant::now() + Duration::from_millis(random.u64(0..30));
        while Instant::now() < absence {
            left.send(&frame(run)).unwrap();
            left.relax();
        }
        world.live.restart(BackEnd::Switch).unwrap();
    }
    for index in 0..2 {
        let function = world.await_statistics(index, 0, |function| function.reconnects >= 4);
        assert_eq!((function.needs_reset, function.queue_errors), (0, 0));
    }
}

fn left_mac() -> [u8; 6] {
    [0x52, 0x54, 0, 0x10, 0x0b, 0]
}
