//! An IO-Bond in this machine, through the kernel's VFIO: registers in a mapped BAR, DMA through the IOMMU,
//! MSI-X as an eventfd.
//!
//! # A device that goes away
//!
//! * *Its power or link is lost.* The mapping stays; reads complete with all ones and writes go nowhere, as
//!   PCIe has it. That is what the rest of this program knows as a device that is gone.
//! * *It is removed in order, or unbound* (`echo 1 > remove`). The kernel asks for it with
//!   `VFIO_PCI_REQ_IRQ_INDEX` and waits until its last descriptor is closed. The port looks for that whenever
//!   `ident.magic` is read, which is how a hypervisor asks whether the device is there, and from then on
//!   behaves as if it were not: all ones, and no write. So the board fails in order, the port is dropped, and
//!   the removal completes. An uncorrectable error that the kernel reports is met in the same way.
//! * *Memory Space is switched off*, as the kernel's error recovery may do. VFIO takes the pages out of the
//!   mapping, and the next access raises SIGBUS, which ends the process: no system call comes between to fail
//!   instead. A supervisor starts it anew. [`Port::reset`] is not such a case, since the kernel holds
//!   accesses back until it has restored the function.

pub mod discovery;
mod error;
mod kernel;
mod mapped;
mod open;

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use iobond_spec::{
    ALL_ONES,
    address::BaseAddr,
    offsets::{BAR0_SIZE, ident},
    register_access::RegisterIo,
};
use rustix::event::{EventfdFlags, eventfd};
use vfio_bindings::bindings::vfio::{
    VFIO_PCI_BAR0_REGION_INDEX, VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_ERR_IRQ_INDEX,
    VFIO_PCI_MSIX_IRQ_INDEX, VFIO_PCI_REQ_IRQ_INDEX, VFIO_REGION_INFO_FLAG_MMAP,
};

pub use self::error::{Member, VfioError};
use self::mapped::Mapped;
use super::{Port, PortError, Region, mappings::Mappings};
use crate::config::PciAddress;

/// Offset of the command register, and Memory Space Enable and Bus Master Enable in it (PCIe 5.0, 7.5.1.1.3).
const COMMAND: u64 = 0x04;
const MEMORY_AND_MASTER: u16 = 1 << 1 | 1 << 2;

/// What has to stay open for a device to stay as it is: a process that has both can take over where another
/// one ended ([`VfioPort::adopt`]).
#[derive(Debug)]
pub struct Descriptors {
    /// The container, with the IOMMU's translations.
    pub container: OwnedFd,
    /// The device, which keeps its group and container open.
    pub device: OwnedFd,
}

impl Descriptors {
    /// Further descriptors for the same device.
    ///
    /// # Errors
    /// What the system said.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { container: self.container.try_clone()?, device: self.device.try_clone()? })
    }
}

/// The base function of an IO-Bond behind VFIO.
///
/// Dropping it closes the device and with it every mapping, unless descriptors of it are kept elsewhere.
#[derive(Debug)]
pub struct VfioPort {
    /// What messages call the device.
    name: String,
    registers: Mapped,
    /// What an adopted port found mapped has no memory of this process.
    mappings: Mutex<Mappings<Option<Mapped>>>,
    /// Written at MSI-X vector 0; none if the device has no MSI-X.
    wake_up: Option<OwnedFd>,
    /// The kernel wants the device back, or it had an error.
    removal: OwnedFd,
    gone: AtomicBool,
    descriptors: Descriptors,
}

impl VfioPort {
    /// Takes the function at `address`, which must be bound to vfio-pci.
    ///
    /// # Errors
    /// [`VfioError`]: what is in the way, and what to do.
    pub fn open(address: PciAddress) -> Result<Self, VfioError> {
        let group = discovery::discover(Path::new("/"), address)?.group()?;
        Self::set_up(address.to_string(), open::open(address, group)?)
    }

    /// Takes over a device that a previous process opened, without a reset: its registers are as they were,
    /// and so is DMA to `mapped`, the address and length of each region which that process left mapped.
    ///
    /// # Errors
    /// [`VfioError`], for instance when a descriptor is not one of VFIO's.
    pub fn adopt(descriptors: Descriptors, mapped: &[(BaseAddr, u64)]) -> Result<Self, VfioError> {
        let mut port = Self::set_up("the adopted device".into(), descriptors)?;
        let mappings = port.mappings.get_mut().unwrap_or_else(PoisonError::into_inner);
        for (iova, length) in mapped {
            if !mappings.insert(iova.0, *length, None) {
                let reason = format!(
                    "{length:#x} bytes at {iova} cannot have been mapped: they overlap another range"
                );
                return Err(VfioError::Refused { device: port.name, reason });
            }
        }
        Ok(port)
    }

    /// What a process has to keep open for another one to [`adopt`](Self::adopt) the device.
    pub fn descriptors(&self) -> &Descriptors {
        &self.descriptors
    }

    fn set_up(name: String, descriptors: Descriptors) -> Result<Self, VfioError> {
        let failed = |what| {
            let device = name.clone();
            move |source| VfioError::System { device, what, source }
        };
        let device = descriptors.device.as_fd();
        enable(device, &name)?;
        let bar = kernel::region(device, VFIO_PCI_BAR0_REGION_INDEX).map_err(failed("ask for BAR0"))?;
        let mappable = bar.flags & VFIO_REGION_INFO_FLAG_MMAP != 0;
        if bar.size < u64::from(BAR0_SIZE) || !mappable {
            return Err(VfioError::Registers { device: name, size: bar.size, mappable });
        }
        let registers = Mapped::new(device, bar.offset, BAR0_SIZE.into()).map_err(failed("map BAR0"))?;
        let event = || {
            eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)
                .map_err(|errno| failed("make an event")(errno.into()))
        };
        let (wake_up, removal) = (event()?, event()?);
        let has = |index| kernel::interrupts(device, index).is_ok_and(|count| count > 0);
        let wakes = has(VFIO_PCI_MSIX_IRQ_INDEX);
        if wakes {
            kernel::signal(device, VFIO_PCI_MSIX_IRQ_INDEX, wake_up.as_fd())
                .map_err(failed("enable MSI-X"))?;
        } else {
            tracing::warn!("{name} has no MSI-X interrupt: its poller can never sleep");
        }
        for index in [VFIO_PCI_REQ_IRQ_INDEX, VFIO_PCI_ERR_IRQ_INDEX].into_iter().filter(|index| has(*index))
        {
            kernel::signal(device, index, removal.as_fd()).map_err(failed("watch for its removal"))?;
        }
        Ok(Self {
            name,
            registers,
            mappings: Mutex::new(Mappings::new()),
            wake_up: wakes.then_some(wake_up),
            removal,
            gone: AtomicBool::new(false),
            descriptors,
        })
    }

    fn mappings(&self) -> MutexGuard<'_, Mappings<Option<Mapped>>> {
        self.mappings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the kernel has asked for the device.
    fn look_for_removal(&self) {
        let mut count = [0; 8];
        if rustix::io::read(&self.removal, &mut count).is_ok() {
            tracing::error!("{}: the kernel wants it back, or reports an uncorrectable error", self.name);
            self.gone.store(true, Ordering::Relaxed);
        }
    }
}

/// Lets the function answer for its registers and reach memory.
fn enable(device: BorrowedFd<'_>, name: &str) -> Result<(), VfioError> {
    let failed = |source: io::Error| VfioError::System {
        device: name.into(),
        what: "enable memory space and bus mastering",
        source,
    };
    let config = kernel::region(device, VFIO_PCI_CONFIG_REGION_INDEX).map_err(failed)?;
    let at = config.offset + COMMAND;
    let mut command = [0; 2];
    rustix::io::pread(device, &mut command, at).map_err(|errno| failed(errno.into()))?;
    if command == [0xff; 2] {
        return Err(VfioError::Gone { device: name.into() });
    }
    let command = u16::from_le_bytes(command) | MEMORY_AND_MASTER;
    rustix::io::pwrite(device, &command.to_le_bytes(), at).map_err(|errno| failed(errno.into()))?;
    Ok(())
}

impl RegisterIo for VfioPort {
    #[inline]
    fn read32(&self, offset: u32) -> u32 {
        if offset == ident::BASE + ident::MAGIC {
            self.look_for_removal();
        }
        if self.gone.load(Ordering::Relaxed) { ALL_ONES } else { self.registers.read32(offset) }
    }

    #[inline]
    fn write32(&self, offset: u32, value: u32) {
        if !self.gone.load(Ordering::Relaxed) {
            self.registers.write32(offset, value);
        }
    }
}

impl Port for VfioPort {
    /// Maps the file and has the kernel pin that: it takes addresses of this process.
    fn map_dma(&self, region: &Region<'_>) -> Result<(), PortError> {
        let Region { file, file_offset, length, iova } = *region;
        let mut mappings = self.mappings();
        if !mappings.is_free(iova.0, length) {
            return Err(PortError::Overlap { iova, length });
        }
        let failed = |source| PortError::System { iova, length, source };
        let memory = Mapped::new(file, file_offset, length).map_err(failed)?;
        kernel::map_dma(self.descriptors.container.as_fd(), &memory, iova.0)
            .map_err(|error| failed(explain_map(error)))?;
        mappings.insert(iova.0, length, Some(memory));
        Ok(())
    }

    fn unmap_dma(&self, iova: BaseAddr) -> Result<(), PortError> {
        let mut mappings = self.mappings();
        let length = mappings.length(iova.0).ok_or(PortError::NotMapped { iova })?;
        // The IOMMU first: until the kernel has invalidated the translation, the device may write, and the
        // pages have to stay pinned. Only then does the range become free, and this process's mapping with
        // it. Should the kernel refuse, the range stays taken, so that no other memory comes to lie where the
        // device can still write. The lock is held throughout, since a `map_dma` in between would find the
        // range free in one of the two and not in the other.
        kernel::unmap_dma(self.descriptors.container.as_fd(), iova.0, length)
            .map_err(|source| PortError::System { iova, length, source })?;
        mappings.remove(iova.0);
        Ok(())
    }

    fn reset(&self) -> Result<(), PortError> {
        kernel::reset(self.descriptors.device.as_fd()).map_err(PortError::Reset)
    }

    fn wake_up(&self) -> Option<BorrowedFd<'_>> {
        self.wake_up.as_ref().map(AsFd::as_fd)
    }
}

/// What to do about a mapping that the kernel refused.
fn explain_map(error: io::Error) -> io::Error {
    let advice = match error.raw_os_error() {
        Some(libc::ENOMEM) => {
            "the limit of locked memory is too low for the pool, whose pages VFIO locks: `ulimit -l`, or LimitMEMLOCK= of the unit"
        }
        Some(libc::EINVAL) => {
            "the address is beyond what the IOMMU translates (the pool begins at 1 TiB: 41 bits), or not a multiple of its page size"
        }
        Some(libc::EEXIST) => "something is mapped there already, as an earlier process may have left it",
        _ => return error,
    };
    io::Error::new(error.kind(), format!("{error}: {advice}"))
}
