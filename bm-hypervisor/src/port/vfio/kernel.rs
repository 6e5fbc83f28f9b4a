//! What the kernel's VFIO does for a device and a container that are open (`<linux/vfio.h>`), by their
//! descriptors alone: a hypervisor that was started anew has nothing else.

#![allow(unsafe_code)] // system calls; each passes a structure with its size in the first field

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
};

use vfio_bindings::bindings::vfio::{
    VFIO_BASE, VFIO_DEVICE_FLAGS_RESET, VFIO_DMA_MAP_FLAG_READ, VFIO_DMA_MAP_FLAG_WRITE,
    VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_DATA_EVENTFD, VFIO_TYPE, vfio_device_info,
    vfio_iommu_type1_dma_map, vfio_iommu_type1_dma_unmap, vfio_irq_info, vfio_irq_set, vfio_region_info,
};
use vmm_sys_util::ioctl::{ioctl, ioctl_with_mut_ref, ioctl_with_ref};

use super::mapped::Mapped;

const DEVICE_GET_INFO: u32 = 7;
const DEVICE_GET_REGION_INFO: u32 = 8;
const DEVICE_GET_IRQ_INFO: u32 = 9;
const DEVICE_SET_IRQS: u32 = 10;
const DEVICE_RESET: u32 = 11;
const IOMMU_MAP_DMA: u32 = 13;
const IOMMU_UNMAP_DMA: u32 = 14;

/// A region of a device.
#[derive(Clone, Copy, Debug)]
pub(super) struct Region {
    /// Bits of `VFIO_REGION_INFO_FLAG_*`.
    pub(super) flags: u32,
    /// Its length in bytes.
    pub(super) size: u64,
    /// Where it begins in the device's file.
    pub(super) offset: u64,
}

/// The number of a request: `_IO(VFIO_TYPE, VFIO_BASE + number)`, which encodes neither size nor direction.
fn request(number: u32) -> libc::c_ulong {
    libc::c_ulong::from(VFIO_TYPE) << 8 | libc::c_ulong::from(VFIO_BASE + number)
}

fn done(returned: libc::c_int) -> io::Result<()> {
    if returned < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `argsz` of a structure.
const fn argsz<T>() -> u32 {
    // Some dozens of bytes.
    size_of::<T>() as u32
}

/// A second descriptor for the same file.
pub(super) fn duplicate(file: &impl AsRawFd) -> io::Result<OwnedFd> {
    // SAFETY: `file` is open and stays so while it is borrowed.
    unsafe { BorrowedFd::borrow_raw(file.as_raw_fd()) }.try_clone_to_owned()
}

/// What the device offers in region `index`.
pub(super) fn region(device: BorrowedFd<'_>, index: u32) -> io::Result<Region> {
    let mut info = vfio_region_info { argsz: argsz::<vfio_region_info>(), index, ..Default::default() };
    // SAFETY: the kernel writes `argsz` bytes of the structure at most.
    done(unsafe { ioctl_with_mut_ref(&device, request(DEVICE_GET_REGION_INFO), &mut info) })?;
    Ok(Region { flags: info.flags, size: info.size, offset: info.offset })
}

/// How many interrupts of type `index` the device has.
pub(super) fn interrupts(device: BorrowedFd<'_>, index: u32) -> io::Result<u32> {
    let mut info = vfio_irq_info { argsz: argsz::<vfio_irq_info>(), index, ..Default::default() };
    // SAFETY: as in `region`.
    done(unsafe { ioctl_with_mut_ref(&device, request(DEVICE_GET_IRQ_INFO), &mut info) })?;
    Ok(info.count)
}

/// Signals `event` whenever the first interrupt of type `index` comes.
pub(super) fn signal(device: BorrowedFd<'_>, index: u32, event: BorrowedFd<'_>) -> io::Result<()> {
    /// `struct vfio_irq_set` with one descriptor behind it.
    #[repr(C)]
    struct OneEvent {
        set: vfio_irq_set,
        event: i32,
    }
    let set = vfio_irq_set {
        argsz: argsz::<OneEvent>(),
        flags: VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
        index,
        start: 0,
        count: 1,
        ..Default::default()
    };
    let one = OneEvent { set, event: event.as_raw_fd() };
    // SAFETY: the kernel reads `argsz` bytes of the structure, and takes a reference of its own to the
    // event's file.
    done(unsafe { ioctl_with_ref(&device, request(DEVICE_SET_IRQS), &one) })
}

/// Resets the function, as far as the kernel can.
pub(super) fn reset(device: BorrowedFd<'_>) -> io::Result<()> {
    let mut info = vfio_device_info { argsz: argsz::<vfio_device_info>(), ..Default::default() };
    // SAFETY: as in `region`.
    done(unsafe { ioctl_with_mut_ref(&device, request(DEVICE_GET_INFO), &mut info) })?;
    if info.flags & VFIO_DEVICE_FLAGS_RESET == 0 {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "the kernel knows no way to reset it; it should offer Function Level Reset (PCIe 5.0, 7.5.3.3)",
        ));
    }
    // SAFETY: the request takes no argument.
    done(unsafe { ioctl(&device, request(DEVICE_RESET)) })
}

/// Lets the devices of `container` reach `memory` at `iova`. The kernel pins its pages.
pub(super) fn map_dma(container: BorrowedFd<'_>, memory: &Mapped, iova: u64) -> io::Result<()> {
    let map = vfio_iommu_type1_dma_map {
        argsz: argsz::<vfio_iommu_type1_dma_map>(),
        flags: VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
        vaddr: memory.host_address(),
        iova,
        size: memory.length(),
    };
    // SAFETY: the kernel reads the structure. The range is a shared mapping of a file, to which this process
    // has no reference; that a device writes to it is what it is for. Its pages outlive the mapping while
    // they are pinned.
    done(unsafe { ioctl_with_ref(&container, request(IOMMU_MAP_DMA), &map) })
}

/// Takes back what was mapped at `iova`. When it returns, no device of `container` reaches it.
pub(super) fn unmap_dma(container: BorrowedFd<'_>, iova: u64, size: u64) -> io::Result<()> {
    let mut unmap = vfio_iommu_type1_dma_unmap {
        argsz: argsz::<vfio_iommu_type1_dma_unmap>(),
        iova,
        size,
        ..Default::default()
    };
    // SAFETY: as in `region`.
    done(unsafe { ioctl_with_mut_ref(&container, request(IOMMU_UNMAP_DMA), &mut unmap) })?;
    if unmap.size == size {
        return Ok(());
    }
    Err(io::Error::other(format!("the kernel unmapped {:#x} of {size:#x} bytes", unmap.size)))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn requests_are_numbered_as_in_the_kernels_header() {
        assert_eq!((request(DEVICE_GET_INFO), request(IOMMU_UNMAP_DMA)), (0x3b6b, 0x3b72));
    }

    #[test]
    fn a_file_that_is_not_a_device_is_refused_and_not_misread() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(region(file.as_fd(), 0).is_err() && interrupts(file.as_fd(), 0).is_err());
        assert!(reset(file.as_fd()).is_err() && unmap_dma(file.as_fd(), 0, 4096).is_err());
    }
}
