//! The allocator against a list of what is handed out.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Allocate(usize),
    Share(usize),
    /// Gives back one of what is out, chosen by this number; every other time it is given back twice.
    GiveBack(usize, bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1usize..6).prop_map(Step::Allocate),
        (1usize..20_000).prop_map(Step::Share),
        (any::<usize>(), any::<bool>()).prop_map(|(which, twice)| Step::GiveBack(which, twice)),
    ]
}

/// What is out: address, bytes that belong to it, and how it was asked for.
type Out = Vec<(BoardAddr, u64, Step)>;

fn give_back(dma: &DmaMemory, address: BoardAddr, step: &Step) -> Result<(), MemoryError> {
    match *step {
        Step::Allocate(pages) => dma.free(address, pages),
        Step::Share(length) => dma.unshare(address, length),
        Step::GiveBack(..) => Ok(()),
    }
}

fn check(out: &Out, end: u64) {
    let mut spans: Vec<_> = out.iter().map(|(address, length, _)| (address.0, address.0 + length)).collect();
    spans.sort_unstable();
    assert!(spans.windows(2).all(|pair| pair[0].1 <= pair[1].0), "overlap: {spans:x?}");
    assert!(spans.iter().all(|(start, stop)| *start >= PAGE && *stop <= end));
}

proptest! {
    #[test]
    fn what_is_handed_out_never_overlaps_and_comes_back_exactly_once(steps in proptest::collection::vec(step(), 1..300)) {
        let memory = create(1).unwrap();
        let dma = DmaMemory::new(&memory).unwrap();
        let mut out = Out::new();
        for step in steps {
            match step {
                Step::Allocate(pages) => {
                    if let Ok(address) = dma.allocate(pages) {
                        out.push((address, pages as u64 * PAGE, step));
                    }
                }
                Step::Share(length) => {
                    if let Ok(address) = dma.share(length) {
                        out.push((address, length as u64, step));
                    }
                }
                Step::GiveBack(which, twice) if !out.is_empty() => {
                    let (address, _, how) = out.swap_remove(which % out.len());
                    prop_assert_eq!(give_back(&dma, address, &how), Ok(()));
                    if twice {
                        prop_assert!(give_back(&dma, address, &how).is_err());
                    }
                }
                Step::GiveBack(..) => {}
            }
            check(&out, 1 << 20);
        }
        for (address, _, how) in out.drain(..) {
            prop_assert_eq!(give_back(&dma, address, &how), Ok(()));
        }
    }

    #[test]
    fn a_reservation_holds(lengths in proptest::collection::vec(1usize..40_000, 1..12)) {
        let dma = DmaMemory::new(&create(1).unwrap()).unwrap();
        prop_assume!(dma.reserve(&lengths).is_ok());
        let free = dma.free_pages();
        for length in &lengths {
            prop_assert!(dma.share(*length).is_ok());
        }
        prop_assert_eq!(dma.free_pages(), free, "sharing took pages that were not reserved");
    }
}

#[test]
fn exhaustion_says_what_was_wanted_and_what_is_left() {
    let dma = DmaMemory::new(&create(1).unwrap()).unwrap();
    assert_eq!(dma.free_pages(), 255, "page 0 is never handed out");
    dma.allocate(250).unwrap();
    assert_eq!(dma.allocate(6), Err(MemoryError::Exhausted { wanted: 6 * PAGE, free: 5, total: 255 }));
    assert_eq!(dma.share(32768), Err(MemoryError::Exhausted { wanted: 32768, free: 5, total: 255 }));
    assert_eq!(dma.share(5 << 20), Err(MemoryError::TooLarge { wanted: 5 << 20, largest: 4 << 20 }));
}

#[test]
fn unused_large_chunks_give_way_to_an_allocation() {
    let dma = DmaMemory::new(&create(1).unwrap()).unwrap();
    let shared: Vec<_> = (0..3).map(|_| dma.share(256 << 10).unwrap()).collect();
    assert!(dma.allocate(100).is_err());
    for address in shared {
        dma.unshare(address, 256 << 10).unwrap();
    }
    dma.allocate(255).unwrap();
}

#[test]
fn threads_of_one_board_take_disjoint_parts() {
    let memory = create(1).unwrap();
    let (low, high) =
        (DmaMemory::within(&memory, 0..0x8_0000), DmaMemory::within(&memory, 0x8_0000..0x10_0000));
    let (low, high) = (low.unwrap(), high.unwrap());
    assert_eq!((low.free_pages(), high.free_pages()), (127, 128));
    assert_eq!(high.allocate(1), Ok(BoardAddr(0x8_0000)));
    assert!(low.free(BoardAddr(0x8_0000), 1).is_err());
    assert!(matches!(DmaMemory::within(&memory, 0..0x10_0001), Err(MemoryError::Range { .. })));
}

#[test]
fn memory_must_end_below_the_bars() {
    assert_eq!(create(0).err(), Some(MemoryError::Size { mebibytes: 0, limit: 3584 }));
    assert_eq!(create(4000).err(), Some(MemoryError::Size { mebibytes: 4000, limit: 3584 }));
}
