//! `virtio_drivers::Hal` over a board's memory.
//!
//! The trait has associated functions only, so which board's memory is meant is a property of the thread:
//! [`bind`] sets it until its guard is dropped. [`super::queue::Queue`] binds around each call, so that two
//! boards may run on one thread.
//!
//! Sharing copies into board memory and unsharing copies back, in every direction, as a bounce buffer on real
//! hardware does: a driver that forgets one of the two gets wrong data, and so does one whose device wrote
//! nothing.

#![allow(unsafe_code, reason = "Hal is an unsafe trait over raw pointers")]

use std::{cell::RefCell, ptr::NonNull, rc::Rc};

use iobond_spec::address::BoardAddr;
use virtio_drivers::{BufferDirection, Hal, PhysAddr};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

use super::memory::{DmaMemory, PAGE};

thread_local! {
    static BOUND: RefCell<Option<Rc<DmaMemory>>> = const { RefCell::new(None) };
}

/// Makes `memory` the one that [`BoardHal`] works on in this thread, until the guard is dropped.
pub fn bind(memory: &Rc<DmaMemory>) -> Bound {
    Bound { previous: BOUND.replace(Some(Rc::clone(memory))) }
}

/// Guard of [`bind`]; restores what was bound before.
#[must_use = "the binding ends when this is dropped"]
#[derive(Debug)]
pub struct Bound {
    previous: Option<Rc<DmaMemory>>,
}

impl Drop for Bound {
    fn drop(&mut self) {
        BOUND.set(self.previous.take());
    }
}

/// The board as `virtio-drivers` reaches it.
///
/// # Panics
/// Every function panics when no board is bound. [`Hal::share`] panics when memory is exhausted (callers
/// reserve beforehand, see [`DmaMemory::reserve`]), [`Hal::unshare`] when the buffer was not shared.
#[derive(Debug)]
pub struct BoardHal;

fn bound<R>(action: impl FnOnce(&DmaMemory) -> R) -> R {
    BOUND.with_borrow(|memory| match memory {
        Some(memory) => action(memory),
        None => panic!("no board is bound to this thread: call hal::bind before using a driver's queues"),
    })
}

// SAFETY: `dma_alloc` returns page-aligned, zeroed memory inside of the mapping that `DmaMemory` keeps alive,
// and the allocator hands no page out twice. `share` returns chunks of the same allocator.
unsafe impl Hal for BoardHal {
    fn dma_alloc(pages: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        // `virtio-drivers` takes address 0 for a failure, and reports it as `DmaError`.
        const FAILED: (PhysAddr, NonNull<u8>) = (0, NonNull::dangling());
        bound(|dma| {
            let Ok(address) = dma.allocate(pages) else { return FAILED };
            let start = GuestAddress(address.0);
            for page in 0..pages as u64 {
                if dma
                    .memory()
                    .write_slice(&[0; PAGE as usize], GuestAddress(address.0 + page * PAGE))
                    .is_err()
                {
                    return FAILED;
                }
            }
            let host = dma.memory().get_host_address(start).ok().and_then(NonNull::new);
            host.map_or(FAILED, |host| (address.0, host))
        })
    }

    unsafe fn dma_dealloc(address: PhysAddr, _: NonNull<u8>, pages: usize) -> i32 {
        // `virtio-drivers` asserts that this is 0.
        bound(|dma| dma.free(BoardAddr(address), pages).map_or(-1, |()| 0))
    }

    unsafe fn mmio_phys_to_virt(address: PhysAddr, _: usize) -> NonNull<u8> {
        panic!("BAR address {address:#x} cannot be dereferenced: a board reaches its BARs through Bus")
    }

    unsafe fn share(buffer: NonNull<[u8]>, _: BufferDirection) -> PhysAddr {
        // SAFETY: the caller says that the range is valid and not accessed by others during the call.
        let buffer = unsafe { buffer.as_ref() };
        bound(|dma| {
            let address =
                dma.share(buffer.len()).unwrap_or_else(|error| panic!("cannot share a buffer: {error}"));
            match dma.memory().write_slice(buffer, GuestAddress(address.0)) {
                Ok(()) => address.0,
                Err(error) => panic!("cannot write a bounce buffer at {address}: {error}"),
            }
        })
    }

    unsafe fn unshare(address: PhysAddr, mut buffer: NonNull<[u8]>, direction: BufferDirection) {
        bound(|dma| {
            if direction != BufferDirection::DriverToDevice {
                // SAFETY: the caller says that the range is valid and not accessed by others during the call,
                // and a direction in which the device writes means that it passed a mutable buffer to
                // `VirtQueue::add`.
                let buffer = unsafe { buffer.as_mut() };
                if let Err(error) = dma.memory().read_slice(buffer, GuestAddress(address)) {
                    panic!("cannot read a bounce buffer at board:{address:#x}: {error}");
                }
            }
            if let Err(error) = dma.unshare(BoardAddr(address), buffer.len()) {
                panic!("{error}");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::memory;

    fn board() -> Rc<DmaMemory> {
        DmaMemory::new(&memory::create(4).unwrap()).unwrap()
    }

    fn share(buffer: &[u8], direction: BufferDirection) -> PhysAddr {
        // SAFETY: a slice is valid, and this thread is the only one that has it.
        unsafe { BoardHal::share(NonNull::from(buffer), direction) }
    }

    fn unshare(address: PhysAddr, buffer: &mut [u8], direction: BufferDirection) {
        // SAFETY: as above; tests that pass another address expect to be refused.
        unsafe { BoardHal::unshare(address, NonNull::from(buffer), direction) }
    }

    proptest! {
        #[test]
        fn a_buffer_goes_to_the_device_and_what_the_device_wrote_comes_back(
            sent in proptest::collection::vec(any::<u8>(), 1..9000), flip: u8
        ) {
            let board = board();
            let _bound = bind(&board);
            let mut buffer = sent.clone();
            let address = share(&buffer, BufferDirection::DeviceToDriver);

            let mut seen = vec![0; sent.len()];
            board.memory().read_slice(&mut seen, GuestAddress(address)).unwrap();
            prop_assert_eq!(&seen, &sent);
            let written: Vec<u8> = sent.iter().map(|byte| byte ^ flip).collect();
            board.memory().write_slice(&written, GuestAddress(address)).unwrap();
            prop_assert_eq!(&buffer, &sent, "the driver's buffer changes only when it is unshared");

            unshare(address, &mut buffer, BufferDirection::DeviceToDriver);
            prop_assert_eq!(buffer, written);
        }
    }

    #[test]
    fn what_a_device_writes_to_a_readable_buffer_does_not_come_back() {
        let board = board();
        let _bound = bind(&board);
        let mut buffer = [7u8; 100];
        let address = share(&buffer, BufferDirection::DriverToDevice);
        board.memory().write_slice(&[9; 100], GuestAddress(address)).unwrap();
        unshare(address, &mut buffer, BufferDirection::DriverToDevice);
        assert_eq!(buffer, [7; 100]);
    }

    #[test]
    fn dma_pages_are_zeroed_and_exhaustion_is_address_zero() {
        let board = board();
        let _bound = bind(&board);
        board.memory().write_slice(&[0xFF; 8192], GuestAddress(PAGE)).unwrap();
        let (address, host) = BoardHal::dma_alloc(2, BufferDirection::Both);
        // SAFETY: two pages were just allocated there.
        let seen = unsafe { std::slice::from_raw_parts(host.as_ptr(), 8192) };
        assert_eq!((address, seen), (PAGE, &[0; 8192][..]));

        assert_eq!(BoardHal::dma_alloc(1024, BufferDirection::Both).0, 0);
        // SAFETY: these are the values that `dma_alloc` returned.
        assert_eq!(unsafe { BoardHal::dma_dealloc(address, host, 2) }, 0);
        // SAFETY: refused, which is what the test is about.
        assert_ne!(unsafe { BoardHal::dma_dealloc(address, host, 2) }, 0);
    }

    #[test]
    #[should_panic(expected = "unshared twice")]
    fn unsharing_twice_is_caught() {
        let board = board();
        let _bound = bind(&board);
        let mut buffer = [0; 64];
        let address = share(&buffer, BufferDirection::DriverToDevice);
        unshare(address, &mut buffer, BufferDirection::DriverToDevice);
        unshare(address, &mut buffer, BufferDirection::DriverToDevice);
    }

    #[test]
    #[should_panic(expected = "no board is bound")]
    fn without_a_board_nothing_can_be_shared() {
        share(&[0], BufferDirection::DriverToDevice);
    }

    #[test]
    fn a_guard_restores_the_board_that_was_bound_before() {
        let (outer, inner) = (board(), board());
        let _outer = bind(&outer);
        {
            let _inner = bind(&inner);
            share(&[1], BufferDirection::DriverToDevice);
        }
        assert_eq!((outer.free_pages(), inner.free_pages()), (1023, 1022));
    }
}
