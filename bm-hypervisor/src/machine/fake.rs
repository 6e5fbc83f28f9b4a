//! A machine that a test makes up: four cores of two threads, two NUMA nodes, and an IO-Bond that is ready.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

/// Where the machine's IO-Bond is.
pub(crate) const DEVICE: &str = "0000:01:00.0";

/// The machine's sysfs and procfs.
pub(crate) struct Tree(TempDir);

impl Tree {
    /// CPU n and CPU n + 4 share a core; cores 0 and 1 are on node 0, and the device is on node 1.
    pub(crate) fn new() -> Self {
        let tree = Self(TempDir::new().unwrap());
        for cpu in 0..8 {
            let core = cpu % 4;
            let siblings = format!("{core},{}\n", core + 4);
            tree.write(&format!("sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"), &siblings);
        }
        for (path, text) in [
            ("sys/devices/system/cpu/online", "0-7\n"),
            ("sys/devices/system/cpu/isolated", "1-3,5-7\n"),
            ("sys/devices/system/node/node0/cpulist", "0-1,4-5\n"),
            ("sys/devices/system/node/node1/cpulist", "2-3,6-7\n"),
            ("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "64\n"),
            ("sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "60\n"),
            ("proc/self/status", "Name:\tbm\nCapEff:\t0000000000000000\nCpus_allowed_list:\t0-7\n"),
            (
                "proc/self/limits",
                "Limit                     Soft Limit           Hard Limit           Units\n\
                 Max locked memory         8388608              unlimited            bytes\n",
            ),
            ("dev/vfio/vfio", ""),
            ("sys/class/iommu/dmar0/version", "1\n"),
            ("sys/bus/pci/devices/0000:01:00.0/numa_node", "1\n"),
            ("sys/kernel/iommu_groups/7/devices/0000:01:00.0", ""),
        ] {
            tree.write(path, text);
        }
        let device = tree.path("sys/bus/pci/devices").join(DEVICE);
        symlink("../../drivers/vfio-pci", device.join("driver")).unwrap();
        symlink("../../../../kernel/iommu_groups/7", device.join("iommu_group")).unwrap();
        tree
    }

    pub(crate) fn root(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn remove(&self, path: &str) {
        let path = self.path(path);
        if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
    }
}
