//! What a bm-hypervisor process that was killed leaves to the next: the control plane of every function, as
//! its driver set it up.
//!
//! IO-Bond's registers tell which queues run and where; features, status and vectors are only known here.
//! They are written down in a memfd of their own, which neither IO-Bond nor a back end has. A record is
//! written whole into the half that does not count, then counts: a process that finds the file finds a record
//! that was whole once, however its writer ended.
//!
//! A change is written down before it is acted upon; `control::notes::Journaled` has that rule, and what each
//! end of a process leaves.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::atomic::Ordering,
};

use iobond_spec::{MAX_FUNCTIONS, MAX_QUEUES};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, ftruncate, memfd_create};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use crate::pool::Mapping;

/// Bytes of a half: the smallest page.
const HALF: u64 = 4096;
/// `IOBJ` and the version of the layout; another version's record is not understood.
const MAGIC: u64 = 0x494F_424A_0000_0001;

/// One function's control plane. Fields are those of the common configuration structure (virtio 1.3, 4.1.4.3)
/// unless said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FunctionRecord {
    /// What is offered to the driver; a process that would offer something else cannot resume.
    pub offered: u64,
    /// What the driver chose.
    pub driver_features: u64,
    /// Selects half of what is offered.
    pub device_feature_select: u32,
    /// Selects half of what is chosen.
    pub driver_feature_select: u32,
    /// Vector for configuration changes.
    pub config_vector: u16,
    /// Selects a queue.
    pub queue_select: u16,
    /// Pairs in use, of a network function with MQ (virtio 1.3, 5.1.6.5.5).
    pub pairs: u16,
    /// `device_status`.
    pub status: u8,
    /// Whether every driver is refused: the back end is gone for good.
    pub withdrawn: u8,
    /// Tells whether device configuration is what the driver knows.
    pub config_digest: u32,
    /// `config_generation`.
    pub generation: u8,
    /// 1 if there is such a function.
    pub present: u8,
    /// Whether the link of a network function is up.
    pub link_up: u8,
    /// Whether it was added by command, and is not one of the configuration's.
    pub added: u8,
    /// Where in the file that was kept its back end notes what is in flight.
    pub in_flight_offset: u64,
    /// How many bytes of that; 0 without such a file.
    pub in_flight_size: u64,
    /// For how many vrings that is.
    pub in_flight_queues: u16,
    /// How many descriptors each of them has.
    pub in_flight_queue_size: u16,
    /// Padding; zero.
    pub reserved_too: u32,
}

/// One virtqueue's registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct QueueRecord {
    /// Board address of the descriptor table.
    pub desc: u64,
    /// Board address of the available ring.
    pub avail: u64,
    /// Board address of the used ring.
    pub used: u64,
    /// Queue size in descriptors.
    pub size: u16,
    /// Vector for used buffers.
    pub vector: u16,
    /// 1 once the driver enabled it.
    pub enabled: u32,
}

/// A whole board.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Record {
    magic: u64,
    /// Tells boards apart whose functions or rings differ.
    pub layout: u64,
    /// By number of the function; zeroes for one that is not there.
    pub functions: [FunctionRecord; MAX_FUNCTIONS],
    /// By number of the queue context.
    pub queues: [QueueRecord; MAX_QUEUES],
}

impl Record {
    /// A board of this layout whose functions are as after a reset.
    #[must_use]
    pub fn new(layout: u64) -> Self {
        Self { magic: MAGIC, layout, ..Self::new_zeroed() }
    }
}

/// A digest that is the same in every build of this program (FNV-1a).
#[must_use]
pub fn digest(bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes
        .into_iter()
        .fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
}

/// Where the record lies in a half, behind its number.
const RECORD: u64 = 8;
const _: () = assert!(RECORD + size_of::<Record>() as u64 <= HALF);

/// A journal that cannot be continued.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// A system call failed.
    #[error("cannot use the journal: {0}")]
    System(#[from] io::Error),
    /// The file is not a journal of this version.
    #[error("the file that was kept as the journal is not one: {0}")]
    Foreign(&'static str),
}

/// The journal of one board.
#[derive(Debug)]
pub struct Journal {
    file: OwnedFd,
    mapping: Mapping,
    /// Number of the last record; its lowest bit says which half it is in.
    number: u32,
}

impl Journal {
    /// An empty journal.
    ///
    /// # Errors
    /// A system call failed.
    pub fn new() -> io::Result<Self> {
        let file = memfd_create("iobond-journal", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&file, 2 * HALF)?;
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let mapping = Mapping::new(file.as_fd(), 2 * HALF as usize)?;
        Ok(Self { file, mapping, number: 0 })
    }

    /// Opens a journal that was kept. Returns it and its last record.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn open(file: OwnedFd) -> Result<(Self, Record), JournalError> {
        let size = fstat(&file).map_err(io::Error::from)?.st_size;
        let sealed = fcntl_get_seals(&file).is_ok_and(|seals| seals.contains(SealFlags::SHRINK));
        if !sealed || size != 2 * HALF as i64 {
            return Err(JournalError::Foreign("it is of another size, or not sealed"));
        }
        let mapping = Mapping::new(file.as_fd(), 2 * HALF as usize)?;
        let mut journal = Self { file, mapping, number: 0 };
        journal.number = [0, 1].into_iter().map(|half| journal.number_of(half)).max().unwrap_or_default();
        let mut record = Record::new_zeroed();
        journal.mapping.read(journal.place() + RECORD, record.as_mut_bytes());
        match (journal.number, record.magic) {
            (1.., MAGIC) => Ok((journal, record)),
            (0, _) => Err(JournalError::Foreign("nothing was written down yet")),
            _ => Err(JournalError::Foreign("it is of another version of this program")),
        }
    }

    /// Writes a record down. When this returns it is found, however the process ends.
    pub fn write(&mut self, record: &Record) {
        self.number = self.number.wrapping_add(1).max(1);
        self.mapping.write(self.place() + RECORD, record.as_bytes());
        // Released: a process that finds the number finds the record, which was written before it.
        if let Some(number) = self.mapping.words32().get((self.place() / 4) as usize) {
            number.store(self.number, Ordering::Release);
        }
    }

    /// The file, to be kept.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    fn place(&self) -> u64 {
        u64::from(self.number & 1) * HALF
    }

    fn number_of(&self, half: u64) -> u32 {
        let word = self.mapping.words32().get((half * HALF / 4) as usize);
        word.map_or(0, |word| word.load(Ordering::Acquire))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(status: u8) -> Record {
        let mut record = Record::new(7);
        record.functions[3].status = status;
        record.queues[63] = QueueRecord { desc: 1, avail: 2, used: 3, size: 4, vector: 5, enabled: 1 };
        record
    }

    #[test]
    fn the_last_record_is_found() {
        let mut journal = Journal::new().unwrap();
        for status in 1..10 {
            journal.write(&record(status));
            let kept = journal.file().try_clone_to_owned().unwrap();
            let (mut again, found) = Journal::open(kept).unwrap();
            assert_eq!(found, record(status));
            // The next process continues in the same file.
            again.write(&record(100 + status));
            let (_, found) = Journal::open(journal.file().try_clone_to_owned().unwrap()).unwrap();
            assert_eq!(found, record(100 + status));
            journal.number = again.number;
        }
    }

    #[test]
    fn a_record_that_was_not_finished_does_not_count() {
        let mut journal = Journal::new().unwrap();
        journal.write(&record(1));
        journal.write(&record(2));
        let unfinished = (u64::from(!journal.number & 1) * HALF, record(3));
        journal.mapping.write(unfinished.0 + RECORD, &unfinished.1.as_bytes()[..100]);
        let (_, found) = Journal::open(journal.file().try_clone_to_owned().unwrap()).unwrap();
        assert_eq!(found, record(2));
    }

    #[test]
    fn other_files_are_refused() {
        let empty = Journal::new().unwrap();
        assert!(Journal::open(empty.file().try_clone_to_owned().unwrap()).is_err());
        let other = memfd_create("other", MemfdFlags::CLOEXEC).unwrap();
        assert!(Journal::open(other.try_clone().unwrap()).is_err());
        ftruncate(&other, 2 * HALF).unwrap();
        assert!(Journal::open(other).is_err());
        let mut journal = Journal::new().unwrap();
        journal.write(&Record { magic: MAGIC + 1, ..Record::new(0) });
        assert!(Journal::open(journal.file().try_clone_to_owned().unwrap()).is_err());
    }
}
