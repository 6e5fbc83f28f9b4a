//! What the control thread writes down for its next life.

use iobond_spec::MAX_FUNCTIONS;

use super::{
    board::{Board, Room},
    served::Served,
};
use crate::{
    config::RingSizes,
    journal::{Journal, Record, digest},
    keep::{self, Keeper},
    port::Port,
};

/// The journal of a board, and who keeps it.
pub(super) struct Notes {
    journal: Journal,
    keeper: Box<dyn Keeper>,
    /// What was written down last.
    last: Record,
    /// Inode of each in-flight region that is kept.
    in_flight: [Option<u64>; MAX_FUNCTIONS],
}

impl Notes {
    /// Begins a journal.
    pub(super) fn new(journal: Journal, keeper: Box<dyn Keeper>, layout: u64) -> Self {
        Self { journal, keeper, last: Record::new(layout), in_flight: [None; MAX_FUNCTIONS] }
    }

    /// Goes on with a journal. What the last life had kept is kept, and not stored again: in between it would not be there, and a
    /// life that ends in between would be the board's last.
    pub(super) fn resumed(
        journal: Journal,
        keeper: Box<dyn Keeper>,
        layout: u64,
        functions: &[Option<Served>],
    ) -> Self {
        let mut notes = Self::new(journal, keeper, layout);
        for served in functions.iter().flatten() {
            notes.in_flight[served.id.index()] = served.back_end.in_flight_inode();
        }
        notes
    }

    /// Has the pool and the journal kept.
    pub(super) fn keep(&self, pool: std::os::fd::BorrowedFd<'_>) {
        self.keeper.keep(keep::POOL, pool);
        self.keeper.keep(keep::JOURNAL, self.journal.file());
    }

    /// Has nothing kept any more: the next life begins anew.
    pub(super) fn release(&mut self) {
        self.keeper.release(keep::POOL);
        self.keeper.release(keep::JOURNAL);
        for (index, kept) in self.in_flight.iter_mut().enumerate() {
            if kept.take().is_some() {
                self.keeper.release(&keep::in_flight(index));
            }
        }
    }

    /// Writes down how the functions stand, if that is news.
    fn write(&mut self, functions: &[Option<Served>]) {
        let mut record = Record::new(self.last.layout);
        for served in functions.iter().flatten() {
            let index = served.id.index();
            self.keep_in_flight(index, served);
            record.functions[index] = served.record();
            let first = usize::from(served.first_context);
            for (place, queue) in record.queues.iter_mut().skip(first).zip(served.function.queue_records()) {
                *place = queue;
            }
        }
        if record != self.last {
            self.journal.write(&record);
            self.last = record;
        }
    }

    /// A region is kept before a record says that it is there.
    fn keep_in_flight(&mut self, index: usize, served: &Served) {
        let Some((file, _)) = served.back_end.in_flight_place() else { return };
        let inode = served.back_end.in_flight_inode();
        if self.in_flight[index] != inode {
            self.keeper.keep(&keep::in_flight(index), file);
            self.in_flight[index] = inode;
        }
    }
}

impl<P: Port> Board<P> {
    /// Writes down how the board stands, for the next life; if anybody keeps it.
    pub(super) fn note(&mut self) {
        if let Some(notes) = &mut self.notes {
            notes.write(&self.functions);
        }
    }
}

/// Tells boards apart that deal their pool out in another way.
pub(super) fn layout_of(rooms: &[Room], sizes: &[RingSizes]) -> u64 {
    let rooms = rooms.iter().flat_map(|room| [u64::from(room.first_context), room.contexts.into()]);
    let sizes = sizes.iter().flat_map(|sizes| {
        let RingSizes { guest, shadow, slot_size, slots } = *sizes;
        [guest.into(), shadow.into(), slot_size.into(), u64::from(slots)]
    });
    digest(rooms.chain(sizes).flat_map(u64::to_le_bytes))
}
