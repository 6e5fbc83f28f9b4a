//! The base's share of the work: every board's IO-Bond and bm-hypervisor, one pass after the other, as one
//! base core polls many boards.

use std::{
    io,
    os::fd::AsRawFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bm_hypervisor::Poller;
use iobond_emulator::{BaseCore, Post, WakeUp};
use iobond_model::live::Bond;
use model_port::ModelPort;

use super::stamps::Stamps;

/// All boards of a base server.
pub(super) type Base = BaseCore<PolledBoard>;

/// A board whose bm-hypervisor is in this process.
pub(super) struct PolledBoard {
    bond: Arc<Bond>,
    poller: Mutex<Poller<ModelPort, Stamps>>,
}

impl PolledBoard {
    pub(super) fn new(bond: Arc<Bond>, poller: Poller<ModelPort, Stamps>) -> Self {
        Self { bond, poller: Mutex::new(poller) }
    }

    fn poller(&self) -> MutexGuard<'_, Poller<ModelPort, Stamps>> {
        self.poller.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has what wakes the poller wake `wake_up`, too.
    pub(super) fn wake(&self, wake_up: &WakeUp) -> io::Result<()> {
        wake_up.watch(self.poller().waker().as_raw_fd())
    }
}

impl Post for PolledBoard {
    fn bond(&self) -> &Bond {
        &self.bond
    }

    /// Where boards lend their processors, one of them may be at it already: then the work is being done.
    fn poll(&self) -> bool {
        self.poller.try_lock().is_ok_and(|mut poller| !poller.pass().is_idle())
    }

    fn arm(&self) -> bool {
        self.poller().arm()
    }

    fn disarm(&self) {
        self.poller().disarm();
    }
}
