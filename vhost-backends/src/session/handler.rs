//! What the messages of a front end do to rings and memory.

use std::fs::File;
use std::io;
use std::sync::{Arc, PoisonError};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use vhost::VhostUserMemoryRegionBase;
use vhost::vhost_user::message::{
    VhostTransferStateDirection, VhostTransferStatePhase, VhostUserConfigFlags, VhostUserInflight,
    VhostUserLog, VhostUserMemoryRegion, VhostUserProtocolFeatures, VhostUserShMemConfig, VhostUserSharedMsg,
    VhostUserSingleMemoryRegion, VhostUserVirtioFeatures, VhostUserVringAddrFlags, VhostUserVringState,
};
use vhost::vhost_user::{Error, GpuBackend, Result, VhostUserBackendReqHandlerMut};
use vhost_user_backend::VringT;
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use virtio_queue::QueueT;
use vm_memory::{GuestAddress, GuestAddressSpace, GuestMemoryMmap, GuestRegionMmap};

use super::worker::Kicks;
use super::{Backend, VHOST_USER_F_PROTOCOL_FEATURES};
use crate::inflight::Region;
use crate::ring::{Memory, Vring};

/// Memory regions of one front end: what crate `vhost-user-backend` and QEMU's library allow.
const MEMORY_SLOTS: usize = 509;

/// Where a piece of the front end's address space lies in the memory table.
struct Mapping {
    user: u64,
    guest: u64,
    size: u64,
}

/// One front end's state.
pub(super) struct Handler<B> {
    backend: Arc<B>,
    memory: Memory,
    mappings: Vec<Mapping>,
    vrings: Vec<Vring>,
    /// Kick descriptors of the rings, by index.
    kick_files: Vec<Option<Arc<File>>>,
    kicks: Vec<Arc<Kicks>>,
    features: u64,
    owned: bool,
}

/// The rings of `backend`.
pub(super) fn vrings<B: Backend>(backend: &B, memory: &Memory) -> io::Result<Vec<Vring>> {
    let longest = backend.max_queue_size();
    (0..backend.queues()).map(|_| Vring::new(memory.clone(), longest).map_err(io::Error::other)).collect()
}

fn invalid<T>(_: T) -> Error {
    Error::InvalidParam
}

fn failed<E: Into<Box<dyn std::error::Error + Send + Sync>>>(error: E) -> Error {
    Error::ReqHandlerError(io::Error::other(error))
}

impl<B: Backend> Handler<B> {
    pub(super) fn new(backend: Arc<B>, memory: Memory, vrings: Vec<Vring>, kicks: Vec<Arc<Kicks>>) -> Self {
        let kick_files = vrings.iter().map(|_| None).collect();
        Self { backend, memory, mappings: Vec::new(), vrings, kick_files, kicks, features: 0, owned: false }
    }

    fn vring(&self, index: u32) -> Result<&Vring> {
        self.vrings.get(index as usize).ok_or(Error::InvalidParam)
    }

    /// Has ring `index` worked if it is started and enabled, and only then.
    fn run(&self, index: usize) {
        let Some(vring) = self.vrings.get(index) else { return };
        let state = vring.get_ref();
        let runs = state.is_enabled() && state.get_queue().ready();
        drop(state);
        let kick = self.kick_files.get(index).and_then(Option::as_ref).filter(|_| runs);
        self.kicks.iter().for_each(|kicks| kicks.set(index, kick));
    }

    fn run_all(&self) {
        (0..self.vrings.len()).for_each(|index| self.run(index));
    }

    /// Refuses to give the rings another place for what is in flight while one of them runs: its notes would
    /// be torn in two.
    fn may_track(&self) -> Result<()> {
        let running = self.vrings.iter().any(|vring| vring.get_ref().get_queue().ready());
        if running { refuse("a place for what is in flight, while a ring runs") } else { Ok(()) }
    }

    /// The guest address of the front end's `address`.
    fn guest(&self, address: u64) -> Result<u64> {
        let offset = |mapping: &Mapping| {
            let offset = address.checked_sub(mapping.user)?;
            (offset < mapping.size).then(|| mapping.guest.checked_add(offset))?
        };
        self.mappings.iter().find_map(offset).ok_or(Error::InvalidParam)
    }

    /// Replaces the table by `memory`, for every thread that has the table.
    fn replace_memory(&self, memory: GuestMemoryMmap) {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).replace(memory);
    }
}

/// Maps a region of the memory table.
fn map(region: &VhostUserMemoryRegion, file: File) -> Result<(GuestRegionMmap, Mapping)> {
    let mapped = GuestRegionMmap::new(region.mmap_region(file)?, GuestAddress(region.guest_phys_addr));
    let (user, guest, size) = (region.user_addr, region.guest_phys_addr, region.memory_size);
    Ok((mapped.ok_or(Error::InvalidParam)?, Mapping { user, guest, size }))
}

fn refuse<T>(what: &'static str) -> Result<T> {
    Err(Error::InvalidOperation(what))
}

impl<B: Backend> VhostUserBackendReqHandlerMut for Handler<B> {
    fn set_owner(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.owned, true) { refuse("already claimed") } else { Ok(()) }
    }

    fn reset_owner(&mut self) -> Result<()> {
        (self.owned, self.features) = (false, 0);
        Ok(())
    }

    fn reset_device(&mut self) -> Result<()> {
        refuse("not offered")
    }

    fn get_features(&mut self) -> Result<u64> {
        Ok(self.backend.features())
    }

    fn set_features(&mut self, features: u64) -> Result<()> {
        if features & !self.backend.features() != 0 {
            return Err(Error::InvalidParam);
        }
        self.features = features;
        for vring in &self.vrings {
            vring.set_queue_event_idx(features & 1 << VIRTIO_RING_F_EVENT_IDX != 0);
            // "If VHOST_USER_F_PROTOCOL_FEATURES has not been negotiated, the ring starts directly in the
            // enabled state" (vhost-user, Ring states).
            if features & VHOST_USER_F_PROTOCOL_FEATURES == 0 {
                vring.set_enabled(true);
            }
        }
        self.backend.accept(features);
        self.run_all();
        Ok(())
    }

    fn get_protocol_features(&mut self) -> Result<VhostUserProtocolFeatures> {
        Ok(self.backend.protocol_features())
    }

    fn set_protocol_features(&mut self, features: u64) -> Result<()> {
        let unknown = features & !self.backend.protocol_features().bits();
        if unknown != 0 { Err(Error::InvalidParam) } else { Ok(()) }
    }

    fn get_queue_num(&mut self) -> Result<u64> {
        Ok(self.vrings.len() as u64)
    }

    fn get_max_mem_slots(&mut self) -> Result<u64> {
        Ok(MEMORY_SLOTS as u64)
    }

    fn set_mem_table(
        &mut self,
        regions: &[VhostUserMemoryRegion],
        files: Vec<File>,
        postcopy: Option<bool>,
    ) -> Result<Option<Vec<VhostUserMemoryRegionBase>>> {
        if postcopy.is_some() {
            return refuse("postcopy is not offered");
        }
        let mapped = regions.iter().zip(files).map(|(region, file)| map(region, file));
        let (mapped, mappings): (Vec<_>, Vec<_>) = mapped.collect::<Result<Vec<_>>>()?.into_iter().unzip();
        self.replace_memory(GuestMemoryMmap::from_regions(mapped).map_err(failed)?);
        self.mappings = mappings;
        Ok(None)
    }

    fn add_mem_region(
        &mut self,
        region: &VhostUserSingleMemoryRegion,
        file: File,
        postcopy: Option<bool>,
    ) -> Result<Option<VhostUserMemoryRegionBase>> {
        if postcopy.is_some() || self.mappings.len() >= MEMORY_SLOTS {
            return Err(Error::InvalidParam);
        }
        let (mapped, mapping) = map(region, file)?;
        let memory = self.memory.memory().insert_region(Arc::new(mapped)).map_err(failed)?;
        self.replace_memory(memory);
        self.mappings.push(mapping);
        Ok(None)
    }

    fn remove_mem_region(&mut self, region: &VhostUserSingleMemoryRegion) -> Result<()> {
        let at = GuestAddress(region.guest_phys_addr);
        let (memory, _) = self.memory.memory().remove_region(at, region.memory_size).map_err(failed)?;
        self.replace_memory(memory);
        self.mappings.retain(|mapping| mapping.guest != at.0);
        Ok(())
    }

    fn set_vring_num(&mut self, index: u32, num: u32) -> Result<()> {
        let size = u16::try_from(num).map_err(invalid)?;
        if size == 0 || size > self.backend.max_queue_size() {
            return Err(Error::InvalidParam);
        }
        self.vring(index)?.set_queue_size(size);
        Ok(())
    }

    fn set_vring_addr(
        &mut self,
        index: u32,
        _flags: VhostUserVringAddrFlags,
        descriptor: u64,
        used: u64,
        available: u64,
        _log: u64,
    ) -> Result<()> {
        let [descriptor, available, used] = [descriptor, available, used].map(|at| self.guest(at));
        let vring = self.vring(index)?;
        vring.set_queue_info(descriptor?, available?, used?).map_err(invalid)?;
        // SET_VRING_BASE tells the available index only; the used index is the ring's own.
        let index = vring.queue_used_idx().map_err(invalid)?;
        vring.set_queue_next_used(index);
        Ok(())
    }

    fn set_vring_base(&mut self, index: u32, base: u32) -> Result<()> {
        self.vring(index)?.set_queue_next_avail(u16::try_from(base).map_err(invalid)?);
        Ok(())
    }

    /// Stops the ring: "client must stop ring upon receiving VHOST_USER_GET_VRING_BASE" (Ring states).
    fn get_vring_base(&mut self, index: u32) -> Result<VhostUserVringState> {
        let vring = self.vring(index)?.clone();
        // First no thread may begin with it, then the one that is at it must have left it: only then is the
        // index that is answered the last one.
        vring.set_queue_ready(false);
        if let Some(kick) = self.kick_files.get_mut(index as usize) {
            *kick = None;
        }
        self.run(index as usize);
        self.backend.stop(index as usize);
        vring.set_call(None);
        Ok(VhostUserVringState::new(index, vring.queue_next_avail().into()))
    }

    /// Starts the ring, which needs no kick to begin: it is looked at once.
    fn set_vring_kick(&mut self, index: u8, file: Option<File>) -> Result<()> {
        let vring = self.vring(index.into())?;
        let file = file.ok_or(Error::InvalidOperation("a ring without a kick descriptor"))?;
        let flags = fcntl_getfl(&file).map_err(failed)?;
        fcntl_setfl(&file, flags | OFlags::NONBLOCK).map_err(failed)?;
        vring.set_queue_ready(true);
        if let Some(kick) = self.kick_files.get_mut(usize::from(index)) {
            *kick = Some(Arc::new(file));
        }
        self.run(index.into());
        Ok(())
    }

    fn set_vring_call(&mut self, index: u8, file: Option<File>) -> Result<()> {
        self.vring(index.into())?.set_call(file);
        Ok(())
    }

    fn set_vring_err(&mut self, index: u8, file: Option<File>) -> Result<()> {
        self.vring(index.into())?.set_err(file);
        Ok(())
    }

    fn set_vring_enable(&mut self, index: u32, enable: bool) -> Result<()> {
        if self.features & VHOST_USER_F_PROTOCOL_FEATURES == 0 {
            return Err(Error::InactiveFeature(VhostUserVirtioFeatures::PROTOCOL_FEATURES));
        }
        self.vring(index)?.set_enabled(enable);
        self.run(index as usize);
        Ok(())
    }

    fn get_config(&mut self, offset: u32, size: u32, _flags: VhostUserConfigFlags) -> Result<Vec<u8>> {
        Ok(self.backend.config(offset, size))
    }

    fn set_config(&mut self, offset: u32, bytes: &[u8], _flags: VhostUserConfigFlags) -> Result<()> {
        self.backend.set_config(offset, bytes);
        Ok(())
    }

    fn get_inflight_fd(&mut self, wanted: &VhostUserInflight) -> Result<(VhostUserInflight, File)> {
        self.may_track()?;
        if usize::from(wanted.num_queues) > self.vrings.len()
            || wanted.queue_size > self.backend.max_queue_size()
        {
            return Err(Error::InvalidParam);
        }
        let (region, file) = Region::create(wanted.num_queues, wanted.queue_size).map_err(failed)?;
        self.backend.track(&Arc::new(region));
        let size = Region::bytes(wanted.num_queues, wanted.queue_size);
        Ok((VhostUserInflight::new(size, 0, wanted.num_queues, wanted.queue_size), file))
    }

    fn set_inflight_fd(&mut self, given: &VhostUserInflight, file: File) -> Result<()> {
        self.may_track()?;
        let region =
            Region::map(file, given.mmap_offset, given.mmap_size, given.num_queues, given.queue_size);
        self.backend.track(&Arc::new(region.map_err(failed)?));
        Ok(())
    }

    fn set_gpu_socket(&mut self, _: GpuBackend) -> Result<()> {
        refuse("not offered")
    }

    fn get_shared_object(&mut self, _: VhostUserSharedMsg) -> Result<File> {
        refuse("not offered")
    }

    fn set_device_state_fd(
        &mut self,
        _: VhostTransferStateDirection,
        _: VhostTransferStatePhase,
        _: File,
    ) -> Result<Option<File>> {
        refuse("not offered")
    }

    fn check_device_state(&mut self) -> Result<()> {
        refuse("not offered")
    }

    fn get_shmem_config(&mut self) -> Result<VhostUserShMemConfig> {
        refuse("not offered")
    }

    fn set_log_base(&mut self, _: &VhostUserLog, _: File) -> Result<()> {
        refuse("not offered")
    }
}
