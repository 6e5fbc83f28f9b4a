//! What back ends cost while their boards do next to nothing.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)] // Helpers of tests fail loudly.

mod front_end;
mod rig;

use std::thread;
use std::time::Duration;

use rig::idle_board::Board;

#[test]
fn back_ends_of_an_idle_board_sleep() {
    let mut board = Board::new();
    let asleep: f64 = board.shares(|_| thread::sleep(Duration::from_secs(1))).iter().sum();
    assert!(asleep < 0.001, "{:.3} % of a core although nothing happens", asleep * 100.0);
    // Polling after each of ten events a second would be 0.05 % for each thread that polls.
    let stirred: f64 = board.shares(|board| board.stir_for(Duration::from_secs(2))).iter().sum();
    assert!(stirred < 0.01, "{:.3} % of a core at ten events a second", stirred * 100.0);
}
