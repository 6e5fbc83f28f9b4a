//! Takes a device for this process: container, group, IOMMU, device, with `vfio-ioctls`.

use std::{io, path::Path, sync::Arc};

use vfio_ioctls::{VfioContainer, VfioDevice, VfioError as Library};

use super::{Descriptors, discovery::device_directory, error::VfioError, kernel::duplicate};
use crate::config::PciAddress;

const CONTAINER: &str = "/dev/vfio/vfio";

/// Opens the function at `address`, which is bound to vfio-pci in a viable `group`.
///
/// What the library made is dropped again, and descriptors of our own stay: the device's holds its group, the
/// group its container (Linux, `vfio_group_fops_release`), so that a port that was opened is what one that
/// was adopted is. The library's `Drop` also asks to take the group out of its container, which the kernel
/// refuses while the device is open (`VFIO_GROUP_UNSET_CONTAINER`, EBUSY). Kept to the end, it would panic
/// for a device that was removed meanwhile.
pub(super) fn open(address: PciAddress, group: u32) -> Result<Descriptors, VfioError> {
    let told = |error| explain(error, address, group);
    let container = Arc::new(VfioContainer::new(None).map_err(told)?);
    let directory = device_directory(Path::new("/"), address);
    let device = VfioDevice::new(&directory, Arc::clone(&container) as Arc<_>, false).map_err(told)?;
    let copied =
        |source| VfioError::System { device: address.to_string(), what: "copy a descriptor", source };
    Ok(Descriptors {
        container: duplicate(&*container).map_err(copied)?,
        device: duplicate(&device).map_err(copied)?,
    })
}

/// Says what the library's error means and what to do.
fn explain(error: Library, address: PciAddress, group: u32) -> VfioError {
    let device = address.to_string();
    let opened = |source: io::Error, path: String| match source.kind() {
        io::ErrorKind::NotFound => VfioError::NoVfio { path: path.into() },
        io::ErrorKind::PermissionDenied => VfioError::Permission { path: path.into() },
        io::ErrorKind::ResourceBusy => VfioError::Busy { address, group },
        _ => VfioError::System { device: device.clone(), what: "open VFIO", source },
    };
    match error {
        Library::OpenContainer(source) => opened(source, CONTAINER.into()),
        Library::OpenGroup(source, group) => opened(source, format!("/dev/vfio/{group}")),
        Library::GroupViable => VfioError::NotViable { address, group, others: Vec::new() },
        Library::VfioExtension | Library::VfioType1V2 | Library::ContainerSetIOMMU(_) => {
            VfioError::NoTranslation { address, reason: error.to_string() }
        }
        Library::GroupGetDeviceFD(errno) | Library::VfioDeviceGetInfo(errno) => VfioError::System {
            device,
            what: "get the device from its group",
            source: io::Error::from_raw_os_error(errno.errno()),
        },
        other => VfioError::Refused { device, reason: other.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_library_says_is_explained() {
        let address = "0000:01:00.0".parse().unwrap();
        let os = io::Error::from_raw_os_error;
        let cases = [
            (Library::OpenContainer(os(libc::ENOENT)), "/dev/vfio/vfio is missing; `modprobe vfio-pci`"),
            (Library::OpenGroup(os(libc::EACCES), "7".into()), "no permission for /dev/vfio/7"),
            (
                Library::OpenGroup(os(libc::EBUSY), "7".into()),
                "another process has it open; `fuser -v /dev/vfio/7`",
            ),
            (Library::GroupViable, "group 7 of 0000:01:00.0 is not viable"),
            (Library::VfioExtension, "modprobe vfio_iommu_type1"),
            (Library::GroupSetContainer, "VFIO refused it"),
        ];
        for (error, part) in cases {
            let text = explain(error, address, 7).to_string();
            assert!(text.contains(part), "{text}");
        }
    }
}
