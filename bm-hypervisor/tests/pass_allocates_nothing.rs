//! A pass neither allocates nor frees, whatever it has to do. Counted by the allocator of this test program.

#![allow(unsafe_code)] // a global allocator can be declared in no other way

mod double;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use bm_hypervisor::config::{BackEndConfig, OnLoss, PollMode, Role};
use double::{
    Bench,
    back_end::{FEATURES, Mirror, PROTOCOL, Server, Sockets, blk, board},
};
use iobond_spec::offsets::queues;

thread_local! {
    /// Allocations and frees of this thread.
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, counting.
struct Counting;

// SAFETY: every call is passed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: as above; `pointer` came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Passes until `done`, looking at the count around each; passes that were not idle.
#[allow(clippy::unwrap_used)] // a helper of tests
fn pass_until(bench: &mut Bench, mut done: impl FnMut(&double::IoBond) -> bool) -> u32 {
    let deadline = std::time::Instant::now() + double::TIMEOUT;
    let mut busy = 0;
    while !done(&bench.bond) {
        let before = COUNT.get();
        let progress = bench.poller.pass();
        assert_eq!(COUNT.get(), before, "{progress:?}");
        busy += u32::from(!progress.is_idle());
        assert!(std::time::Instant::now() < deadline);
    }
    busy
}

#[test]
fn whatever_it_has_to_do() {
    let before = COUNT.get();
    drop(vec![1]);
    assert_eq!(COUNT.get(), before + 2, "the allocator counts");
    // The first keeps account of what is outstanding.
    let modes = [(PollMode::StatusPage, OnLoss::Reconnect), (PollMode::Registers, OnLoss::Reset)];
    for (mode, on_loss) in modes {
        let sockets = Sockets::new();
        let _server = Server::start(Mirror::new(FEATURES, PROTOCOL), &sockets.path("disk"), Role::Connect);
        let back_end = BackEndConfig { on_loss, ..sockets.good_back_end("disk") };
        let mut config = board(vec![blk(back_end)]);
        config.poll = mode;
        let mut bench = Bench::start(config);
        assert_eq!(bench.bring_up(0, u64::MAX, 1), 0xF);
        // The register file allocates a register when it is first written.
        bench.bond.set(queues::BASE + queues::TAIL, 0);
        // Kicks and used buffers.
        bench.bond.publish(0, 0, &[1, 2], 64);
        bench.bond.set(queues::BASE + queues::HEAD, 1);
        assert!(pass_until(&mut bench, |bond| bond.queue(0, queues::TAIL) == 1) > 0);
        // A queue is taken back: a reset through the mailbox.
        let sequence = bench.bond.request(2, 0, 0x14, 1, 0);
        assert!(pass_until(&mut bench, |bond| bond.answer(sequence).is_some()) > 0);
        assert_eq!(bench.poller.queues(), 0);
        bench.stop().unwrap();
    }
}
