//! Memory that a vfio-user client lets a function reach, and the client itself while it is there.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use iobond_model::{
    fabric::Fault,
    live::{Backing, DmaAddress, DmaMapError, DmaMemory, Permission, RemoteMemory, ShareError, SharedFiles},
};
use iobond_vfio_user::{Client, DmaMapping, Errno};

/// Memory that came without a file that can be mapped: the client is asked for every access.
struct ClientMemory(Arc<Client>);

impl<A: DmaAddress> RemoteMemory<A> for ClientMemory {
    fn read(&self, at: A, into: &mut [u8]) -> Result<(), Fault> {
        let len = into.len() as u64;
        self.0.dma_read(at.number(), into).map_err(|error| {
            tracing::warn!("{error}");
            Fault::at(at.into(), len)
        })
    }

    fn write(&self, at: A, from: &[u8]) -> Result<(), Fault> {
        self.0.dma_write(at.number(), from).map_err(|error| {
            tracing::warn!("{error}");
            Fault::at(at.into(), from.len() as u64)
        })
    }
}

/// What a function's client grants.
pub(super) struct GrantedMemory {
    /// What messages call the function.
    name: String,
    files: Arc<SharedFiles>,
    client: Mutex<Option<Arc<Client>>>,
    warned: AtomicBool,
}

impl GrantedMemory {
    /// Nothing yet. `files` may be shared with other functions of the same host.
    pub(super) fn new(name: String, files: Arc<SharedFiles>) -> Self {
        Self { name, files, client: Mutex::default(), warned: AtomicBool::new(false) }
    }

    /// A client has come, or it is gone.
    pub(super) fn set_client(&self, client: Option<Arc<Client>>) {
        *self.client() = client;
    }

    /// Lets `memory` reach what the client grants.
    pub(super) fn map<A: DmaAddress>(&self, memory: &DmaMemory<A>, mapping: DmaMapping) -> Result<(), Errno> {
        let (at, size) = (A::new(mapping.address), mapping.size);
        let permission = Permission { read: mapping.readable, write: mapping.writable };
        let backing = self.backing(mapping)?;
        memory.map(at, size, permission, backing).map_err(|error| match error {
            DmaMapError::Overlap { .. } => Errno::EXIST,
            DmaMapError::Range { .. } | DmaMapError::NotMapped { .. } => Errno::INVAL,
        })
    }

    fn backing<A: DmaAddress>(&self, mapping: DmaMapping) -> Result<Backing<A>, Errno> {
        let Some((file, offset)) = mapping.file else { return self.remote() };
        let name = &self.name;
        match self.files.share(file, offset, mapping.size, mapping.writable) {
            Ok(backing) => Ok(backing),
            Err(reason @ ShareError::Unsealed) => {
                if !self.warned.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        "{name}: {reason}; its host is asked for every access, which is slow. QEMU: \
                         -object memory-backend-memfd,share=on"
                    );
                }
                self.remote()
            }
            Err(reason) => {
                tracing::warn!("{name}: memory at {:#x}: {reason}", mapping.address);
                Err(Errno::INVAL)
            }
        }
    }

    /// The client that granted a range, as memory.
    fn remote<A: DmaAddress>(&self) -> Result<Backing<A>, Errno> {
        let client = self.client().clone();
        client.map(|client| Backing::Remote(Arc::new(ClientMemory(client)) as _)).ok_or(Errno::NODEV)
    }

    fn client(&self) -> MutexGuard<'_, Option<Arc<Client>>> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
