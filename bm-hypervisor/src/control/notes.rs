//! What the control thread writes down for the next bm-hypervisor process, and in which order.

use iobond_spec::MAX_FUNCTIONS;

use super::served::Served;
use crate::{
    journal::{Journal, Record},
    keep::{self, Keeper},
};

/// A state from which another process may have to resume, and the one rule by which it changes.
///
/// **Change, note, act.** A change is made in memory, it is noted in the journal, and only then may it have
/// consequences: a register is written, a back end is told, the driver's access is answered, a client hears
/// of it. [`committed`](Self::committed) does the first two; what follows it acts. So wherever a process
/// ends,
///
/// ```text
///   change | note | act: registers, back ends | change, note | answer
///          ^      ^                           ^              ^
///          1      2                           3              4
/// ```
///
/// the next one finds either
///
/// 1. a record of the state before, which nothing has contradicted. The access that asked for the change
///    stands in the mailbox still, or its client heard nothing;
/// 2. an intention that was not carried out. It is compared with IO-Bond and carried out (module `adopt`);
/// 3. an intention that was carried out, whose result was not noted. Comparing finds the queues that run;
/// 4. everything done but the answer. The access stands still, and is made once more: it writes what is
///    there.
///
/// Three kinds of change have no such order, and are noted at the end of the turn or of the command. What the
/// next process observes by itself: a queue that IO-Bond stopped, a back end that is lost. A change of device
/// configuration, of which an interrupt tells the driver first: one too many does no harm, one too few would.
/// And the removal of a function, which is withdrawn from the board first, so that its driver starts no queue
/// meanwhile: a process that ends in between leaves one that the board does not find, to be removed again.
pub(super) trait Journaled {
    /// Writes down how things stand, if that is news.
    fn note(&mut self);

    /// Makes a change and notes it. What the change leads to is done after this has returned. Changes nest:
    /// the inner one is noted before the outer one continues.
    fn committed<T>(&mut self, change: impl FnOnce(&mut Self) -> T) -> T {
        let done = change(self);
        self.note();
        done
    }
}

/// The journal of a board, and what keeps it.
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

    /// Continues a journal. What the previous process had kept is kept, and not stored again: in between it
    /// would be missing, and a process that ends in between would leave a board that cannot be resumed.
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

    /// Has nothing kept any more: the next process starts the board anew.
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
    pub(super) fn write(&mut self, functions: &[Option<Served>]) {
        let mut record = Record::new(self.last.layout);
        for served in functions.iter().flatten() {
            let index = served.id.index();
            // Before a record names a region it is kept: a record that names one which is missing cannot be
            // resumed.
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

    fn keep_in_flight(&mut self, index: usize, served: &Served) {
        let Some((file, _)) = served.back_end.in_flight_place() else { return };
        let inode = served.back_end.in_flight_inode();
        if self.in_flight[index] != inode {
            self.keeper.keep(&keep::in_flight(index), file);
            self.in_flight[index] = inode;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A function whose status a driver writes, and what IO-Bond was told of it.
    struct Board {
        journal: Journal,
        status: u8,
        told: Vec<u8>,
    }

    impl Journaled for Board {
        fn note(&mut self) {
            let mut record = Record::new(0);
            record.functions[0].status = self.status;
            self.journal.write(&record);
        }
    }

    impl Board {
        /// What another process would find, should this one end here.
        fn found(&self) -> u8 {
            let file = self.journal.file().try_clone_to_owned().unwrap();
            Journal::open(file).unwrap().1.functions[0].status
        }

        /// Tells IO-Bond, which is never told what another process would not find.
        fn act(&mut self) {
            assert_eq!(self.found(), self.status);
            self.told.push(self.status);
        }
    }

    /// ```text
    ///   change 1   note   act 1   change 2   note   act 2   change 3   note   act 3
    ///   found: 0 --|--- 1 ------------------|--- 2 -------------------|--- 3
    /// ```
    #[test]
    fn what_is_acted_upon_is_found_by_the_next_process() {
        let mut board = Board { journal: Journal::new().unwrap(), status: 0, told: vec![] };
        board.note();
        board.committed(|board| {
            board.status = 1;
            assert_eq!(board.found(), 0, "a change without a consequence need not be found");
        });
        board.act();
        board.committed(|board| {
            board.committed(|board| board.status = 2);
            board.act();
            board.status = 3;
            assert_eq!(board.found(), 2);
        });
        board.act();
        assert_eq!(board.committed(|board| std::mem::replace(&mut board.status, 4)), 3);
        assert_eq!((board.found(), board.told), (4, vec![1, 2, 3]));
    }
}
