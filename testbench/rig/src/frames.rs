//! Frames that a test waits for.

use std::time::Instant;

use software_board::{
    net::{Frame, Net},
    transport::BoardTransport,
};

use crate::live_world::DEADLINE;

/// The next frame that `net` receives.
pub fn next_frame<T: BoardTransport>(net: &mut Net<T>) -> Frame {
    let start = Instant::now();
    loop {
        if let Some(frame) = net.receive().unwrap() {
            return frame;
        }
        let waited = start.elapsed();
        assert!(waited < DEADLINE, "no frame within {waited:?}: {:?}", net.transport().check());
        net.relax();
    }
}
