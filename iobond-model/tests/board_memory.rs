//! Board memory that comes and goes: ranges mapped from files, ranges that a host answers for, and accesses
//! across them.
//!
//! ```text
//!   0x1000        0x2000        0x3000        0x4000
//!   | memfd A 4K  | remote 4K   | memfd A 4K  | read-only 4K |   and a hole behind
//! ```

#![allow(clippy::unwrap_used)] // a test that cannot be set up is a failed test

use std::{
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use iobond_model::{
    fabric::{Copy, Direction, Fabric, Fault, ready},
    live::{
        Backing, BaseMemory, BoardMemory, DmaMapError, Interrupts, Memory, Permission, RemoteMemory,
        ShareError, SharedFiles,
    },
};
use iobond_spec::address::{Address, BaseAddr, BoardAddr, FunctionId};
use proptest::prelude::*;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use vm_memory::{GuestAddress, GuestMemoryMmap};

const PAGE: u64 = 0x1000;
const READ_ONLY: Permission = Permission { read: true, write: false };

struct Silence;

impl Interrupts for Silence {
    fn raise(&self, _: FunctionId, _: u16) {}
}

/// A host that keeps one page at `start`.
struct Host {
    start: u64,
    bytes: Mutex<Vec<u8>>,
}

impl Host {
    fn at(start: u64) -> Arc<Self> {
        Arc::new(Self { start, bytes: Mutex::new(vec![0; PAGE as usize]) })
    }
}

impl RemoteMemory<BoardAddr> for Host {
    fn read(&self, at: BoardAddr, into: &mut [u8]) -> Result<(), Fault> {
        let from = (at.0 - self.start) as usize;
        into.copy_from_slice(&self.bytes.lock().unwrap()[from..from + into.len()]);
        Ok(())
    }

    fn write(&self, at: BoardAddr, from: &[u8]) -> Result<(), Fault> {
        let to = (at.0 - self.start) as usize;
        self.bytes.lock().unwrap()[to..to + from.len()].copy_from_slice(from);
        Ok(())
    }
}

fn memfd(length: u64, seals: SealFlags) -> OwnedFd {
    let file = memfd_create("board memory", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    ftruncate(&file, length).unwrap();
    fcntl_add_seals(&file, seals).unwrap();
    file
}

fn sealed(length: u64) -> OwnedFd {
    memfd(length, SealFlags::SHRINK)
}

fn base() -> BaseMemory {
    let base = BaseMemory::default();
    base.map_all(&GuestMemoryMmap::from_ranges(&[(GuestAddress(0x10_0000), 0x1_0000)]).unwrap()).unwrap();
    base
}

/// The memory of the diagram.
fn patchwork() -> (BoardMemory, Arc<Host>) {
    let (board, files, host) = (BoardMemory::default(), SharedFiles::default(), Host::at(0x2000));
    let file = sealed(3 * PAGE);
    let share = |offset, write| files.share(file.try_clone().unwrap(), offset, PAGE, write).unwrap();
    board.map(BoardAddr(0x1000), PAGE, Permission::ALL, share(0, true)).unwrap();
    board.map(BoardAddr(0x2000), PAGE, Permission::ALL, Backing::Remote(host.clone())).unwrap();
    board.map(BoardAddr(0x3000), PAGE, Permission::ALL, share(PAGE, true)).unwrap();
    board.map(BoardAddr(0x4000), PAGE, READ_ONLY, share(2 * PAGE, false)).unwrap();
    (board, host)
}

fn at(address: u64) -> Address {
    Address::Board(BoardAddr(address))
}

#[test]
fn an_access_spans_mapped_and_remote_ranges() {
    let (board, host) = patchwork();
    let base = base();
    let (lease, base) = (board.lease(), base.lease());
    let memory = Memory::new(&lease, &base, &Silence);
    let sent: Vec<u8> = (0..0x2000_u32).map(|n| (n % 251) as u8).collect();

    ready(memory.write(at(0x1800), &sent)).unwrap();

    assert_eq!(host.bytes.lock().unwrap()[..], sent[0x800..0x1800]);
    let mut read = vec![0; sent.len()];
    ready(memory.read(at(0x1800), &mut read)).unwrap();
    assert_eq!(read, sent);
    let copy = |board, len| [Copy { board: BoardAddr(board), base: BaseAddr(0x10_0000), len }];
    ready(memory.copy_all(Direction::Up, &copy(0x1800, 0x2000))).unwrap();
    let mut copied = vec![0; sent.len()];
    ready(memory.read(Address::Base(BaseAddr(0x10_0000)), &mut copied)).unwrap();
    assert_eq!(copied, sent);
    ready(memory.copy_all(Direction::Down, &copy(0x1000, 0x1001))).unwrap();
    ready(memory.read(at(0x1000), &mut read[..0x1001])).unwrap();
    assert_eq!(read[..0x1001], sent[..0x1001]);
}

#[test]
fn ring_indices_are_loaded_and_stored_in_either_kind() {
    let (board, host) = patchwork();
    let base = base();
    let (lease, base) = (board.lease(), base.lease());
    let memory = Memory::new(&lease, &base, &Silence);
    for address in [0x1ffe, 0x2ffe, 0x3000] {
        ready(memory.store(at(address), 0xa55a)).unwrap();
        assert_eq!(ready(memory.load(at(address))).unwrap(), 0xa55a);
    }
    assert_eq!(host.bytes.lock().unwrap()[0xffe..], [0x5a, 0xa5]);
}

#[test]
fn a_failed_access_changes_nothing() {
    let (board, host) = patchwork();
    let base = base();
    let (lease, base) = (board.lease(), base.lease());
    let memory = Memory::new(&lease, &base, &Silence);
    // It would end in what may only be read; and in the hole.
    for (address, len) in [(0x2800, 0x2000), (0x3fff, 2), (0x4000, 1), (0x800, 0x1000)] {
        let fault = ready(memory.write(at(address), &vec![0xff; len])).unwrap_err();
        assert_eq!(fault, Fault::Board { at: BoardAddr(address), len: len as u64 });
    }
    assert!(host.bytes.lock().unwrap().iter().all(|&byte| byte == 0));
    ready(memory.read(at(0x4000), &mut [0; 0x1000])).unwrap();
    ready(memory.read(at(0x4fff), &mut [0; 2])).unwrap_err();
    ready(memory.read(at(u64::MAX - 1), &mut [0; 8])).unwrap_err();
}

#[test]
fn ranges_that_overlap_wrap_or_exceed_their_file_are_refused() {
    let (board, files) = (BoardMemory::default(), SharedFiles::default());
    let page = || files.share(sealed(PAGE), 0, PAGE, true).unwrap();
    board.map(BoardAddr(0x2000), PAGE, Permission::ALL, page()).unwrap();
    for start in [0x1001, 0x2000, 0x2fff] {
        let refused = board.map(BoardAddr(start), PAGE, Permission::ALL, page());
        assert!(matches!(refused, Err(DmaMapError::Overlap { .. })), "{start:#x}");
    }
    let beyond = board.map(BoardAddr(0x8000), 2 * PAGE, Permission::ALL, page());
    assert!(matches!(beyond, Err(DmaMapError::Range { .. })));
    for (start, length) in [(0x8000, 0), (u64::MAX - 0xfff, PAGE + 1)] {
        let host = Backing::Remote(Host::at(start));
        let refused = board.map(BoardAddr(start), length, Permission::ALL, host);
        assert!(matches!(refused, Err(DmaMapError::Range { .. })), "{start:#x}");
    }
    // The very end of the address space is an address like any other.
    let last = u64::MAX - 0xfff;
    board.map(BoardAddr(last), PAGE, Permission::ALL, Backing::Remote(Host::at(last))).unwrap();
    assert_eq!(board.length_at(BoardAddr(last)), Some(PAGE));
}

#[test]
fn unmapping_takes_whole_ranges_and_nothing_else() {
    let (board, _) = patchwork();
    for (start, length) in [(0x1000, 0x800), (0x1800, 0x800), (0x1800, 0x1800), (0x5000, PAGE), (0x1000, 0)] {
        let refused = board.unmap(BoardAddr(start), length);
        assert!(matches!(refused, Err(DmaMapError::NotMapped { .. })), "{start:#x} {length:#x}");
    }
    let mapped = || [0x1000, 0x2000, 0x3000, 0x4000].map(|at| board.length_at(BoardAddr(at)).is_some());
    assert_eq!(mapped(), [true; 4]);
    board.unmap(BoardAddr(0x1000), 2 * PAGE).unwrap();
    assert_eq!(mapped(), [false, false, true, true]);
    board.unmap_all();
    assert_eq!(mapped(), [false; 4]);
}

#[test]
fn a_file_that_can_shrink_is_not_mapped() {
    let files = SharedFiles::default();
    let refused = files.share::<BoardAddr>(memfd(PAGE, SealFlags::empty()), 0, PAGE, true);
    assert!(matches!(refused, Err(ShareError::Unsealed)));
    let refused = files.share::<BoardAddr>(sealed(PAGE), 1, PAGE, true);
    assert!(matches!(refused, Err(ShareError::Short { size: PAGE, offset: 1, length: PAGE })));
    let refused = files.share::<BoardAddr>(sealed(PAGE), u64::MAX, PAGE, true);
    assert!(matches!(refused, Err(ShareError::Short { .. })));
    let pipe = rustix::pipe::pipe().unwrap().0;
    assert!(matches!(files.share::<BoardAddr>(pipe, 0, PAGE, true), Err(ShareError::Unsealed)));
}

#[test]
fn thousands_of_pages_of_one_file_are_one_mapping() {
    let (board, files) = (BoardMemory::default(), SharedFiles::default());
    let pages = 4096;
    let file = sealed(pages * PAGE);
    let mappings =
        || std::fs::read_to_string("/proc/self/maps").unwrap().matches("memfd:board memory").count();
    for page in 0..pages {
        let backing = files.share(file.try_clone().unwrap(), page * PAGE, PAGE, true).unwrap();
        // Every other page elsewhere, as an I/O MMU would have it.
        board.map(BoardAddr(page * 2 * PAGE), PAGE, Permission::ALL, backing).unwrap();
    }
    // Other tests of this program map files of that name as well, a few pages each.
    assert!(mappings() < 64, "{}", mappings());
    let base = base();
    let (lease, base) = (board.lease(), base.lease());
    let memory = Memory::new(&lease, &base, &Silence);
    ready(memory.write(at(2 * 4095 * PAGE), &[7; 8])).unwrap();
    ready(memory.write(at(2 * 4095 * PAGE - 4), &[7; 8])).unwrap_err();
}

/// A host whose answer waits until the test says so.
struct SlowHost {
    asked: mpsc::SyncSender<()>,
    answer: Mutex<mpsc::Receiver<()>>,
}

impl RemoteMemory<BoardAddr> for SlowHost {
    fn read(&self, _: BoardAddr, into: &mut [u8]) -> Result<(), Fault> {
        self.asked.send(()).unwrap();
        self.answer.lock().unwrap().recv_timeout(Duration::from_secs(10)).unwrap();
        into.fill(1);
        Ok(())
    }

    fn write(&self, at: BoardAddr, from: &[u8]) -> Result<(), Fault> {
        Err(Fault::Board { at, len: from.len() as u64 })
    }
}

/// ```text
///   pass:  read 0x2000 ........ waits ........ resumes, and finds 0x1000 gone and 0x3000 new
///   host:            unmap 0x1000, map 0x3000, answer
/// ```
#[test]
fn a_host_may_change_the_map_while_it_owes_an_answer() {
    let (board, files) = (BoardMemory::default(), SharedFiles::default());
    let ((asked, was_asked), (answer, answered)) = (mpsc::sync_channel(1), mpsc::sync_channel(1));
    let share = || files.share(sealed(PAGE), 0, PAGE, true).unwrap();
    let host = Arc::new(SlowHost { asked, answer: Mutex::new(answered) });
    board.map(BoardAddr(0x1000), PAGE, Permission::ALL, share()).unwrap();
    board.map(BoardAddr(0x2000), PAGE, Permission::ALL, Backing::Remote(host)).unwrap();
    thread::scope(|scope| {
        let pass = scope.spawn(|| {
            let base = base();
            let (lease, base) = (board.lease(), base.lease());
            let memory = Memory::new(&lease, &base, &Silence);
            ready(memory.write(at(0x1000), &[3])).unwrap();
            let mut byte = [0];
            ready(memory.read(at(0x2000), &mut byte)).unwrap();
            assert_eq!(byte, [1]);
            (ready(memory.write(at(0x1000), &[4])), ready(memory.write(at(0x3000), &[5])))
        });
        was_asked.recv_timeout(Duration::from_secs(10)).unwrap();
        board.unmap(BoardAddr(0x1000), PAGE).unwrap();
        board.map(BoardAddr(0x3000), PAGE, Permission::ALL, share()).unwrap();
        answer.send(()).unwrap();
        let gone = Fault::Board { at: BoardAddr(0x1000), len: 1 };
        assert_eq!(pass.join().unwrap(), (Err(gone), Ok(())));
    });
}

#[test]
fn nothing_is_taken_from_a_pass_that_does_not_wait() {
    let (board, _) = patchwork();
    let taken = AtomicBool::new(false);
    thread::scope(|scope| {
        let lease = board.lease();
        let unmap = scope.spawn(|| {
            board.unmap(BoardAddr(0x1000), PAGE).unwrap();
            taken.store(true, Ordering::SeqCst);
        });
        thread::sleep(Duration::from_millis(20));
        assert!(!taken.load(Ordering::SeqCst));
        drop(lease);
        unmap.join().unwrap();
        assert!(taken.load(Ordering::SeqCst));
    });
}

proptest! {
    /// Maps, unmaps and writes behave as over a flat array in which every page is present or not.
    #[test]
    fn it_is_memory_with_holes(steps in prop::collection::vec((0u8..3, 0u64..16, 1u64..5, any::<u8>()), 1..60)) {
        const PAGES: usize = 24;
        let (board, files, base) = (BoardMemory::default(), SharedFiles::default(), base());
        let file = sealed(PAGES as u64 * PAGE);
        let mut present = [None; PAGES];
        let mut bytes = vec![0; PAGES * PAGE as usize];
        for (step, page, pages, value) in steps {
            let (start, length) = (page * PAGE, pages * PAGE);
            let (first, end) = (page as usize, (page + pages) as usize);
            match step {
                0 => {
                    let backing = files.share(file.try_clone().unwrap(), start, length, true).unwrap();
                    let free = present[first..end].iter().all(Option::is_none);
                    prop_assert_eq!(board.map(BoardAddr(start), length, Permission::ALL, backing).is_ok(), free);
                    if free {
                        present[first..end].fill(Some(page));
                    }
                }
                1 => {
                    let begins = present[first] == Some(page);
                    let ends = present[end - 1].is_some() && present.get(end).copied().flatten() != present[end - 1];
                    prop_assert_eq!(board.unmap(BoardAddr(start), length).is_ok(), begins && ends);
                    if begins && ends {
                        present[first..end].fill(None);
                    }
                }
                _ => {
                    let (lease, base) = (board.lease(), base.lease());
                    let memory = Memory::new(&lease, &base, &Silence);
                    // Off the page's start, so that it also crosses.
                    let (from, len) = (start + 0x123, length as usize);
                    let there = present[first..=end.min(PAGES - 1)].iter().all(Option::is_some) && end < PAGES;
                    prop_assert_eq!(ready(memory.write(at(from), &vec![value; len])).is_ok(), there);
                    if there {
                        bytes[from as usize..from as usize + len].fill(value);
                    }
                }
            }
        }
        let (lease, base) = (board.lease(), base.lease());
        let memory = Memory::new(&lease, &base, &Silence);
        for page in (0..PAGES).filter(|&page| present[page].is_some()) {
            let mut read = vec![0; PAGE as usize];
            ready(memory.read(at(page as u64 * PAGE), &mut read)).unwrap();
            prop_assert!(read == bytes[page * PAGE as usize..][..PAGE as usize], "page {}", page);
        }
    }
}
