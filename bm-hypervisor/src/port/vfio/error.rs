//! What keeps a device from being opened, each with what to do.

use std::{io, path::PathBuf};

use iobond_spec::offsets::BAR0_SIZE;

use crate::config::PciAddress;

/// Another function of an IOMMU group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    /// Its address, as sysfs names it.
    pub address: String,
    /// The driver that has it.
    pub driver: Option<String>,
}

/// A device that cannot be opened, or not be used as an IO-Bond.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are those of the messages")]
pub enum VfioError {
    /// There is no such function.
    #[error("there is no PCI function {address}: `lspci -D` lists those there are; is its link up?")]
    NoDevice { address: PciAddress },
    /// No IOMMU of the machine translates.
    #[error(
        "this machine has no active IOMMU, without which {address} could reach all of its memory: enable VT-d or AMD-Vi in the firmware's set-up and start Linux with intel_iommu=on (Intel)"
    )]
    NoIommu { address: PciAddress },
    /// The device is behind none of the IOMMUs.
    #[error(
        "{address} is in no IOMMU group: no IOMMU translates for it, as for a slot behind one that the firmware does not announce; try another slot, or newer firmware"
    )]
    NoGroup { address: PciAddress },
    /// Another driver has it, or none.
    #[error("{address} is bound to {}, not to vfio-pci; bind it: {}", bound(driver.as_deref()), bind(*address))]
    NotBound { address: PciAddress, driver: Option<String> },
    /// Others in its group are driven by the kernel.
    #[error(
        "IOMMU group {group} of {address} is not viable: {} can reach the same memory; bind each to vfio-pci too, unbind it, or put the device into a slot with a group of its own",
        listed(others)
    )]
    NotViable { address: PciAddress, group: u32, others: Vec<Member> },
    /// Another process has it open.
    #[error(
        "IOMMU group {group} of {address} is in use: another process has it open; `fuser -v /dev/vfio/{group}` names it"
    )]
    Busy { address: PciAddress, group: u32 },
    /// The user may not open a file of VFIO's.
    #[error("no permission for {}: run as root, or give the file to this user with a udev rule", path.display())]
    Permission { path: PathBuf },
    /// The kernel's VFIO is not there.
    #[error("the kernel has no VFIO for PCI: {} is missing; `modprobe vfio-pci`", path.display())]
    NoVfio { path: PathBuf },
    /// The kernel's IOMMU driver lacks what the pool needs.
    #[error(
        "VFIO cannot translate for {address} (type 1, version 2): {reason}; `modprobe vfio_iommu_type1`, and see `dmesg` for what it says of interrupt remapping"
    )]
    NoTranslation { address: PciAddress, reason: String },
    /// BAR0 is not the register map of an IO-Bond.
    #[error(
        "{device} is not the base function of an IO-Bond: its BAR0 has {size:#x} bytes{}, the register map {BAR0_SIZE:#x}; is this the right function?",
        if *mappable { "" } else { " that cannot be mapped" }
    )]
    Registers { device: String, size: u64, mappable: bool },
    /// Configuration space reads all ones.
    #[error(
        "{device} is gone: its configuration space reads all ones; does it still have power, and is its link up?"
    )]
    Gone { device: String },
    /// A system call failed.
    #[error("{device}: cannot {what}: {source}")]
    System { device: String, what: &'static str, source: io::Error },
    /// Something that the library reports without a number.
    #[error("{device}: VFIO refused it: {reason}; `dmesg` may say more")]
    Refused { device: String, reason: String },
}

fn bound(driver: Option<&str>) -> String {
    driver.map_or_else(|| "no driver".into(), |driver| format!("the driver {driver}"))
}

/// The commands that bind a function.
fn bind(address: PciAddress) -> String {
    let device = format!("/sys/bus/pci/devices/{address}");
    format!(
        "modprobe vfio-pci; echo vfio-pci > {device}/driver_override; \
         [ ! -e {device}/driver ] || echo {address} > {device}/driver/unbind; \
         echo {address} > /sys/bus/pci/drivers_probe"
    )
}

fn listed(others: &[Member]) -> String {
    let words = others.iter().map(|other| format!("{} ({})", other.address, bound(other.driver.as_deref())));
    words.collect::<Vec<_>>().join(", ")
}
