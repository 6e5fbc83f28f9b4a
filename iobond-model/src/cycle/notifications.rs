//! What an engine in virtual time was told, and has still to act on.

use std::cell::{Cell, RefCell};

use iobond_spec::address::FunctionId;

use super::{Clock, Signal, TaskId, Time};
use crate::{
    shadow::{Context, Counters, FetchCursor, SpeculativeRead},
    timing,
};

/// What the engine of one queue context has to do, and what its registers show.
#[derive(Debug, Default)]
pub(super) struct Notifications {
    /// Raised with each of the following.
    pub(super) work: Signal,
    /// A queue to begin with, or `Some(None)` for none from now on.
    pub(super) change: Cell<Option<Option<Context>>>,
    /// There may be chains to forward.
    pub(super) doorbell: Cell<bool>,
    /// The available index that the last notification carried (virtio 1.3, 2.9).
    pub(super) doorbell_data: Cell<Option<u16>>,
    /// A TAIL that is not reached yet.
    pub(super) tail: Cell<Option<u16>>,
    pub(super) tail_register: Cell<u16>,
    pub(super) head: Cell<u16>,
    pub(super) counters: Cell<Counters>,
    pub(super) watch: Watch,
    pub(super) moderation: Moderation,
}

/// How the guest's ring is watched, by tasks that read ahead in turn without being notified.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// From where, and for which function, while the queue runs.
    pub(super) cursor: Cell<Option<(FetchCursor, FunctionId)>>,
    /// When the next read begins.
    pub(super) next: Cell<Time>,
    /// Until when the ring is watched.
    pub(super) until: Cell<Time>,
    /// The latest read that found something new.
    pub(super) ahead: RefCell<Option<Box<SpeculativeRead>>>,
    /// How many watchers are awake, and those that wait for a notification.
    pub(super) awake: Cell<u32>,
    pub(super) asleep: RefCell<Vec<TaskId>>,
}

/// How far apart interrupts are kept.
#[derive(Debug, Default)]
pub(super) struct Moderation {
    /// When the next may be sent.
    pub(super) next: Cell<Time>,
    /// One that is held back.
    pub(super) held: Cell<Option<(FunctionId, u16)>>,
    pub(super) work: Signal,
}

impl Notifications {
    /// Whether the ring is being watched; if so, for [`timing::WATCH_FOR`] from now on.
    pub(super) fn is_watched(&self, clock: &Clock) -> bool {
        let Watch { cursor, until, awake, .. } = &self.watch;
        let watched = awake.get() > 0 && cursor.get().is_some() && clock.now() < until.get();
        if watched {
            until.set(clock.now() + timing::WATCH_FOR);
        }
        watched
    }

    /// Whether another queue, or none, is to run from now on.
    pub(super) fn is_changed(&self) -> bool {
        self.change.get().is_some()
    }

    /// A notification came, and more may follow.
    pub(super) fn wake_watchers(&self, clock: &Clock) {
        self.watch.asleep.borrow_mut().drain(..).for_each(|task| clock.wake(task));
    }
}
