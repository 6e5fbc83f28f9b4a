//! Back ends of a board that does next to nothing sleep, and sleep again after each event. What is counted
//! are events of the scheduler: neither a time nor a share of a core, which a slower machine would fail.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)] // Helpers of tests fail loudly.

mod front_end;
mod rig;

use std::thread;
use std::time::Duration;

use rig::idle_board::Board;

/// Events in [`Board::stir`] for each server: one request; two frames and two receive buffers; a line that is
/// printed, one that is typed, and a receive buffer.
const EVENTS: [u64; 3] = [1, 4, 3];

/// Wake-ups that one event may cost: the thread that waits for kicks, the thread of the device, and for each
/// of them the lock of a vring that the other one holds.
const WAKE_UPS: u64 = 4;

#[test]
fn back_ends_of_an_idle_board_sleep() {
    let mut board = Board::new();
    // A thread may be shown as asleep, and be counted only after it has had the core once more: it does not
    // wake a second time.
    let quiet = || {
        board.sleeps() == {
            thread::sleep(Duration::from_secs(1));
            board.sleeps()
        }
    };
    assert!((0..3).any(|_| quiet()), "threads wake up although nothing happens");

    let stirs = 20;
    let before = board.sleeps();
    for _ in 0..stirs {
        board.stir();
        // The next event finds all of them asleep, so that each of its wake-ups counts.
        board.sleeps();
    }
    let after = board.sleeps();
    for (index, name) in board.names.iter().enumerate() {
        let (events, wake_ups) = (stirs * EVENTS[index], after[index] - before[index]);
        assert!(wake_ups >= stirs, "{name}: {wake_ups} wake-ups for {events} events are not all");
        assert!(wake_ups <= WAKE_UPS * events, "{name}: {wake_ups} wake-ups for {events} events");
    }
}
