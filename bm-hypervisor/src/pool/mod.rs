//! Base memory of one board: a memfd that holds the status page, and shadow vring and slots of every queue.
//!
//! It is mapped here, mapped to the device by [`Port::map_dma`](crate::port::Port::map_dma), and handed to
//! every back end as its memory table, so that payload is copied once, by IO-Bond. Each queue has its place
//! from the start, large enough for its rings at their largest: taking a place cannot fail for want of
//! memory, and nothing fragments. When a function is removed, another may have its places, laid out anew
//! inside what was reserved for them.

pub mod view;

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use iobond_spec::{
    address::BaseAddr,
    ring::split::{avail_bytes, desc_bytes, used_bytes},
    status_page,
};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, ftruncate, memfd_create};
use serde::{Deserialize, Serialize};

pub use self::view::Mapping;
use crate::config::RingSizes;

/// I/O virtual address of the pool's first byte: 1 TiB, above the memory of most hosts, so that an address
/// which was not translated is likely to fault.
pub const IOVA: BaseAddr = BaseAddr(1 << 40);

/// Smallest page, and alignment of every slot pool.
const PAGE: u64 = 4096;
/// A huge page of x86-64 and of arm64 with 4 KiB granules.
pub(crate) const HUGE_PAGE: u64 = 2 << 20;
/// Alignment of a ring's areas: a cache line, which no two of them share.
const LINE: u64 = 64;

const _: () = assert!(status_page::SIZE <= PAGE);

/// Where shadow vring and slots of one queue lie, as offsets into the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Offset of the descriptor table.
    pub desc: u64,
    /// Offset of the available ring.
    pub avail: u64,
    /// Offset of the used ring.
    pub used: u64,
    /// Offset of slot 0.
    pub slots: u64,
    /// The sizes of rings and slots.
    pub sizes: RingSizes,
}

impl Place {
    /// A place for rings of `sizes` that begin at `start`, a multiple of [`LINE`]; the slots have none yet.
    fn with_rings_at(start: u64, sizes: RingSizes) -> Self {
        let desc = start;
        let avail = (desc + desc_bytes(sizes.shadow)).next_multiple_of(LINE);
        let used = (avail + avail_bytes(sizes.shadow)).next_multiple_of(LINE);
        Self { desc, avail, used, slots: 0, sizes }
    }

    /// The first byte after the rings, a multiple of [`LINE`].
    fn rings_end(&self) -> u64 {
        (self.used + used_bytes(self.sizes.shadow)).next_multiple_of(LINE)
    }

    /// Whether `length` bytes, at least one, from offset `at` lie in the slots.
    pub fn has_slots(&self, at: u64, length: u32) -> bool {
        let end = at.checked_add(length.into());
        length > 0 && at >= self.slots && end.is_some_and(|end| end <= self.slots_end())
    }

    /// The first byte after the slots, a multiple of [`PAGE`].
    fn slots_end(&self) -> u64 {
        (self.slots + u64::from(self.sizes.slots) * u64::from(self.sizes.slot_size)).next_multiple_of(PAGE)
    }
}

/// Bytes of base memory that a board takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct PoolUsage {
    /// Those of the status page.
    pub status_page: u64,
    /// Those of all shadow vrings.
    pub rings: u64,
    /// Those of all slots. Pages that no buffer ever lay in take no memory, unless they are huge pages.
    pub slots: u64,
    /// The whole memfd, padding included.
    pub total: u64,
}

/// The base memory of one board.
#[derive(Debug)]
pub struct Pool {
    file: OwnedFd,
    mapping: Arc<Mapping>,
    /// As they were made, which is all the memory that each of them ever has.
    reserved: Vec<Place>,
    /// As they are laid out now.
    places: Vec<Place>,
}

impl Pool {
    /// Makes a pool with a status page and a place for a queue of each of `sizes`, all zeroes.
    ///
    /// # Errors
    /// What the system said when there is not that much memory, or no huge pages.
    pub fn new(sizes: &[RingSizes], hugepages: bool) -> io::Result<Self> {
        let (places, length) = layout(sizes, hugepages);
        let file = memory_file(length, hugepages)?;
        let mapping = Mapping::new(file.as_fd(), usize::try_from(length).map_err(io::Error::other)?)?;
        Ok(Self { file, mapping: Arc::new(mapping), reserved: places.clone(), places })
    }

    /// Takes over the pool that a previous process made with the same sizes, as it is.
    ///
    /// # Errors
    /// It is another file, or the system refuses.
    pub fn adopt(file: OwnedFd, sizes: &[RingSizes], hugepages: bool) -> io::Result<Self> {
        let (places, length) = layout(sizes, hugepages);
        let there = fstat(&file)?.st_size;
        let sealed = fcntl_get_seals(&file).is_ok_and(|seals| seals.contains(SealFlags::SHRINK));
        if u64::try_from(there) != Ok(length) || !sealed {
            return Err(io::Error::other(
                "the file that was kept as the pool is of another size, or not sealed",
            ));
        }
        let mapping = Mapping::new(file.as_fd(), usize::try_from(length).map_err(io::Error::other)?)?;
        Ok(Self { file, mapping: Arc::new(mapping), reserved: places.clone(), places })
    }

    /// How long a pool with a place for each of `sizes` is.
    pub fn length_for(sizes: &[RingSizes], hugepages: bool) -> u64 {
        layout(sizes, hugepages).1
    }

    /// The memfd, for mapping it elsewhere.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// The pool as this process sees it.
    pub fn mapping(&self) -> &Arc<Mapping> {
        &self.mapping
    }

    /// Its length in bytes, a multiple of the page size.
    pub fn length(&self) -> u64 {
        self.mapping.length() as u64
    }

    /// The place of the queue with this context number.
    pub fn place(&self, context: usize) -> Option<&Place> {
        self.places.get(context)
    }

    /// The place of the queue with this context number, its rings zeroed for a new run of the queue.
    ///
    /// The caller makes sure that neither IO-Bond nor a back end uses the rings any more.
    pub fn take(&self, context: usize) -> Option<Place> {
        let place = *self.place(context)?;
        self.mapping.zero(place.desc, place.rings_end() - place.desc);
        Some(place)
    }

    /// Whether rings and slots of `sizes` fit into the memory reserved for the queue with this context
    /// number.
    pub fn fits(&self, context: usize, sizes: RingSizes) -> bool {
        self.laid_out(context, sizes).is_some()
    }

    /// Lays the place of the queue with this context number out for rings and slots of `sizes`; whether they
    /// fit. The caller makes sure that the place is not in use.
    pub fn refit(&mut self, context: usize, sizes: RingSizes) -> bool {
        let laid_out = self.laid_out(context, sizes);
        if let (Some(place), Some(new)) = (self.places.get_mut(context), laid_out) {
            *place = new;
        }
        laid_out.is_some()
    }

    fn laid_out(&self, context: usize, sizes: RingSizes) -> Option<Place> {
        let reserved = self.reserved.get(context)?;
        let place = Place { slots: reserved.slots, ..Place::with_rings_at(reserved.desc, sizes) };
        (place.rings_end() <= reserved.rings_end() && place.slots_end() <= reserved.slots_end())
            .then_some(place)
    }

    /// The device's address of the byte at `offset`.
    pub fn iova(&self, offset: u64) -> BaseAddr {
        IOVA.wrapping_add(offset)
    }

    /// This process's address of the byte at `offset`; vhost-user calls it a user address.
    pub fn user_address(&self, offset: u64) -> u64 {
        self.mapping.host_address() + offset
    }

    /// How the bytes of the pool are used.
    pub fn usage(&self) -> PoolUsage {
        let slots = self.reserved.iter().map(|place| place.slots_end() - place.slots).sum();
        let rings = self.reserved.first().map_or(0, |first| first.slots - PAGE);
        PoolUsage { status_page: PAGE, rings, slots, total: self.length() }
    }
}

/// Where the queues' places are, and how long the pool is.
fn layout(sizes: &[RingSizes], hugepages: bool) -> (Vec<Place>, u64) {
    let mut end = PAGE;
    let mut places = Vec::with_capacity(sizes.len());
    // All rings first: slots can take gigabytes, and the poll pass keeps offsets of rings in few bits.
    for sizes in sizes {
        let place = Place::with_rings_at(end, *sizes);
        end = place.rings_end();
        places.push(place);
    }
    end = end.next_multiple_of(PAGE);
    for place in &mut places {
        place.slots = end;
        end = place.slots_end();
    }
    let length = end.next_multiple_of(if hugepages { HUGE_PAGE } else { PAGE });
    (places, length)
}

/// A memfd of `length` bytes, sealed against resizing: a mapping of it cannot be cut short under its users.
fn memory_file(length: u64, hugepages: bool) -> io::Result<OwnedFd> {
    let kind = if hugepages { MemfdFlags::HUGETLB } else { MemfdFlags::empty() };
    let file = memfd_create("iobond-pool", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | kind)?;
    ftruncate(&file, length)?;
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use iobond_spec::ring::split::{AVAIL_ALIGN, DESC_ALIGN, USED_ALIGN};
    use proptest::prelude::*;

    use super::*;

    fn sizes() -> impl Strategy<Value = RingSizes> {
        (1u32..12, 0u32..4, 6u32..16, 4u16..200).prop_map(|(guest, more, slot, slots)| RingSizes {
            guest: 1 << guest,
            shadow: 1 << (guest + more).min(15),
            slot_size: 1 << slot,
            slots,
        })
    }

    proptest! {
        #[test]
        fn places_are_aligned_inside_and_apart(sizes in prop::collection::vec(sizes(), 1..9)) {
            let pool = Pool::new(&sizes, false).unwrap();
            let mut areas = vec![(0, status_page::SIZE)];
            for (context, sizes) in sizes.iter().enumerate() {
                let place = pool.take(context).unwrap();
                prop_assert!(pool.iova(place.desc).is_aligned(DESC_ALIGN) && pool.iova(place.avail).is_aligned(AVAIL_ALIGN));
                prop_assert!(pool.iova(place.used).is_aligned(USED_ALIGN) && pool.iova(place.slots).is_aligned(PAGE));
                areas.push((place.desc, desc_bytes(sizes.shadow)));
                areas.push((place.avail, avail_bytes(sizes.shadow)));
                areas.push((place.used, used_bytes(sizes.shadow)));
                areas.push((place.slots, u64::from(sizes.slots) * u64::from(sizes.slot_size)));
            }
            areas.push((pool.length(), 0));
            areas.sort_unstable();
            prop_assert!(areas.is_sorted_by(|(start, length), (next, _)| start + length <= *next));
            prop_assert_eq!(pool.take(sizes.len()), None);
            let usage = pool.usage();
            prop_assert_eq!(usage.status_page + usage.rings + usage.slots, usage.total);
        }
    }

    #[test]
    fn a_place_is_zero_when_taken_again() {
        let pool = Pool::new(&[RingSizes::NET, RingSizes::BLK], false).unwrap();
        let place = pool.take(1).unwrap();
        let [avail, used] =
            [place.avail, place.used].map(|offset| &pool.mapping().words16()[offset as usize / 2 + 1]);
        avail.store(7, Ordering::Relaxed);
        used.store(7, Ordering::Relaxed);
        pool.take(1).unwrap();
        assert_eq!((avail.load(Ordering::Relaxed), used.load(Ordering::Relaxed)), (0, 0));
    }

    #[test]
    fn a_place_may_be_laid_out_anew_inside_what_is_reserved_only() {
        let mut pool = Pool::new(&[RingSizes::SPARE, RingSizes::CONSOLE], false).unwrap();
        let (made, neighbour) = (*pool.place(0).unwrap(), *pool.place(1).unwrap());
        for sizes in [RingSizes::NET, RingSizes::BLK, RingSizes::CONSOLE, RingSizes::CONTROL] {
            assert!(pool.fits(0, sizes) && pool.refit(0, sizes));
            let place = pool.take(0).unwrap();
            assert_eq!((place.sizes, place.desc, place.slots), (sizes, made.desc, made.slots));
            assert!(place.rings_end() <= neighbour.desc && place.slots_end() <= neighbour.slots);
        }
        // However small it was in between, all of its memory is still there.
        assert!(pool.refit(0, RingSizes::SPARE) && *pool.place(0).unwrap() == made);
        let (long, many) =
            (RingSizes { shadow: 2048, ..RingSizes::SPARE }, RingSizes { slots: 513, ..RingSizes::SPARE });
        assert!(!pool.refit(0, long) && !pool.refit(0, many) && !pool.refit(1, RingSizes::BLK));
        assert!(!pool.refit(2, RingSizes::CONSOLE));
        assert_eq!((*pool.place(0).unwrap(), *pool.place(1).unwrap()), (made, neighbour));
    }

    #[test]
    fn the_memory_cannot_be_cut_short() {
        let pool = Pool::new(&[RingSizes::NET], false).unwrap();
        assert!(ftruncate(pool.file(), PAGE).is_err());
        assert!(ftruncate(pool.file(), 2 * pool.length()).is_err());
    }

    #[test]
    fn accesses_outside_do_nothing() {
        let pool = Pool::new(&[RingSizes::CONTROL], false).unwrap();
        let mapping = pool.mapping();
        assert!(mapping.write(pool.length() - 2, &[1, 2]));
        assert!(!mapping.write(pool.length() - 1, &[3, 4]));
        let mut bytes = [0; 2];
        assert!(mapping.read(pool.length() - 2, &mut bytes) && bytes == [1, 2]);
        assert!(!mapping.read(u64::MAX, &mut bytes));
    }
}
