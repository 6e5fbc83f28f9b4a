//! Descriptors that the service manager kept for this process, and keeps for the next: systemd's FDSTORE, or
//! bm-keeper (sd_notify(3), sd_listen_fds(3)). Without either there are none, and nothing is kept.

#![allow(unsafe_code)] // takes possession of descriptors that were inherited

use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};

use bm_hypervisor::{
    config::PortConfig,
    keep::{self, Keeper, SavedFds},
    port::open::OpenPort,
};
use iobond_spec::MAX_FUNCTIONS;
use sd_notify::NotifyState;

/// What was inherited, by name.
#[derive(Debug, Default)]
pub struct Inherited(Vec<(String, OwnedFd)>);

impl Inherited {
    /// Takes what was inherited. Once, before anything else opens a descriptor.
    pub fn take_all() -> Self {
        let Ok(inherited) = sd_notify::listen_fds_with_names() else { return Self::default() };
        // SAFETY: the service manager passed them to this process, which has not used any of these numbers
        // yet; each is named once.
        let own = |(fd, name)| (name, unsafe { OwnedFd::from_raw_fd(fd) });
        Self(inherited.map(own).collect())
    }

    /// The descriptor of this name.
    pub fn take(&mut self, name: &str) -> Option<OwnedFd> {
        let at = self.0.iter().position(|(kept, _)| kept == name)?;
        Some(self.0.swap_remove(at).1)
    }

    /// The names of what keeps a device as it is, whichever that is.
    pub fn port_names(&self) -> Vec<String> {
        let names = self.0.iter().map(|(name, _)| name);
        names.filter(|name| name.starts_with(OpenPort::PREFIX)).cloned().collect()
    }

    /// What a previous process left of the board, if all of it is there.
    pub fn saved_fds(&mut self) -> Option<SavedFds> {
        let (pool, journal) = (self.take(keep::POOL)?, self.take(keep::JOURNAL)?);
        let in_flight =
            (0..MAX_FUNCTIONS).filter_map(|index| Some((index, self.take(&keep::in_flight(index))?)));
        Some(SavedFds { pool, journal, in_flight: in_flight.collect() })
    }
}

/// The process that started this one, as the keeper of its descriptors.
#[derive(Clone, Copy, Debug)]
pub struct ServiceManager;

impl Keeper for ServiceManager {
    fn keep(&self, name: &str, fd: BorrowedFd<'_>) {
        self.release(name);
        notify(&[NotifyState::FdStore, NotifyState::FdName(name)], &[fd]);
    }

    fn release(&self, name: &str) {
        notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)], &[]);
    }
}

impl ServiceManager {
    /// Has the device kept open for the next process.
    pub fn keep_port(self, port: &OpenPort, config: &PortConfig) {
        port.descriptors(config).into_iter().for_each(|(name, fd)| self.keep(&name, fd));
    }

    /// Has the device kept no longer.
    pub fn release_port(self, port: &OpenPort, config: &PortConfig) {
        port.descriptors(config).into_iter().for_each(|(name, _)| self.release(&name));
    }

    /// Says that the board is served.
    pub fn ready(self) {
        notify(&[NotifyState::Ready], &[]);
    }
}

fn notify(state: &[NotifyState<'_>], fds: &[BorrowedFd<'_>]) {
    // Without a service manager this does nothing, and is not an error.
    if let Err(error) = sd_notify::notify_with_fds(state, fds) {
        tracing::warn!(%error, "the service manager cannot be told; a crash would end the board");
    }
}
