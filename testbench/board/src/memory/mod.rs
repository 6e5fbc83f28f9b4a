//! A board's memory: made as a memfd, so that a back end can map it, and handed out page by page for DMA.
//!
//! Rings take whole pages. Buffers are bounced: [`DmaMemory`] hands out power-of-two chunks from 64 bytes up,
//! kept on a free list per size, so that a request costs two pops and two pushes and no search. Every address
//! is a board address, which is what a device sees; page 0 is never handed out, so that no buffer is at
//! address 0.

use std::{cell::RefCell, fs::File, ops::Range, rc::Rc};

use iobond_spec::address::BoardAddr;
use rustix::{
    fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create},
    io::Errno,
};
use vm_memory::{FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

use super::pci::MMIO_WINDOW;

/// Bytes of a page, as `virtio-drivers` counts them.
pub const PAGE: u64 = virtio_drivers::PAGE_SIZE as u64;

/// Smallest bounce buffer: a cache line. A chunk of order `k` has `64 << k` bytes.
const CHUNK: u64 = 64;
/// Order of a chunk that is one page.
const PAGE_ORDER: u8 = (PAGE / CHUNK).trailing_zeros() as u8;
/// Orders of chunks: 64 bytes to 4 MiB.
const ORDERS: usize = 17;

/// Board memory that could not be made, or not be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are those of the message")]
pub enum MemoryError {
    #[error("cannot make {mebibytes} MiB of board memory: {reason}")]
    Create { mebibytes: u32, reason: String },
    #[error("board memory of {mebibytes} MiB is not between 1 MiB and {limit} MiB, where the BARs begin")]
    Size { mebibytes: u32, limit: u64 },
    #[error("board memory {wanted:?} is not inside of one region: use the memory that a board was made with")]
    Range { wanted: Range<u64> },
    #[error(
        "board memory is exhausted: {wanted} bytes wanted, {free} of {total} pages free; give the board more memory"
    )]
    Exhausted { wanted: u64, free: u64, total: u64 },
    #[error(
        "a buffer of {wanted} bytes is larger than {largest}, the largest one that is bounced; split the request"
    )]
    TooLarge { wanted: u64, largest: u64 },
    #[error(
        "{pages} pages at {address} were given back, but are not allocated as such: freed twice, or never allocated"
    )]
    NotAllocated { address: BoardAddr, pages: u64 },
    #[error(
        "a buffer of {length} bytes at {address} was unshared, but is not shared as such: unshared twice, or never shared"
    )]
    NotShared { address: BoardAddr, length: u64 },
}

/// Makes the memory of a board: one region of `mebibytes` MiB from board address 0, backed by a memfd.
///
/// # Errors
/// [`MemoryError::Size`] when it would be empty or reach into the window of the BARs, [`MemoryError::Create`]
/// when the system refuses.
pub fn create(mebibytes: u32) -> Result<GuestMemoryMmap, MemoryError> {
    let limit = MMIO_WINDOW.start >> 20;
    if mebibytes == 0 || u64::from(mebibytes) > limit {
        return Err(MemoryError::Size { mebibytes, limit });
    }
    let failed = |reason: String| MemoryError::Create { mebibytes, reason };
    let refused = |errno: Errno| failed(errno.to_string());
    let size = u64::from(mebibytes) << 20;
    let file =
        memfd_create("board memory", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).map_err(refused)?;
    ftruncate(&file, size).map_err(refused)?;
    // A process that maps it need not fear SIGBUS: nothing can cut the file off.
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL).map_err(refused)?;
    let file = File::from(file);
    let region = (GuestAddress(0), size as usize, Some(FileOffset::new(file, 0)));
    GuestMemoryMmap::from_ranges_with_files([region]).map_err(|error| failed(error.to_string()))
}

/// What a page is in use for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Page {
    Free,
    /// First page of an allocation of so many.
    Run(u32),
    /// Any further page of an allocation or of a large chunk.
    Inside,
    /// Divided into chunks of an order (or, from [`PAGE_ORDER`] on, the first page of one chunk); bit `n` is
    /// set while chunk `n` is handed out.
    Chunks {
        order: u8,
        live: u64,
    },
}

#[derive(Debug)]
struct Pages {
    /// Page number of `pages[0]`.
    first: u64,
    pages: Vec<Page>,
    /// Where the next search begins.
    cursor: usize,
    free: u64,
    /// Addresses of free chunks, by order.
    chunks: [Vec<u64>; ORDERS],
}

/// Board memory as a driver's DMA allocator. One belongs to one thread.
#[derive(Debug)]
pub struct DmaMemory {
    memory: GuestMemoryMmap,
    pages: RefCell<Pages>,
}

impl DmaMemory {
    /// All of a board's memory but page 0.
    ///
    /// # Errors
    /// [`MemoryError::Range`] when the memory is not one region from address 0.
    pub fn new(memory: &GuestMemoryMmap) -> Result<Rc<Self>, MemoryError> {
        Self::within(memory, 0..memory.last_addr().0 + 1)
    }

    /// The whole pages of `range`, so that drivers on several threads can share a board's memory between
    /// them.
    ///
    /// # Errors
    /// [`MemoryError::Range`] when the range is not inside of one region.
    pub fn within(memory: &GuestMemoryMmap, range: Range<u64>) -> Result<Rc<Self>, MemoryError> {
        let region = memory.find_region(GuestAddress(range.start));
        if !region.is_some_and(|region| range.start < range.end && range.end - 1 <= region.last_addr().0) {
            return Err(MemoryError::Range { wanted: range });
        }
        let first = range.start.div_ceil(PAGE).max(1);
        let count = (range.end / PAGE).saturating_sub(first);
        let pages = Pages {
            first,
            pages: vec![Page::Free; count as usize],
            cursor: 0,
            free: count,
            chunks: [const { Vec::new() }; ORDERS],
        };
        Ok(Rc::new(Self { memory: memory.clone(), pages: RefCell::new(pages) }))
    }

    /// The board memory of which this hands out pages.
    pub fn memory(&self) -> &GuestMemoryMmap {
        &self.memory
    }

    /// Pages that neither an allocation nor a chunk size has taken.
    #[cfg(test)]
    pub(crate) fn free_pages(&self) -> u64 {
        self.pages.borrow().free
    }

    /// Allocates `count` contiguous pages.
    ///
    /// # Errors
    /// [`MemoryError::Exhausted`].
    pub fn allocate(&self, count: usize) -> Result<BoardAddr, MemoryError> {
        let mut pages = self.pages.borrow_mut();
        let at = pages.find(count)?;
        pages.take(at, count, Page::Run(count as u32));
        Ok(pages.address(at))
    }

    /// Gives back what [`DmaMemory::allocate`] returned for the same `count`.
    ///
    /// # Errors
    /// [`MemoryError::NotAllocated`]; nothing changes then.
    pub fn free(&self, address: BoardAddr, count: usize) -> Result<(), MemoryError> {
        let mut pages = self.pages.borrow_mut();
        match pages.at(address) {
            Some((at, Page::Run(length))) if length as usize == count && address.is_aligned(PAGE) => {
                pages.release(at, count);
                Ok(())
            }
            _ => Err(MemoryError::NotAllocated { address, pages: count as u64 }),
        }
    }

    /// Makes sure that chunks for buffers of all these `lengths` can be had at once.
    ///
    /// # Errors
    /// [`MemoryError::Exhausted`] or [`MemoryError::TooLarge`].
    pub fn reserve(&self, lengths: &[usize]) -> Result<(), MemoryError> {
        let mut pages = self.pages.borrow_mut();
        let mut wanted = [0usize; ORDERS];
        for length in lengths {
            let order = order_of(*length as u64)?;
            wanted[usize::from(order)] += 1;
            if pages.chunks[usize::from(order)].len() < wanted[usize::from(order)] {
                pages.refill(order)?;
            }
        }
        // A later refill may have given up what an earlier one had made.
        match (0..ORDERS).find(|order| pages.chunks[*order].len() < wanted[*order]) {
            Some(order) => Err(pages.exhausted(CHUNK << order)),
            None => Ok(()),
        }
    }

    /// A chunk of at least `length` bytes.
    ///
    /// # Errors
    /// [`MemoryError::Exhausted`] or [`MemoryError::TooLarge`].
    pub fn share(&self, length: usize) -> Result<BoardAddr, MemoryError> {
        let order = order_of(length as u64)?;
        let mut pages = self.pages.borrow_mut();
        let address = match pages.chunks[usize::from(order)].pop() {
            Some(address) => address,
            None => {
                pages.refill(order)?;
                pages.chunks[usize::from(order)].pop().ok_or_else(|| pages.exhausted(CHUNK << order))?
            }
        };
        pages.mark(BoardAddr(address), order);
        Ok(BoardAddr(address))
    }

    /// Gives back what [`DmaMemory::share`] returned for the same `length`.
    ///
    /// # Errors
    /// [`MemoryError::NotShared`]; nothing changes then.
    pub fn unshare(&self, address: BoardAddr, length: usize) -> Result<(), MemoryError> {
        let refused = MemoryError::NotShared { address, length: length as u64 };
        let order = order_of(length as u64).map_err(|_| refused.clone())?;
        let mut pages = self.pages.borrow_mut();
        let Some((at, Page::Chunks { order: found, live })) = pages.at(address) else { return Err(refused) };
        let bit = 1 << chunk_in_page(address, order);
        if found != order || live & bit == 0 || !address.is_aligned(CHUNK << order.min(PAGE_ORDER)) {
            return Err(refused);
        }
        pages.pages[at] = Page::Chunks { order, live: live & !bit };
        pages.chunks[usize::from(order)].push(address.0);
        Ok(())
    }
}

/// The order of chunks for a buffer of `length` bytes.
fn order_of(length: u64) -> Result<u8, MemoryError> {
    let order = length.max(CHUNK).next_power_of_two().trailing_zeros() - CHUNK.trailing_zeros();
    if order as usize >= ORDERS {
        return Err(MemoryError::TooLarge { wanted: length, largest: CHUNK << (ORDERS - 1) });
    }
    Ok(order as u8)
}

/// Which chunk of its page a chunk is; 0 for chunks that take whole pages.
fn chunk_in_page(address: BoardAddr, order: u8) -> u32 {
    ((address.0 % PAGE) >> (CHUNK.trailing_zeros() + u32::from(order.min(PAGE_ORDER)))) as u32
}

impl Pages {
    fn address(&self, at: usize) -> BoardAddr {
        BoardAddr((self.first + at as u64) * PAGE)
    }

    /// The page that holds `address`: its place here, and its state.
    fn at(&self, address: BoardAddr) -> Option<(usize, Page)> {
        let at = (address.0 / PAGE).checked_sub(self.first)? as usize;
        Some((at, *self.pages.get(at)?))
    }

    fn exhausted(&self, wanted: u64) -> MemoryError {
        MemoryError::Exhausted { wanted, free: self.free, total: self.pages.len() as u64 }
    }

    /// `count` free pages in a row, from where the last search ended; unused large chunks are given up for
    /// them if need be.
    fn find(&mut self, count: usize) -> Result<usize, MemoryError> {
        let found = self.search(self.cursor, count).or_else(|| self.search(0, count));
        if let Some(at) = found {
            return Ok(at);
        }
        self.reclaim();
        self.search(0, count).ok_or_else(|| self.exhausted(count as u64 * PAGE))
    }

    fn search(&self, from: usize, count: usize) -> Option<usize> {
        if count == 0 {
            return None;
        }
        let mut run = 0;
        for (at, page) in self.pages.iter().enumerate().skip(from) {
            run = if *page == Page::Free { run + 1 } else { 0 };
            if run == count {
                return Some(at + 1 - count);
            }
        }
        None
    }

    fn take(&mut self, at: usize, count: usize, head: Page) {
        self.pages[at..at + count].fill(Page::Inside);
        self.pages[at] = head;
        self.cursor = at + count;
        self.free -= count as u64;
    }

    fn release(&mut self, at: usize, count: usize) {
        self.pages[at..at + count].fill(Page::Free);
        self.free += count as u64;
    }

    /// Puts at least one more chunk of `order` on its free list.
    fn refill(&mut self, order: u8) -> Result<(), MemoryError> {
        let count = 1usize << order.saturating_sub(PAGE_ORDER);
        let at = self.find(count)?;
        self.take(at, count, Page::Chunks { order, live: 0 });
        let start = self.address(at).0;
        let size = CHUNK << order;
        let chunks = (PAGE / size).max(1);
        self.chunks[usize::from(order)].extend((0..chunks).rev().map(|chunk| start + chunk * size));
        Ok(())
    }

    /// Marks a chunk that came off its free list as handed out.
    fn mark(&mut self, address: BoardAddr, order: u8) {
        if let Some((at, Page::Chunks { live, .. })) = self.at(address) {
            self.pages[at] = Page::Chunks { order, live: live | 1 << chunk_in_page(address, order) };
        }
    }

    /// Turns free chunks of whole pages back into free pages.
    fn reclaim(&mut self) {
        for order in PAGE_ORDER..ORDERS as u8 {
            for address in std::mem::take(&mut self.chunks[usize::from(order)]) {
                if let Some((at, _)) = self.at(BoardAddr(address)) {
                    self.release(at, 1 << (order - PAGE_ORDER));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
