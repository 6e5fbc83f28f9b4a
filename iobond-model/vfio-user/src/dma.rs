//! Accesses to the client's memory through the client: what was asked of it, and what it answered.

use std::{
    collections::BTreeMap,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustix::io::Errno;
use zerocopy::FromBytes;

use crate::{
    Violation,
    message::Message,
    protocol::{Command, DmaAccess},
};

/// Answers that may be overdue before the client counts as gone. Each had a second.
const MOST_OVERDUE: usize = 16;

/// An access that was asked of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// [`Command::DmaRead`] or [`Command::DmaWrite`].
    pub(crate) command: Command,
    /// What the request said, which the answer repeats.
    pub(crate) access: DmaAccess,
}

impl Asked {
    /// What `reply` says to this: the data, or the client's errno.
    fn answer(&self, reply: &Message) -> Option<Answer> {
        if reply.header.command != self.command as u16 {
            return None;
        }
        if reply.is_error() {
            return Some(Err(Errno::from_raw_os_error(reply.header.error as i32)));
        }
        if self.command == Command::DmaWrite {
            // The specification has the access repeated; QEMU sends a header alone.
            return (reply.payload.len() <= size_of::<DmaAccess>()).then(|| Ok(Vec::new()));
        }
        let (access, data) = DmaAccess::read_from_prefix(&reply.payload).ok()?;
        (access == self.access && data.len() as u64 == access.count).then(|| Ok(data.to_vec()))
    }
}

/// The data that was read, or the client's errno.
pub(crate) type Answer = Result<Vec<u8>, Errno>;

#[derive(Debug)]
enum State {
    Waiting(Asked),
    Answered(Answer),
    /// Its thread has given up; the answer may still come.
    Overdue(Asked),
}

#[derive(Debug, Default)]
struct Table {
    next: u16,
    accesses: BTreeMap<u16, State>,
    closed: bool,
}

/// All accesses that are under way.
#[derive(Debug, Default)]
pub(crate) struct Accesses {
    table: Mutex<Table>,
    changed: Condvar,
}

impl Accesses {
    /// Opens an access and gives it the number that its message carries, or nothing when the client has gone.
    pub(crate) fn open(&self, asked: Asked) -> Option<u16> {
        let mut table = self.lock();
        let first = table.next;
        let mut free = (0..=u16::MAX).map(|n| first.wrapping_add(n));
        let id = free.find(|id| !table.accesses.contains_key(id)).filter(|_| !table.closed)?;
        table.next = id.wrapping_add(1);
        table.accesses.insert(id, State::Waiting(asked));
        Some(id)
    }

    /// A reply came.
    pub(crate) fn complete(&self, reply: &Message) -> Result<(), Violation> {
        let id = reply.header.id;
        let mut table = self.lock();
        let answer = match table.accesses.get(&id) {
            Some(State::Waiting(asked) | State::Overdue(asked)) => asked.answer(reply),
            Some(State::Answered(_)) | None => None,
        };
        let unasked =
            Violation::UnaskedReply { id, command: reply.header.command, payload: reply.payload.len() };
        let answer = answer.ok_or(unasked)?;
        if let Some(State::Overdue(_)) = table.accesses.remove(&id) {
            return Ok(());
        }
        table.accesses.insert(id, State::Answered(answer));
        drop(table);
        self.changed.notify_all();
        Ok(())
    }

    /// The answer to `id`, if there is one by now. `None` inside when there will be none.
    pub(crate) fn take(&self, id: u16) -> Option<Option<Answer>> {
        let mut table = self.lock();
        match table.accesses.remove(&id) {
            Some(State::Answered(answer)) => Some(Some(answer)),
            Some(state) if !table.closed => {
                table.accesses.insert(id, state);
                None
            }
            Some(_) | None => Some(None),
        }
    }

    /// Gives up waiting for `id`. Whether the client leaves so many answers out that it counts as gone.
    pub(crate) fn abandon(&self, id: u16) -> bool {
        let mut table = self.lock();
        if let Some(state) = table.accesses.remove(&id)
            && let State::Waiting(asked) = state
        {
            table.accesses.insert(id, State::Overdue(asked));
        }
        let overdue = table.accesses.values().filter(|state| matches!(state, State::Overdue(_))).count();
        overdue > MOST_OVERDUE
    }

    /// Sleeps until there is an answer to `id` or there will be none, `timeout` at most.
    pub(crate) fn sleep(&self, id: u16, timeout: Duration) {
        let waiting =
            |table: &mut Table| !table.closed && matches!(table.accesses.get(&id), Some(State::Waiting(_)));
        drop(self.changed.wait_timeout_while(self.lock(), timeout, waiting));
    }

    /// No answer will come any more.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Header, REPLY};

    fn asked(count: u64) -> Asked {
        Asked { command: Command::DmaWrite, access: DmaAccess { address: 0, count } }
    }

    fn reply(id: u16) -> Message {
        let header = Header { id, command: Command::DmaWrite as u16, size: 16, flags: REPLY, error: 0 };
        Message { header, payload: Vec::new(), fds: Vec::new() }
    }

    #[test]
    fn numbers_are_not_given_twice_at_a_time() {
        let accesses = Accesses::default();
        let first = accesses.open(asked(1)).unwrap();
        for _ in 0..=u16::MAX {
            let id = accesses.open(asked(1)).unwrap();
            assert_ne!(id, first);
            accesses.complete(&reply(id)).unwrap();
            assert_eq!(accesses.take(id), Some(Some(Ok(Vec::new()))));
        }
        assert_eq!(accesses.take(first), None);
        accesses.close();
        assert_eq!((accesses.take(first), accesses.open(asked(1))), (Some(None), None));
    }

    #[test]
    fn answers_that_stay_out_are_counted() {
        let accesses = Accesses::default();
        let ids: Vec<_> = (0..=MOST_OVERDUE).map(|_| accesses.open(asked(1)).unwrap()).collect();
        let given_up: Vec<_> = ids.iter().map(|id| accesses.abandon(*id)).collect();
        assert!(given_up.iter().position(|gone| *gone) == Some(MOST_OVERDUE));
        accesses.complete(&reply(ids[0])).unwrap();
        assert!(accesses.complete(&reply(ids[0])).is_err(), "it has come");
    }
}
