//! The mailbox: board accesses that the base must answer, one at a time, oldest first.
//!
//! Reads stall the board until they are answered; writes are posted; both go through one FIFO, so a read
//! never passes a write (PCIe 5.0, 2.4.1). A board access that the base does not answer by its deadline is
//! completed here: a read with all ones, a write by being dropped, both counted. A function reset is told to
//! the base through the same FIFO and has no deadline: the base must hear of it, however late. So the board
//! never hangs, and the base never misses a reset.
//!
//! ```text
//!   front     submit                    answer                     expire
//!   none      becomes the front         late                       -
//!   read      waits behind              completes the read, next   completes it with all ones, next
//!   write     waits behind              next                       dropped, next
//!   reset     waits behind              next                       stays
//! ```
//! An answer with another number than that of the front is late, whatever the front is.

use std::collections::VecDeque;

use iobond_spec::{
    ALL_ONES, address::FunctionId, registers::components::mailbox_kind_e::MailboxKindE as Kind,
};

/// Requests that fit, resets apart (`mailbox.fill.capacity`).
pub const CAPACITY: usize = 64;

/// Names a board read that waits for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(u64);

/// What a board access names in the BAR of a function: `width` bytes, 1, 2 or 4, at byte `offset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are those of the mailbox request")]
pub struct BarAccess {
    pub function: FunctionId,
    pub offset: u32,
    pub width: u8,
}

impl BarAccess {
    /// The bits that an access of this width carries.
    const fn data_mask(&self) -> u32 {
        match self.width {
            1 => 0xFF,
            2 => 0xFFFF,
            _ => u32::MAX,
        }
    }
}

/// A request, as the mailbox registers show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// What it is; never [`Kind::None`].
    pub kind: Kind,
    /// Its number, which the answer repeats; never 0.
    pub sequence: u16,
    /// What was accessed. Of a reset, only the function means something.
    pub access: BarAccess,
    /// What a write carries.
    pub data: u32,
}

#[derive(Debug)]
struct Waiting {
    request: Request,
    ticket: Ticket,
    deadline: u64,
}

/// What can happen to the request at the front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Answer,
    Expire,
}

/// What is done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// Complete the read with the answer.
    Complete,
    /// Complete the read with all ones and count it.
    CompleteExpired,
    /// Remove the write or reset: it was carried out.
    Release,
    /// Remove the write and count it: it was not carried out.
    Drop,
    /// Leave everything as it is.
    Keep,
}

/// The table above, for a front of `kind`.
const fn action(kind: Kind, event: Event) -> Action {
    match (kind, event) {
        (Kind::Read, Event::Answer) => Action::Complete,
        (Kind::Read, Event::Expire) => Action::CompleteExpired,
        (Kind::Write | Kind::Reset, Event::Answer) => Action::Release,
        (Kind::Write, Event::Expire) => Action::Drop,
        (Kind::Reset, Event::Expire) | (Kind::None, _) => Action::Keep,
    }
}

/// How often something went past the deadline. Every count wraps, as the registers do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Reads that completed with all ones at their deadline.
    pub expired_reads: u32,
    /// Posted writes that were dropped at their deadline.
    pub expired_writes: u32,
    /// Answers whose request was not at the front any more.
    pub late_answers: u32,
}

/// The mailbox of one board. Times are nanoseconds on whatever clock the caller has.
#[derive(Debug)]
pub struct Mailbox {
    fifo: VecDeque<Waiting>,
    completed: Vec<(Ticket, u32)>,
    last_sequence: u16,
    last_ticket: u64,
    /// Nanoseconds from a submission to its deadline.
    timeout: u64,
    counters: Counters,
}

impl Mailbox {
    /// An empty mailbox that gives every access `timeout` nanoseconds.
    pub fn new(timeout: u64) -> Self {
        Self {
            fifo: VecDeque::with_capacity(CAPACITY + iobond_spec::MAX_FUNCTIONS),
            completed: Vec::with_capacity(CAPACITY),
            last_sequence: 0,
            last_ticket: 0,
            timeout,
            counters: Counters::default(),
        }
    }

    /// Sets the time from a submission to its deadline, in nanoseconds, for later submissions.
    pub fn set_timeout(&mut self, timeout: u64) {
        self.timeout = timeout;
    }

    /// What went past its deadline.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The oldest unanswered request, the one in the registers.
    pub fn front(&self) -> Option<&Request> {
        self.fifo.front().map(|waiting| &waiting.request)
    }

    /// Requests that are unanswered, the front included.
    pub fn len(&self) -> usize {
        self.fifo.len()
    }

    /// Whether every request has been answered or has ended.
    pub fn is_empty(&self) -> bool {
        self.fifo.is_empty()
    }

    /// Submits a read. `None` when the mailbox is full: the board's link stalls, and the access is to be
    /// tried again.
    pub fn read(&mut self, now: u64, access: BarAccess) -> Option<Ticket> {
        // Completions that are not collected yet count too, or a board that forgets its reads would fill
        // memory.
        if self.fifo.len() + self.completed.len() >= CAPACITY {
            return None;
        }
        Some(self.submit(now, Kind::Read, access, 0))
    }

    /// Submits a posted write. `false` when the mailbox is full: the board's link stalls, and the access is
    /// to be tried again.
    pub fn write(&mut self, now: u64, access: BarAccess, data: u32) -> bool {
        let accepted = self.fifo.len() < CAPACITY;
        if accepted {
            self.submit(now, Kind::Write, access, data & access.data_mask());
        }
        accepted
    }

    /// Tells the base that `function` was reset. A reset that is the last to wait of the function stands for
    /// both.
    pub fn reset(&mut self, now: u64, function: FunctionId) {
        if !ends_in_reset(&self.fifo, function) {
            self.submit(now, Kind::Reset, BarAccess { function, offset: 0, width: 0 }, 0);
        }
    }

    fn submit(&mut self, now: u64, kind: Kind, access: BarAccess, data: u32) -> Ticket {
        self.last_sequence = self.last_sequence.checked_add(1).unwrap_or(1);
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        let request = Request { kind, sequence: self.last_sequence, access, data };
        self.fifo.push_back(Waiting { request, ticket, deadline: now.saturating_add(self.timeout) });
        ticket
    }

    /// The base answers the request numbered `sequence` with `data`.
    pub fn answer(&mut self, sequence: u16, data: u32) {
        match self.fifo.front() {
            Some(waiting) if waiting.request.sequence == sequence => {
                let (action, ticket) = (action(waiting.request.kind, Event::Answer), waiting.ticket);
                let data = data & waiting.request.access.data_mask();
                self.fifo.pop_front();
                self.perform(action, ticket, data);
            }
            _ => self.counters.late_answers = self.counters.late_answers.wrapping_add(1),
        }
    }

    /// Ends every access whose deadline has passed, wherever in the FIFO it waits.
    pub fn expire(&mut self, now: u64) {
        if self.fifo.iter().all(|waiting| waiting.deadline > now) {
            return;
        }
        for waiting in std::mem::take(&mut self.fifo) {
            let action = match waiting.deadline <= now {
                true => action(waiting.request.kind, Event::Expire),
                false => Action::Keep,
            };
            match action {
                // What stood between two resets of a function may be gone now; then one of them says it all.
                Action::Keep if waiting.request.kind == Kind::Reset => {
                    if !ends_in_reset(&self.fifo, waiting.request.access.function) {
                        self.fifo.push_back(waiting);
                    }
                }
                Action::Keep => self.fifo.push_back(waiting),
                ended => self.perform(ended, waiting.ticket, ALL_ONES),
            }
        }
    }

    /// The base side was reset: every access ends as at its deadline, no reset is left to tell, and the
    /// counters are zero.
    pub fn abandon(&mut self) {
        self.expire(u64::MAX);
        self.fifo.clear();
        self.counters = Counters::default();
    }

    /// The earliest moment at which [`Mailbox::expire`] would do something.
    pub fn next_deadline(&self) -> Option<u64> {
        let bounded = self.fifo.iter().filter(|waiting| waiting.request.kind != Kind::Reset);
        bounded.map(|waiting| waiting.deadline).min()
    }

    fn perform(&mut self, action: Action, ticket: Ticket, data: u32) {
        let Counters { expired_reads, expired_writes, .. } = &mut self.counters;
        match action {
            Action::Complete => self.completed.push((ticket, data)),
            Action::CompleteExpired => {
                *expired_reads = expired_reads.wrapping_add(1);
                self.completed.push((ticket, ALL_ONES));
            }
            Action::Drop => *expired_writes = expired_writes.wrapping_add(1),
            Action::Release | Action::Keep => {}
        }
    }

    /// What the read of `ticket` completed with, once; `None` while it waits.
    pub fn collect(&mut self, ticket: Ticket) -> Option<u32> {
        let at = self.completed.iter().position(|&(completed, _)| completed == ticket)?;
        Some(self.completed.swap_remove(at).1)
    }
}

/// Whether the last request of `function` behind the front is a reset. The front may be under way at the
/// base, so it does not count.
fn ends_in_reset(fifo: &VecDeque<Waiting>, function: FunctionId) -> bool {
    let mut waiting = fifo.iter().skip(1).map(|waiting| &waiting.request);
    let last = waiting.rfind(|request| request.access.function == function);
    last.is_some_and(|request| request.kind == Kind::Reset)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn access(offset: u32) -> BarAccess {
        BarAccess { function: FunctionId::new(0).unwrap(), offset, width: 4 }
    }

    /// Time runs to the right: submit, deadline 100 later.
    #[test]
    fn a_read_is_answered_once() {
        let mut mailbox = Mailbox::new(100);
        let ticket = mailbox.read(0, access(4)).unwrap();
        let request = *mailbox.front().unwrap();
        assert_eq!((request.kind, request.sequence, request.access.offset), (Kind::Read, 1, 4));
        assert_eq!(mailbox.collect(ticket), None);
        mailbox.answer(1, 0xABCD);
        assert_eq!(mailbox.collect(ticket), Some(0xABCD));
        assert_eq!(mailbox.collect(ticket), None);
        mailbox.answer(1, 7);
        assert_eq!(mailbox.counters().late_answers, 1);
    }

    #[test]
    fn a_read_waits_for_the_writes_before_it() {
        let mut mailbox = Mailbox::new(100);
        assert!(mailbox.write(0, access(0), 11));
        let ticket = mailbox.read(0, access(4)).unwrap();
        assert_eq!(mailbox.front().unwrap().data, 11);
        mailbox.answer(2, 0);
        assert_eq!((mailbox.counters().late_answers, mailbox.collect(ticket)), (1, None));
        mailbox.answer(1, 0);
        mailbox.answer(2, 5);
        assert_eq!(mailbox.collect(ticket), Some(5));
    }

    #[test]
    fn a_reset_is_not_swallowed_by_one_before_a_later_write() {
        let (mut mailbox, function) = (Mailbox::new(100), FunctionId::new(0).unwrap());
        mailbox.write(0, access(0), 1);
        mailbox.reset(0, function);
        mailbox.write(0, access(0), 2);
        mailbox.reset(0, function);
        mailbox.reset(0, function);
        let kinds: Vec<_> = mailbox.fifo.iter().map(|waiting| waiting.request.kind).collect();
        assert_eq!(kinds, [Kind::Write, Kind::Reset, Kind::Write, Kind::Reset]);
    }

    /// write, reset, write, reset ... and a base that never answers: after the deadlines writes are accepted
    /// again.
    #[test]
    fn resets_never_fill_the_mailbox_for_good() {
        let (mut mailbox, function) = (Mailbox::new(100), FunctionId::new(0).unwrap());
        while mailbox.write(0, access(0), 1) {
            mailbox.reset(0, function);
        }
        mailbox.expire(100);
        assert!(mailbox.len() <= 2, "{} requests are left", mailbox.len());
        assert!(mailbox.write(100, access(0), 1));
    }

    #[test]
    fn deadlines_end_reads_and_writes_but_not_resets() {
        let mut mailbox = Mailbox::new(100);
        mailbox.reset(0, FunctionId::new(3).unwrap());
        mailbox.write(10, access(0), 1);
        let ticket = mailbox.read(20, access(4)).unwrap();
        mailbox.expire(109);
        assert_eq!((mailbox.len(), mailbox.next_deadline()), (3, Some(110)));
        mailbox.expire(110);
        assert_eq!((mailbox.len(), mailbox.counters().expired_writes), (2, 1));
        mailbox.expire(120);
        assert_eq!(mailbox.collect(ticket), Some(ALL_ONES));
        assert_eq!(mailbox.front().unwrap().kind, Kind::Reset);
        mailbox.expire(u64::MAX);
        mailbox.answer(1, 0);
        assert!(mailbox.is_empty());
    }

    #[test]
    fn a_full_mailbox_stalls_and_repeated_resets_do_not_fill_it() {
        let mut mailbox = Mailbox::new(100);
        for _ in 0..CAPACITY {
            assert!(mailbox.write(0, access(0), 0));
        }
        assert!(!mailbox.write(0, access(0), 0));
        assert_eq!(mailbox.read(0, access(0)), None);
        for _ in 0..1000 {
            FunctionId::all().for_each(|function| mailbox.reset(0, function));
        }
        assert_eq!(mailbox.len(), CAPACITY + iobond_spec::MAX_FUNCTIONS);
    }

    proptest! {
        /// Every read completes exactly once, with its own answer or with all ones, whatever the base does.
        #[test]
        fn every_read_completes_once(steps in prop::collection::vec((0u8..5, 0u16..20), 1..200)) {
            let mut mailbox = Mailbox::new(50);
            let (mut now, mut open) = (0u64, Vec::new());
            for (step, number) in steps {
                now += u64::from(number);
                match step {
                    0 => open.extend(mailbox.read(now, access(u32::from(number)))),
                    1 => { mailbox.write(now, access(0), 0); }
                    2 => mailbox.answer(number, 1),
                    3 => if let Some(sequence) = mailbox.front().map(|r| r.sequence) {
                        mailbox.answer(sequence, u32::from(sequence));
                    },
                    _ => mailbox.expire(now),
                }
                prop_assert!(mailbox.len() <= CAPACITY);
            }
            mailbox.expire(now + 50);
            prop_assert!(mailbox.is_empty());
            for ticket in open {
                prop_assert!(mailbox.collect(ticket).is_some());
                prop_assert!(mailbox.collect(ticket).is_none());
            }
        }
    }
}
