//! What a base server is, as far as it matters to a board: its CPUs, its memory, and this process's limits,
//! all of it read from sysfs and procfs. The root is an argument, so that a test can be any machine.

mod cpu_list;

use std::{collections::BTreeMap, fs, path::Path};

pub use self::cpu_list::{CpuList, CpuListError};

/// The bit of `CAP_IPC_LOCK` in a set of capabilities (capabilities(7)): a process that has it may lock any
/// amount of memory.
const CAP_IPC_LOCK: u32 = 14;

/// The CPUs of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cores {
    /// CPUs that run (`/sys/devices/system/cpu/online`).
    pub online: CpuList,
    /// CPUs that the scheduler leaves alone (`isolcpus=`).
    pub isolated: CpuList,
    /// CPUs that this process may use.
    pub allowed: CpuList,
    /// By CPU: all threads of its physical core, itself too.
    siblings: BTreeMap<u32, CpuList>,
    /// By CPU: its NUMA node.
    nodes: BTreeMap<u32, u32>,
}

/// Huge pages of 2 MiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HugePages {
    /// How many were reserved.
    pub reserved: u64,
    /// How many of those are not in use.
    pub free: u64,
}

/// What a board needs to know of its base server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// CPUs, with their cores and nodes.
    pub cores: Cores,
    /// Huge pages of 2 MiB, of all nodes together.
    pub huge_pages: HugePages,
    /// Bytes that this process may lock, `None` for any amount.
    pub lockable: Option<u64>,
    /// Whether the kernel's VFIO is loaded.
    pub has_vfio: bool,
}

impl Machine {
    /// Reads the machine below `root`, which is `/` but in tests. What a file does not say is as if there
    /// were none of it.
    pub fn read(root: &Path) -> Self {
        let huge = root.join("sys/kernel/mm/hugepages/hugepages-2048kB");
        Self {
            cores: Cores::read(root),
            huge_pages: HugePages {
                reserved: number(&huge.join("nr_hugepages")).unwrap_or(0),
                free: number(&huge.join("free_hugepages")).unwrap_or(0),
            },
            lockable: lockable(root),
            has_vfio: root.join("dev/vfio/vfio").exists(),
        }
    }
}

impl Cores {
    /// Reads the CPUs below `root`.
    pub fn read(root: &Path) -> Self {
        let cpus = root.join("sys/devices/system/cpu");
        let online = list(&cpus.join("online"));
        let siblings = online.iter().map(|cpu| {
            let threads = list(&cpus.join(format!("cpu{cpu}/topology/thread_siblings_list")));
            (cpu, if threads.contains(cpu) { threads } else { CpuList::from_iter([cpu]) })
        });
        let siblings = siblings.collect();
        let mut nodes = BTreeMap::new();
        for entry in fs::read_dir(root.join("sys/devices/system/node")).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let node = name.to_str().and_then(|name| name.strip_prefix("node")?.parse().ok());
            if let Some(node) = node {
                nodes.extend(list(&entry.path().join("cpulist")).iter().map(|cpu| (cpu, node)));
            }
        }
        let allowed = status(root, "Cpus_allowed_list").and_then(|text| text.parse().ok());
        Self {
            isolated: list(&cpus.join("isolated")),
            allowed: allowed.unwrap_or_else(|| online.clone()),
            online,
            siblings,
            nodes,
        }
    }

    /// All threads of the physical core of `cpu`, itself too. None for a CPU that does not run.
    pub fn siblings(&self, cpu: u32) -> CpuList {
        self.siblings.get(&cpu).cloned().unwrap_or_default()
    }

    /// The NUMA node of `cpu`.
    pub fn node(&self, cpu: u32) -> Option<u32> {
        self.nodes.get(&cpu).copied()
    }

    /// The CPUs of a NUMA node.
    pub fn of_node(&self, node: u32) -> CpuList {
        self.nodes.iter().filter(|(_, of)| **of == node).map(|(cpu, _)| *cpu).collect()
    }
}

fn list(path: &Path) -> CpuList {
    fs::read_to_string(path).ok().and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// A line of `/proc/self/status`, after its name.
fn status(root: &Path, name: &str) -> Option<String> {
    let text = fs::read_to_string(root.join("proc/self/status")).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(value.trim().to_owned())
}

/// The soft limit of locked memory in bytes (proc(5), `/proc/pid/limits`), if one holds.
fn lockable(root: &Path) -> Option<u64> {
    let capabilities = status(root, "CapEff").and_then(|text| u64::from_str_radix(&text, 16).ok());
    if capabilities.is_some_and(|set| set >> CAP_IPC_LOCK & 1 == 1) {
        return None;
    }
    let text = fs::read_to_string(root.join("proc/self/limits")).ok()?;
    let limits = text.lines().find_map(|line| line.strip_prefix("Max locked memory"))?;
    limits.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
pub(crate) mod fake;

#[cfg(test)]
mod tests {
    use super::{fake::Tree, *};

    #[test]
    fn a_machine_with_two_threads_per_core_on_two_nodes_is_read() {
        let tree = Tree::new();
        let machine = Machine::read(tree.root());
        let cores = &machine.cores;
        assert_eq!((cores.online.to_string(), cores.isolated.to_string()), ("0-7".into(), "1-3,5-7".into()));
        assert_eq!(cores.siblings(2).to_string(), "2,6");
        assert_eq!((cores.node(1), cores.node(2), cores.node(8)), (Some(0), Some(1), None));
        assert_eq!(cores.of_node(0).to_string(), "0-1,4-5");
        assert!(cores.siblings(8).is_empty());
        assert_eq!(machine.huge_pages, HugePages { reserved: 64, free: 60 });
        assert_eq!(machine.lockable, Some(8 << 20));
    }

    #[test]
    fn a_process_that_may_lock_anything_has_no_limit() {
        let tree = Tree::new();
        tree.write(
            "proc/self/limits",
            "Max locked memory         unlimited            unlimited            bytes\n",
        );
        assert_eq!(Machine::read(tree.root()).lockable, None);
        tree.write(
            "proc/self/limits",
            "Max locked memory         0                    0                    bytes\n",
        );
        assert_eq!(Machine::read(tree.root()).lockable, Some(0));
        tree.write("proc/self/status", "CapEff:\t0000000000004000\n");
        assert_eq!(Machine::read(tree.root()).lockable, None);
    }

    #[test]
    fn a_machine_that_says_nothing_has_nothing() {
        let nothing = tempfile::tempdir().unwrap();
        assert_eq!(Machine::read(nothing.path()), Machine::default());
    }
}
