//! What sysfs says of a PCI function, and whether VFIO can have it: no system call but reading, so that
//! `check` can ask without taking the device, and a test can build the tree.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::error::{Member, VfioError};
use crate::config::PciAddress;

/// The driver that hands devices to processes.
const VFIO_PCI: &str = "vfio-pci";
/// Drivers that do no DMA of their own, or hand it on, and so leave a group viable (Linux,
/// `driver_managed_dma`).
const HARMLESS: [&str; 3] = [VFIO_PCI, "pci-stub", "pcieport"];

/// A PCI function as sysfs shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovered {
    /// Where the function is on the machine's buses.
    pub address: PciAddress,
    /// The driver that has it.
    pub driver: Option<String>,
    /// Its IOMMU group; none if no IOMMU translates for it.
    pub group: Option<u32>,
    /// The other functions in that group, by address.
    pub others: Vec<Member>,
    /// Whether any IOMMU of this machine translates.
    pub has_iommu: bool,
    /// The NUMA node that it is attached to, where the firmware says so.
    pub numa_node: Option<u32>,
}

/// The directory of a function below `root`, which is `/` but in tests.
pub(super) fn device_directory(root: &Path, address: PciAddress) -> PathBuf {
    root.join("sys/bus/pci/devices").join(address.to_string())
}

/// Looks a function up below `root`.
///
/// # Errors
/// [`VfioError::NoDevice`].
pub fn discover(root: &Path, address: PciAddress) -> Result<Discovered, VfioError> {
    let directory = device_directory(root, address);
    if !directory.exists() {
        return Err(VfioError::NoDevice { address });
    }
    let group = target_name(&directory.join("iommu_group")).and_then(|name| name.parse().ok());
    let others = group.map(|group| others(root, group, address)).unwrap_or_default();
    // The kernel says -1 where it does not know.
    let numa_node = fs::read_to_string(directory.join("numa_node")).ok();
    Ok(Discovered {
        address,
        driver: driver(&directory),
        group,
        others,
        has_iommu: fs::read_dir(root.join("sys/class/iommu")).is_ok_and(|mut all| all.next().is_some()),
        numa_node: numa_node.and_then(|text| text.trim().parse().ok()),
    })
}

impl Discovered {
    /// The group under which VFIO can open it.
    ///
    /// # Errors
    /// [`VfioError`]: what is in the way, the root of it first.
    pub fn group(&self) -> Result<u32, VfioError> {
        let address = self.address;
        if !self.has_iommu {
            return Err(VfioError::NoIommu { address });
        }
        let Some(group) = self.group else { return Err(VfioError::NoGroup { address }) };
        if self.driver.as_deref() != Some(VFIO_PCI) {
            return Err(VfioError::NotBound { address, driver: self.driver.clone() });
        }
        let harmful =
            |other: &&Member| other.driver.as_deref().is_some_and(|driver| !HARMLESS.contains(&driver));
        let others: Vec<_> = self.others.iter().filter(harmful).cloned().collect();
        if others.is_empty() { Ok(group) } else { Err(VfioError::NotViable { address, group, others }) }
    }
}

fn others(root: &Path, group: u32, address: PciAddress) -> Vec<Member> {
    let own = address.to_string();
    let Ok(entries) = fs::read_dir(root.join(format!("sys/kernel/iommu_groups/{group}/devices"))) else {
        return Vec::new();
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let member = |address: String| {
        let driver = driver(&root.join("sys/bus/pci/devices").join(&address));
        Member { address, driver }
    };
    let mut others: Vec<_> = names.filter(|name| *name != own).map(member).collect();
    others.sort();
    others
}

fn driver(directory: &Path) -> Option<String> {
    target_name(&directory.join("driver"))
}

/// The last part of what a link leads to.
fn target_name(link: &Path) -> Option<String> {
    Some(fs::read_link(link).ok()?.file_name()?.to_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    /// A sysfs with functions, their drivers and their groups.
    struct Tree(TempDir);

    impl Tree {
        fn new(iommu: bool, functions: &[(&str, Option<&str>, Option<u32>)]) -> Self {
            let tree = Self(TempDir::new().unwrap());
            fs::create_dir_all(tree.path("sys/class/iommu")).unwrap();
            if iommu {
                fs::create_dir(tree.path("sys/class/iommu/dmar0")).unwrap();
            }
            for (address, driver, group) in functions {
                let device = tree.path(&format!("sys/bus/pci/devices/{address}"));
                fs::create_dir_all(&device).unwrap();
                fs::write(device.join("numa_node"), "-1\n").unwrap();
                if let Some(driver) = driver {
                    symlink(format!("../../../../bus/pci/drivers/{driver}"), device.join("driver")).unwrap();
                }
                if let Some(group) = group {
                    let members = tree.path(&format!("sys/kernel/iommu_groups/{group}/devices"));
                    fs::create_dir_all(&members).unwrap();
                    symlink(&device, members.join(address)).unwrap();
                    symlink(format!("../../kernel/iommu_groups/{group}"), device.join("iommu_group"))
                        .unwrap();
                }
            }
            tree
        }

        fn path(&self, path: &str) -> PathBuf {
            self.0.path().join(path)
        }

        fn group(&self) -> Result<u32, String> {
            let address = "0000:01:00.0".parse().unwrap();
            discover(self.0.path(), address)
                .and_then(|found| found.group())
                .map_err(|error| error.to_string())
        }
    }

    const BOUND: (&str, Option<&str>, Option<u32>) = ("0000:01:00.0", Some("vfio-pci"), Some(7));

    #[test]
    fn a_bound_function_in_a_viable_group_is_found() {
        let bridge = ("0000:00:01.0", Some("pcieport"), Some(7));
        let idle = ("0000:01:00.1", None, Some(7));
        let elsewhere = ("0000:02:00.0", Some("nvme"), Some(8));
        let tree = Tree::new(true, &[BOUND, bridge, idle, elsewhere]);
        assert_eq!(tree.group(), Ok(7));
        fs::write(tree.path("sys/bus/pci/devices/0000:01:00.0/numa_node"), "1\n").unwrap();
        let found = discover(tree.0.path(), "0000:01:00.0".parse().unwrap()).unwrap();
        assert_eq!((found.numa_node, found.others.len()), (Some(1), 2));
    }

    #[test]
    fn each_obstacle_is_told_apart_and_says_what_to_do() {
        let nvme = ("0000:01:00.1", Some("nvme"), Some(7));
        let cases = [
            (Tree::new(true, &[]), &["no PCI function 0000:01:00.0", "lspci -D"][..]),
            (Tree::new(false, &[BOUND]), &["no active IOMMU", "intel_iommu=on"]),
            (Tree::new(true, &[("0000:01:00.0", None, None)]), &["in no IOMMU group"]),
            (
                Tree::new(true, &[("0000:01:00.0", None, Some(7))]),
                &["bound to no driver", "modprobe vfio-pci", "drivers_probe"],
            ),
            (
                Tree::new(true, &[("0000:01:00.0", Some("xdma"), Some(7))]),
                &["the driver xdma", "driver_override", "unbind"],
            ),
            (
                Tree::new(true, &[BOUND, nvme]),
                &[
                    "group 7 of 0000:01:00.0 is not viable",
                    "0000:01:00.1 (the driver nvme)",
                    "bind each to vfio-pci",
                ],
            ),
        ];
        for (tree, parts) in cases {
            let text = tree.group().unwrap_err();
            for part in parts {
                assert!(text.contains(part), "no {part:?} in {text}");
            }
        }
    }
}
